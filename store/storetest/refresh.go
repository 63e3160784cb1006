package storetest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Refreshes tests a SessionStore under the token endpoint: in each of so many rounds 50
// requests come at once with one refresh token. With a grace period all of them get the same
// successor, and the session stays live. Without one, one of them gets it, and the session
// ends. open returns a new store that is empty.
func Refreshes(t *testing.T, open func(t *testing.T) oauth2pw.SessionStore, rounds int) {
	const callers = 50
	for _, test := range []struct {
		name  string
		grace time.Duration
	}{{"with a grace period", 2 * time.Minute}, {"without", -1}} {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			auth, err := oauth2pw.New(oauth2pw.Config{
				Users: oneUser{}, Hasher: anyPassword{}, Issuer: sameToken{},
				Sessions: s, Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))}, RefreshGrace: test.grace,
			})
			if err != nil {
				t.Fatal(err)
			}
			token := post(auth, "grant_type=password&username=a&password=a")
			for round := range rounds {
				var mu sync.Mutex
				answers := make(map[string]int) // by refresh token; "" is a refusal
				parallel(callers, func(int) {
					got := post(auth, "grant_type=refresh_token&refresh_token="+url.QueryEscape(token))
					mu.Lock()
					defer mu.Unlock()
					answers[got]++
				})
				refused := answers[""]
				delete(answers, "")
				if len(answers) != 1 {
					t.Fatalf("Round %d: the requests with one refresh token got %d different successors, and %d were refused. There must be one successor: Advance must compare and write in one atomic step.", round, len(answers), refused)
				}
				list, err := s.List(context.Background(), "1", time.Now())
				if err != nil {
					t.Fatalf("Round %d: List returned the error %v.", round, err)
				}
				live, wantRefused := 1, 0
				if test.grace < 0 {
					live, wantRefused = 0, callers-1
				}
				if len(list) != live || refused != wantRefused {
					t.Fatalf("Round %d: %d of %d requests with one refresh token were refused, and not %d; List returned %d live sessions, and not %d. Advance, End and List must see each other's writes at once.", round, refused, callers, wantRefused, len(list), live)
				}
				for token = range answers {
				}
				if live == 0 {
					if got := post(auth, "grant_type=refresh_token&refresh_token="+url.QueryEscape(token)); got != "" {
						t.Fatalf("Round %d: the successor was accepted although its session has ended: Advance must not write to it.", round)
					}
					token = post(auth, "grant_type=password&username=a&password=a")
				} else if list[0].Generation != uint64(round+2) {
					t.Fatalf("Round %d: the session has the generation %d, and not %d: one of the requests must have advanced it, once.", round, list[0].Generation, round+2)
				}
			}
		})
	}
}

// post sends a form to the token endpoint, and returns the refresh token of the
// answer, "" if it is refused.
func post(auth *oauth2pw.Auth, form string) string {
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(form))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	auth.TokenHandler().ServeHTTP(w, r)
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &answer) != nil {
		return ""
	}
	return answer.RefreshToken
}

type oneUser struct{}

func (oneUser) UserByName(ctx context.Context, _ string) (*oauth2pw.User, error) {
	return oneUser{}.UserByID(ctx, "1")
}

func (oneUser) UserByID(_ context.Context, id string) (*oauth2pw.User, error) {
	return &oauth2pw.User{ID: id, Username: "a", PasswordHash: "a"}, nil
}

type anyPassword struct{}

func (anyPassword) Hash(_ context.Context, password string) (string, error) { return password, nil }

func (anyPassword) Verify(context.Context, string, string) (ok, outdated bool, err error) {
	return true, false, nil
}

type sameToken struct{}

func (sameToken) Issue(_ context.Context, p oauth2pw.Principal) (string, oauth2pw.Principal, error) {
	p.IssuedAt = time.Now()
	p.ExpiresAt = p.IssuedAt.Add(time.Minute)
	return "access", p, nil
}

func (sameToken) Verify(context.Context, string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
}

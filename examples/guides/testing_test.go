package guides

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/storetest"
	"github.com/oauth2pw/passwordflow/tokens"
)

func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "hello, user %s\n", p.Subject)
}

// routes of the app: bearer is auth.RequireBearer, and a fake in a test.
func routes(bearer func(scopes ...string) func(http.Handler) http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /hello", bearer("me")(http.HandlerFunc(hello)))
	return mux
}

func TestHello(t *testing.T) {
	ctx := oauth2pw.WithPrincipal(t.Context(), oauth2pw.Principal{Subject: "1", Scope: "me"})
	w := httptest.NewRecorder()
	hello(w, httptest.NewRequestWithContext(ctx, "GET", "/hello", nil))
	if w.Body.String() != "hello, user 1\n" {
		t.Error(w.Body)
	}
}

// fakeTokens accepts its keys as tokens.
type fakeTokens map[string]oauth2pw.Principal

func (f fakeTokens) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	p, known := f[token]
	if !known {
		return p, oauth2pw.ErrInvalidToken
	}
	return p, nil
}

func TestRoutes(t *testing.T) {
	fake := fakeTokens{"alice": {Subject: "1", Scope: "me"}, "bob": {Subject: "2"}}
	handler := routes(func(scopes ...string) func(http.Handler) http.Handler {
		return oauth2pw.RequireBearer(fake, scopes...)
	})
	for token, status := range map[string]int{"alice": 200, "bob": 403, "carol": 401} {
		r := httptest.NewRequest("GET", "/hello", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != status {
			t.Error(token, w.Code, w.Body)
		}
	}
}

func TestCheck(t *testing.T) {
	check := func(_ context.Context, token string) (oauth2pw.Principal, error) {
		if token != "alice" {
			return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
		}
		return oauth2pw.Principal{Subject: "1", Scope: "me"}, nil
	}
	handler := oauth2pw.PasswordBearer{}.Require(check, "me")(http.HandlerFunc(hello))
	for token, status := range map[string]int{"alice": 200, "bob": 401} {
		if w := call(handler, token); w.Code != status {
			t.Error(token, w.Code, w.Body)
		}
	}
}

// newTestAuth knows the user johndoe with the password secret.
func newTestAuth(t *testing.T, c oauth2pw.Config) *oauth2pw.Auth {
	passwords := must(hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true}))
	hash := must(passwords.Hash(t.Context(), "secret"))
	keys := must(tokens.OpenKeys(filepath.Join(t.TempDir(), "signing.jwk"))) // a new key
	c.Hasher, c.Users = passwords, must(store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)}))
	c.Issuer = must(tokens.New(tokens.Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api", Now: c.Now}))
	return must(oauth2pw.New(c))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestWithToken(t *testing.T) {
	auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}})
	answer, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "", "me")
	if err != nil {
		t.Fatal(err)
	}
	w := call(routes(auth.RequireBearer), string(answer.AccessToken))
	if w.Code != 200 {
		t.Error(w.Code, w.Body)
	}
}

// call sends GET /hello with a token.
func call(handler http.Handler, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/hello", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func TestPassword(t *testing.T) {
	auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}})
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}
	r := httptest.NewRequest("POST", "https://api.example.com/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	auth.TokenHandler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Error(w.Code, w.Body)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Now()
	auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}, Now: func() time.Time { return now }})
	answer := must(auth.Login(httptest.NewRequest("POST", "/", nil), "1", ""))
	now = now.Add(16 * time.Minute)
	if w := call(routes(auth.RequireBearer), string(answer.AccessToken)); w.Code != 401 {
		t.Error(w.Code, w.Body)
	}
}

func TestExpiryWithSynctest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}})
		answer := must(auth.Login(httptest.NewRequest("POST", "/", nil), "1", ""))
		time.Sleep(16 * time.Minute) // takes no time
		if w := call(routes(auth.RequireBearer), string(answer.AccessToken)); w.Code != 401 {
			t.Error(w.Code, w.Body)
		}
	})
}

func TestEvents(t *testing.T) {
	var kinds []oauth2pw.EventKind
	auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}, OnEvent: func(_ context.Context, e oauth2pw.Event) {
		kinds = append(kinds, e.Kind)
	}})
	call(routes(auth.RequireBearer), "forged")
	if len(kinds) != 1 || kinds[0] != oauth2pw.EventTokenRefused {
		t.Error(kinds)
	}
}

// byCode is a grant of the app.
func byCode(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
	if r.Param("code") != "1234" {
		return nil, oauth2pw.ErrNotFound
	}
	return &oauth2pw.User{ID: "1"}, nil
}

func TestGrant(t *testing.T) {
	u, err := byCode(t.Context(), oauth2pw.NewTokenRequest("code", url.Values{"code": {"1234"}}))
	if err != nil || u.ID != "1" {
		t.Error(u, err)
	}
}

func TestOwnStore(t *testing.T) {
	storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		return must(store.NewUsers(users...)) // here: the store of the app
	})
}

func TestServer(t *testing.T) {
	auth := newTestAuth(t, oauth2pw.Config{DefaultScopes: []string{"me"}})
	server := httptest.NewServer(auth.TokenHandler())
	defer server.Close()
	resp, err := http.PostForm(server.URL, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

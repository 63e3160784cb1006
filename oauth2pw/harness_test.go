package oauth2pw_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// plainHasher keeps passwords in the clear and counts what it is asked.
type plainHasher struct {
	mu       sync.Mutex
	verified []string      // the hashes
	salt     func() string // nil: equal passwords have equal hashes
	tooLong  bool          // every password is longer than the formats allow
}

func (h *plainHasher) Hash(_ context.Context, password string) (string, error) {
	if h.salt != nil {
		return "new:" + password + "$" + h.salt(), nil
	}
	return "new:" + password, nil
}

func (h *plainHasher) Verify(_ context.Context, hash, password string) (ok, outdated bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.verified = append(h.verified, hash)
	if h.tooLong {
		return false, false, fmt.Errorf("hasher: %w", oauth2pw.ErrPasswordTooLong)
	}
	scheme, plain, readable := strings.Cut(hash, ":")
	if hash != "" && !readable {
		return false, true, nil
	}
	plain, _, _ = strings.Cut(plain, "$")
	return hash != "" && plain == password, scheme == "old", nil
}

// take returns the number of verifications since it was last called.
func (h *plainHasher) take() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.verified)
	h.verified = nil
	return n
}

// app is an app with every plug in memory, served over HTTP on loopback.
type app struct {
	*testing.T
	clock  *clock
	users  *store.Users
	hasher *plainHasher
	ring   *tokens.Ring
	auth   *oauth2pw.Auth
	mux    *http.ServeMux
	server *httptest.Server
	url    string       // of the server
	client *http.Client // sends the requests of do

	mu      sync.Mutex
	events  []oauth2pw.Event
	trace   bytes.Buffer    // every event, printed and logged in every way
	secrets map[string]bool // what was sent and answered
}

const (
	issuer   = "https://api.example.com"
	audience = "api"
	login    = "grant_type=password&username=johndoe&password=secret"
)

// testKey is an HMAC key of 32 bytes, for tests only.
const testKey = `{"kty":"oct","kid":"test","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`

func newApp(t *testing.T, edits ...func(*oauth2pw.Config)) *app {
	t.Helper()
	a := &app{T: t, clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 600000, time.UTC)}, hasher: new(plainHasher), mux: http.NewServeMux()}
	var err error
	a.users, err = store.NewUsers(
		oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "new:secret", Scopes: []string{"me", "items"}},
		oauth2pw.User{ID: "u2", Username: "alice", PasswordHash: "new:secret2", Disabled: true},
		oauth2pw.User{ID: "u3", Username: "old", PasswordHash: "old:secret"},
		oauth2pw.User{ID: "u4", Username: "broken", PasswordHash: "!"},
		oauth2pw.User{ID: "u5", Username: "nopassword"},
	)
	require.NoError(t, err)
	sum := func(secret string) []byte { s := sha256.Sum256([]byte(secret)); return s[:] }
	grants := []string{"password", "otp", "refresh_token"}
	clients, err := store.NewClients(
		oauth2pw.Client{ID: "webapp", Grants: grants},
		oauth2pw.Client{ID: "backend", SecretSHA256: sum("backend-secret"), Grants: grants, Introspect: true},
		oauth2pw.Client{ID: "c id", SecretSHA256: sum("s:+%"), Grants: grants},
		oauth2pw.Client{ID: "a+b", SecretSHA256: sum("secret"), Grants: grants},
		oauth2pw.Client{ID: "raw", SecretSHA256: sum("a+b%41"), Grants: grants},
		oauth2pw.Client{ID: "narrow", Grants: grants, Scopes: []string{"me"}},
		oauth2pw.Client{ID: "reports", SecretSHA256: sum("reports-secret"), Introspect: true},
		oauth2pw.Client{ID: "mute", SecretSHA256: sum("mute-secret"), Grants: grants},
		oauth2pw.Client{ID: "once", Grants: []string{"password"}, Introspect: true},
	)
	require.NoError(t, err)
	key, err := tokens.ParseKeys([]byte(testKey))
	require.NoError(t, err)
	a.ring, err = tokens.New(tokens.Config{Keys: key, Issuer: issuer, Audience: audience, Now: a.clock.Now})
	require.NoError(t, err)
	c := oauth2pw.Config{
		Users: a.users, Hasher: a.hasher, Issuer: a.ring, Clients: clients,
		Scopes:        map[string]string{"me": "", "items": "", "admin": ""},
		DefaultScopes: []string{"me"},
		AllowNoClient: true,
		LoadUser:      true,
		Now:           a.clock.Now,
		OnEvent: func(ctx context.Context, e oauth2pw.Event) {
			note(e)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.events = append(a.events, e)
			fmt.Fprintf(&a.trace, "%v %+v %#v\n", e, e, e)
			oauth2pw.LogEvents(slog.New(slog.NewJSONHandler(&a.trace, nil)))(ctx, e)
		},
	}
	for _, edit := range edits {
		edit(&c)
	}
	a.auth, err = oauth2pw.New(c)
	require.NoError(t, err)
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := oauth2pw.PrincipalFrom(r.Context())
		_ = json.NewEncoder(w).Encode(map[string]any{"user": p.Subject, "known": ok, "required": oauth2pw.RequiredScopes(r.Context())})
	})
	a.mux.Handle("/token", a.auth.TokenHandler())
	a.mux.Handle("/revoke", a.auth.RevokeHandler())
	a.mux.Handle("/introspect", a.auth.IntrospectHandler())
	a.mux.Handle("/me", a.auth.RequireBearer("me")(whoami))
	a.mux.Handle("/items", a.auth.RequireBearer("me", "items")(whoami))
	a.mux.Handle("/status", a.auth.RequireBearer()(whoami))
	a.mux.Handle("/nested", a.auth.RequireBearer("me")(a.auth.RequireBearer("items", "me")(whoami)))
	a.mux.Handle("/optional", oauth2pw.OptionalBearer(a.auth)(whoami))
	a.mux.Handle("/password", a.auth.RequireBearer()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := a.auth.ChangePassword(r, r.PostFormValue("old_password"), r.PostFormValue("new_password"))
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	})))
	a.server = httptest.NewServer(http.HandlerFunc(a.watched))
	a.url, a.client = a.server.URL, a.server.Client()
	t.Cleanup(a.server.Close)
	t.Cleanup(a.requireNoLeak)
	return a
}

// watched notes the secrets that a request and its answer hold. They are those of at
// least 10 bytes, or 6 with a digit: others are words that a log line may hold by
// chance.
func (a *app) watched(w http.ResponseWriter, r *http.Request) {
	var sent, answered bytes.Buffer
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &sent), r.Body}
	}
	a.mux.ServeHTTP(&tee{w, &answered}, r)

	var secrets []string
	form, _ := url.ParseQuery(sent.String())
	for _, name := range []string{"password", "client_secret", "refresh_token", "token", "code", "otp", "old_password", "new_password"} {
		secrets = append(secrets, form[name]...)
	}
	for _, value := range r.Header["Authorization"] {
		_, credentials, _ := strings.Cut(value, " ")
		secrets = append(secrets, strings.TrimSpace(credentials))
		if _, secret, ok := r.BasicAuth(); ok {
			secrets = append(secrets, secret)
		}
	}
	var tokens struct{ Access_token, Refresh_token string }
	if json.Unmarshal(answered.Bytes(), &tokens) == nil {
		secrets = append(secrets, tokens.Access_token, tokens.Refresh_token)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range secrets {
		if len(s) >= 10 || len(s) >= 6 && strings.ContainsAny(s, "0123456789") {
			if a.secrets == nil {
				a.secrets = make(map[string]bool)
			}
			a.secrets[s] = true
		}
	}
}

type tee struct {
	http.ResponseWriter
	copy *bytes.Buffer
}

func (t *tee) Write(b []byte) (int, error) {
	t.copy.Write(b)
	return t.ResponseWriter.Write(b)
}

// requireNoLeak looks for secrets in the events and the log lines of every flow of every
// test.
func (a *app) requireNoLeak() {
	a.mu.Lock()
	defer a.mu.Unlock()
	trace := a.trace.String()
	for s := range a.secrets {
		if at := strings.Index(trace, s); at >= 0 {
			a.Errorf("an event holds %.20q: …%s…", s, trace[max(at-100, 0):at])
		}
	}
}

// takeEvents returns the events since they were last taken.
func (a *app) takeEvents() []oauth2pw.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	events := a.events
	a.events = nil
	return events
}

// event returns the first event since events were last taken, which there must be.
func (a *app) event() oauth2pw.Event {
	a.Helper()
	events := a.takeEvents()
	require.NotEmpty(a, events)
	return events[0]
}

// config returns a Config that New takes.
func (a *app) config() oauth2pw.Config {
	return oauth2pw.Config{Users: a.users, Hasher: a.hasher, Issuer: a.ring, DefaultScopes: []string{"me"}}
}

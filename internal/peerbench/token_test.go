package peerbench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/generates"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	oauthstore "github.com/go-oauth2/oauth2/v4/store"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/argon2"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// noHasher finds every password right.
type noHasher struct{}

func (noHasher) Hash(context.Context, string) (string, error) { return "x", nil }
func (noHasher) Verify(context.Context, string, string) (ok, outdated bool, err error) {
	return true, false, nil
}

// recorder keeps the last answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// newSender returns what sends a form to a handler.
func newSender(tb testing.TB, h http.Handler) func(form string) *recorder {
	w := &recorder{header: make(http.Header)}
	u, err := url.Parse("/token")
	require.NoError(tb, err)
	return func(form string) *recorder {
		clear(w.header)
		w.status, w.body = 200, bytes.Buffer{}
		h.ServeHTTP(w, &http.Request{
			Method: "POST", URL: u, RemoteAddr: "127.0.0.1:1234", Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
			Body: io.NopCloser(strings.NewReader(form)), ContentLength: int64(len(form)),
		})
		return w
	}
}

// BenchmarkToken is P4 and P5: the token endpoint without the cost of a hash, with a
// session in memory and the throttle on, and the same with go-oauth2 and its JWTs.
func BenchmarkToken(b *testing.B) {
	users := new(store.Users)
	logins := make([]string, 10_000) // so that nobody has more sessions than a user may have
	for i := range logins {
		name := fmt.Sprint("user", i)
		require.NoError(b, users.Add(b.Context(), oauth2pw.User{ID: name, Username: name, PasswordHash: "x"}))
		logins[i] = "grant_type=password&username=" + name + "&password=secret&scope=me"
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: noHasher{}, Issuer: newRing(b, newKey(b, "HS256"), 0), DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
	})
	require.NoError(b, err)
	n := 0
	login := func() string {
		n++
		return logins[n%len(logins)]
	}
	b.Run("passwordflow", func(b *testing.B) {
		send := newSender(b, auth.TokenHandler())
		b.ReportAllocs()
		for b.Loop() {
			if w := send(login()); w.status != 200 {
				b.Fatal(w.body.String())
			}
		}
	})
	b.Run("passwordflow-refresh", func(b *testing.B) {
		send := newSender(b, auth.TokenHandler())
		var answer struct{ Refresh_token string }
		require.NoError(b, json.Unmarshal(send(login()).body.Bytes(), &answer))
		const key = `"refresh_token":"`
		b.ReportAllocs()
		for b.Loop() {
			w := send("grant_type=refresh_token&refresh_token=" + answer.Refresh_token)
			if w.status != 200 {
				b.Fatal(w.body.String())
			}
			_, rest, _ := strings.Cut(w.body.String(), key)
			answer.Refresh_token, _, _ = strings.Cut(rest, `"`)
		}
	})
	b.Run("go-oauth2", func(b *testing.B) {
		m := manage.NewDefaultManager()
		m.MustTokenStorage(oauthstore.NewMemoryTokenStore())
		m.MapAccessGenerate(generates.NewJWTAccessGenerate("k", []byte(strings.Repeat("x", 32)), jwt.SigningMethodHS256))
		clients := oauthstore.NewClientStore()
		require.NoError(b, clients.Set("webapp", &models.Client{ID: "webapp", Secret: "s", Domain: "http://localhost"}))
		m.MapClientStorage(clients)
		srv := server.NewDefaultServer(m)
		srv.SetAllowedGrantType(oauth2.PasswordCredentials)
		srv.SetClientInfoHandler(server.ClientFormHandler)
		srv.SetPasswordAuthorizationHandler(func(context.Context, string, string, string) (string, error) { return "42", nil })
		send := newSender(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = srv.HandleTokenRequest(w, r) }))
		b.ReportAllocs()
		for b.Loop() {
			if w := send(login() + "&client_id=webapp&client_secret=s"); w.status != 200 {
				b.Fatal(w.body.String())
			}
		}
	})
	b.Run("argon2", func(b *testing.B) {
		for b.Loop() {
			argon2.IDKey([]byte("secret"), make([]byte, 16), 3, 64<<10, 4, 32)
		}
	})
}

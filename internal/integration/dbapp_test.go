package integration

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// dbApp is an app over a database, with a clock that the test sets.
type dbApp struct {
	http.Handler
	st    *sqlstore.Store
	later atomic.Int64 // the clock is so much later than the time of day
}

// newDBApp makes an app with the endpoints /token, /revoke, /me and /password. The password of
// a user is the hash.
func newDBApp(t testing.TB, st *sqlstore.Store, edits ...func(*oauth2pw.Config)) *dbApp {
	t.Helper()
	a := &dbApp{st: st}
	now := func() time.Time { return time.Now().Add(time.Duration(a.later.Load())) }
	keys, err := tokens.OpenKeys(filepath.Join(t.TempDir(), "jwk"))
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api", Now: now})
	require.NoError(t, err)
	c := oauth2pw.Config{
		Users: st.Users, Hasher: plainHasher{}, Issuer: jwt, Sessions: st.Sessions, Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
		LoadUser: true, DefaultScopes: []string{"me"}, Now: now, OnEvent: func(_ context.Context, e oauth2pw.Event) {
			if e.Kind == oauth2pw.EventStoreRollback || e.Kind == oauth2pw.EventPanic {
				t.Errorf("the event %s: %v", e.Kind, e.Err)
			}
		},
	}
	for _, edit := range edits {
		edit(&c)
	}
	auth, err := oauth2pw.New(c)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("/me", auth.RequireBearer("me")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mux.Handle("/password", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, err := auth.ChangePassword(r, r.PostFormValue("old"), r.PostFormValue("new"))
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		answer.Write(w)
	})))
	a.Handler = mux
	return a
}

// answer is the answer of a dbApp.
type answer struct {
	status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (a *dbApp) send(ctx context.Context, path, access string, form url.Values) (got answer) {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(form.Encode()))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	_ = json.Unmarshal(w.Body.Bytes(), &got) // an empty body of /me
	got.status = w.Code
	return got
}

func (a *dbApp) login(ctx context.Context, name, password string) answer {
	return a.send(ctx, "/token", "", url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}})
}

func (a *dbApp) refresh(ctx context.Context, token string) answer {
	return a.send(ctx, "/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (a *dbApp) revoke(ctx context.Context, token string) answer {
	return a.send(ctx, "/revoke", "", url.Values{"token": {token}})
}

// live returns the live sessions of a user in the database.
func (a *dbApp) live(t testing.TB, userID string) []*oauth2pw.Session {
	t.Helper()
	list, err := a.st.Sessions.List(t.Context(), userID, time.Now())
	require.NoError(t, err)
	return list
}

// soak reports whether the long runs are asked for: PASSWORDFLOW_SOAK=1, make soak.
func soak() bool { return os.Getenv("PASSWORDFLOW_SOAK") != "" }

// poll calls ready until it returns true.
func poll(ctx context.Context, t *testing.T, condition string, ready func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ready(); time.Sleep(5 * time.Millisecond) {
		require.NoError(t, ctx.Err(), condition)
		require.True(t, time.Now().Before(end), "never: %s", condition)
	}
}

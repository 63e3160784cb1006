package integration

import (
	"database/sql"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// BenchmarkBearerSession is a bearer check that reads the session, by 16 clients: SessionCache is
// zero, so every request reads. The tokens of 50,000 sessions, spread over 10^6, are more than
// the verifier remembers: each request verifies a signature too. "stateless" is that check
// without a session.
func BenchmarkBearerSession(b *testing.B) {
	const sessions, issued = 1_000_000, 50_000
	ids := func(i int) string { return strconv.Itoa(1 + i%issued*7919%sessions) }
	ring := bearerRing(b)
	list := make([]string, issued)
	for i := range list {
		id := ids(i)
		n, err := strconv.Atoi(id)
		require.NoError(b, err)
		list[i], _, err = ring.Issue(b.Context(), oauth2pw.Principal{Subject: strconv.Itoa(n % (sessions / 1000)), Scope: "me", SessionID: id, AuthTime: time.Now().Add(30 * time.Minute)})
		require.NoError(b, err)
	}
	check := func(b *testing.B, st oauth2pw.SessionStore, edit func(c *oauth2pw.Config)) {
		b.Helper()
		c := oauth2pw.Config{
			Users: new(store.Users), Issuer: ring, DisablePasswordGrant: true, DefaultScopes: []string{"me"},
			Sessions: st, Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
		}
		edit(&c)
		auth, err := oauth2pw.New(c)
		require.NoError(b, err)
		runtime.GC() // of the sessions in memory
		b.ResetTimer()
		spread(b, b.N, func(i int) error {
			r, err := http.NewRequestWithContext(b.Context(), "GET", "/", nil)
			if err != nil {
				return err
			}
			r.RemoteAddr = "192.0.2.1:1234"
			r.Header.Set("Authorization", "Bearer "+list[i%len(list)])
			_, err = auth.CheckBearer(r, "me")
			return err
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "checks/s")
	}
	session := func(*oauth2pw.Config) {}

	memory := new(store.Sessions)
	now := time.Now()
	for i := range sessions {
		id := i + 1
		require.NoError(b, memory.Create(b.Context(), &oauth2pw.Session{
			ID: strconv.Itoa(id), UserID: strconv.Itoa(id % (sessions / 1000)), Scope: "me", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now,
			IdleExpiresAt: now.Add(14 * 24 * time.Hour), ExpiresAt: now.Add(90 * 24 * time.Hour), UserAgent: strings.Repeat("x", 100),
		}))
	}
	b.Run("memory/stateless", func(b *testing.B) { check(b, memory, func(c *oauth2pw.Config) { c.StatelessTokens = true }) })
	b.Run("memory/session", func(b *testing.B) { check(b, memory, session) })
	for _, e := range everyEngine {
		b.Run(e.name, func(b *testing.B) {
			st, db := e.store(b)
			fill(b, e, db, sessions)
			b.Run("session", func(b *testing.B) {
				if b.N == 1 { // the first of several runs
					logPlan(b, e, db)
				}
				check(b, st.Sessions, session)
			})
		})
	}
}

// bearerRing signs with HS256.
func bearerRing(b *testing.B) *tokens.Ring {
	b.Helper()
	key, _, err := tokens.NewKey("HS256")
	require.NoError(b, err)
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api", TTL: time.Hour})
	require.NoError(b, err)
	return ring
}

// logPlan logs the plan of the one statement of a check, which must use an index.
func logPlan(b *testing.B, e engine, db *sql.DB) {
	b.Helper()
	r := recorder{db, make(map[string][]any)}
	st, err := sqlstore.New(r, sqlstore.Config{Dialect: e.dialect})
	require.NoError(b, err)
	_, err = st.Sessions.Get(b.Context(), "1")
	require.NoError(b, err)
	require.Len(b, r.statements, 1)
	for query, args := range r.statements {
		for _, fields := range explain(b, e.dialect, db, query, args) {
			b.Logf("%s: %s", e.name, strings.Join(fields, "|"))
		}
	}
}

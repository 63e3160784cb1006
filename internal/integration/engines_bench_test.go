package integration

import (
	"database/sql"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// fill makes n live sessions with the ids 1 to n, a thousand of them for each user.
func fill(b *testing.B, e engine, db *sql.DB, n int) {
	b.Helper()
	numbers := map[sqlstore.Dialect]string{
		sqlstore.SQLite:     fmt.Sprintf("(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) SELECT i FROM s) AS n", n),
		sqlstore.PostgreSQL: fmt.Sprintf("generate_series(1, %d) AS n(i)", n),
		sqlstore.MySQL:      fmt.Sprintf("(SELECT seq AS i FROM seq_1_to_%d) AS n", n),
	}[e.dialect]
	text := map[sqlstore.Dialect]string{sqlstore.MySQL: "CAST(%s AS CHAR)"}[e.dialect]
	if text == "" {
		text = "CAST(%s AS TEXT)"
	}
	salt := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: `'\x00000000000000000000000000000000'::bytea`, sqlstore.SQLite: "zeroblob(16)", sqlstore.MySQL: "REPEAT('x', 16)"}[e.dialect]
	now := time.Now()
	_, err := db.ExecContext(b.Context(), fmt.Sprintf(`INSERT INTO oauth2pw_sessions (id, user_id, client_id, scopes, salt, key_id, generation, forgiven, created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, user_agent)
		SELECT %s, %s, '', 'me', %s, 'key', 0, 0, %d, %d, %d, %d + i, %d, '%0100d' FROM %s`,
		fmt.Sprintf(text, "i"), fmt.Sprintf(text, "i % "+strconv.Itoa(max(n/1000, 1))), salt, now.UnixMicro(), now.UnixMicro(), now.UnixMicro(),
		now.Add(14*24*time.Hour).UnixMicro(), now.Add(90*24*time.Hour).UnixMicro(), 0, numbers))
	require.NoError(b, err)
	if e.dialect == sqlstore.PostgreSQL {
		_, err = db.ExecContext(b.Context(), "VACUUM ANALYZE oauth2pw_sessions")
		require.NoError(b, err)
	}
}

// spread runs work b.N times, by 16 clients.
func spread(b *testing.B, work func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= b.N {
					return
				}
				if err := work(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkAdvance is one refresh in the database (P6, P8): beside 10^3 and beside 10^6 other
// sessions. "transaction" is the same with a lock: BEGIN, SELECT FOR UPDATE, UPDATE, INSERT of
// the next token, COMMIT.
func BenchmarkAdvance(b *testing.B) {
	for _, e := range everyEngine {
		for _, n := range []int{1000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/%d", e.name, n), func(b *testing.B) {
				st, db := e.store(b)
				fill(b, e, db, n)
				advance := func(i int) error {
					id := strconv.Itoa(1 + i*7919%n)
					s, err := st.Sessions.Get(b.Context(), id)
					if err != nil {
						return err
					}
					s.Generation++
					s.IdleExpiresAt = s.IdleExpiresAt.Add(time.Second)
					_, err = st.Sessions.Advance(b.Context(), s.Generation-1, s, time.Now())
					return err
				}
				b.Run("read and advance", func(b *testing.B) { spread(b, advance) })
				b.Run("advance", func(b *testing.B) {
					generations := make([]atomic.Uint64, n+1) // of the sessions that this run advances
					for i := range min(b.N, n) {
						id := 1 + i*7919%n
						s, err := st.Sessions.Get(b.Context(), strconv.Itoa(id))
						require.NoError(b, err)
						generations[id].Store(s.Generation)
					}
					now := time.Now()
					var lost atomic.Int64
					spread(b, func(i int) error {
						id := 1 + i*7919%n
						to := generations[id].Add(1)
						s := &oauth2pw.Session{ID: strconv.Itoa(id), Generation: to, IdleExpiresAt: now.Add(time.Hour + time.Duration(i)*time.Microsecond), AuthenticatedAt: now, RefreshedAt: now}
						ok, err := st.Sessions.Advance(b.Context(), to-1, s, now)
						if err == nil && !ok {
							lost.Add(1)
						}
						return err
					})
					b.ReportMetric(float64(lost.Load())/float64(b.N), "lost/op")
				})
				b.Run("get", func(b *testing.B) {
					spread(b, func(i int) error { _, err := st.Sessions.Get(b.Context(), strconv.Itoa(1+i*7919%n)); return err })
				})
				if e.name == "PostgreSQL by pgx" {
					b.Run("transaction", func(b *testing.B) {
						_, err := db.ExecContext(b.Context(), "CREATE TABLE IF NOT EXISTS tokens (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, made_at BIGINT NOT NULL)")
						require.NoError(b, err)
						run := time.Now().UnixNano()
						spread(b, func(i int) error { return rotate(b, db, strconv.Itoa(1+i*7919%n), fmt.Sprint(run, i)) })
					})
				}
			})
		}
	}
}

// rotate is the refresh of a library that keeps a row for each token.
func rotate(b *testing.B, db *sql.DB, id, token string) error {
	tx, err := db.BeginTx(b.Context(), nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	var generation int64
	if err := tx.QueryRowContext(b.Context(), "SELECT generation FROM oauth2pw_sessions WHERE id = $1 AND ended_at IS NULL FOR UPDATE", id).Scan(&generation); err != nil {
		return err
	}
	now := time.Now()
	if _, err := tx.ExecContext(b.Context(), "UPDATE oauth2pw_sessions SET advanced_at = $1, idle_expires_at = $2 WHERE id = $3", now.UnixMicro(), now.Add(time.Hour).UnixMicro(), id); err != nil {
		return err
	}
	if _, err := tx.ExecContext(b.Context(), "INSERT INTO tokens VALUES ($1, $2, $3)", token, id, now.UnixMicro()); err != nil {
		return err
	}
	return tx.Commit()
}

// BenchmarkPrepared is a read in SQLite with a statement that is prepared once, and with one that
// the driver prepares at each call, in turns.
func BenchmarkPrepared(b *testing.B) {
	st, db := everyEngine[0].store(b)
	fill(b, everyEngine[0], db, 1000)
	atEachCall, err := sqlstore.New(struct{ *sql.DB }{db}, sqlstore.Config{Dialect: sqlstore.SQLite}) // not a *sql.DB
	require.NoError(b, err)
	var times [2]time.Duration
	for i := 0; b.Loop(); i++ {
		for k, s := range []*sqlstore.Store{st, atEachCall} {
			began := time.Now()
			_, err := s.Sessions.Get(b.Context(), strconv.Itoa(1+i*7919%1000))
			times[k] += time.Since(began)
			require.NoError(b, err)
		}
	}
	b.ReportMetric(float64(times[1])/float64(times[0]), "times-faster")
}

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

// spread runs work n times, by 16 clients.
func spread(b *testing.B, n int, work func(i int) error) {
	b.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
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

// BenchmarkAdvance is one refresh in the database (P6, P8), beside 10^3 and beside 10^6 other
// sessions, in turns. The figures are minima of the passes, and the ratio of the minima; a pass has
// 20,000 refreshes by 16 clients. "transaction" is the same refresh with a lock: BEGIN, SELECT FOR
// UPDATE, UPDATE, INSERT of the next token, COMMIT.
//
//	go test -run '^$' -bench '^BenchmarkAdvance$' -benchtime 10x .
func BenchmarkAdvance(b *testing.B) {
	for _, e := range everyEngine {
		b.Run(e.name, func(b *testing.B) {
			few, many := newRefreshes(b, e, 1000), newRefreshes(b, e, 1_000_000)
			best := make(map[string]time.Duration)
			pass := func(name string, work func(i int) error) {
				const calls = 20_000 // so that each pass has checkpoints of SQLite
				began := time.Now()
				spread(b, calls, work)
				if took := time.Since(began) / calls; best[name] == 0 || took < best[name] {
					best[name] = took
				}
			}
			for b.Loop() {
				pass("advance-10^3", few.advance)
				pass("advance-10^6", many.advance)
				pass("get-10^3", few.get)
				pass("get-10^6", many.get)
				if e.name == "PostgreSQL by pgx" {
					pass("transaction-10^3", few.rotate)
				}
			}
			require.Less(b, few.lost.Load()+many.lost.Load(), int64(b.N*100), "more than 1% of the refreshes did nothing")
			b.ReportMetric(0, "ns/op")
			for name, took := range best {
				b.ReportMetric(float64(took.Nanoseconds())/1000, name+"-µs")
			}
			b.ReportMetric(float64(best["advance-10^6"])/float64(best["advance-10^3"]), "advance-ratio")
			if t := best["transaction-10^3"]; t != 0 {
				b.ReportMetric(float64(t)/float64(best["advance-10^3"]), "transaction-ratio")
			}
		})
	}
}

// refreshes are calls for n sessions of a database, in an order that is far from that of the IDs.
type refreshes struct {
	b           *testing.B
	db          *sql.DB
	sessions    *sqlstore.Sessions
	generations []atomic.Uint64 // by the number of the session
	next, lost  atomic.Int64
	now         time.Time
}

func newRefreshes(b *testing.B, e engine, n int) *refreshes {
	b.Helper()
	st, db := e.store(b)
	fill(b, e, db, n)
	if e.dialect == sqlstore.PostgreSQL {
		run(b, db, "CREATE TABLE tokens (id TEXT PRIMARY KEY, session_id TEXT NOT NULL, made_at BIGINT NOT NULL)")
	}
	return &refreshes{b: b, db: db, sessions: st.Sessions, generations: make([]atomic.Uint64, n+1), now: time.Now()}
}

// id returns the number of the next session.
func (r *refreshes) id() (id, call int) {
	call = int(r.next.Add(1))
	return 1 + call*7919%(len(r.generations)-1), call
}

func (r *refreshes) advance(int) error {
	id, call := r.id()
	to := r.generations[id].Add(1)
	s := &oauth2pw.Session{ID: strconv.Itoa(id), Generation: to, IdleExpiresAt: r.now.Add(15*24*time.Hour + time.Duration(call)*time.Microsecond), AuthenticatedAt: r.now, RefreshedAt: r.now}
	ok, err := r.sessions.Advance(r.b.Context(), to-1, s, r.now)
	if err == nil && !ok { // the call before for the same session is not done
		r.lost.Add(1)
	}
	return err
}

func (r *refreshes) get(int) error {
	id, _ := r.id()
	_, err := r.sessions.Get(r.b.Context(), strconv.Itoa(id))
	return err
}

func (r *refreshes) rotate(int) error {
	id, call := r.id()
	return rotate(r.b, r.db, strconv.Itoa(id), strconv.Itoa(call))
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

package integration

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// TestReuseRacesRefresh: a token that was replaced before the grace period is sent again while
// two processes refresh the newest token. Whichever is first, the session has ended afterwards,
// and none of its tokens refreshes. The clocks of the processes differ by half of the grace
// period. The soak has 10,000 rounds.
func TestReuseRacesRefresh(t *testing.T) {
	const grace, skew = 30 * time.Second, 15 * time.Second
	rounds := 50
	if soak() {
		rounds = 10_000
	}
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) {
			st, _ := e.store(t)
			require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "john", PasswordHash: "secret"}))
			ahead, behind := newDBApp(t, st), newDBApp(t, st)
			ahead.later.Store(int64(skew))
			start := time.Now()
			refreshed := 0
			for round := range rounds {
				first := ahead.login(t.Context(), "john", "secret")
				second := ahead.refresh(t.Context(), first.Refresh)
				require.Equal(t, 200, second.status, "round %d", round)
				for _, a := range []*dbApp{ahead, behind} {
					a.later.Add(int64(grace + skew))
				}
				var wg sync.WaitGroup
				var got [2]answer
				for i, a := range []*dbApp{ahead, behind} {
					wg.Go(func() { got[i] = a.refresh(t.Context(), second.Refresh) })
				}
				thief := []*dbApp{ahead, behind}[round%2]
				wg.Go(func() {
					assert.Equal(t, 400, thief.refresh(t.Context(), first.Refresh).status, "round %d: the replaced token", round)
				})
				wg.Wait()
				issued := []string{first.Refresh, second.Refresh}
				for _, g := range got {
					require.Contains(t, []int{200, 400}, g.status, "round %d", round)
					if g.status == 200 {
						issued = append(issued, g.Refresh)
					}
				}
				if len(issued) > 2 {
					refreshed++
				}
				for _, token := range issued {
					for _, a := range []*dbApp{ahead, behind} {
						require.Equal(t, 400, a.refresh(t.Context(), token).status, "round %d: after the reuse nothing refreshes", round)
					}
				}
			}
			require.Empty(t, behind.live(t, "1"))
			t.Logf("%d rounds in %v: in %d of them a refresh was before the end of the session", rounds, time.Since(start).Round(time.Millisecond), refreshed)
		})
	}
}

// triedDB counts the tries of updates, and the errors that make a statement run again.
type triedDB struct {
	*sql.DB
	updates, conflicts *atomic.Int64
}

func (d triedDB) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	result, err := d.DB.ExecContext(ctx, query, args...)
	d.count(query, err)
	return result, err
}

func (d triedDB) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := d.DB.QueryContext(ctx, query, args...)
	d.count(query, err)
	return rows, err
}

func (d triedDB) count(query string, err error) {
	if strings.HasPrefix(query, "UPDATE") {
		d.updates.Add(1)
	}
	conflict := func(part string) bool { return err != nil && strings.Contains(err.Error(), part) }
	if slices.ContainsFunc([]string{"40001", "40P01", "could not serialize", "deadlock detected", "1213"}, conflict) {
		d.conflicts.Add(1)
	}
}

// tried returns the stores of a database, which count their tries.
func tried(t *testing.T, e engine, db *sql.DB) (*sqlstore.Store, triedDB) {
	t.Helper()
	counting := triedDB{db, new(atomic.Int64), new(atomic.Int64)}
	st, err := sqlstore.New(counting, sqlstore.Config{Dialect: e.dialect})
	require.NoError(t, err)
	return st, counting
}

// TestEngineDeadlock: an end of all sessions and a transaction of the app wait for each other.
// The server undoes the end, which runs again after the transaction.
func TestEngineDeadlock(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		migrated, db := e.store(t)
		now := time.Now().Truncate(time.Microsecond)
		for _, id := range []string{"a", "b"} {
			require.NoError(t, migrated.Sessions.Create(t.Context(), sessionOf(id, now)))
		}
		st, counts := tried(t, e, db)
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		defer tx.Rollback()
		if e.dialect == sqlstore.MySQL {
			// The server undoes the transaction with fewer changes. The end holds a row of the
			// table, and waits for its entry in an index.
			run(t, db, "CREATE TABLE changes (n INT)")
			run(t, tx, "INSERT INTO changes VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)")
			run(t, tx, "SELECT user_id FROM oauth2pw_sessions FORCE INDEX (user_lifetime) WHERE user_id = '1' AND ended_at IS NULL LOCK IN SHARE MODE")
		} else {
			// The server undoes the transaction that looks for a deadlock first. The end holds a,
			// and waits for b.
			run(t, tx, "SET LOCAL deadlock_timeout = '1min'")
			run(t, tx, "SELECT id FROM oauth2pw_sessions WHERE id = 'b' FOR UPDATE")
		}
		var ended []string
		done := make(chan error, 1)
		go func() {
			var err error
			ended, err = st.Sessions.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
			done <- err
		}()
		poll(t.Context(), t, "the end waits", blocks(t, e, db, tx))
		run(t, tx, "SELECT id FROM oauth2pw_sessions WHERE id = 'a' FOR UPDATE") // returns when the end is undone
		require.NoError(t, tx.Commit())
		require.NoError(t, <-done)
		require.ElementsMatch(t, []string{"a", "b"}, ended)
		statements := map[sqlstore.Dialect]int64{sqlstore.MySQL: 2, sqlstore.PostgreSQL: 1}[e.dialect]
		// Usually one. PostgreSQL may give the end that runs again the row before the transaction.
		conflicts := counts.conflicts.Load()
		require.Positive(t, conflicts)
		require.Equal(t, statements+conflicts, counts.updates.Load(), "each conflict has run one statement again")
		poll(t.Context(), t, "no connection is kept", func() bool { return db.Stats().InUse == 0 })
	})
}

// TestEngineSerializable: 16 requests refresh one token at once, and then 16 sessions, with the
// isolation "serializable". The conflicts run again. After the last try the answer is 503, and the
// client sends the token again: every token gets one successor.
func TestEngineSerializable(t *testing.T) {
	const writers, rounds = 16, 20
	onEngines(t, func(t *testing.T, e engine) {
		if e.dialect == sqlstore.MySQL {
			variable := "transaction_isolation"
			if isMariaDB(t, e.open(t)) {
				variable = "tx_isolation" // before 11.1
			}
			withMySQL(t, variable+"=%27SERIALIZABLE%27")
		} else {
			withPostgreSQL(t, "default_transaction_isolation=serializable")
		}
		_, db := e.store(t)
		st, counts := tried(t, e, db)
		a := newDBApp(t, st)
		held := make([]string, writers)
		for i := range held {
			name := fmt.Sprint("user", i)
			require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: name, Username: name, PasswordHash: "secret"}))
			held[i] = a.login(t.Context(), name, "secret").Refresh
		}
		var unavailable atomic.Int64
		refresh := func(token string) (got answer) {
			for range 100 {
				if got = a.refresh(t.Context(), token); got.status != 503 {
					break
				}
				unavailable.Add(1)
				time.Sleep(rand.N(50 * time.Millisecond)) // a client waits before it tries again
			}
			return got
		}
		for round := range rounds {
			got := make([]answer, writers)
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() { got[i] = refresh(held[0]) })
			}
			wg.Wait()
			for _, g := range got {
				require.Equal(t, 200, g.status, "round %d", round)
				require.Equal(t, got[0].Refresh, g.Refresh, "round %d: a fork", round)
			}
			held[0] = got[0].Refresh
			for i := range writers {
				wg.Go(func() { got[i] = refresh(held[i]) })
			}
			wg.Wait()
			for i, g := range got {
				require.Equal(t, 200, g.status, "round %d, session %d", round, i)
				held[i] = g.Refresh
			}
		}
		for i, generation := range map[int]uint64{0: 2*rounds + 1, 1: rounds + 1} {
			require.Equal(t, generation, a.live(t, fmt.Sprint("user", i))[0].Generation)
		}
		t.Logf("%d updates, %d conflicts, %d answers 503", counts.updates.Load(), counts.conflicts.Load(), unavailable.Load())
		require.Less(t, unavailable.Load(), int64(writers*rounds/10), "the tries have pauses between them")
		if e.dialect == sqlstore.PostgreSQL {
			require.Positive(t, counts.conflicts.Load())
		}
	})
}

// TestSweepBesideRefreshes: two processes sweep while 16 refresh. Every sweep finds sessions that
// refreshes have prolonged, and others that have expired. No call fails, no live session is lost,
// and every expired one is deleted.
func TestSweepBesideRefreshes(t *testing.T) {
	const writers, each, refreshes, expired = 16, 4, 40, 200
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) {
			st, db := e.store(t)
			base := time.Now().Truncate(time.Microsecond)
			at := func(i int) time.Time { return base.Add(time.Duration(i) * time.Second) }
			create := func(id string, idle time.Time) *oauth2pw.Session {
				n := sessionOf(id, base)
				n.IdleExpiresAt, n.ExpiresAt = idle, base.Add(time.Hour)
				require.NoError(t, st.Sessions.Create(t.Context(), n))
				return n
			}
			for i := range expired {
				create(fmt.Sprint("expired", i), at(i%refreshes))
			}
			var reached [writers]atomic.Int64 // no session of the writer expires before this second
			var working sync.WaitGroup
			for w := range writers {
				var own []*oauth2pw.Session
				for i := range each {
					own = append(own, create(fmt.Sprint("s", w, "-", i), at(1)))
				}
				working.Go(func() {
					for round := range refreshes {
						for _, n := range own {
							n.Generation++
							n.IdleExpiresAt = at(round + 2)
							ok, err := st.Sessions.Advance(t.Context(), n.Generation-1, n, base)
							if !assert.NoError(t, err) || !assert.True(t, ok) {
								return
							}
						}
						reached[w].Store(int64(round + 1))
					}
				})
			}
			var swept atomic.Int64
			sweep := func() bool {
				before := int64(refreshes)
				for w := range reached {
					before = min(before, reached[w].Load())
				}
				n, err := st.Sessions.Sweep(t.Context(), at(int(before)), 10)
				swept.Add(int64(n))
				return assert.NoError(t, err) && (n == 10 || before < refreshes)
			}
			var sweeping sync.WaitGroup
			for range 2 {
				sweeping.Go(func() {
					for sweep() {
					}
				})
			}
			working.Wait()
			sweeping.Wait()
			require.EqualValues(t, expired, swept.Load())
			list, err := st.Sessions.List(t.Context(), "1", base)
			require.NoError(t, err)
			require.Len(t, list, writers*each)
			for _, n := range list {
				require.EqualValues(t, refreshes, n.Generation, n.ID)
			}
			require.Zero(t, db.Stats().InUse)
		})
	}
}

// TestSweepStatements: a sweep postpones a batch a statement, even where its limit is nearly used
// up by ended sessions.
func TestSweepStatements(t *testing.T) {
	const limit, prolonged = 50, 500
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) {
			st, db := e.store(t)
			now := time.Now().Truncate(time.Microsecond)
			for i := range limit - 1 + prolonged {
				n := sessionOf(fmt.Sprint(i), now)
				if i < limit-1 {
					n.EndedAt = now
				}
				require.NoError(t, st.Sessions.Create(t.Context(), n))
			}
			run(t, db, "UPDATE oauth2pw_sessions SET sweep_at = 0")
			sweeper, counting := tried(t, e, db)
			swept, err := sweeper.Sessions.Sweep(t.Context(), now.Add(time.Microsecond), limit)
			require.NoError(t, err)
			require.Equal(t, limit-1, swept)
			require.LessOrEqual(t, counting.updates.Load(), int64(prolonged/limit+2))
		})
	}
}

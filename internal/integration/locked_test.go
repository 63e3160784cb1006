package integration

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// lockable is a database that another connection can lock.
type lockable struct {
	name string
	open func(t *testing.T) (*sqlstore.Store, *sql.DB)
	lock []string // statements of another connection
	free string   // a statement of the same connection
	// The driver only closes the connection of a call that has ended, and the server runs the
	// statement when the lock is free: a refused login may leave a session, whose tokens nobody
	// has.
	orphans bool
}

// openBusy opens a new SQLite database whose busy time-out is the time limit of a store call:
// the driver waits until its end, even if the context ends earlier. Without WAL a lock stops
// the readers too.
func openBusy(journal string, limit time.Duration) func(t testing.TB) *sql.DB {
	return func(t testing.TB) *sql.DB {
		dsn := sqliteDSN(filepath.Join(t.TempDir(), "test.db"))
		dsn = strings.Replace(dsn, "busy_timeout(5000)", fmt.Sprintf("busy_timeout(%d)", limit.Milliseconds()), 1)
		return opened(t, "sqlite", strings.Replace(dsn, "journal_mode(WAL)", "journal_mode("+journal+")", 1))
	}
}

func lockables(limit time.Duration) []lockable {
	var list []lockable
	add := func(name string, e engine, free string, lock ...string) {
		list = append(list, lockable{name, func(t *testing.T) (*sqlstore.Store, *sql.DB) { return e.store(t) }, lock, free, e.dialect == sqlstore.MySQL})
	}
	for _, journal := range []string{"WAL", "DELETE"} {
		add("SQLite with the journal "+journal, engine{dialect: sqlstore.SQLite, open: openBusy(journal, limit)}, "ROLLBACK", "BEGIN EXCLUSIVE")
	}
	for _, e := range engines {
		if e.dialect == sqlstore.MySQL {
			add(e.name, e, "UNLOCK TABLES", "LOCK TABLES oauth2pw_users WRITE, oauth2pw_sessions WRITE")
			continue
		}
		add(e.name, e, "ROLLBACK", "BEGIN", "LOCK TABLE oauth2pw_users, oauth2pw_sessions IN ACCESS EXCLUSIVE MODE")
	}
	// Users can be read: a login fails at its session.
	pgx, mysql := engines[0], engines[2]
	add(pgx.name+", the writes of sessions", pgx, "ROLLBACK", "BEGIN", "LOCK TABLE oauth2pw_sessions IN EXCLUSIVE MODE")
	add(mysql.name+", the sessions", mysql, "UNLOCK TABLES", "LOCK TABLES oauth2pw_sessions WRITE")
	return list
}

// TestLockedDatabase: while another connection locks the database, every answer is 503, within
// the time limit of each store call. Then the service returns by itself, and no session is lost
// or forked. The soak locks for 10 seconds.
func TestLockedDatabase(t *testing.T) {
	const devices, calls = 8, 1
	const slack = 4 * time.Second // of a slow machine; without the time limit the answers come later
	withMySQL(t, "innodb_lock_wait_timeout=5&lock_wait_timeout=5")
	limit, hold := 250*time.Millisecond, time.Duration(0)
	if soak() {
		limit, hold = time.Second, 10*time.Second
	}
	for _, l := range lockables(limit) {
		t.Run(l.name, func(t *testing.T) {
			st, db := l.open(t)
			require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "john", PasswordHash: "secret"}))
			a := newDBApp(t, st, func(c *oauth2pw.Config) { c.StoreTimeout = limit })
			held := make([]string, devices)
			for i := range held {
				held[i] = a.login(t.Context(), "john", "secret").Refresh
				require.NotEmpty(t, held[i])
			}
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			defer conn.Close()
			for _, statement := range l.lock {
				_, err := conn.ExecContext(t.Context(), statement)
				require.NoError(t, err)
			}
			var mu sync.Mutex
			var slowestRefresh, slowestLogin time.Duration
			var wg sync.WaitGroup
			start := time.Now()
			for i := range devices {
				wg.Go(func() {
					for n := 0; n < calls || time.Since(start) < hold; n++ {
						begin := time.Now()
						assert.Equal(t, 503, a.refresh(t.Context(), held[i]).status)
						took := time.Since(begin)
						mu.Lock()
						slowestRefresh = max(slowestRefresh, took)
						mu.Unlock()
						if i > 0 {
							continue
						}
						begin = time.Now()
						assert.Equal(t, 503, a.login(t.Context(), "john", "secret").status)
						slowestLogin = max(slowestLogin, time.Since(begin))
					}
				})
			}
			wg.Wait()
			_, err = conn.ExecContext(t.Context(), l.free)
			require.NoError(t, err)
			t.Logf("locked for %v; the slowest refresh took %v, the slowest login %v", time.Since(start), slowestRefresh, slowestLogin)
			// A refused login has two calls at their limit: Create, and the End that follows.
			assert.Less(t, slowestRefresh, limit+slack)
			assert.Less(t, slowestLogin, 2*limit+slack)
			for i, token := range held {
				next := a.refresh(t.Context(), token)
				require.Equal(t, 200, next.status, "device %d", i)
				require.Equal(t, next.Refresh, a.refresh(t.Context(), token).Refresh, "device %d: a fork", i)
			}
			refreshed, others := 0, 0
			for _, s := range a.live(t, "1") {
				if s.Generation == 2 {
					refreshed++
				} else {
					others++
				}
			}
			assert.Equal(t, devices, refreshed, "each session has refreshed once")
			if !l.orphans {
				assert.Zero(t, others, "no refused login has left a live session")
			}
			poll(t.Context(), t, "every connection is returned", func() bool { return db.Stats().InUse == 1 }) // that of the lock
		})
	}
}

package integration

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// moment is the time of the end of a request's context, at a store call.
type moment string

const (
	before moment = "before"
	during moment = "during" // while the call waits for a lock
	after  moment = "after"
)

// steps are the stores of an app. They end the context of a request at one of its store calls.
type steps struct {
	*sqlstore.Users
	*sqlstore.Sessions
	lock func(rows bool) (blocked func() bool, release func())
	t    *testing.T

	// Of the request.
	at     int
	moment moment
	cancel context.CancelFunc
	calls  int
	name   string // of the call at which the context has ended
}

// step makes a call. rows reports that a lock of the rows stops the call.
func (s *steps) step(ctx context.Context, name string, rows bool, call func()) {
	s.calls++
	if s.calls != s.at {
		call()
		return
	}
	s.name = name
	switch s.moment {
	case before:
		s.cancel()
		call()
	case after:
		call()
		s.cancel()
	case during:
		blocked, release := s.lock(rows)
		done := make(chan struct{})
		go func() {
			defer close(done)
			call()
		}()
		poll(s.t.Context(), s.t, name+" waits for the lock", func() bool {
			select {
			case <-done:
				return true
			default:
				return blocked()
			}
		})
		s.cancel()
		if ctx.Err() == nil { // the call continues although the client has disconnected
			release()
		}
		<-done
		release()
	}
}

func (s *steps) UserByName(ctx context.Context, name string) (u *oauth2pw.User, err error) {
	s.step(ctx, "UserByName", false, func() { u, err = s.Users.UserByName(ctx, name) })
	return u, err
}

func (s *steps) UserByID(ctx context.Context, id string) (u *oauth2pw.User, err error) {
	s.step(ctx, "UserByID", false, func() { u, err = s.Users.UserByID(ctx, id) })
	return u, err
}

func (s *steps) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (ok bool, err error) {
	s.step(ctx, "UpdatePasswordHash", true, func() { ok, err = s.Users.UpdatePasswordHash(ctx, id, old, new, changed) })
	return ok, err
}

func (s *steps) Create(ctx context.Context, n *oauth2pw.Session) (err error) {
	s.step(ctx, "Create", false, func() { err = s.Sessions.Create(ctx, n) })
	return err
}

func (s *steps) Get(ctx context.Context, id string) (n *oauth2pw.Session, err error) {
	s.step(ctx, "Get", false, func() { n, err = s.Sessions.Get(ctx, id) })
	return n, err
}

func (s *steps) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (ok bool, err error) {
	s.step(ctx, "Advance", true, func() { ok, err = s.Sessions.Advance(ctx, from, n, now) })
	return ok, err
}

func (s *steps) List(ctx context.Context, userID string, now time.Time) (list []*oauth2pw.Session, err error) {
	s.step(ctx, "List", false, func() { list, err = s.Sessions.List(ctx, userID, now) })
	return list, err
}

func (s *steps) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) (ids []string, err error) {
	s.step(ctx, "End", true, func() { ids, err = s.Sessions.End(ctx, f, reason, now) })
	return ids, err
}

// Check makes one method of two.
func (s *steps) Check() error { return s.Sessions.Check() }

// counts returns a function that reports whether a query counts something.
func counts(t *testing.T, db *sql.DB, query string, args ...any) func() bool {
	return func() bool {
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), query, args...).Scan(&n))
		return n > 0
	}
}

// blocks returns a function that reports whether a statement waits for the locks of an open
// transaction.
func blocks(t *testing.T, e engine, db *sql.DB, tx sqlstore.DB) func() bool {
	if e.dialect == sqlstore.PostgreSQL {
		var pid int
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
		return counts(t, db, "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))", pid)
	}
	if !isMariaDB(t, db) {
		var id int
		require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
		return counts(t, db, "SELECT count(*) FROM performance_schema.data_lock_waits w JOIN performance_schema.threads t ON t.thread_id = w.blocking_thread_id WHERE t.processlist_id = ?", id)
	}
	waits := counts(t, db, "SELECT count(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id"+
		" WHERE p.db = DATABASE() AND t.trx_state = 'LOCK WAIT'")
	return func() bool {
		time.Sleep(120 * time.Millisecond) // a read within 100 ms of another one returns the same rows
		return waits()
	}
}

// locker returns a function that locks the tables, or all rows, in another connection.
func locker(t *testing.T, e engine, db *sql.DB) func(rows bool) (blocked func() bool, release func()) {
	return func(rows bool) (blocked func() bool, release func()) {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		free := "ROLLBACK"
		switch {
		case e.dialect == sqlstore.SQLite:
			run(t, conn, "BEGIN EXCLUSIVE")
			blocked = func() bool { return db.Stats().InUse > 1 } // the lock, and the call
		case rows:
			run(t, conn, "BEGIN")
			run(t, conn, "SELECT id FROM oauth2pw_users FOR UPDATE")
			run(t, conn, "SELECT id FROM oauth2pw_sessions FOR UPDATE")
			blocked = blocks(t, e, db, conn)
		case e.dialect == sqlstore.PostgreSQL:
			run(t, conn, "BEGIN")
			run(t, conn, "LOCK TABLE oauth2pw_users, oauth2pw_sessions IN ACCESS EXCLUSIVE MODE")
			blocked = blocks(t, e, db, conn)
		default:
			run(t, conn, "LOCK TABLES oauth2pw_users WRITE, oauth2pw_sessions WRITE")
			free = "UNLOCK TABLES"
			waiting := "SELECT count(*) FROM performance_schema.threads WHERE processlist_db = DATABASE() AND processlist_state LIKE 'Waiting for table%lock'"
			if isMariaDB(t, db) {
				waiting = "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE 'Waiting for table%lock'"
			}
			blocked = counts(t, db, waiting)
		}
		return blocked, sync.OnceFunc(func() {
			run(t, conn, free)
			require.NoError(t, conn.Close())
		})
	}
}

// stepRun is a request of a user with two sessions, whose context ends at a store call.
type stepRun struct {
	*dbApp
	t          *testing.T
	user       string
	one, two   answer
	users      *oauth2pw.User // before the request
	rows       []*oauth2pw.Session
	orphans    bool // see lockable
	got        answer
	background context.Context
}

func (r *stepRun) session(i int) *oauth2pw.Session {
	s, err := r.st.Sessions.Get(r.t.Context(), r.rows[i].ID)
	require.NoError(r.t, err)
	return s
}

// works requires that a session refreshes.
func (r *stepRun) works(token string) (next string) {
	r.t.Helper()
	got := r.refresh(r.background, token)
	require.Equal(r.t, 200, got.status)
	return got.Refresh
}

func (r *stepRun) refused(token string) {
	r.t.Helper()
	require.Equal(r.t, 400, r.refresh(r.background, token).status)
}

// stepRequests are the requests, and the checks of the state after them.
var stepRequests = []struct {
	name  string
	send  func(ctx context.Context, r *stepRun) answer
	check func(t *testing.T, r *stepRun)
}{
	{
		"login",
		func(ctx context.Context, r *stepRun) answer { return r.login(ctx, r.user, "old") },
		func(t *testing.T, r *stepRun) {
			want := 2
			if r.got.status == 200 {
				want = 3
				r.works(r.got.Refresh)
			}
			if live := len(r.live(t, r.user)); !r.orphans || live != want+1 {
				require.Equal(t, want, live, "a login that fails leaves no live session")
			}
			require.Equal(t, r.rows, []*oauth2pw.Session{r.session(0), r.session(1)}, "the other sessions")
			again := r.login(r.background, r.user, "old")
			require.Equal(t, 200, again.status)
			r.works(again.Refresh)
		},
	},
	{
		"refresh",
		func(ctx context.Context, r *stepRun) answer { return r.refresh(ctx, r.one.Refresh) },
		func(t *testing.T, r *stepRun) {
			now, changed := r.session(0), *r.rows[0]
			if now.Generation != changed.Generation {
				changed.Generation++
				changed.RefreshedAt, changed.IdleExpiresAt = now.RefreshedAt, now.IdleExpiresAt
				require.True(t, now.RefreshedAt.After(r.rows[0].RefreshedAt))
			} else {
				require.NotEqual(t, 200, r.got.status)
			}
			require.Equal(t, &changed, now, "the session is as before, or refreshed once")
			next := r.works(r.one.Refresh)
			if r.got.status == 200 {
				require.Equal(t, r.got.Refresh, next)
			}
			r.works(next)
			require.Equal(t, r.rows[1], r.session(1), "the other session")
		},
	},
	{
		"logout",
		func(ctx context.Context, r *stepRun) answer { return r.revoke(ctx, r.one.Refresh) },
		func(t *testing.T, r *stepRun) {
			now, changed := r.session(0), *r.rows[0]
			if !now.EndedAt.IsZero() {
				changed.EndedAt, changed.EndReason = now.EndedAt, string(oauth2pw.ReasonRevoked)
			} else {
				require.NotEqual(t, 200, r.got.status)
			}
			require.Equal(t, &changed, now, "the session is as before, or ended")
			require.Equal(t, 200, r.revoke(r.background, r.one.Refresh).status)
			r.refused(r.one.Refresh)
			require.Equal(t, r.rows[1], r.session(1), "the other session")
			r.works(r.two.Refresh)
		},
	},
	{
		"change of the password",
		func(ctx context.Context, r *stepRun) answer { return r.change(ctx) },
		func(t *testing.T, r *stepRun) {
			u, err := r.st.Users.UserByID(t.Context(), r.user)
			require.NoError(t, err)
			if u.PasswordHash == "old" {
				require.NotEqual(t, 200, r.got.status)
				require.Equal(t, r.users, u)
				require.Equal(t, r.rows, []*oauth2pw.Session{r.session(0), r.session(1)})
				r.got = r.change(r.background)
				require.Equal(t, 200, r.got.status)
			}
			require.Equal(t, 400, r.login(r.background, r.user, "old").status)
			require.Equal(t, 200, r.login(r.background, r.user, "new").status)
			r.refused(r.two.Refresh)
			if r.got.status == 200 {
				r.works(r.got.Refresh)
			}
			r.refused(r.one.Refresh)
		},
	},
}

func (r *stepRun) change(ctx context.Context) answer {
	return r.send(ctx, "/password", r.one.Access, url.Values{"old": {"old"}, "new": {"new"}})
}

// TestContextEndsAtEachStep: the context of a request ends before, during and after each store
// call of a login, a refresh, a log-out and a change of the password. Afterwards the state is that
// before the request or that after it, no connection is kept, and the next request works.
func TestContextEndsAtEachStep(t *testing.T) {
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) {
			if e.dialect == sqlstore.SQLite {
				e.open = openBusy("DELETE", 100*time.Millisecond) // a lock stops readers too
			}
			st, db := e.store(t)
			s := &steps{Users: st.Users, Sessions: st.Sessions, lock: locker(t, e, db), t: t}
			a := newDBApp(t, st, func(c *oauth2pw.Config) { c.Users, c.Sessions = s, s })
			users, ended := 0, 0
			for _, request := range stepRequests {
				for _, m := range []moment{before, during, after} {
					for at := 1; ; at++ {
						users++
						r := &stepRun{dbApp: a, t: t, user: fmt.Sprint("user", users), orphans: e.dialect == sqlstore.MySQL, background: t.Context()}
						require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: r.user, Username: r.user, PasswordHash: "old"}))
						r.one, r.two = a.login(t.Context(), r.user, "old"), a.login(t.Context(), r.user, "old")
						r.rows = a.live(t, r.user) // the newest first
						require.Len(t, r.rows, 2)
						r.rows[0], r.rows[1] = r.rows[1], r.rows[0]
						var err error
						r.users, err = st.Users.UserByID(t.Context(), r.user)
						require.NoError(t, err)

						ctx, cancel := context.WithCancel(t.Context())
						s.at, s.moment, s.cancel, s.calls, s.name = at, m, cancel, 0, ""
						r.got = request.send(ctx, r)
						cancel()
						s.at = 0
						if s.name == "" {
							require.Equal(t, 200, r.got.status)
							t.Logf("%s, %s: %d steps", request.name, m, at-1)
							break
						}
						ended++
						passed := t.Run(fmt.Sprintf("%s, %s step %d, %s", request.name, m, at, s.name), func(t *testing.T) {
							r.t = t
							require.Contains(t, []int{200, 503}, r.got.status)
							poll(t.Context(), t, "no connection is kept", func() bool { return db.Stats().InUse == 0 })
							request.check(t, r)
						})
						if !passed {
							return
						}
					}
				}
			}
			t.Logf("%d contexts have ended", ended)
		})
	}
}

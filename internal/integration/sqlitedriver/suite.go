// Package sqlitedriver tests store/sqlstore with other SQLite drivers than modernc.org/sqlite.
//
// mattn/go-sqlite3 and ncruces/go-sqlite3 both register the name "sqlite3", and a program that
// imports both of them panics at its start. Each has its own test binary: mattn is in this
// folder, and ncruces in the folder below.
package sqlitedriver

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// Driver is a driver under test.
type Driver struct {
	Name     string // the name in database/sql
	Settings string // the part of the DSN after the name of the file
}

// open opens a file with the settings.
func (d Driver) open(t *testing.T, file string) *sql.DB {
	t.Helper()
	path := url.URL{Path: file} // the name of a test may have a "#"
	db, err := sql.Open(d.Name, "file:"+path.EscapedPath()+"?"+d.Settings)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func (d Driver) store(t *testing.T) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := d.open(t, filepath.Join(t.TempDir(), "test.db"))
	return migrated(t, db), db
}

func migrated(t *testing.T, db *sql.DB) *sqlstore.Store {
	t.Helper()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	require.NoError(t, st.Migrate(t.Context()))
	require.NoError(t, st.CheckSchema(t.Context()))
	return st
}

// Suite is all tests of a driver.
func Suite(t *testing.T, d Driver) {
	t.Run("users", func(t *testing.T) {
		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
			st, _ := d.store(t)
			for _, u := range users {
				require.NoError(t, st.Users.Add(t.Context(), u))
			}
			return st.Users
		})
	})
	t.Run("clients", func(t *testing.T) {
		storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
			st, _ := d.store(t)
			for _, c := range clients {
				require.NoError(t, st.Clients.Add(t.Context(), c))
			}
			return st.Clients
		})
	})
	t.Run("sessions", func(t *testing.T) {
		storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { st, _ := d.store(t); return st.Sessions })
	})
	t.Run("refreshes", func(t *testing.T) {
		storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { st, _ := d.store(t); return st.Sessions }, 50)
	})
	t.Run("settings", d.settings)
	t.Run("processes", d.processes)
	t.Run("own table", d.ownTable)
	t.Run("times", d.times)
}

// settings: the DSN sets every connection of the pool, and not only the first one.
func (d Driver) settings(t *testing.T) {
	_, db := d.store(t)
	var conns []*sql.Conn
	for range 3 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		conns = append(conns, conn)
	}
	for i, conn := range conns {
		for pragma, want := range map[string]string{"busy_timeout": "5000", "journal_mode": "wal", "synchronous": "1"} {
			var got string
			require.NoError(t, conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
			require.Equal(t, want, got, "%s of connection %d", pragma, i)
		}
	}
}

// processes: ten programs migrate one file at once, and then write to it at once. Each rotation
// is won by one of them.
func (d Driver) processes(t *testing.T) {
	const programs, rounds = 10, 20
	file := filepath.Join(t.TempDir(), "test.db")
	var stores [programs]*sqlstore.Store
	var wg sync.WaitGroup
	for i := range stores {
		db := d.open(t, file)
		st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
		require.NoError(t, err)
		stores[i] = st
		wg.Go(func() { assert.NoError(t, st.Migrate(t.Context())) })
	}
	wg.Wait()
	now := time.Now().UTC().Truncate(time.Microsecond)
	s := oauth2pw.Session{ID: "a", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)}
	require.NoError(t, stores[0].Sessions.Create(t.Context(), &s))
	for round := range uint64(rounds) {
		var won atomic.Int32
		for i, st := range stores {
			wg.Go(func() {
				next := s
				next.Generation, next.Forgiven = round+1, uint64(i)
				ok, err := st.Sessions.Advance(t.Context(), round, &next, now)
				assert.NoError(t, err)
				if ok {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, won.Load(), "round %d", round)
	}
	got, err := stores[1].Sessions.Get(t.Context(), "a")
	require.NoError(t, err)
	require.EqualValues(t, rounds, got.Generation)
}

// ownTable: the table of another program, with the types that a driver may convert.
func (d Driver) ownTable(t *testing.T) {
	db := d.open(t, filepath.Join(t.TempDir(), "test.db"))
	_, err := db.ExecContext(t.Context(), `CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE COLLATE NOCASE, pw BLOB, active BOOLEAN, gone DATETIME, roles TEXT);
		INSERT INTO accounts VALUES (1, 'John', 'h', TRUE, NULL, 'me items'), (2, 'off', 'h', FALSE, NULL, NULL), (3, 'null', NULL, NULL, NULL, ''), (4, 'gone', 'h', 1, '2026-01-02 03:04:05', NULL),
			(5, 'text', 'h', 'yes', NULL, NULL)`)
	require.NoError(t, err)
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Active: "active", DeletedAt: "gone", Scopes: "roles"})
	require.NoError(t, err)
	for name, disabled := range map[string]bool{"John": false, "off": true, "null": true, "gone": true} {
		u, err := users.UserByName(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, disabled, u.Disabled, name)
	}
	u, err := users.UserByName(t.Context(), "text")
	if err == nil { // no driver may turn a yes into another answer
		require.False(t, u.Disabled, "a text in a column for booleans")
	}
	u, err = users.UserByID(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, &oauth2pw.User{ID: "1", Username: "John", PasswordHash: "h", Scopes: []string{"me", "items"}}, u)
	for _, key := range []string{"", "john", "1.0", "01", " 1", "1 ", "a\x00b", "1\x00", "\xff", "'", "99999999999999999999"} {
		_, err := users.UserByName(t.Context(), key)
		require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
		_, err = users.UserByID(t.Context(), key)
		require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
		ok, err := users.UpdatePasswordHash(t.Context(), key, "h", "new", time.Time{})
		require.NoError(t, err, "%q", key)
		require.False(t, ok, "%q", key)
	}
	ok, err := users.UpdatePasswordHash(t.Context(), "1", "h", "new", time.Time{})
	require.NoError(t, err)
	require.True(t, ok, "a hash in a BLOB is a text")
}

// times: the time of a change of the password is read as it was written, in every format and
// type of the column.
func (d Driver) times(t *testing.T) {
	db := d.open(t, filepath.Join(t.TempDir(), "test.db"))
	changed := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	n := 0
	for column, format := range map[string]sqlstore.TimeFormat{
		"INTEGER": sqlstore.UnixMicro, "INT": sqlstore.UnixSeconds, "TEXT": sqlstore.Timestamp, "DATETIME": sqlstore.Timestamp, "TIMESTAMP": sqlstore.Timestamp,
	} {
		n++
		table := fmt.Sprint("accounts", n)
		_, err := db.ExecContext(t.Context(), strings.ReplaceAll(`CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT UNIQUE, pw TEXT, since `+column+`);
			INSERT INTO accounts VALUES (1, 'john', 'h', NULL)`, "accounts", table))
		require.NoError(t, err)
		users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: table, ID: "id", Username: "email", PasswordHash: "pw", SessionsValidFrom: "since", SessionsValidFromFormat: format})
		require.NoError(t, err)
		u, err := users.UserByName(t.Context(), "john")
		require.NoError(t, err, column)
		require.True(t, u.SessionsValidFrom.IsZero(), column)
		ok, err := users.UpdatePasswordHash(t.Context(), "1", "h", "h2", changed)
		require.NoError(t, err, column)
		require.True(t, ok, column)
		u, err = users.UserByName(t.Context(), "john")
		require.NoError(t, err, column)
		require.Equal(t, changed, u.SessionsValidFrom, column)
		require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Username = "johnny"; return nil }), column)
		if format != sqlstore.Timestamp {
			continue
		}
		for _, text := range []string{"2026-05-06 07:08:09", "2026-05-06T07:08:09Z", "2026-05-06 09:08:09+02:00"} {
			_, err = db.ExecContext(t.Context(), "UPDATE "+table+" SET since = ?", text)
			require.NoError(t, err)
			u, err = users.UserByID(t.Context(), "1")
			require.NoError(t, err, "%s %s", column, text)
			require.Equal(t, changed, u.SessionsValidFrom, "%s %s", column, text)
		}
	}
}

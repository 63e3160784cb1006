package integration

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	_ "modernc.org/sqlite"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/store/storetest"
	"github.com/oauth2pw/passwordflow/tokens"
)

func openSQLite(t testing.TB) *sql.DB {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := sql.Open("sqlite", sqliteDSN(file))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	return db
}

func openStore(t testing.TB, db *sql.DB) *sqlstore.Store {
	t.Helper()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	require.NoError(t, st.Migrate(t.Context()))
	require.NoError(t, st.Migrate(t.Context()), "at every start")
	return st
}

func TestSQLiteUsers(t *testing.T) {
	storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		st := openStore(t, openSQLite(t))
		for _, u := range users {
			require.NoError(t, st.Users.Add(t.Context(), u))
		}
		return st.Users
	})
}

func TestSQLiteClients(t *testing.T) {
	storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
		st := openStore(t, openSQLite(t))
		for _, c := range clients {
			require.NoError(t, st.Clients.Add(t.Context(), c))
		}
		return st.Clients
	})
}

func TestSQLiteSessions(t *testing.T) {
	storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { return openStore(t, openSQLite(t)).Sessions })
}

// TestSQLiteConformance56Refreshes, see storetest.Refreshes.
func TestSQLiteConformance56Refreshes(t *testing.T) {
	storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { return openStore(t, openSQLite(t)).Sessions }, 200)
}

// TestSQLiteConformance152: a column that the table does not have is an error
// that names it, and never somebody's id.
func TestSQLiteConformance152(t *testing.T) {
	db := openSQLite(t)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, pw TEXT, off INTEGER, scopes TEXT, since INTEGER);
		INSERT INTO accounts VALUES (1, 'john', 'h', 0, 'me', NULL), (2, 'alice', 'h', 2, NULL, NULL), (3, 'null', 'h', NULL, NULL, NULL), (4, 'blob', CAST('h' AS BLOB), 0, NULL, NULL)`)
	require.NoError(t, err)
	good := sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off", Scopes: "scopes", SessionsValidFrom: "since"}
	for _, edit := range []func(*sqlstore.UserTable){
		func(u *sqlstore.UserTable) { u.ID = "uid" },
		func(u *sqlstore.UserTable) { u.Username = "uid" },
		func(u *sqlstore.UserTable) { u.PasswordHash = "uid" },
		func(u *sqlstore.UserTable) { u.Disabled = "uid" },
		func(u *sqlstore.UserTable) { u.Disabled, u.Active = "", "uid" },
		func(u *sqlstore.UserTable) { u.Scopes = "uid" },
		func(u *sqlstore.UserTable) { u.SessionsValidFrom = "uid" },
		func(u *sqlstore.UserTable) { u.Table = "uid" },
	} {
		table := good
		edit(&table)
		s, err := sqlstore.NewUsers(db, sqlstore.SQLite, table)
		require.NoError(t, err)
		for _, name := range []string{"john", "uid"} {
			u, err := s.UserByName(t.Context(), name)
			require.ErrorContains(t, err, "uid", "%+v", table)
			require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
			require.Nil(t, u)
			_, err = s.UserByID(t.Context(), name)
			require.ErrorContains(t, err, "uid")
			require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
		}
		_, err = s.UpdatePasswordHash(t.Context(), "1", "h", "x", time.Now())
		if table.ID == "uid" || table.PasswordHash == "uid" || table.SessionsValidFrom == "uid" || table.Table == "uid" {
			require.ErrorContains(t, err, "uid")
		}
		_, err = db.ExecContext(t.Context(), `UPDATE accounts SET pw = 'h', since = NULL WHERE id = 1`)
		require.NoError(t, err)
	}
	s, err := sqlstore.NewUsers(db, sqlstore.SQLite, good)
	require.NoError(t, err)
	for name, disabled := range map[string]bool{"john": false, "alice": true, "null": true, "blob": false} {
		u, err := s.UserByName(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, disabled, u.Disabled, name)
		require.Equal(t, oauth2pw.Secret("h"), u.PasswordHash)
	}
	for _, changed := range []time.Time{{}, time.Now()} {
		ok, err := s.UpdatePasswordHash(t.Context(), "4", "h", "new", changed)
		require.NoError(t, err)
		require.True(t, ok, "a hash in a BLOB column is a text")
		_, err = db.ExecContext(t.Context(), `UPDATE accounts SET pw = CAST('h' AS BLOB) WHERE id = 4`)
		require.NoError(t, err)
	}
	active := good
	active.Disabled, active.Active = "", "off"
	s, err = sqlstore.NewUsers(db, sqlstore.SQLite, active)
	require.NoError(t, err)
	for name, disabled := range map[string]bool{"john": true, "alice": false, "null": true} {
		u, err := s.UserByName(t.Context(), name)
		require.NoError(t, err, name)
		require.Equal(t, disabled, u.Disabled, name)
	}
}

// TestSQLiteSlips: names that SQLite has in every table, types that do not fit, stores that
// nobody has made.
func TestSQLiteSlips(t *testing.T) {
	db := openSQLite(t)
	good := sqlstore.UserTable{Table: "u", ID: "uid", Username: "name", PasswordHash: "hash"}
	for _, name := range []string{"oid", "rowid", "_rowid_", "OID", "RowID"} {
		for _, edit := range []func(*sqlstore.UserTable){
			func(u *sqlstore.UserTable) { u.ID = name }, func(u *sqlstore.UserTable) { u.Username = name }, func(u *sqlstore.UserTable) { u.PasswordHash = name },
			func(u *sqlstore.UserTable) { u.Disabled = name }, func(u *sqlstore.UserTable) { u.Active = name },
			func(u *sqlstore.UserTable) { u.Scopes = name }, func(u *sqlstore.UserTable) { u.SessionsValidFrom = name },
		} {
			table := good
			edit(&table)
			_, err := sqlstore.NewUsers(db, sqlstore.SQLite, table)
			require.ErrorContains(t, err, name)
		}
	}
	_, err := db.ExecContext(t.Context(), `CREATE TABLE u (uid TEXT PRIMARY KEY, name TEXT UNIQUE, hash TEXT); INSERT INTO u VALUES ('1', 'john', '$argon2id$CANARY')`)
	require.NoError(t, err)
	wrong := good
	wrong.SessionsValidFrom = "hash"
	s, err := sqlstore.NewUsers(db, sqlstore.SQLite, wrong)
	require.NoError(t, err)
	_, err = s.UserByName(t.Context(), "john")
	require.ErrorContains(t, err, `the column "hash"`)
	require.NotContains(t, err.Error(), "CANARY", "no hash reaches an error")

	var none *sql.DB
	_, err = sqlstore.NewUsers(none, sqlstore.SQLite, good)
	require.ErrorContains(t, err, "the DB is nil")
	_, err = sqlstore.New(none, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.ErrorContains(t, err, "the DB is nil")
	require.Error(t, new(sqlstore.Users).Check())
	require.Error(t, new(sqlstore.Clients).Check())
	require.Error(t, new(sqlstore.Sessions).Check())
	st := openStore(t, db)
	require.NoError(t, st.Users.Check())
	require.NoError(t, st.Clients.Check())
	require.NoError(t, st.Sessions.Check())
}

// TestSQLiteConformance148: a digest that is empty, or of another length, is no
// public client's.
func TestSQLiteConformance148(t *testing.T) {
	db := openSQLite(t)
	st := openStore(t, db)
	for _, digest := range [][]byte{{}, make([]byte, 31), make([]byte, 33)} {
		require.ErrorContains(t, st.Clients.Add(t.Context(), oauth2pw.Client{ID: "x", SecretSHA256: digest}), "SecretSHA256")
		_, err := db.ExecContext(t.Context(), `INSERT OR REPLACE INTO oauth2pw_clients (id, secret_sha256) VALUES ('x', CAST(zeroblob(?) AS BLOB))`, len(digest))
		require.NoError(t, err)
		_, err = st.Clients.ClientByID(t.Context(), "x")
		require.ErrorContains(t, err, "SecretSHA256")
		require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
	}
	require.NoError(t, st.Clients.Add(t.Context(), oauth2pw.Client{ID: "public"}))
	c, err := st.Clients.ClientByID(t.Context(), "public")
	require.NoError(t, err)
	require.Nil(t, c.SecretSHA256)
}

// BenchmarkSQLiteEnd: 64 ends of all sessions of a user at once, beside so many that have
// ended already.
func BenchmarkSQLiteEnd(b *testing.B) {
	for _, ended := range []int{0, 86_400} {
		b.Run(fmt.Sprint(ended), func(b *testing.B) {
			db := openSQLite(b)
			st := openStore(b, db)
			now := time.Now().UTC().Truncate(time.Microsecond)
			tx, err := db.BeginTx(b.Context(), nil)
			require.NoError(b, err)
			many, err := sqlstore.New(tx, sqlstore.Config{Dialect: sqlstore.SQLite})
			require.NoError(b, err)
			for i := range ended {
				require.NoError(b, many.Sessions.Create(b.Context(), &oauth2pw.Session{
					ID: fmt.Sprint("ended", i), UserID: "1", Generation: 1, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now,
					IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour), EndedAt: now,
				}))
			}
			require.NoError(b, tx.Commit())
			for b.Loop() {
				var wg sync.WaitGroup
				for range 64 {
					wg.Go(func() {
						_, err := st.Sessions.End(b.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
						assert.NoError(b, err)
					})
				}
				wg.Wait()
			}
		})
	}
}

// TestSQLiteOwnTable: the users of a table that the app has already, with integer
// ids and a column that says "active"; with a column for SessionsValidFrom, and without one.
func TestSQLiteOwnTable(t *testing.T) {
	storetest.Users(t, openOwnTable("pw_changed"))
	t.Run("without SessionsValidFrom", func(t *testing.T) { storetest.Users(t, openOwnTable("")) })

	t.Run("a name that only the database folds", func(t *testing.T) {
		db := openSQLite(t)
		_, err := db.ExecContext(t.Context(), `CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, pw TEXT, disabled BOOLEAN);
			INSERT INTO u VALUES (1, 'JohnDoe', NULL, NULL)`)
		require.NoError(t, err)
		table := sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw", Disabled: "disabled"}
		s, err := sqlstore.NewUsers(db, sqlstore.SQLite, table)
		require.NoError(t, err)
		_, err = s.UserByName(t.Context(), "johndoe")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		table.FoldNames = true
		s, err = sqlstore.NewUsers(db, sqlstore.SQLite, table)
		require.NoError(t, err)
		u, err := s.UserByName(t.Context(), "johndoe")
		require.NoError(t, err)
		require.Empty(t, string(u.PasswordHash), "NULL opens nothing")
		require.True(t, u.Disabled, "nor does an unknown state")
		require.Error(t, s.Add(t.Context(), *u))
	})
}

// openOwnTable returns the open of storetest.Users for a table of the app's own.
// sessionsValidFrom is a column, "" for none.
func openOwnTable(sessionsValidFrom string) func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
	return func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		db := openSQLite(t)
		_, err := db.ExecContext(t.Context(), `CREATE TABLE "my accounts" (
			"the id" INTEGER PRIMARY KEY, email TEXT UNIQUE COLLATE NOCASE, pw TEXT, is_active BOOLEAN, roles TEXT, pw_changed INTEGER, other TEXT)`)
		require.NoError(t, err)
		s, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
			Table: "my accounts", ID: "the id", Username: "email", PasswordHash: "pw", Active: "is_active", Scopes: "roles", SessionsValidFrom: sessionsValidFrom,
		})
		require.NoError(t, err)
		for _, u := range users {
			var scopes, changed any
			if u.Scopes != nil {
				for i, s := range u.Scopes {
					if i > 0 {
						s = scopes.(string) + " " + s
					}
					scopes = s
				}
				if scopes == nil {
					scopes = ""
				}
			}
			if !u.SessionsValidFrom.IsZero() {
				changed = u.SessionsValidFrom.UnixMicro()
			}
			_, err := db.ExecContext(t.Context(), `INSERT INTO "my accounts" VALUES (?, ?, ?, ?, ?, ?, 'x')`,
				u.ID, u.Username, sql.NullString{String: string(u.PasswordHash), Valid: u.PasswordHash != ""}, !u.Disabled, scopes, changed)
			require.NoError(t, err)
		}
		return s
	}
}

// TestSQLiteFirstHash: an empty old hash is a NULL, an empty text and an empty BLOB, and no
// other hash.
func TestSQLiteFirstHash(t *testing.T) {
	for _, column := range []string{"", "since"} {
		for _, changed := range []time.Time{{}, olderLogin} {
			db := openSQLite(t)
			run(t, db, `CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT UNIQUE, pw, since INTEGER);
				INSERT INTO u VALUES (1, 'null', NULL, NULL), (2, 'empty', '', NULL), (3, 'blob', x'', NULL), (4, 'space', ' ', NULL), (5, 'zero', '0', NULL)`)
			s, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw", SessionsValidFrom: column})
			require.NoError(t, err)
			for id, want := range map[string]bool{"1": true, "2": true, "3": true, "4": false, "5": false, "6": false} {
				for _, first := range []bool{true, false} { // a second time the user has a hash
					ok, err := s.UpdatePasswordHash(t.Context(), id, "", "new", changed)
					require.NoError(t, err)
					require.Equal(t, want && first, ok, id)
				}
			}
			since := "-"
			if column != "" && !changed.IsZero() {
				since = fmt.Sprint(olderLogin.UnixMicro())
			}
			require.Equal(t, []string{"new " + since, "new " + since, "new " + since, "  -", "0 -"}, lines(t, db, `SELECT pw || ' ' || COALESCE(since, '-') FROM u ORDER BY id`))
		}
	}
	users := openStore(t, openSQLite(t)).Users
	require.NoError(t, users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "invited"}))
	ok, err := users.UpdatePasswordHash(t.Context(), "1", "", "new", olderLogin)
	require.NoError(t, err)
	require.True(t, ok)
	requireUser(t, users, oauth2pw.User{ID: "1", Username: "invited", PasswordHash: "new", SessionsValidFrom: olderLogin})
}

// TestSQLiteFailures: what fails is an error, and never a miss.
func TestSQLiteFailures(t *testing.T) {
	db := openSQLite(t)
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite}) // no tables
	require.NoError(t, err)
	notMiss := func(err error) {
		t.Helper()
		require.Error(t, err)
		require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
	}
	for range 2 {
		_, err = st.Users.UserByName(t.Context(), "x")
		notMiss(err)
		_, err = st.Users.UserByID(t.Context(), "x")
		notMiss(err)
		_, err = st.Users.UpdatePasswordHash(t.Context(), "x", "x", "x", time.Time{})
		notMiss(err)
		_, err = st.Clients.ClientByID(t.Context(), "x")
		notMiss(err)
		notMiss(st.Clients.Add(t.Context(), oauth2pw.Client{ID: "x"}))
		notMiss(st.Users.Add(t.Context(), oauth2pw.User{ID: "x", Username: "x"}))
		require.NoError(t, db.Close())
	}
	notMiss(st.Migrate(t.Context()))

	for _, c := range []sqlstore.Config{{}, {Dialect: 9}, {Dialect: sqlstore.SQLite, Prefix: `x"; DROP TABLE users; --`}} {
		_, err := sqlstore.New(db, c)
		require.Error(t, err)
	}
	_, err = sqlstore.New(nil, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.Error(t, err)
	_, err = sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "x"})
	require.Error(t, err)
	_, err = sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "x", ID: "x", Username: "x", PasswordHash: "x", Disabled: "x", Active: "x"})
	require.Error(t, err)
}

// TestSQLiteInTransaction: the stores take a *sql.Tx, and leave nothing behind when
// it is rolled back.
func TestSQLiteInTransaction(t *testing.T) {
	db := openSQLite(t)
	openStore(t, db)
	tx, err := db.BeginTx(context.Background(), nil)
	require.NoError(t, err)
	st, err := sqlstore.New(tx, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "a"}))
	require.NoError(t, tx.Rollback())
	_, err = openStore(t, db).Users.UserByID(t.Context(), "1")
	require.ErrorIs(t, err, oauth2pw.ErrNotFound)
}

// TestUnreadableDatabase: a file that is no database is a failure.
func TestUnreadableDatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.db")
	require.NoError(t, os.WriteFile(file, []byte("this is not a database, and long enough to be looked at as one ........................................"), 0o600))
	db, err := sql.Open("sqlite", "file:"+file)
	require.NoError(t, err)
	defer db.Close()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	_, err = st.Users.UserByName(t.Context(), "x")
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
}

// TestSQLiteHashUpgrade: twenty logins at once of a user whose hash is bcrypt's. All get
// in, and the hash is replaced once.
//
// Conformance 117.
func TestSQLiteHashUpgrade(t *testing.T) {
	st := openStore(t, openSQLite(t))
	old, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(old)}))
	ring, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	h, err := hasher.New(hasher.Config{InsecureParams: true, Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, Queue: 100})
	require.NoError(t, err)
	var upgrades, failures atomic.Int32
	auth, err := oauth2pw.New(oauth2pw.Config{Users: st.Users, Hasher: h, Issuer: ring, OnEvent: func(_ context.Context, e oauth2pw.Event) {
		switch e.Kind {
		case oauth2pw.EventHashUpgraded:
			upgrades.Add(1)
		case oauth2pw.EventUpgradeFailed:
			failures.Add(1)
		}
	}})
	require.NoError(t, err)
	server := httptest.NewServer(auth.TokenHandler())
	defer server.Close()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := tokenFrom(http.PostForm(server.URL, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, upgrades.Load())
	require.Zero(t, failures.Load())
	u, err := st.Users.UserByID(t.Context(), "1")
	require.NoError(t, err)
	ok, outdated, err := h.Verify(t.Context(), string(u.PasswordHash), "secret")
	require.NoError(t, err)
	require.True(t, ok && !outdated)
}

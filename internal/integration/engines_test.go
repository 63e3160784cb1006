package integration

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// engine is a database server with one of its drivers.
type engine struct {
	name    string
	dialect sqlstore.Dialect
	// open returns a new database of its own, which is dropped after the test.
	open func(t testing.TB) *sql.DB
}

var engines = []engine{
	{"PostgreSQL by pgx", sqlstore.PostgreSQL, func(t testing.TB) *sql.DB { return openPostgreSQL(t, "pgx") }},
	{"PostgreSQL by pq", sqlstore.PostgreSQL, func(t testing.TB) *sql.DB { return openPostgreSQL(t, "postgres") }},
	{"MySQL", sqlstore.MySQL, openMySQL},
}

// everyEngine is SQLite and the servers.
var everyEngine = append([]engine{{"SQLite", sqlstore.SQLite, func(t testing.TB) *sql.DB { return openSQLite(t) }}}, engines...)

// onEngines runs a test on every server.
func onEngines(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

// fromEnv returns the address of a server.
func fromEnv(name, otherwise string) string {
	if s := os.Getenv(name); s != "" {
		return s
	}
	return otherwise
}

// The variables of the environment that name other servers.
const (
	postgresqlVariable = "PASSWORDFLOW_TEST_POSTGRES"
	mysqlVariable      = "PASSWORDFLOW_TEST_MYSQL"
)

func postgresqlDSN() string {
	return fromEnv(postgresqlVariable, "postgres://postgres@127.0.0.1:5432/test?sslmode=disable")
}

func mysqlDSN() string {
	return fromEnv(mysqlVariable, "root@tcp(127.0.0.1:3306)/test?clientFoundRows=true&innodb_lock_wait_timeout=2&lock_wait_timeout=2&parseTime=true")
}

// withPostgreSQL and withMySQL add settings to the connections of a test.
func withPostgreSQL(t *testing.T, settings string) {
	t.Setenv(postgresqlVariable, postgresqlDSN()+"&"+settings)
}

func withMySQL(t *testing.T, settings string) { t.Setenv(mysqlVariable, mysqlDSN()+"&"+settings) }

// reach skips a test whose server does not answer, or fails it where the servers are required.
func reach(t testing.TB, db *sql.DB, server, variable string) {
	t.Helper()
	if err := db.PingContext(t.Context()); err != nil {
		if os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES") != "" {
			require.NoError(t, err, server)
		}
		t.Skipf("%s does not answer: start it, or name another one in %s: %v", server, variable, err)
	}
}

func openPostgreSQL(t testing.TB, driver string) *sql.DB {
	t.Helper()
	dsn := postgresqlDSN()
	admin, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	reach(t, admin, "PostgreSQL", postgresqlVariable)
	schema := "passwordflow_" + strings.ToLower(rand.Text())
	_, err = admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Exec("DROP SCHEMA " + schema + " CASCADE") })
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	q := u.Query()
	// Without public: Migrate finds a table of another program there, and takes it for its own.
	q.Set("search_path", schema)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // pgx reads a plus as a plus
	return opened(t, driver, u.String())
}

func openMySQL(t testing.TB) *sql.DB {
	t.Helper()
	dsn := mysqlDSN()
	admin, err := sql.Open("mysql", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	reach(t, admin, "MariaDB or MySQL", mysqlVariable)
	name := "passwordflow_" + strings.ToLower(rand.Text())
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Exec("DROP DATABASE " + name) })
	at := strings.LastIndex(dsn, "/") + 1
	_, settings, _ := strings.Cut(dsn[at:], "?")
	return opened(t, "mysql", dsn[:at]+name+"?"+settings)
}

// isMariaDB tells MariaDB from MySQL.
func isMariaDB(t testing.TB, db *sql.DB) bool {
	t.Helper()
	var version string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT VERSION()").Scan(&version))
	return strings.Contains(version, "MariaDB")
}

func opened(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	require.NoError(t, err)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	t.Cleanup(func() { db.Close() })
	return db
}

// store returns the stores in a new database.
func (e engine) store(t testing.TB) (*sqlstore.Store, *sql.DB) {
	t.Helper()
	db := e.open(t)
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
	require.NoError(t, err)
	require.NoError(t, st.Migrate(t.Context()))
	require.NoError(t, st.Migrate(t.Context()), "at every start")
	require.NoError(t, st.CheckSchema(t.Context()))
	return st, db
}

func TestEngineUsers(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
			st, _ := e.store(t)
			for _, u := range users {
				require.NoError(t, st.Users.Add(t.Context(), u))
			}
			return st.Users
		})
	})
}

func TestEngineClients(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
			st, _ := e.store(t)
			for _, c := range clients {
				require.NoError(t, st.Clients.Add(t.Context(), c))
			}
			return st.Clients
		})
	})
}

func TestEngineSessions(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { st, _ := e.store(t); return st.Sessions })
	})
}

// TestEngineConformance56Refreshes, see storetest.Refreshes.
func TestEngineConformance56Refreshes(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { st, _ := e.store(t); return st.Sessions }, 50)
	})
}

// TestEngineMigrate: of ten processes that start at once, one makes the tables, and the others
// wait; the printed statements make the same tables.
func TestEngineMigrate(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect, Prefix: "ten_"})
				if assert.NoError(t, err) {
					assert.NoError(t, st.Migrate(t.Context()))
				}
			})
		}
		wg.Wait()
		st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect, Prefix: "byhand_"})
		require.NoError(t, err)
		require.ErrorContains(t, st.CheckSchema(t.Context()), "call Migrate")
		runEach(t, db, st.Schema(0))
		require.NoError(t, st.CheckSchema(t.Context()))
		require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "john"}))
		require.Empty(t, st.Schema(sqlstore.SchemaVersion))
		require.Empty(t, st.Schema(1), "a version of SQLite alone")
	})
}

// TestMySQLSettings: without the settings of the DSN nothing starts, and one error has all of them.
func TestMySQLSettings(t *testing.T) {
	bare, _, _ := strings.Cut(mysqlDSN(), "?")
	t.Setenv(mysqlVariable, bare)
	st, err := sqlstore.New(openMySQL(t), sqlstore.Config{Dialect: sqlstore.MySQL})
	require.NoError(t, err)
	for _, setting := range []string{"clientFoundRows=true", "innodb_lock_wait_timeout=2&lock_wait_timeout=2"} {
		require.ErrorContains(t, st.Migrate(t.Context()), setting)
		require.ErrorContains(t, st.CheckSchema(t.Context()), setting)
	}
}

// TestEngineOwnTable: the tables of other programs, with their types of ids, names and flags.
func TestEngineOwnTable(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		ids := map[string][2]string{"BIGINT": {"7", "8"}}
		flags := map[string][2]string{"BOOLEAN": {"TRUE", "FALSE"}, "INTEGER": {"2", "0"}, "VARCHAR(9)": {"'Y'", "'n'"}}
		switch e.dialect {
		case sqlstore.PostgreSQL:
			ids["UUID"] = [2]string{"0190b0a0-0000-7000-8000-000000000001", "0190b0a0-0000-7000-8000-000000000002"}
			flags["TIMESTAMPTZ"] = [2]string{"now()", ""}
		case sqlstore.MySQL:
			ids["VARCHAR(99)"] = [2]string{"x y", "z"}
			flags["BIT(1)"] = [2]string{"b'1'", "b'0'"}
		}
		n := 0
		for idType, id := range ids {
			for flagType, flag := range flags {
				n++
				name := fmt.Sprint("accounts", n)
				run(t, db, fmt.Sprintf("CREATE TABLE %s (id %s PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), off %s, since BIGINT)", name, idType, flagType))
				run(t, db, fmt.Sprintf("INSERT INTO %s VALUES ('%s', 'john', 'h', %s, NULL)", name, id[0], flag[0]))
				if flag[1] != "" {
					run(t, db, fmt.Sprintf("INSERT INTO %s VALUES ('%s', 'alice', NULL, %s, NULL)", name, id[1], flag[1]))
				}
				what := idType + " " + flagType
				users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: name, ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off", SessionsValidFrom: "since"})
				require.NoError(t, err)
				u, err := users.UserByName(t.Context(), "john")
				require.NoError(t, err, what)
				require.Equal(t, []any{id[0], true, oauth2pw.Secret("h")}, []any{u.ID, u.Disabled, u.PasswordHash}, what)
				for _, other := range []string{"", "x", "7.0", "07", " 7", "7 ", strings.ToUpper(id[0]) + "x", "99999999999999999999", "a\x00b", "\xff", strings.Repeat("9", 10_000)} {
					_, err = users.UserByID(t.Context(), other)
					require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%s: %.20q", what, other)
					_, err = users.UserByName(t.Context(), other)
					require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%s: %.20q", what, other)
				}
				changed, err := users.UpdatePasswordHash(t.Context(), id[0], "h", "new", olderLogin)
				require.NoError(t, err, what)
				require.True(t, changed, what)
				changed, err = users.UpdatePasswordHash(t.Context(), id[0], "h", "newer", olderLogin)
				require.NoError(t, err, what)
				require.False(t, changed, what)
				u, err = users.UserByID(t.Context(), id[0])
				require.NoError(t, err, what)
				require.Equal(t, []any{oauth2pw.Secret("new"), olderLogin.UTC()}, []any{u.PasswordHash, u.SessionsValidFrom}, what)
				if flag[1] == "" {
					continue
				}
				u, err = users.UserByName(t.Context(), "alice")
				require.NoError(t, err, what)
				require.Equal(t, []any{false, oauth2pw.Secret("")}, []any{u.Disabled, u.PasswordHash}, what)
				changed, err = users.UpdatePasswordHash(t.Context(), id[1], "", "first", time.Time{})
				require.NoError(t, err, what)
				require.True(t, changed, "%s: a NULL is no hash", what)
			}
		}
		// A text that is no flag is an error that names the column by its number, not the text.
		run(t, db, "CREATE TABLE odd (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), off VARCHAR(20))")
		run(t, db, "INSERT INTO odd VALUES (1, 'john', 'h', 'perhaps'), (2, 'null', 'h', NULL)")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "odd", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off"})
		require.NoError(t, err)
		_, err = users.UserByName(t.Context(), "john")
		require.ErrorContains(t, err, "column 3 ")
		require.NotContains(t, err.Error(), "perhaps")
		u, err := users.UserByName(t.Context(), "null")
		require.NoError(t, err)
		require.True(t, u.Disabled)
	})
}

// TestEngineTimes: the times of a change in the formats of other programs, and rows that are
// marked as deleted.
func TestEngineTimes(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		timestamp := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "TIMESTAMPTZ", sqlstore.MySQL: "DATETIME(6)"}[e.dialect]
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), micros BIGINT, seconds BIGINT, at "+timestamp+", gone "+timestamp+")")
		run(t, db, "INSERT INTO accounts VALUES (1, 'john', 'h', NULL, NULL, NULL, NULL), (2, 'gone', 'h', NULL, NULL, NULL, '2026-01-02 03:04:05')")
		columns := map[string]sqlstore.TimeFormat{"micros": sqlstore.UnixMicro, "seconds": sqlstore.UnixSeconds, "at": sqlstore.Timestamp}
		table := func(column string, f sqlstore.TimeFormat) *sqlstore.Users {
			users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", DeletedAt: "gone", SessionsValidFrom: column, SessionsValidFromFormat: f})
			require.NoError(t, err)
			return users
		}
		changed := time.Date(2026, 5, 6, 7, 8, 9, 123_456_001, time.UTC) // between two microseconds
		for column, format := range columns {
			users := table(column, format)
			u, err := users.UserByName(t.Context(), "john")
			require.NoError(t, err, column)
			require.True(t, u.SessionsValidFrom.IsZero(), column)
			ok, err := users.UpdatePasswordHash(t.Context(), "1", "h", "h2", changed)
			require.NoError(t, err, column)
			require.True(t, ok)
			u, err = users.UserByName(t.Context(), "john")
			require.NoError(t, err, column)
			want := changed.Truncate(time.Microsecond).Add(time.Microsecond)
			if format != sqlstore.UnixMicro {
				want = changed.Truncate(time.Second).Add(time.Second)
			}
			require.Equal(t, want, u.SessionsValidFrom, column)
			require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.SessionsValidFrom = time.Time{}; u.PasswordHash = "h"; return nil }), column)
			u, err = users.UserByID(t.Context(), "1")
			require.NoError(t, err, column)
			require.True(t, u.SessionsValidFrom.IsZero(), column)
			u, err = users.UserByName(t.Context(), "gone")
			require.NoError(t, err)
			require.True(t, u.Disabled, "deleted")
			_, err = users.UpdatePasswordHash(t.Context(), "1", "h", "h", changed)
			require.NoError(t, err)
		}
		// Every format but that of the column is an error that names the column.
		for column, right := range columns {
			for _, wrong := range columns {
				if wrong == right {
					continue
				}
				_, err := table(column, wrong).UserByName(t.Context(), "john")
				require.ErrorContains(t, err, fmt.Sprintf("the column %q", column), "format %d", wrong)
				require.ErrorContains(t, err, "SessionsValidFromFormat")
				require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
			}
		}
	})
}

// TestEngineInspect: the faults of a table are found at the start.
func TestEngineInspect(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		folding := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "TEXT", sqlstore.MySQL: "VARCHAR(99) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"}[e.dialect]
		if e.dialect == sqlstore.PostgreSQL {
			run(t, db, "CREATE COLLATION IF NOT EXISTS nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
			folding += " COLLATE nocase"
		}
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email "+folding+" UNIQUE, pw VARCHAR(200), off VARCHAR(20))")
		run(t, db, "INSERT INTO accounts VALUES (1, 'john', 'readable', 'n'), (2, 'jane', 'other', 'n'), (3, 'new', NULL, 'y')")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off"})
		require.NoError(t, err)
		reads := func(hash string) bool { return hash == "readable" }
		found, err := users.Inspect(t.Context(), reads, 1000)
		require.NoError(t, err)
		require.Equal(t, sqlstore.Inspection{Users: 3, NoPassword: 1, Unreadable: 1, FoldsNames: true}, found)
		found, err = users.Inspect(t.Context(), reads, 2)
		require.NoError(t, err)
		require.Equal(t, 2, found.Users)
		if e.dialect == sqlstore.PostgreSQL {
			run(t, db, "CREATE TABLE zoneless (id BIGINT PRIMARY KEY, email TEXT UNIQUE, pw TEXT, since TIMESTAMP)")
			run(t, db, "INSERT INTO zoneless VALUES (1, 'john', 'readable', NULL)")
			shifted, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "zoneless", ID: "id", Username: "email", PasswordHash: "pw", SessionsValidFrom: "since", SessionsValidFromFormat: sqlstore.Timestamp})
			require.NoError(t, err)
			_, err = shifted.Inspect(t.Context(), reads, 1000)
			require.ErrorContains(t, err, `the column "since" has times without a zone`)
		}
		run(t, db, "UPDATE accounts SET off = 'perhaps' WHERE id = 2")
		_, err = users.Inspect(t.Context(), reads, 1000)
		require.ErrorContains(t, err, "column 3 ")
		missing, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "login", PasswordHash: "pw"})
		require.NoError(t, err)
		_, err = missing.Inspect(t.Context(), reads, 1000)
		require.ErrorContains(t, err, "login")
		st, _ := e.store(t)
		require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "john", PasswordHash: "readable"}))
		found, err = st.Users.Inspect(t.Context(), reads, 1000)
		require.NoError(t, err)
		require.Equal(t, sqlstore.Inspection{Users: 1}, found)
	})
}

// TestEngineEdit: users and clients are changed by one conditional write, and a name that is
// taken is told apart.
func TestEngineEdit(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		st, _ := e.store(t)
		ctx := t.Context()
		for _, name := range []string{"john", "alice"} {
			require.NoError(t, st.Users.Add(ctx, oauth2pw.User{ID: name + "1", Username: name, PasswordHash: "h", Scopes: []string{"me"}}))
		}
		require.ErrorIs(t, st.Users.Add(ctx, oauth2pw.User{ID: "john1", Username: "other"}), oauth2pw.ErrExists)
		require.ErrorIs(t, st.Users.Add(ctx, oauth2pw.User{ID: "other", Username: "john"}), oauth2pw.ErrExists)
		require.NoError(t, st.Users.Update(ctx, "john1", func(u *oauth2pw.User) error { u.Disabled, u.Scopes = true, nil; return nil }))
		require.NoError(t, st.Users.Update(ctx, "john1", func(*oauth2pw.User) error { return nil }))
		u, err := st.Users.UserByID(ctx, "john1")
		require.NoError(t, err)
		require.Equal(t, []any{true, []string(nil), oauth2pw.Secret("h")}, []any{u.Disabled, u.Scopes, u.PasswordHash})
		rename := func(to string) error {
			return st.Users.Update(ctx, "john1", func(u *oauth2pw.User) error { u.Username = to; return nil })
		}
		require.ErrorIs(t, rename("alice"), oauth2pw.ErrExists)
		require.NoError(t, rename("john "))
		_, err = st.Users.UserByName(ctx, "john")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound, "a space at the end is part of the name")
		require.NoError(t, st.Users.Delete(ctx, "john1"))
		require.ErrorIs(t, st.Users.Delete(ctx, "john1"), oauth2pw.ErrNotFound)

		require.NoError(t, st.Clients.Add(ctx, oauth2pw.Client{ID: "app", Grants: []string{"password"}}))
		require.ErrorIs(t, st.Clients.Add(ctx, oauth2pw.Client{ID: "app"}), oauth2pw.ErrExists)
		require.NoError(t, st.Clients.Update(ctx, "app", func(c *oauth2pw.Client) error { c.Introspect, c.SecretSHA256 = true, make([]byte, 32); return nil }))
		require.NoError(t, st.Clients.Update(ctx, "app", func(*oauth2pw.Client) error { return nil }))
		c, err := st.Clients.ClientByID(ctx, "app")
		require.NoError(t, err)
		require.Equal(t, &oauth2pw.Client{ID: "app", SecretSHA256: make([]byte, 32), Grants: []string{"password"}, Introspect: true}, c)
	})
}

// TestEnginePlans: every statement of the session store finds its rows by an index.
func TestEnginePlans(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		_, db := e.store(t)
		now := olderLogin
		n := oauth2pw.Session{ID: "x", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(24 * time.Hour)}
		tx, err := db.BeginTx(t.Context(), nil)
		require.NoError(t, err)
		many, err := sqlstore.New(tx, sqlstore.Config{Dialect: e.dialect})
		require.NoError(t, err)
		for i := range 5000 {
			n.ID, n.UserID, n.EndedAt, n.IdleExpiresAt = fmt.Sprint(i), fmt.Sprint(i%100), time.Time{}, now.Add(time.Duration(i-2500)*time.Second)
			if i%2 == 0 {
				n.EndedAt = now.Add(time.Duration(i) * time.Second)
			}
			require.NoError(t, many.Sessions.Create(t.Context(), &n))
		}
		require.NoError(t, tx.Commit())
		if e.dialect == sqlstore.PostgreSQL {
			run(t, db, "ANALYZE")
		} else {
			run(t, db, "ANALYZE TABLE oauth2pw_sessions")
		}

		r := recorder{db, make(map[string][]any)}
		recording, err := sqlstore.New(r, sqlstore.Config{Dialect: e.dialect})
		require.NoError(t, err)
		s := recording.Sessions
		_, err = s.Get(t.Context(), "1")
		require.NoError(t, err)
		_, err = s.Advance(t.Context(), 0, &n, now)
		require.NoError(t, err)
		_, err = s.List(t.Context(), "1", now)
		require.NoError(t, err)
		_, err = s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1", ID: "1"}, "", now)
		require.NoError(t, err)
		_, err = s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "", now)
		require.NoError(t, err)
		_, err = s.Sweep(t.Context(), now.Add(-40*time.Minute), 10)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(r.statements), 6)
		for query, args := range r.statements {
			for _, fields := range explain(t, e.dialect, db, query, args) {
				step := strings.Join(fields, "|")
				t.Logf("%.40s: %s", query, step)
				require.NotContains(t, step, "Seq Scan on oauth2pw", "%s", query)
				require.False(t, strings.Contains(step, "Sort Key:") && strings.Contains(step, "sweep_at"), "a sweep reads no more than its limit: %s", step)
				require.False(t, e.dialect == sqlstore.MySQL && fields[2] == "oauth2pw_sessions" && slices.Contains(fields, "ALL"), "%s: %s", query, step)
			}
		}
	})
}

// TestEnginePoolOfOne: a pool of one connection is slow, and waits for nothing forever: no
// method holds a connection while it asks for another.
func TestEnginePoolOfOne(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore {
			db := e.open(t)
			db.SetMaxOpenConns(1)
			st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
			require.NoError(t, err)
			require.NoError(t, st.Migrate(t.Context()))
			return st.Sessions
		}, 5)
	})
}

// TestEngineProcesses: 16 processes, each with a pool of its own, refresh the same sessions. Of
// the processes that read the same generation, one advances it; no advance is lost and none
// happens twice.
func TestEngineProcesses(t *testing.T) {
	const processes, sessions, rounds = 16, 20, 10
	onEngines(t, func(t *testing.T, e engine) {
		st, db := e.store(t)
		now := time.Now().Truncate(time.Microsecond)
		for i := range sessions {
			require.NoError(t, st.Sessions.Create(t.Context(), &oauth2pw.Session{
				ID: fmt.Sprint(i), UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour),
			}))
		}
		var won, ended sync.Map
		var wg sync.WaitGroup
		for p := range processes {
			wg.Go(func() {
				st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
				if !assert.NoError(t, err) {
					return
				}
				for round := range rounds {
					for i := range sessions {
						s, err := st.Sessions.Get(t.Context(), fmt.Sprint(i))
						if !assert.NoError(t, err) {
							return
						}
						from := s.Generation
						s.Generation++
						ok, err := st.Sessions.Advance(t.Context(), from, s, now)
						if !assert.NoError(t, err) {
							return
						}
						if ok {
							_, twice := won.LoadOrStore([2]uint64{uint64(i), from}, p)
							assert.False(t, twice, "two processes have advanced the session %d from %d", i, from)
						}
					}
					if round == rounds/2 { // reuse, in the middle of all
						ids, err := st.Sessions.End(t.Context(), oauth2pw.SessionFilter{UserID: "1", ID: fmt.Sprint(p)}, "reuse", now)
						if assert.NoError(t, err) && len(ids) > 0 {
							_, twice := ended.LoadOrStore(ids[0], p)
							assert.False(t, twice)
						}
					}
				}
			})
		}
		wg.Wait()
		for i := range sessions {
			s, err := st.Sessions.Get(t.Context(), fmt.Sprint(i))
			require.NoError(t, err)
			for g := range s.Generation {
				_, ok := won.Load([2]uint64{uint64(i), g})
				require.True(t, ok, "the generation %d of the session %d is of no process", g, i)
			}
			_, isEnded := ended.Load(fmt.Sprint(i))
			require.Equal(t, i < processes, isEnded)
			if isEnded {
				ok, err := st.Sessions.Advance(t.Context(), s.Generation, s, now)
				require.NoError(t, err)
				require.False(t, ok, "after an end nothing refreshes")
			}
		}
	})
}

package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// olderDatabase is a database of an older program: a file of statements in testdata, the
// version of its tables, the ID of its session, and the refresh token that the program of that
// time gave out. Its secret is 32 times "x".
type olderDatabase struct {
	file           string
	version        int // 0: older than the first version
	session, token string
}

var older = []olderDatabase{
	{"unversioned-1.sql", 0, "Iccms7MX08R2MBuDMXxh2w", "rt1.Iccms7MX08R2MBuDMXxh2wAAAAAAAAACsCTS5g7vJolr14-uyJ_AzMSea2sGr-hjRWLH_mbebvM"},
	{"unversioned-2.sql", 0, "UqZ-MIgmDPrTVbnWetT32g", "rt1.UqZ-MIgmDPrTVbnWetT32gAAAAAAAAACTNdsfCszjhoCv8YVTO9-3wfRmEUsviamQgapvcEU3hk"},
	{"unversioned-3.sql", 0, "h-76pxtl-RIl7CsXTjk6lA", "rt1.h-76pxtl-RIl7CsXTjk6lAAAAAAAAAACUMBkweTNDT9iuf1PoOdUzIzAorVmrQzRPPLC2DLS-dQ"},
	{"version-2.sql", 2, "K52pHqLnF791hGXJf1VHDg", "rt1.K52pHqLnF791hGXJf1VHDgAAAAAAAAACh0tSIgaKaUWCNspbGxCOyer0J1wh_1cTGCeHBSQAUPo"},
	{"version-3.sql", 3, "K52pHqLnF791hGXJf1VHDg", "rt1.K52pHqLnF791hGXJf1VHDgAAAAAAAAACh0tSIgaKaUWCNspbGxCOyer0J1wh_1cTGCeHBSQAUPo"},
}

// olderLogin and olderRefresh are the times of their sessions.
var (
	olderLogin   = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	olderRefresh = olderLogin.Add(time.Hour)
)

func run(t testing.TB, db sqlstore.DB, statements string) {
	t.Helper()
	_, err := db.ExecContext(t.Context(), statements)
	require.NoError(t, err, statements)
}

func runFile(t testing.TB, db sqlstore.DB, file string) {
	t.Helper()
	statements, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	run(t, db, string(statements))
}

func newStore(t testing.TB, db sqlstore.DB) *sqlstore.Store {
	t.Helper()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	return st
}

// lines returns the rows of a query of one column.
func lines(t testing.TB, db sqlstore.DB, query string) (list []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		list = append(list, line)
	}
	require.NoError(t, rows.Err())
	return list
}

// tables returns all columns and indexes of a database, without their order.
func tables(t testing.TB, db *sql.DB) []string {
	t.Helper()
	return append(
		lines(t, db, `SELECT t.name || '.' || c.name || ' ' || c.type || ' ' || c."notnull" || c.pk FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' ORDER BY 1`),
		lines(t, db, `SELECT COALESCE(sql, name) FROM sqlite_schema WHERE type = 'index' ORDER BY 1`)...)
}

// requireCurrent: the tables are those of a new database, and so is their version.
func requireCurrent(t *testing.T, db *sql.DB) {
	t.Helper()
	fresh := openSQLite(t)
	require.NoError(t, newStore(t, fresh).Migrate(t.Context()))
	require.Equal(t, tables(t, fresh), tables(t, db))
	require.Equal(t, []string{"4"}, lines(t, db, `SELECT version FROM oauth2pw_schema`))
	require.NoError(t, newStore(t, db).CheckSchema(t.Context()))
}

// requireAlive: the session of an older database can be read, refreshed with the token of
// then, and ended.
func requireAlive(t *testing.T, st *sqlstore.Store, session, token string) {
	t.Helper()
	now := func() time.Time { return olderRefresh.Add(time.Hour) }
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api", Now: now})
	require.NoError(t, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: st.Users, Clients: st.Clients, Hasher: plainHasher{}, Issuer: jwt,
		Sessions: st.Sessions, Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
		DefaultScopes: []string{"me"}, Now: now,
	})
	require.NoError(t, err)
	server := httptest.NewServer(auth.TokenHandler())
	defer server.Close()
	refresh := func(token string) string {
		next, err := tokenFrom(http.PostForm(server.URL, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"webapp"}}))
		require.NoError(t, err)
		return next
	}
	s, err := st.Sessions.Get(t.Context(), session)
	require.NoError(t, err)
	require.Equal(t, olderLogin, s.CreatedAt)
	require.Equal(t, olderLogin, s.AuthenticatedAt)
	require.Equal(t, olderRefresh, s.RefreshedAt)
	require.Zero(t, s.Forgiven)
	require.Zero(t, s.Idle)
	require.Empty(t, s.Label)
	list, err := st.Sessions.List(t.Context(), "1", olderRefresh)
	require.NoError(t, err)
	require.Equal(t, []*oauth2pw.Session{s}, list)
	next := refresh(token)
	require.NotEmpty(t, next)
	next = refresh(next)
	require.NotEmpty(t, next)
	ended, err := auth.EndAllSessions(t.Context(), "1", "test")
	require.NoError(t, err)
	require.Equal(t, 1, ended)
	require.Empty(t, refresh(next))
}

// TestSQLiteMigrate: a database of any age opens with its sessions alive.
func TestSQLiteMigrate(t *testing.T) {
	for _, test := range older {
		t.Run(test.file, func(t *testing.T) {
			db := openSQLite(t)
			runFile(t, db, test.file)
			st := newStore(t, db)
			require.EqualError(t, st.CheckSchema(t.Context()), fmt.Sprintf("sqlstore: the database has schema version %d; this program needs 4: call Migrate, or run Schema(%[1]d)", test.version))
			for range 2 {
				require.NoError(t, st.Migrate(t.Context()))
				requireCurrent(t, db)
			}
			requireAlive(t, st, test.session, test.token)
		})
	}
	t.Run("version 1", func(t *testing.T) {
		db := openSQLite(t)
		runFile(t, db, "unversioned-2.sql")
		run(t, db, `CREATE TABLE oauth2pw_schema (version INTEGER NOT NULL) STRICT; INSERT INTO oauth2pw_schema VALUES (1)`)
		require.EqualError(t, newStore(t, db).CheckSchema(t.Context()), "sqlstore: the database has schema version 1; this program needs 4: call Migrate, or run Schema(1)")
		require.NoError(t, newStore(t, db).Migrate(t.Context()))
		requireCurrent(t, db)
		requireAlive(t, newStore(t, db), older[1].session, older[1].token)
	})
	t.Run("two prefixes", func(t *testing.T) {
		db := openSQLite(t)
		for _, prefix := range []string{"a_", "b_"} {
			st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite, Prefix: prefix})
			require.NoError(t, err)
			require.Error(t, st.CheckSchema(t.Context()))
			require.NoError(t, st.Migrate(t.Context()))
			require.NoError(t, st.CheckSchema(t.Context()))
		}
	})
}

// TestSQLiteSchema: the printed statements have the effect of Migrate.
func TestSQLiteSchema(t *testing.T) {
	db := openSQLite(t)
	st := newStore(t, db)
	run(t, db, st.Schema(0))
	requireCurrent(t, db)
	require.NoError(t, st.Migrate(t.Context()))

	db = openSQLite(t)
	runFile(t, db, "unversioned-2.sql")
	run(t, db, `CREATE TABLE oauth2pw_schema (version INTEGER NOT NULL) STRICT; INSERT INTO oauth2pw_schema VALUES (1)`)
	run(t, db, st.Schema(1))
	requireCurrent(t, db)

	db = openSQLite(t)
	runFile(t, db, "version-2.sql")
	run(t, db, st.Schema(2))
	requireCurrent(t, db)

	db = openSQLite(t)
	runFile(t, db, "version-3.sql")
	run(t, db, st.Schema(3))
	requireCurrent(t, db)

	require.Equal(t, st.Schema(0), st.Schema(-1))
	require.Empty(t, st.Schema(sqlstore.SchemaVersion))
	require.Empty(t, st.Schema(sqlstore.SchemaVersion+1))
	require.NotContains(t, st.Schema(0), "{")
}

// TestSQLiteNewerSchema: a program refuses a schema that it does not know, and leaves it as
// it is.
func TestSQLiteNewerSchema(t *testing.T) {
	db := openSQLite(t)
	run(t, db, `CREATE TABLE oauth2pw_schema (version INTEGER NOT NULL) STRICT; INSERT INTO oauth2pw_schema VALUES (7)`)
	before := tables(t, db)
	const refusal = "sqlstore: the database has schema version 7; this program knows 4: update the program"
	require.EqualError(t, newStore(t, db).Migrate(t.Context()), refusal)
	require.EqualError(t, newStore(t, db).CheckSchema(t.Context()), refusal)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.EqualError(t, newStore(t, tx).Migrate(t.Context()), refusal)
	require.NoError(t, tx.Rollback())
	require.Equal(t, before, tables(t, db))
	require.Equal(t, []string{"7"}, lines(t, db, `SELECT version FROM oauth2pw_schema`))

	run(t, db, `UPDATE oauth2pw_schema SET version = -1`)
	require.ErrorContains(t, newStore(t, db).Migrate(t.Context()), "schema version -1")
}

// TestSQLiteOlderProgram: a program without a schema version works on the newest schema: it
// starts, opens sessions that the newest program reads, and loses nothing that it does not
// know.
func TestSQLiteOlderProgram(t *testing.T) {
	for _, test := range older[1:3] { // the first one of all cannot: its sessions have no created_at
		t.Run(test.file, func(t *testing.T) {
			db := openSQLite(t)
			st := newStore(t, db)
			require.NoError(t, st.Migrate(t.Context()))
			runFile(t, db, test.file) // its tables, if they are not there, and its own rows
			require.NoError(t, st.CheckSchema(t.Context()))

			mine := &oauth2pw.Session{
				ID: "mine", UserID: "1", ClientID: "webapp", Scope: "me", KeyID: "k", Generation: 5, Forgiven: 4, Idle: time.Hour, Label: "the phone",
				CreatedAt: olderLogin, AuthenticatedAt: olderLogin, RefreshedAt: olderLogin, IdleExpiresAt: olderLogin.Add(time.Hour), ExpiresAt: olderLogin.Add(90 * 24 * time.Hour),
			}
			require.NoError(t, st.Sessions.Create(t.Context(), mine))
			// The refresh of the older program.
			n, err := db.ExecContext(t.Context(), `UPDATE "oauth2pw_sessions" SET generation = ?, authenticated_at = ?, advanced_at = ?, idle_expires_at = ?
				WHERE id = ? AND generation = ? AND ended_at IS NULL AND expires_at > ? AND idle_expires_at > ?`,
				6, olderLogin.UnixMicro(), olderRefresh.Add(-1).UnixMicro(), olderRefresh.Add(time.Hour).UnixMicro(), "mine", 5, olderLogin.UnixMicro(), olderLogin.UnixMicro())
			require.NoError(t, err)
			rows, err := n.RowsAffected()
			require.NoError(t, err)
			require.EqualValues(t, 1, rows)
			got, err := st.Sessions.Get(t.Context(), "mine")
			require.NoError(t, err)
			want := *mine
			want.Generation, want.RefreshedAt, want.IdleExpiresAt = 6, olderRefresh.Add(-1).Truncate(time.Microsecond), olderRefresh.Add(time.Hour)
			require.Equal(t, &want, got)
			ended, err := st.Sessions.End(t.Context(), oauth2pw.SessionFilter{UserID: "1", ID: "mine"}, "test", olderRefresh)
			require.NoError(t, err)
			require.Equal(t, []string{"mine"}, ended)

			requireAlive(t, st, test.session, test.token)
		})
	}
}

// TestSQLiteMigrateTogether: ten programs start at once on one file. All of them find the
// tables migrated, and no session is lost.
func TestSQLiteMigrateTogether(t *testing.T) {
	for _, begins := range append(older, olderDatabase{file: "new"}) {
		for begin, dsn := range map[string]string{"deferred": "", "immediate": "&_txlock=immediate"} {
			t.Run(begins.file+"/"+begin, func(t *testing.T) {
				db := openSQLite(t)
				if begins.file != "new" {
					runFile(t, db, begins.file)
				} else {
					run(t, db, "PRAGMA user_version = 1") // the file is in WAL mode
				}
				var file string
				require.NoError(t, db.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list").Scan(&file))
				start := make(chan struct{})
				errs := make([]error, 10)
				var wg sync.WaitGroup
				for i := range errs {
					own, err := sql.Open("sqlite", sqliteDSN(file)+dsn)
					require.NoError(t, err)
					defer own.Close()
					require.NoError(t, own.PingContext(t.Context()))
					st := newStore(t, own)
					wg.Go(func() {
						<-start
						errs[i] = st.Migrate(t.Context())
					})
				}
				close(start)
				wg.Wait()
				require.Equal(t, make([]error, len(errs)), errs)
				requireCurrent(t, db)
				if begins.file != "new" {
					requireAlive(t, newStore(t, db), begins.session, begins.token)
				}
			})
		}
	}
}

// TestSQLiteMigrateProcesses: two servers start at once on an older file, and both serve.
func TestSQLiteMigrateProcesses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	db, err := sql.Open("sqlite", sqliteDSN(file))
	require.NoError(t, err)
	defer db.Close()
	runFile(t, db, "unversioned-1.sql")
	run(t, db, `DELETE FROM oauth2pw_clients`)
	a, b := beginProcess(t, file), beginProcess(t, file)
	a.await(t)
	b.await(t)
	requireCurrent(t, db)
	token, err := tokenFrom(http.PostForm(a.url, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}))
	require.NoError(t, err)
	require.NotEmpty(t, token)
	token, err = refreshAt(http.DefaultClient, b.url, token)
	require.NoError(t, err)
	require.NotEmpty(t, token)
	_, err = newStore(t, db).Sessions.Get(t.Context(), older[0].session)
	require.NoError(t, err)
}

// TestSQLiteMigrateOver: Migrate over a *sql.Conn, a *sql.Tx, and a pool of one connection
// in memory.
func TestSQLiteMigrateOver(t *testing.T) {
	t.Run("a connection", func(t *testing.T) {
		db := openSQLite(t)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		require.NoError(t, newStore(t, conn).Migrate(t.Context()))
		require.NoError(t, conn.Close())
		requireCurrent(t, db)
	})
	t.Run("a transaction", func(t *testing.T) {
		db := openSQLite(t)
		runFile(t, db, "unversioned-1.sql")
		before := tables(t, db)
		for _, end := range []func(*sql.Tx) error{(*sql.Tx).Rollback, (*sql.Tx).Commit} {
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			require.NoError(t, newStore(t, tx).Migrate(t.Context()))
			require.Equal(t, before, tables(t, db), "the transaction is open")
			require.NoError(t, end(tx))
		}
		requireCurrent(t, db)
	})
	t.Run("memory", func(t *testing.T) {
		db, err := sql.Open("sqlite", ":memory:")
		require.NoError(t, err)
		defer db.Close()
		db.SetMaxOpenConns(1)
		require.NoError(t, newStore(t, db).Migrate(t.Context()))
		requireCurrent(t, db)
	})
}

// TestSQLiteMigrateFails: a step that fails leaves the version before it, and the
// connection usable.
func TestSQLiteMigrateFails(t *testing.T) {
	for _, test := range []struct {
		index           string // of a step
		reached, failed string // the versions before and after the step
	}{{"oauth2pw_sessions_user_ended", "1", "2"}, {"oauth2pw_sessions_user_live", "2", "3"}, {"oauth2pw_sessions_user_lifetime", "3", "4"}} {
		db := openSQLite(t)
		runFile(t, db, "unversioned-1.sql")
		run(t, db, `CREATE TABLE `+test.index+` (x)`) // takes the name of the index
		st := newStore(t, db)
		require.ErrorContains(t, st.Migrate(t.Context()), "sqlstore: migrating to schema version "+test.failed+": ")
		require.Equal(t, []string{test.reached}, lines(t, db, `SELECT version FROM oauth2pw_schema`))
		run(t, db, `DROP TABLE `+test.index)
		require.NoError(t, st.Migrate(t.Context()))
		requireCurrent(t, db)
		requireAlive(t, st, older[0].session, older[0].token)
	}

	db := openSQLite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, newStore(t, db).Migrate(ctx), context.Canceled)
	require.Empty(t, tables(t, db))
}

// TestSQLiteMigrateCrashes: the program ends after any statement of Migrate. The next start
// migrates the rest.
func TestSQLiteMigrateCrashes(t *testing.T) {
	for _, begins := range append(older, olderDatabase{file: "new"}) {
		t.Run(begins.file, func(t *testing.T) {
			crashes := 0
			for migrated := false; !migrated; {
				db := openSQLite(t)
				if begins.file != "new" {
					runFile(t, db, begins.file)
				}
				var file string
				require.NoError(t, db.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list").Scan(&file))
				mortal := sql.OpenDB(&mortal{driver: db.Driver(), dsn: sqliteDSN(file), left: crashes})
				err := newStore(t, mortal).Migrate(t.Context())
				require.NoError(t, mortal.Close())
				if migrated = err == nil; !migrated {
					require.ErrorIs(t, err, errCrashed)
					crashes++
					require.ErrorContains(t, newStore(t, db).CheckSchema(t.Context()), "call Migrate")
					require.NoError(t, newStore(t, db).Migrate(t.Context()))
				}
				requireCurrent(t, db)
				if begins.file != "new" {
					requireAlive(t, newStore(t, db), begins.session, begins.token)
				}
			}
			require.Greater(t, crashes, 6)
		})
	}
}

// TestSQLiteMigrateOvertaken: between the first look at the version and the transaction
// another program migrates, or a newer one does.
func TestSQLiteMigrateOvertaken(t *testing.T) {
	for _, test := range []struct{ name, statement, err string }{
		{name: "by the same", statement: ";"},
		{"by a newer one", "UPDATE oauth2pw_schema SET version = 7", "sqlstore: the database has schema version 7; this program knows 4: update the program"},
	} {
		t.Run(test.name, func(t *testing.T) {
			db := openSQLite(t)
			runFile(t, db, "unversioned-1.sql")
			var file string
			require.NoError(t, db.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list").Scan(&file))
			overtaken := 0
			slow := sql.OpenDB(&mortal{driver: db.Driver(), dsn: sqliteDSN(file), left: 100, begin: func() {
				overtaken++
				require.NoError(t, newStore(t, db).Migrate(t.Context()))
				run(t, db, test.statement)
			}})
			defer slow.Close()
			if err := newStore(t, slow).Migrate(t.Context()); test.err != "" {
				require.EqualError(t, err, test.err)
				run(t, db, "UPDATE oauth2pw_schema SET version = 4")
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, 1, overtaken)
			requireCurrent(t, db)
			requireAlive(t, newStore(t, db), older[0].session, older[0].token)
		})
	}
}

var errCrashed = errors.New("the program has ended")

// mortal is a driver whose connections work for so many statements. After them a
// connection does nothing: not even a rollback.
type mortal struct {
	driver driver.Driver
	dsn    string
	left   int
	begin  func() // runs before each transaction; nil: nothing does
}

func (m *mortal) Driver() driver.Driver { return m.driver }

func (m *mortal) Connect(context.Context) (driver.Conn, error) {
	conn, err := m.driver.Open(m.dsn)
	return mortalConn{conn, m}, err
}

// next counts a statement.
func (m *mortal) next() error {
	if m.left <= 0 {
		return errCrashed
	}
	m.left--
	return nil
}

type mortalConn struct {
	driver.Conn
	m *mortal
}

func (c mortalConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if c.m.begin != nil {
		c.m.begin()
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return mortalTx{tx, c.m}, err
}

func (c mortalConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c mortalConn) ExecContext(ctx context.Context, script string, args []driver.NamedValue) (result driver.Result, err error) {
	for statement := range strings.SplitSeq(script, ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if err := c.m.next(); err != nil {
			return nil, err
		}
		if result, err = c.Conn.(driver.ExecerContext).ExecContext(ctx, statement, args); err != nil {
			return nil, err
		}
	}
	return result, nil
}

type mortalTx struct {
	driver.Tx
	m *mortal
}

func (t mortalTx) Commit() error {
	if err := t.m.next(); err != nil {
		return err
	}
	return t.Tx.Commit()
}

func (t mortalTx) Rollback() error {
	if t.m.left <= 0 {
		return driver.ErrBadConn
	}
	return t.Tx.Rollback()
}

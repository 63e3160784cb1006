//go:build linux

package integration

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// bouncer is a PgBouncer in transaction mode before a new database.
type bouncer struct {
	address  string
	database string
	minor    int // of its version 1.x
}

// startBouncer starts a PgBouncer with four connections to the server, and gives each
// transaction another one of them. So a statement that needs the connection of the statement
// before it fails soon.
func startBouncer(t *testing.T) bouncer {
	t.Helper()
	const variable = "PASSWORDFLOW_TEST_PGBOUNCER"
	program, err := exec.LookPath(fromEnv(variable, "pgbouncer"))
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		lacking(t, "pgbouncer", "it, or name it in "+variable)
	}
	output, err := exec.CommandContext(t.Context(), program, "--version").Output()
	require.NoError(t, err)
	version := regexp.MustCompile(`PgBouncer 1\.(\d+)`).FindSubmatch(output)
	require.NotNil(t, version, "%s", output)
	b := bouncer{database: "passwordflow_" + strings.ToLower(rand.Text())}
	b.minor, err = strconv.Atoi(string(version[1]))
	require.NoError(t, err)

	server, err := url.Parse(postgresqlDSN())
	require.NoError(t, err)
	admin := opened(t, "pgx", server.String())
	reach(t, admin, "PostgreSQL", "PASSWORDFLOW_TEST_POSTGRES")
	run(t, admin, "CREATE DATABASE "+b.database)
	t.Cleanup(func() { _, _ = admin.Exec("DROP DATABASE " + b.database + " WITH (FORCE)") })

	dir := t.TempDir()
	port := strconv.Itoa(freePort(t))
	b.address = net.JoinHostPort("127.0.0.1", port)
	users, config := filepath.Join(dir, "users.txt"), filepath.Join(dir, "pgbouncer.ini")
	password, _ := server.User.Password()
	require.NoError(t, os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", server.User.Username(), password), 0o600))
	serverPort := server.Port()
	if serverPort == "" {
		serverPort = "5432"
	}
	prepared := ""
	if b.minor >= 21 {
		prepared = "max_prepared_statements = 200" // the default since 1.24
	}
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `[databases]
%s = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 4
min_pool_size = 4
server_round_robin = 1
max_client_conn = 400
%s
`, b.database, server.Hostname(), serverPort, port, users, prepared), 0o600))

	cmd := exec.Command(program, "-q", config)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: notRoot(t, "nobody", dir, users, config), Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", b.address)
		if err == nil {
			conn.Close()
			return b
		}
		require.True(t, time.Now().Before(deadline), "pgbouncer does not listen: %v", err)
	}
}

func (b bouncer) open(t testing.TB, driver, settings string) *sql.DB {
	t.Helper()
	return opened(t, driver, fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable%s", b.address, b.database, settings))
}

// TestPgBouncer: the settings of the drivers that are safe behind PgBouncer in transaction mode
// pass the suite, and the others fail at their first statements. A driver must send a statement
// and its arguments in one round trip, or PgBouncer must know prepared statements (since 1.21).
func TestPgBouncer(t *testing.T) {
	b := startBouncer(t)
	for _, s := range []struct {
		driver, settings string
		safe, whole      bool // whole: the recommended settings, with every suite
	}{
		{"pgx", "&default_query_exec_mode=cache_describe", true, true},
		{"postgres", "&binary_parameters=yes", true, true},
		{"pgx", "&default_query_exec_mode=exec", true, false},
		{"pgx", "", b.minor >= 21, false},
		{"pgx", "&default_query_exec_mode=describe_exec", false, false},
		{"postgres", "", false, false},
	} {
		t.Run(s.driver+s.settings, func(t *testing.T) {
			db := b.open(t, s.driver, s.settings)
			prefix := "t" + strings.ToLower(rand.Text()) + "_"
			st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.PostgreSQL, Prefix: prefix})
			require.NoError(t, err)
			if !s.safe {
				require.Error(t, bouncerSteps(t, st), "these settings work now: change docs/stores.md")
				return
			}
			require.NoError(t, bouncerSteps(t, st))
			empty := func(t *testing.T) *sqlstore.Store {
				for _, table := range []string{"users", "clients", "sessions"} {
					run(t, db, "DELETE FROM "+prefix+table)
				}
				return st
			}
			if s.whole {
				storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
					st := empty(t)
					for _, u := range users {
						require.NoError(t, st.Users.Add(t.Context(), u))
					}
					return st.Users
				})
				storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { return empty(t).Sessions })
			}
			storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { return empty(t).Sessions }, 10)
			t.Run("own table", func(t *testing.T) { requireBouncerOwnTable(t, db) })
		})
	}
}

// bouncerSteps returns the first error of some statements, each with other arguments than
// the one before.
func bouncerSteps(t *testing.T, st *sqlstore.Store) error {
	t.Helper()
	if err := st.Migrate(t.Context()); err != nil {
		return err
	}
	for i := range 20 {
		id := fmt.Sprint(i)
		if err := st.Users.Add(t.Context(), oauth2pw.User{ID: id, Username: "user" + id}); err != nil {
			return err
		}
		u, err := st.Users.UserByName(t.Context(), "user"+id)
		if err != nil {
			return err
		}
		require.Equal(t, id, u.ID)
	}
	return nil
}

// requireBouncerOwnTable: an id that is no text in the table of another program.
func requireBouncerOwnTable(t *testing.T, db *sql.DB) {
	t.Helper()
	for idType, id := range map[string]string{"BIGINT": "7", "UUID": "0190b0a0-0000-7000-8000-000000000001"} {
		table := "accounts_" + strings.ToLower(rand.Text())
		run(t, db, "CREATE TABLE "+table+" (id "+idType+" PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), off BOOLEAN, since TIMESTAMPTZ)")
		run(t, db, "INSERT INTO "+table+" VALUES ('"+id+"', 'john', 'h', FALSE, NULL)")
		users, err := sqlstore.NewUsers(db, sqlstore.PostgreSQL, sqlstore.UserTable{Table: table, ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off", SessionsValidFrom: "since", SessionsValidFromFormat: sqlstore.Timestamp})
		require.NoError(t, err)
		for range 10 {
			u, err := users.UserByName(t.Context(), "john")
			require.NoError(t, err, idType)
			require.Equal(t, &oauth2pw.User{ID: id, Username: "john", PasswordHash: "h"}, u)
			u, err = users.UserByID(t.Context(), id)
			require.NoError(t, err, idType)
			require.Equal(t, "john", u.Username)
		}
		for _, key := range []string{"x", "", "a\x00b", "\xff", "99999999999999999999"} {
			_, err = users.UserByID(t.Context(), key)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%s %q", idType, key)
		}
		ok, err := users.UpdatePasswordHash(t.Context(), id, "h", "new", olderLogin)
		require.NoError(t, err, idType)
		require.True(t, ok)
	}
}

// TestPgBouncerMigrate: the lock of Migrate is of its transaction, so ten programs that start at
// once through PgBouncer wait for each other.
func TestPgBouncerMigrate(t *testing.T) {
	b := startBouncer(t)
	const programs = 10
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range programs {
		db := b.open(t, "pgx", "&default_query_exec_mode=cache_describe")
		st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.PostgreSQL})
		require.NoError(t, err)
		wg.Go(func() {
			<-start
			if assert.NoError(t, st.Migrate(ctx)) {
				assert.NoError(t, st.CheckSchema(ctx))
			}
		})
	}
	close(start)
	wg.Wait()
}

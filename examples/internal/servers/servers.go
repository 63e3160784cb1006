// Package servers gives each test a database of its own on a server. A server that does not answer
// skips the test, or fails it if PASSWORDFLOW_TEST_REQUIRE_SERVICES is set.
package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
)

// PostgreSQL makes a new, empty database, and returns its URL.
func PostgreSQL(t *testing.T) string {
	t.Helper()
	return database(t, "pgx", "PASSWORDFLOW_TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/test?sslmode=disable")
}

// MySQL makes a new, empty database, and returns its URL.
func MySQL(t *testing.T) string {
	t.Helper()
	return database(t, "mysql", "PASSWORDFLOW_TEST_MYSQL_URL", "mysql://root@127.0.0.1:3306/test")
}

func database(t *testing.T, driver, variable, otherwise string) string {
	t.Helper()
	dsn := os.Getenv(variable)
	if dsn == "" {
		dsn = otherwise
	}
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	open := dsn
	if driver == "mysql" {
		open = fmt.Sprintf("%s@tcp(%s)%s", u.User, u.Host, u.Path)
	}
	admin, err := sql.Open(driver, open)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	if err := admin.PingContext(t.Context()); err != nil {
		require.Empty(t, os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES"), err)
		t.Skipf("%s does not answer: start it, or name another one in %s: %v", u.Host, variable, err)
	}
	name := "passwordflow_" + strings.ToLower(rand.Text())
	_, err = admin.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = admin.Exec("DROP DATABASE " + name) })
	u.Path = "/" + name
	return u.String()
}

// Redis returns the URL of an empty database of Redis, which is emptied after the test.
func Redis(t *testing.T) string {
	t.Helper()
	const variable = "PASSWORDFLOW_TEST_REDIS"
	address := os.Getenv(variable)
	if address == "" {
		address = "127.0.0.1:6379"
	}
	for n := 1; n < 16; n++ {
		url := fmt.Sprintf("redis://%s/%d", address, n)
		client, err := program.OpenRedis(t.Context(), url)
		if err != nil {
			require.Empty(t, os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES"), err)
			t.Skipf("Redis does not answer: start it, or name another one in %s: %v", variable, err)
		}
		defer client.Close()
		// The claim keeps another test away, which looks for an empty database at the same time.
		if size, err := client.DBSize(t.Context()).Result(); err != nil || size > 0 {
			continue
		}
		if mine, err := client.SetNX(t.Context(), "claim", t.Name(), 0).Result(); err == nil && mine {
			t.Cleanup(func() {
				client, err := program.OpenRedis(context.Background(), url) // the context of the test has ended
				if assert.NoError(t, err) {
					assert.NoError(t, client.FlushDB(context.Background()).Err())
					client.Close()
				}
			})
			return url
		}
	}
	t.Fatal("Redis has no empty database")
	return ""
}

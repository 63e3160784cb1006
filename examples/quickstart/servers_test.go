package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/servers"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestRedis: with -redis, several processes have the same sessions and count the same guesses.
func TestRedis(t *testing.T) {
	redis := servers.Redis(t)
	file := filepath.Join(t.TempDir(), "quickstart.db")
	args := []string{cheapHash, "-db=" + file, "-redis=" + redis, "-issuer=http://127.0.0.1", "-throttle=4/15m"}
	one := start(t, args...)
	two := start(t, args...)
	status, first := one.login("johndoe", "secret", "me")
	require.Equal(t, 200, status, first)
	status, second := two.form("/token", "grant_type", "refresh_token", "refresh_token", first["refresh_token"].(string))
	require.Equal(t, 200, status, second)
	status, body := one.get("/sessions", second["access_token"].(string))
	require.Equal(t, 200, status, body)
	for i := range 4 {
		status, _ = []*process{one, two}[i%2].login("johndoe", fmt.Sprint("wrong", i), "")
		require.Equal(t, 400, status)
	}
	for _, p := range []*process{one, two} {
		status, _ = p.login("johndoe", "secret", "")
		require.Equal(t, 429, status)
	}
	out, err := exec.Command(binary, "-db="+file, "-redis="+redis, "-disable=johndoe").CombinedOutput()
	require.NoError(t, err, string(out))
	out, err = exec.Command(binary, "-db="+file, "-redis="+redis, "-enable=johndoe").CombinedOutput()
	require.NoError(t, err, string(out))
	status, _ = two.form("/token", "grant_type", "refresh_token", "refresh_token", second["refresh_token"].(string))
	require.Equal(t, 400, status, "the session has ended in Redis")

	off := start(t, cheapHash, "-db=:memory:", "-redis="+redis, "-throttle=off")
	status, _ = off.login("johndoe", "secret", "")
	require.Equal(t, 200, status)
	for address, want := range map[string]string{
		"redis://:hunter2@127.0.0.1:1": "the Redis redis://:xxxxx@127.0.0.1:1",
		"http://u:hunter2@x":           "redis://host:6379",
		"redis://u:hunter2@%zz":        "redis://host:6379",
	} {
		out, err := exec.Command(binary, "-addr=127.0.0.1:0", "-db=:memory:", "-redis="+address).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), want)
		require.NotContains(t, string(out), "hunter2")
	}
}

// TestServers: several processes that start at once on one empty database server are one
// service.
func TestServers(t *testing.T) {
	for name, url := range map[string]func(*testing.T) string{
		"PostgreSQL": servers.PostgreSQL, "MySQL": servers.MySQL,
	} {
		t.Run(name, func(t *testing.T) {
			db := url(t)
			dir := t.TempDir()
			key, secret := filepath.Join(dir, "key"), filepath.Join(dir, "secret")
			_, err := tokens.OpenKeys(key)
			require.NoError(t, err)
			_, err = oauth2pw.OpenSecrets(secret)
			require.NoError(t, err)
			args := []string{cheapHash, "-db=" + db, "-key=" + key, "-secret=" + secret, "-issuer=http://127.0.0.1"}
			var all [3]*process
			done := make(chan *process)
			for range all {
				go func() { done <- start(t, args...) }()
			}
			for i := range all {
				all[i] = <-done
			}

			status, first := all[0].login("johndoe", "secret", "me items")
			require.Equal(t, 200, status, first)
			status, second := all[1].form("/token", "grant_type", "refresh_token", "refresh_token", first["refresh_token"].(string))
			require.Equal(t, 200, status, second)
			status, body := all[2].get("/users/me/items", second["access_token"].(string))
			require.Equal(t, 200, status, body)
			status, body = all[2].get("/users/me", first["access_token"].(string))
			require.Equal(t, 200, status, body)
			require.Contains(t, body, `"full_name":"John Doe"`)
			status, _ = all[0].login("alice", "secret2", "")
			require.Equal(t, 400, status)
			status, _ = all[0].get("/healthz", "")
			require.Equal(t, 200, status)

			out, err := exec.Command(binary, "-db="+db, "-disable=johndoe").CombinedOutput()
			require.NoError(t, err, string(out))
			status, _ = all[2].get("/users/me", second["access_token"].(string))
			require.Equal(t, 401, status)
			status, _ = all[0].login("johndoe", "secret", "")
			require.Equal(t, 400, status)

			out, err = exec.Command(binary, "-db="+db).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "-key must be given")
			out, err = exec.Command(binary, "-db="+strings.Replace(db, "/passwordflow_", "/no_such_database_", 1), "-key="+key, "-secret="+secret).CombinedOutput()
			require.Error(t, err)
			require.Equal(t, 1, strings.Count(string(out), "\n"), string(out))
		})
	}
	out, err := exec.Command(binary, "-addr=127.0.0.1:0", "-db=postgres://u:hunter2@127.0.0.1:1/x").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "the database postgres://u:xxxxx@127.0.0.1:1/x")
	require.NotContains(t, string(out), "hunter2")
	out, err = exec.Command(binary, "-addr=127.0.0.1:0", "-db=postgres://127.0.0.1:1/x?user=a&password=hunter2&sslpassword=hunter3").CombinedOutput()
	require.Error(t, err)
	require.NotContains(t, string(out), "hunter")
	out, err = exec.Command(binary, "-addr=127.0.0.1:0", "-db=mysql://root@127.0.0.1:1/x?sslmode=require").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "tls=true")
	out, err = exec.Command(binary, "-db=oracle://x/y").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "postgres://")
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/servers"
)

// TestCluster: three processes are one service, also while one of them is killed.
func TestCluster(t *testing.T) {
	o := &options{addr: "127.0.0.1:0", db: servers.PostgreSQL(t), redis: servers.Redis(t)}
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	require.NoError(t, err)
	defer stderr.Close()
	go func() {
		err := run(ctx, o, write, stderr)
		write.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(read)
	server, pids := "", map[int]int{}
	// await reads what the cluster prints until done.
	await := func(done func() bool) {
		for !done() {
			require.True(t, lines.Scan(), "it has ended")
			var i, pid int
			var address string
			if url, found := strings.CutPrefix(lines.Text(), "listening on "); found {
				server = url
			}
			if n, _ := fmt.Sscanf(lines.Text(), "process %d: %s pid %d", &i, &address, &pid); n == 3 {
				pids[i] = pid
			}
		}
	}
	await(func() bool { return server != "" && len(pids) == processes })
	var printed sync.WaitGroup
	defer printed.Wait()

	post := func(form url.Values) (status int, access, refresh string) {
		resp, err := http.PostForm(server+"/token", form)
		if !assert.NoError(t, err) {
			return 0, "", ""
		}
		defer resp.Body.Close()
		var body struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if resp.StatusCode == 200 {
			assert.NoError(t, json.NewDecoder(resp.Body).Decode(&body))
		}
		return resp.StatusCode, body.Access, body.Refresh
	}
	login := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}, "scope": {"me"}}

	// Refreshes go on beside the end of a process: an answer is 200, or 503 and then the token is
	// sent again.
	const clients = 4
	var back atomic.Bool
	var refreshed, refused atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		status, access, token := post(login)
		require.Equal(t, 200, status)
		wg.Go(func() {
			for round := 0; round < 20 || !back.Load(); round++ {
				status, newer, next := post(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
				switch status {
				case 200:
					access, token = newer, next
					refreshed.Add(1)
				case 503:
					refused.Add(1)
				default:
					assert.Equal(t, 200, status)
					return
				}
			}
			r, _ := http.NewRequest("GET", server+"/users/me", nil)
			r.Header.Set("Authorization", "Bearer "+access)
			resp, err := http.DefaultClient.Do(r)
			if assert.NoError(t, err) {
				resp.Body.Close()
				assert.Equal(t, 200, resp.StatusCode)
			}
		})
	}
	killed := pids[1]
	victim, err := os.FindProcess(killed)
	require.NoError(t, err)
	require.NoError(t, victim.Kill())
	await(func() bool { return pids[1] != killed })
	back.Store(true)
	wg.Wait()
	t.Logf("%d refreshes, and %d answers of 503", refreshed.Load(), refused.Load())

	// Ten wrong passwords are ten in all processes together.
	statuses := map[int]int{}
	for i := range 15 {
		status, _, _ := post(url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {fmt.Sprint("wrong", i)}})
		statuses[status]++
	}
	require.Equal(t, map[int]int{400: 10, 429: 5}, statuses)

	stop()
	printed.Go(func() {
		for lines.Scan() { // until the pipe is closed
		}
	})
	require.NoError(t, <-ended)
}

//go:build unix

package redisstore

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestSentinelPause: a primary stops for a while, with requests in its buffers, and continues
// after the fail-over as a second primary. Until the sentinels publish the new one, the apps write
// to the old one, and then they do not all change at the same time: a session loses its last
// refreshes, also more than once.
func TestSentinelPause(t *testing.T) {
	t.Parallel()
	c := startSentinels(t)
	e := newEvents()
	var clients []*redis.Client
	senders, s := newApps(t, 16, e, func() redis.UniversalClient {
		clients = append(clients, c.client(t))
		return clients[len(clients)-1]
	})
	f := newFleet(t, 100, senders...)
	c.primary.replicated()
	f.disturb(16, func() {
		must(t, c.primary.cmd.Process.Signal(syscall.SIGSTOP))
		eventually(t, "the fail-over", func() error { return c.replica.contains("role:master", "INFO", "replication") })
		must(t, c.primary.cmd.Process.Signal(syscall.SIGCONT))
		for _, client := range clients {
			eventually(t, "the new primary", func() error {
				role, err := client.Info(t.Context(), "server").Result()
				if err == nil && !hasLine(role, fmt.Sprint("tcp_port:", c.replica.port)) {
					err = errors.New("the client has the old primary")
				}
				return err
			})
		}
	})
	if soak { // about ten seconds
		f.disturb(16, func() {
			eventually(t, "the old primary", func() error { return c.primary.contains("role:slave", "INFO", "replication") })
		})
	}
	f.finish(e, s)
	require.NoError(t, c.replica.contains("role:master", "INFO", "replication"))
}

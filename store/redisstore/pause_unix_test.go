//go:build unix

package redisstore

import (
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// TestSentinelPause: a primary stops for a while, with requests in its buffers, and continues
// after the fail-over as a second primary, until the sentinels make it a replica.
func TestSentinelPause(t *testing.T) {
	t.Parallel()
	c := startSentinels(t)
	e := newEvents()
	senders, s := newApps(t, 16, e, func() redis.UniversalClient { return c.client(t) })
	f := newFleet(t, 100, senders...)
	took := f.disturb(16, func() {
		must(t, c.primary.cmd.Process.Signal(syscall.SIGSTOP))
		eventually(t, "the fail-over", func() error { return c.replica.contains("role:master", "INFO", "replication") })
		must(t, c.primary.cmd.Process.Signal(syscall.SIGCONT))
	})
	t.Logf("every call works again after %.1f s", took.Seconds())
	if soak { // about ten seconds
		f.disturb(16, func() {
			eventually(t, "the old primary", func() error { return c.primary.contains("role:slave", "INFO", "replication") })
		})
	}
	f.finish(e, s)
	require.NoError(t, c.replica.contains("role:master", "INFO", "replication"))
}

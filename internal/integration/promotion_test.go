//go:build linux

package integration

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hosts returns a DSN of pgx that finds the primary among servers.
func hosts(servers ...*dbServer) string {
	var list []string
	for _, s := range servers {
		list = append(list, net.JoinHostPort("127.0.0.1", fmt.Sprint(s.port)))
	}
	return "postgres://postgres@" + strings.Join(list, ",") + "/postgres?sslmode=disable&target_session_attrs=read-write"
}

// TestPromotion: the primary of a PostgreSQL with a synchronous standby is killed in the middle
// of refreshes, and the standby is promoted. The pools find the new primary by the hosts of the
// DSN: no session is lost or forked, and every answer is 200 or 503.
func TestPromotion(t *testing.T) {
	rounds := 1
	if soak() {
		rounds = 10
	}
	for i := range rounds {
		t.Run(fmt.Sprint("round ", i+1), testPromotion)
	}
}

func testPromotion(t *testing.T) {
	primary := startPostgreSQL(t)
	standby := newPostgreSQL(t)
	standby.run(t, postgreSQLProgram(t, "pg_basebackup"), "-R", "-D", standby.data, "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=standby", primary.port), "-c", "fast", "--no-sync")
	standby.start(t)
	db := primary.open(t)
	run(t, db, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
	run(t, db, "ALTER SYSTEM SET synchronous_commit = 'on'")
	run(t, db, "SELECT pg_reload_conf()")
	poll(t.Context(), t, "the standby is synchronous", func() bool {
		var n int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&n))
		return n == 1
	})
	settings := *primary
	settings.dsn = hosts(primary, standby)
	f := newFleet(t, &settings, 4, 40, 15*time.Second)
	f.run()
	f.progress("the start", 3)
	down := time.Now()
	primary.kill(t)
	f.outage("the end of the primary")
	first, last := f.recovery("the promotion", func() {
		standby.run(t, postgreSQLProgram(t, "pg_ctl"), "promote", "-D", standby.data, "-w")
		// The new primary has no standby of its own.
		promoted := standby.open(t)
		var names string
		require.NoError(t, promoted.QueryRowContext(t.Context(), "SHOW synchronous_standby_names").Scan(&names))
		require.Empty(t, names)
	})
	t.Logf("a success after the promotion: the first after %v, of every process after %v; in all %v after the end of the primary", first, last, time.Since(down))
	f.progress("after the promotion", 2)
	f.stop()
}

package redisstore

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// TestCluster: the suite passes in a Redis Cluster, and Sweep finds the sessions of every master.
func TestCluster(t *testing.T) {
	c := startCluster(t)
	client := c.client(t, 0)
	number := 0
	open := func(t *testing.T) oauth2pw.SessionStore {
		number++
		s, err := NewSessions(client, Config{Prefix: "test" + strconv.Itoa(number) + ":"})
		must(t, err)
		return s
	}
	storetest.Sessions(t, open)
	rounds := 10
	if soak {
		rounds = 200
	}
	storetest.Refreshes(t, open, rounds)
	testHostile(t, client, "hostile:")

	s, err := NewSessions(client, Config{Prefix: "sweep:"})
	must(t, err)
	const count = 300
	masters := make(map[string]int)
	now := time.Now()
	for i := range count {
		n := testSession("id"+strconv.Itoa(i), "1", now)
		must(t, s.Create(t.Context(), &n))
		masters[c.masterOf(t, client, s.keys.session(n.ID)).addr()]++
	}
	require.Len(t, masters, 3, "the sessions are on every master")
	_, err = s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
	must(t, err)
	live := testSession("live", "1", now)
	must(t, s.Create(t.Context(), &live))
	swept, err := s.Sweep(t.Context(), now.Add(time.Minute), count-50)
	must(t, err)
	require.Equal(t, count-50, swept)
	swept, err = s.Sweep(t.Context(), now.Add(time.Minute), count)
	must(t, err)
	require.Equal(t, 50, swept)
	list, err := s.List(t.Context(), "1", now)
	must(t, err)
	require.Len(t, list, 1)
}

func testSession(id, userID string, now time.Time) oauth2pw.Session {
	now = now.UTC().Truncate(time.Microsecond)
	return oauth2pw.Session{
		ID: id, UserID: userID, Generation: 1, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now,
		IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
	}
}

// TestClusterFailover: a master is killed while 100 sessions refresh by 16 apps.
func TestClusterFailover(t *testing.T) {
	c := startCluster(t)
	e := newEvents()
	reload := time.Second
	if text := os.Getenv("PASSWORDFLOW_TEST_RELOAD"); text != "" {
		var err error
		reload, err = time.ParseDuration(text)
		must(t, err)
	}
	senders, s := newApps(t, 16, e, func() redis.UniversalClient { return c.client(t, reload) })
	f := newFleet(t, 100, senders...)
	client := s.client.(*redis.ClusterClient)
	victim := c.masterOf(t, client, s.keys.session(f.devices[0].id))
	took := f.disturb(16, victim.kill)
	t.Logf("every call works again after %.1f s", took.Seconds())
	f.finish(e, s)
}

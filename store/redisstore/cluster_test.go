package redisstore

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// TestCluster: the suite passes in a Redis Cluster, and Sweep finds the sessions of every master.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 15*time.Second)
	client := c.client(t)
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
	storetest.Throttle(t, func(t *testing.T, limit int, window time.Duration, now func() time.Time) oauth2pw.Throttle {
		number++
		throttle, err := NewThrottle(client, ThrottleConfig{Prefix: "test" + strconv.Itoa(number) + ":", Limit: limit, Window: window})
		must(t, err)
		throttle.now = now
		return throttle
	})

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

// TestClusterReshard: slots move to another master while their sessions refresh: no call fails. The
// user of Redis has the rights of the package comment.
func TestClusterReshard(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 15*time.Second)
	for _, s := range c {
		args := []any{"ACL", "SETUSER", "app", "on", ">password", "~oauth2pw:*"}
		for _, right := range leastRights(t) {
			args = append(args, right)
		}
		s.do(args...)
	}
	e := newEvents()
	senders, s := newApps(t, 4, e, func() redis.UniversalClient {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c[0].addr(), c[1].addr()}, Username: "app", Password: "password", ContextTimeoutEnabled: true})
		t.Cleanup(func() { client.Close() })
		return client
	})
	f := newFleet(t, 100, senders...)
	f.disturb(8, func() {
		for _, d := range f.devices[:5] {
			c.moveSlot(s.keys.session(d.id), func(to *server) {
				before := to.asked()
				eventually(t, "a redirected refresh", func() error {
					if to.asked() < before+5 {
						return errors.New("no request was redirected")
					}
					return nil
				})
			}, nil)
		}
	})
	require.Zero(t, f.answers[503])
	f.check(func(user string) ([]*oauth2pw.Session, error) { return s.List(t.Context(), user, time.Now()) })
}

// moveSlot moves the slot of a key to another master. It calls moved after each key, if any, and
// all when every key has moved and the slot has not.
func (c cluster) moveSlot(key string, all func(to *server), moved func()) {
	slot := c[0].do("CLUSTER", "KEYSLOT", key)
	// The servers themselves, because a client may not know the last move yet.
	var from, to *server
	for _, s := range c {
		if s.contains("role:master", "INFO", "replication") != nil {
			continue
		}
		if s.do("CLUSTER", "COUNTKEYSINSLOT", slot).(int64) > 0 {
			from = s
		} else {
			to = s
		}
	}
	fromID, toID := from.do("CLUSTER", "MYID"), to.do("CLUSTER", "MYID")
	to.do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	for {
		keys := from.do("CLUSTER", "GETKEYSINSLOT", slot, 100).([]any)
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			from.do("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)
			if moved != nil {
				moved()
			}
		}
	}
	all(to)
	to.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	from.do("CLUSTER", "SETSLOT", slot, "NODE", toID)
}

// TestClusterThrottleMoves: the slot of the throttle moves to another master. Until the end of the
// move a call is an error, or counts as before; a blocked attempt never passes, and nothing is
// forgotten.
func TestClusterThrottleMoves(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 15*time.Second)
	throttle, err := NewThrottle(c.client(t), ThrottleConfig{Limit: 2})
	must(t, err)
	victim, other := password("1", "192.0.2.1", 0), password("2", "192.0.2.2", 0)
	tag := uint32(0)
	again := func(a oauth2pw.Attempt) (passes bool, err error) { // with another password
		tag++
		a.Tag = tag
		wait, err := throttle.Begin(t.Context(), a)
		return err == nil && wait == 0, err
	}
	for {
		passes, err := again(victim)
		must(t, err)
		if !passes {
			break
		}
	}
	passes, err := again(other)
	must(t, err)
	require.True(t, passes, "one of two")
	failed := 0
	blocked := func() {
		passes, err := again(victim)
		require.False(t, passes)
		if err != nil {
			failed++
		}
	}
	c.moveSlot(throttle.keys.throttle("state"), func(*server) { blocked() }, blocked)
	require.NotZero(t, failed, "no call has failed: the move had no effect")
	t.Logf("%d calls failed", failed)
	eventually(t, "the throttle", func() error { _, err := again(victim); return err })
	blocked()
	passes, err = again(other)
	must(t, err)
	require.True(t, passes, "two of two")
	passes, err = again(other)
	must(t, err)
	require.False(t, passes, "three of two")
}

// asked returns the number of requests that were redirected to a server while their slot moved.
func (s *server) asked() int {
	stats, err := s.admin.Info(s.t.Context(), "commandstats").Result()
	must(s.t, err)
	_, n, _ := strings.Cut(stats, "cmdstat_asking:calls=")
	n, _, _ = strings.Cut(n, ",")
	calls, _ := strconv.Atoi(n)
	return calls
}

// TestClusterFailover: a master is killed while 100 sessions refresh by 16 apps.
func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := startCluster(t, time.Second)
	e := newEvents()
	senders, s := newApps(t, 16, e, func() redis.UniversalClient { return c.client(t) })
	f := newFleet(t, 100, senders...)
	client := s.client.(*redis.ClusterClient)
	victim := c.masterOf(t, client, s.keys.session(f.devices[0].id))
	victim.replicated()
	took := f.disturb(16, victim.kill)
	t.Logf("every call works again after %.1f s", took.Seconds())
	require.Less(t, took, 40*time.Second, "the client asks for the new master after a failure, and not once a minute")
	require.NotZero(t, f.answers[503], "no call has failed: the fault had no effect")
	f.finish(e, s)
	require.LessOrEqual(t, e.of(oauth2pw.EventStoreRollback), len(f.devices), "a fail-over loses the last writes, once")
}

package redisstore

import (
	"context"
	"crypto/rand"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// open returns a client and a prefix of its own, whose keys are deleted after the test.
func open(t testing.TB) (*redis.Client, string) {
	t.Helper()
	const variable = "PASSWORDFLOW_TEST_REDIS"
	address := os.Getenv(variable)
	if address == "" {
		address = "127.0.0.1:6379"
	}
	client := redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	if err := client.Ping(t.Context()).Err(); err != nil {
		require.Empty(t, os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES"), err)
		t.Skipf("Redis does not answer: start it, or name another one in %s: %v", variable, err)
	}
	prefix := "test[" + rand.Text() + "]*:"
	t.Cleanup(func() {
		ctx := context.Background() // that of the test has ended
		scan := client.Scan(ctx, 0, escape(prefix)+"*", 1000).Iterator()
		for scan.Next(ctx) {
			client.Del(ctx, scan.Val())
		}
		require.NoError(t, scan.Err())
	})
	return client, prefix
}

func newSessions(t testing.TB) (*Sessions, *redis.Client) {
	t.Helper()
	client, prefix := open(t)
	s, err := NewSessions(client, Config{Prefix: prefix})
	require.NoError(t, err)
	return s, client
}

func TestSessions(t *testing.T) {
	storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { s, _ := newSessions(t); return s })
}

// TestConformance56Refreshes, see storetest.Refreshes.
func TestConformance56Refreshes(t *testing.T) {
	storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { s, _ := newSessions(t); return s }, 100)
}

// TestExpiry: every key expires by itself, a day after the end of the session; and a refresh
// and an end move the expiry.
func TestExpiry(t *testing.T) {
	s, client := newSessions(t)
	now := time.Now()
	n := oauth2pw.Session{ID: "a", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(100 * time.Hour)}
	require.NoError(t, s.Create(t.Context(), &n))
	life := func(key string) time.Duration {
		ttl, err := client.PTTL(t.Context(), key).Result()
		require.NoError(t, err)
		return ttl.Round(time.Hour)
	}
	require.Equal(t, 26*time.Hour, life(s.keys.session("a")))
	require.Equal(t, 125*time.Hour, life(s.keys.user("1")), "longer than any refresh can move the session")
	n.Generation, n.IdleExpiresAt = 1, now.Add(50*time.Hour)
	ok, err := s.Advance(t.Context(), 0, &n, now)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, 75*time.Hour, life(s.keys.session("a")))
	ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, ids)
	require.Equal(t, 25*time.Hour, life(s.keys.session("a")))
}

// TestLostEntry: a refresh writes the entry of its session again, and an end finds it.
func TestLostEntry(t *testing.T) {
	s, client := newSessions(t)
	now := time.Now()
	n := oauth2pw.Session{ID: "a", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(100 * time.Hour)}
	require.NoError(t, s.Create(t.Context(), &n))
	require.NoError(t, client.Del(t.Context(), s.keys.user("1")).Err())
	n.Generation, n.UserID = 1, "not read"
	ok, err := s.Advance(t.Context(), 0, &n, now)
	require.NoError(t, err)
	require.True(t, ok)
	ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
	require.NoError(t, err)
	require.Equal(t, []string{"a"}, ids)
}

// TestSentTwice: a script that the client sends again, because its answer was lost, has the same
// result.
func TestSentTwice(t *testing.T) {
	s, client := newSessions(t)
	now := time.Now()
	n := oauth2pw.Session{ID: "a", UserID: "1", Salt: [16]byte{1}, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)}
	require.NoError(t, s.Create(t.Context(), &n))
	require.NoError(t, s.Create(t.Context(), &n), "the same session, by its salt")
	n.Salt[0] = 2
	require.ErrorIs(t, s.Create(t.Context(), &n), oauth2pw.ErrExists)
	run := func(nonce string) int {
		n, err := end.Run(t.Context(), client, []string{s.keys.session("a")}, "1", "", micro(now), "x", 1000, nonce).Int()
		require.NoError(t, err)
		return n
	}
	require.Equal(t, []int{1, 1, 0}, []int{run("first"), run("first"), run("second")})
}

// leastRights returns the rights of the package comment.
func leastRights(t *testing.T) []string {
	source, err := os.ReadFile("redisstore.go")
	require.NoError(t, err)
	_, rule, found := strings.Cut(string(source), "ACL SETUSER app on >password ~oauth2pw:* ")
	require.True(t, found)
	rule, _, _ = strings.Cut(rule, "\n")
	return strings.Fields(rule)
}

// TestRights: the rights of the package comment are enough.
func TestRights(t *testing.T) {
	admin, prefix := open(t)
	name := "app" + rand.Text()
	args := []any{"ACL", "SETUSER", name, "on", ">password", "~" + escape(prefix) + "*"}
	for _, right := range leastRights(t) {
		args = append(args, right)
	}
	require.NoError(t, admin.Do(t.Context(), args...).Err())
	t.Cleanup(func() { admin.Do(context.Background(), "ACL", "DELUSER", name) })
	client := redis.NewClient(&redis.Options{Addr: admin.Options().Addr, Username: name, Password: "password", ContextTimeoutEnabled: true})
	defer client.Close()
	s, err := NewSessions(client, Config{Prefix: prefix})
	require.NoError(t, err)
	now := time.Now()
	n := oauth2pw.Session{ID: rand.Text(), UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)}
	require.NoError(t, s.Create(t.Context(), &n))
	_, err = s.Get(t.Context(), n.ID)
	require.NoError(t, err)
	n.Generation++
	ok, err := s.Advance(t.Context(), 0, &n, now)
	require.NoError(t, err)
	require.True(t, ok)
	list, err := s.List(t.Context(), "1", now)
	require.NoError(t, err)
	require.Len(t, list, 1)
	ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now)
	require.NoError(t, err)
	require.Len(t, ids, 1)
	swept, err := s.Sweep(t.Context(), now.Add(time.Minute), 10)
	require.NoError(t, err)
	require.Equal(t, 1, swept)

	throttle, err := NewThrottle(client, ThrottleConfig{Prefix: prefix, Limit: 1, Window: time.Second})
	require.NoError(t, err)
	for _, a := range []oauth2pw.Attempt{password("1", "2001:db8::1", 1), {Kind: oauth2pw.AttemptGrant, Address: netip.MustParseAddr("192.0.2.1")}} {
		for range 2 {
			_, err = throttle.Begin(t.Context(), a)
			require.NoError(t, err)
		}
		require.NoError(t, throttle.Cancel(t.Context(), a))
		a.UserID = "1"
		require.NoError(t, throttle.Succeed(t.Context(), a))
		require.NoError(t, throttle.Forget(t.Context(), a))
	}
	for i := range 4 { // the fourth finds three that have expired
		throttle.now = func() time.Time { return now.Add(time.Duration(i) * time.Hour) }
		_, err = throttle.Begin(t.Context(), password("2", "192.0.2.7", i))
		require.NoError(t, err)
	}
}

// TestHint: an entry of the list without its session, and a session of another user behind an
// entry, change no answer.
func TestHint(t *testing.T) {
	s, client := newSessions(t)
	now := time.Now()
	n := oauth2pw.Session{ID: "a", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)}
	require.NoError(t, s.Create(t.Context(), &n))
	for _, id := range []string{"a", "gone"} {
		require.NoError(t, client.ZAdd(t.Context(), s.keys.user("2"), redis.Z{Score: 1, Member: id}).Err())
	}
	list, err := s.List(t.Context(), "2", now)
	require.NoError(t, err)
	require.Empty(t, list)
	ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: "2"}, "x", now)
	require.NoError(t, err)
	require.Empty(t, ids)
	list, err = s.List(t.Context(), "1", now)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestErrors(t *testing.T) {
	_, err := NewSessions(nil, Config{})
	require.ErrorContains(t, err, "client is nil")
	_, err = NewSessions((*redis.Client)(nil), Config{})
	require.ErrorContains(t, err, "client is nil")
	for want, client := range map[string]redis.UniversalClient{
		"ContextTimeoutEnabled": redis.NewClient(&redis.Options{}),
		"replicas":              redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true, ContextTimeoutEnabled: true}),
		"*redis.Ring":           redis.NewRing(&redis.RingOptions{}),
	} {
		_, err = NewSessions(client, Config{})
		require.ErrorContains(t, err, want)
	}
	require.Error(t, new(Sessions).Check())
	s, client := newSessions(t)
	require.NoError(t, s.Check())
	require.NoError(t, client.HSet(t.Context(), s.keys.session("x"), "id", "x", "generation", "many").Err())
	_, err = s.Get(t.Context(), "x")
	require.ErrorContains(t, err, "damaged")
	require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
	down, err := NewSessions(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, ContextTimeoutEnabled: true}), Config{})
	require.NoError(t, err)
	_, err = down.Get(t.Context(), "x")
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
}

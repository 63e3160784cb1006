package redisstore

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

func TestThrottle(t *testing.T) {
	storetest.Throttle(t, func(t *testing.T, limit int, window time.Duration, now func() time.Time) oauth2pw.Throttle {
		throttle, _ := newThrottle(t, ThrottleConfig{Limit: limit, Window: window})
		throttle.now = now
		return throttle
	})
}

func newThrottle(t *testing.T, c ThrottleConfig) (*Throttle, *redis.Client) {
	t.Helper()
	client, prefix := open(t)
	c.Prefix = prefix
	throttle, err := NewThrottle(client, c)
	require.NoError(t, err)
	return throttle, client
}

// another returns the throttle of another process.
func another(t *testing.T, throttle *Throttle) *Throttle {
	t.Helper()
	other, err := NewThrottle(throttle.client, ThrottleConfig{throttle.keys.prefix, throttle.limit, throttle.window})
	require.NoError(t, err)
	require.NotEqual(t, throttle.seed.Load(), other.seed.Load())
	return other
}

func password(user, address string, tag int) oauth2pw.Attempt {
	return oauth2pw.Attempt{Kind: oauth2pw.AttemptPassword, Realm: "api", UserID: user, Address: netip.MustParseAddr(address), HasTag: true, Tag: uint32(tag)}
}

// begin begins an attempt, and returns whether it passes.
func begin(t *testing.T, throttle *Throttle, a oauth2pw.Attempt) bool {
	t.Helper()
	wait, err := throttle.Begin(t.Context(), a)
	require.NoError(t, err)
	return wait == 0
}

// TestThrottleProcesses: processes count together by the clock of the server, settle what another
// one has begun, and go on after Redis has lost everything.
func TestThrottleProcesses(t *testing.T) {
	one, client := newThrottle(t, ThrottleConfig{Limit: 4})
	two := another(t, one)
	for range 2 {
		for i := range 4 {
			require.True(t, begin(t, []*Throttle{one, two}[i%2], password("1", "192.0.2.1", i)))
		}
		require.False(t, begin(t, one, password("1", "192.0.2.1", 10)))
		require.False(t, begin(t, two, password("1", "192.0.2.1", 11)))
		require.NoError(t, two.Cancel(t.Context(), password("1", "192.0.2.1", 0)), "begun by the first")
		require.True(t, begin(t, two, password("1", "192.0.2.1", 12)))
		require.False(t, begin(t, one, password("1", "192.0.2.1", 13)))
		require.Equal(t, *one.seed.Load(), *two.seed.Load())

		keys, err := client.Keys(t.Context(), escape(one.keys.prefix)+"*").Result()
		require.NoError(t, err)
		for _, key := range keys {
			ttl, err := client.PTTL(t.Context(), key).Result()
			require.NoError(t, err)
			if key == one.keys.throttle("state") {
				require.Negative(t, ttl)
			} else {
				require.Positive(t, ttl, "%s expires by itself", key)
			}
		}
		require.NoError(t, client.Del(t.Context(), keys...).Err())
		two = another(t, one)
		require.True(t, begin(t, two, password("another", "192.0.2.9", 1)), "its seed is in Redis now")
	}
}

// TestThrottleSentTwice: the client sends a script again whose answer was lost.
func TestThrottleSentTwice(t *testing.T) {
	throttle, client := newThrottle(t, ThrottleConfig{Limit: 3})
	send := func(call, nonce string, a oauth2pw.Attempt) {
		t.Helper()
		k := throttle.keysOf(*throttle.seed.Load(), a)
		require.NoError(t, throttleScript.Run(t.Context(), client, k.names, call, *throttle.seed.Load(), "", 3, 60_000_000, nonce,
			string(a.Kind), k.pair, k.place, k.network, a.Shared, a.Right, "").Err())
	}
	a := password("1", "192.0.2.1", 0)
	a.HasTag = false
	for range 5 {
		send("begin", "first", a)
	}
	require.True(t, begin(t, throttle, a), "one is counted")
	require.True(t, begin(t, throttle, a))
	require.False(t, begin(t, throttle, a), "three are")
	for range 5 {
		send("cancel", "second", a)
	}
	require.True(t, begin(t, throttle, a), "one is not counted any more")
	require.False(t, begin(t, throttle, a))
}

// TestThrottleBounded: what costs its sender no hash has a limited number of keys, and a client
// that shares its key with strangers is not blocked by them.
func TestThrottleBounded(t *testing.T) {
	throttle, client := newThrottle(t, ThrottleConfig{Limit: 3})
	backend := func(address netip.Addr, tag uint32, right bool) oauth2pw.Attempt {
		return oauth2pw.Attempt{Kind: oauth2pw.AttemptClient, Realm: "api", ClientID: "backend", Address: address, HasTag: true, Tag: tag, Right: right}
	}
	seed := *throttle.seed.Load()
	home := netip.MustParseAddr("192.0.2.1")
	key := throttle.keysOf(seed, backend(home, 0, false)).names[1]
	var neighbour netip.Addr
	for i := uint32(0); !neighbour.IsValid(); i++ {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if throttle.keysOf(seed, backend(address, 0, false)).names[1] == key {
			neighbour = address
		}
	}
	require.True(t, begin(t, throttle, backend(home, 1, false)))
	for i := range uint32(20) {
		require.Equal(t, i < 3, begin(t, throttle, backend(neighbour, 100+i, false)))
	}
	require.True(t, begin(t, throttle, backend(home, 2, true)))
	for i := range uint32(3) {
		require.True(t, begin(t, throttle, backend(home, 10+i, false)))
	}
	require.False(t, begin(t, throttle, backend(home, 2, true)))
	require.True(t, begin(t, throttle, backend(neighbour, 2, true)), "a right secret is blocked by the failures of this client at this address alone")

	for i := range 100 {
		address := netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::1", i))
		begin(t, throttle, oauth2pw.Attempt{Kind: oauth2pw.AttemptClient, Name: fmt.Sprint("invented", i), Address: address, HasTag: true})
		begin(t, throttle, oauth2pw.Attempt{Kind: oauth2pw.AttemptGrant, Address: address})
		begin(t, throttle, backend(address, 1, false))
	}
	keys, err := client.Keys(t.Context(), escape(throttle.keys.prefix)+"*").Result()
	require.NoError(t, err)
	require.Greater(t, len(keys), 400)
	for _, key := range keys {
		if name := strings.TrimPrefix(key, throttle.keys.throttle("")); name != "state" {
			require.Regexp(t, `^(client|no-client|grant):(pair|place|network):[0-9a-f]{4}$`, name)
		}
	}
}

// TestThrottlePairBounded: the largest keys, which each call reads, stay small. An account that
// fails and succeeds in turns is never blocked by its own limit.
func TestThrottlePairBounded(t *testing.T) {
	throttle, client := newThrottle(t, ThrottleConfig{})
	size := func(a oauth2pw.Attempt) int64 {
		n, err := client.MemoryUsage(t.Context(), throttle.keysOf(*throttle.seed.Load(), a).names[1]).Result()
		require.NoError(t, err)
		return n
	}
	tag := 0
	for round := range 90 {
		for range 9 {
			tag++
			require.True(t, begin(t, throttle, password("1", "192.0.2.1", tag)), round)
		}
		require.True(t, begin(t, throttle, password("1", "192.0.2.1", 0)))
		require.NoError(t, throttle.Succeed(t.Context(), password("1", "192.0.2.1", 0)))
	}
	t.Logf("a pair with 810 failures in turns with right passwords has %d bytes", size(password("1", "192.0.2.1", 0)))
	require.Less(t, size(password("1", "192.0.2.1", 0)), int64(64<<10))

	backend := oauth2pw.Attempt{Kind: oauth2pw.AttemptClient, ClientID: "backend", Address: netip.MustParseAddr("192.0.2.1"), HasTag: true}
	for i := range 200 {
		backend.Tag = uint32(i % 9)
		begin(t, throttle, backend)
	}
	t.Logf("a client at its limits has %d bytes", size(backend))
	require.Less(t, size(backend), int64(2<<10), "two of them may share a key")
}

// TestThrottleShowsNoNames: what was typed as a name, which may be a password, is not in Redis.
func TestThrottleShowsNoNames(t *testing.T) {
	throttle, client := newThrottle(t, ThrottleConfig{})
	a := oauth2pw.Attempt{Kind: oauth2pw.AttemptPassword, Realm: "api", Name: "hunter2", Address: netip.MustParseAddr("192.0.2.77"), HasTag: true, Tag: 5}
	require.True(t, begin(t, throttle, a))
	require.NoError(t, throttle.Succeed(t.Context(), a))
	require.True(t, begin(t, throttle, a))
	keys, err := client.Keys(t.Context(), escape(throttle.keys.prefix)+"*").Result()
	require.NoError(t, err)
	require.Greater(t, len(keys), 2)
	for _, key := range keys {
		dump, err := client.Dump(t.Context(), key).Result()
		require.NoError(t, err)
		require.NotContains(t, key+dump, "hunter2")
		require.NotContains(t, key+dump, "192.0.2.77")
	}
}

func TestThrottleErrors(t *testing.T) {
	client, _ := open(t)
	for want, c := range map[string]ThrottleConfig{
		"Prefix": {Prefix: "{}x:"},
		"Limit":  {Limit: -1},
		"1000":   {Limit: 1001},
		"Window": {Window: time.Millisecond},
		"a week": {Window: 8 * 24 * time.Hour},
	} {
		_, err := NewThrottle(client, c)
		require.ErrorContains(t, err, want)
	}
	_, err := NewThrottle(nil, ThrottleConfig{})
	require.ErrorContains(t, err, "client is nil")
	require.Error(t, new(Throttle).Check())
	throttle, err := NewThrottle(client, ThrottleConfig{})
	require.NoError(t, err)
	require.NoError(t, throttle.Check())
	down, err := NewThrottle(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, ContextTimeoutEnabled: true}), ThrottleConfig{})
	require.NoError(t, err)
	a := password("1", "192.0.2.1", 1)
	_, err = down.Begin(t.Context(), a)
	require.Error(t, err)
	require.Error(t, down.Succeed(t.Context(), a))
	require.Error(t, down.Cancel(t.Context(), a))
	require.Error(t, down.Forget(t.Context(), a))
}

func BenchmarkThrottle(b *testing.B) {
	client, prefix := open(b)
	throttle, err := NewThrottle(client, ThrottleConfig{Prefix: prefix})
	require.NoError(b, err)
	a := password("1", "192.0.2.1", 1)
	b.Run("right", func(b *testing.B) { // two calls
		for b.Loop() {
			if _, err := throttle.Begin(b.Context(), a); err != nil {
				b.Fatal(err)
			}
			if err := throttle.Succeed(b.Context(), a); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ping", func(b *testing.B) {
		for b.Loop() {
			if err := client.Ping(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestThrottleMemory: the memory of one failed attempt, of which an attacker can make as many as
// the hashes that the app computes.
func TestThrottleMemory(t *testing.T) {
	throttle, client := newThrottle(t, ThrottleConfig{})
	const attempts = 200
	for i := range attempts {
		begin(t, throttle, password(fmt.Sprint("invented", i), fmt.Sprintf("10.0.0.%d", i), i))
	}
	keys, err := client.Keys(t.Context(), escape(throttle.keys.prefix)+"*").Result()
	require.NoError(t, err)
	total := int64(0)
	for _, key := range keys {
		n, err := client.MemoryUsage(t.Context(), key).Result()
		require.NoError(t, err)
		total += n
	}
	t.Logf("%d bytes and %.1f keys an attempt", total/attempts, float64(len(keys))/attempts)
	require.Less(t, total/attempts, int64(1000))
}

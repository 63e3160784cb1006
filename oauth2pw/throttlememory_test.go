package oauth2pw

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type testClock struct{ now time.Time }

func (c *testClock) Now() time.Time { return c.now }

func newTestThrottle(limit int, window time.Duration) (*memoryThrottle, *testClock) {
	c := &testClock{now: time.Unix(1_700_000_000, 0)}
	return newMemoryThrottle(limit, window, c.Now), c
}

func from(i int, account string) Attempt {
	return Attempt{Kind: attemptPassword, Account: account, Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Tag: uint32(i)}
}

// naive is what the built-in throttle should do, in the plainest way.
type naive struct {
	limit  int
	window time.Duration
	failed []naiveFailure
}

type naiveFailure struct {
	at time.Time
	a  Attempt
}

func (n *naive) passes(now time.Time, a Attempt) bool {
	count := func(window time.Duration, same func(b Attempt) bool) (k int) {
		for _, f := range n.failed {
			if now.Sub(f.at) < window && same(f.a) {
				k++
			}
		}
		return k
	}
	return count(n.window, func(b Attempt) bool { return b.Account == a.Account && b.Address == a.Address }) < n.limit &&
		count(4*n.window, func(b Attempt) bool { return b.Account == a.Account }) < 3*n.limit &&
		count(n.window, func(b Attempt) bool { return b.Address == a.Address }) < 10*n.limit
}

// TestThrottleModel: over random attempts that all fail, or are taken back, the
// throttle decides as the plainest one does, and its wait is true.
func TestThrottleModel(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		throttle, clock := newTestThrottle(1+random.IntN(4), time.Duration(1+random.IntN(100))*time.Second)
		model := &naive{limit: throttle.pairs.limit, window: time.Duration(throttle.pairs.window)}
		for i := range 3000 {
			clock.now = clock.now.Add(time.Duration(random.IntN(2000)) * time.Millisecond)
			a := from(random.IntN(4), fmt.Sprint(random.IntN(4)))
			a.Tag = uint32(i) // never the same guess
			wait, err := throttle.Begin(context.Background(), a)
			require.NoError(t, err)
			require.Equal(t, model.passes(clock.now, a), wait == 0)
			if wait > 0 {
				require.False(t, model.passes(clock.now.Add(wait-1), a))
				require.True(t, model.passes(clock.now.Add(wait), a))
				continue
			}
			if random.IntN(5) == 0 {
				require.NoError(t, throttle.Cancel(context.Background(), a))
				continue
			}
			model.failed = append(model.failed, naiveFailure{clock.now, a})
		}
	}
}

// TestThrottleTables: line 131. What the tables cannot hold goes to the sketch,
// where nothing is forgotten, and an entry at its limit stays.
func TestThrottleTables(t *testing.T) {
	c := newCounter(3, time.Minute, 100, 1<<12)
	now := time.Unix(1_700_000_000, 0).UnixNano()
	for key := range uint64(50) {
		for range 3 {
			require.Zero(t, c.wait(key<<32|key, now))
			c.add(key<<32|key, now)
		}
	}
	mix := func(i uint64) uint64 { i *= 0x9e3779b97f4a7c15; return i ^ i>>29 }
	for i := range uint64(1000) { // more than there is room for, each once
		c.add(mix(i), now)
	}
	require.LessOrEqual(t, len(c.open)+len(c.full), 100)
	require.Len(t, c.full, 50)
	for key := range uint64(50) {
		require.EqualValues(t, time.Minute, c.wait(key<<32|key, now), "still at its limit")
	}
	blocked := 0
	for i := range uint64(1000) { // twice more is what each may
		c.add(mix(i), now)
		c.add(mix(i), now)
		require.Positive(t, c.wait(mix(i), now), "nothing is forgotten")
	}
	for i := range uint64(1000) {
		if c.wait(mix(i+1_000_000), now) > 0 {
			blocked++
		}
	}
	require.Less(t, blocked, 100, "of those who did nothing")
	require.LessOrEqual(t, len(c.open)+len(c.full), 100)
	// The waits are true: after them it passes, however long the sketch remembers.
	for i := range uint64(1000) {
		wait := c.wait(mix(i), now)
		require.LessOrEqual(t, wait, int64(2*time.Minute))
	}
	now += int64(2 * time.Minute)
	for i := range uint64(1000) {
		require.Zero(t, c.wait(mix(i), now))
	}
	for i := range uint64(1000) { // full of entries at their limit
		for range 3 {
			if c.wait(mix(i), now) == 0 {
				c.add(mix(i), now)
			}
		}
		require.Positive(t, c.wait(mix(i), now))
	}
	require.LessOrEqual(t, len(c.open)+len(c.full), 100)
	now += int64(time.Minute)
	c.add(mix(5000), now) // which are over now, and make room
	require.LessOrEqual(t, len(c.open)+len(c.full), 100)
}

// TestSketch: it counts at least what was counted within a window, and nothing that
// is older than two.
func TestSketch(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	s := &sketch{window: 1000, width: 1 << 10}
	type event struct{ key, at uint64 }
	var events []event
	now := uint64(1)
	for range 20_000 {
		now += random.Uint64N(5)
		if random.IntN(2000) == 0 {
			now += random.Uint64N(5000)
		}
		key := random.Uint64N(200) * 0x9e3779b97f4a7c15
		count := func(window uint64) (n int) {
			for i := len(events) - 1; i >= 0 && now-events[i].at < window; i-- {
				if events[i].key == key {
					n++
				}
			}
			return n
		}
		got := s.estimate(key, int64(now))
		require.GreaterOrEqual(t, got, count(1000))
		if limit := 3; got >= limit {
			wait := s.wait(key, limit, int64(now))
			require.True(t, 0 < wait && wait <= 2000)
		}
		s.add(key, 1, int64(now))
		events = append(events, event{key, now})
	}
	require.Zero(t, s.estimate(1, int64(now+2000)))
	now += 2000
	for round := range uint64(50) { // what one round has counted is gone two windows later
		for key := range uint64(500) {
			require.Zero(t, s.estimate(key*0x9e3779b97f4a7c15, int64(now)), round)
		}
		for key := range uint64(500) {
			s.add(key*0x9e3779b97f4a7c15, 1, int64(now))
		}
		now += 1000
		s.turn(int64(now))
		for _, row := range s.rows[0] {
			require.NotContains(t, row[:16], uint16(1), "a generation begins empty")
			require.Zero(t, row[0])
		}
		now += 1000
	}
	for range 1 << 17 { // it does not run over
		s.add(7, 3, int64(now+2000))
	}
	require.Greater(t, s.estimate(7, int64(now+2000)), 1<<30, "nor does it count too few")
}

// TestKnownAddresses: addresses of more users than are kept.
func TestKnownAddresses(t *testing.T) {
	k := &knownAddresses{users: make(map[uint64][]seenAt), uses: make(map[uint64]int)}
	for i := range uint64(knownUsers + 1000) {
		k.add(i, i%50_000, int64(i))
	}
	require.Len(t, k.users, knownUsers)
	uses := 0
	for _, n := range k.uses {
		uses += n
	}
	require.Equal(t, knownUsers, uses, "every use is one of a user")
	for user, list := range k.users {
		k.add(user, list[0].address, 1<<40)
	}
	k.add(1<<60, 1, 0)
	k.add(1<<60, 2, int64(knownTime)) // the first has expired: it is no use any more
	require.Len(t, k.users[1<<60], 1)
	delete(k.users, 1<<60)
	k.unuse(2)
	for len(k.users) < knownUsers { // in place of the one that made room
		k.add(1<<61, 3, 0)
	}
	again := 0
	for _, n := range k.uses {
		again += n
	}
	require.Equal(t, uses, again)
}

// TestThrottleKeys: what is one thing has one key, and what is two has two.
func TestThrottleKeys(t *testing.T) {
	throttle, _ := newTestThrottle(1, time.Minute)
	at := func(a string) Attempt {
		return Attempt{Kind: "k", Realm: "r", Account: "x", Address: netip.MustParseAddr(a)}
	}
	require.Equal(t, throttle.keys(at("192.0.2.1")), throttle.keys(at("::ffff:192.0.2.1")))
	require.Equal(t, throttle.keys(at("fe80::1")), throttle.keys(at("fe80::2%eth0")))
	keys := throttle.keys(at("192.0.2.1"))
	for _, other := range []Attempt{{Kind: "kr", Account: "x"}, {Kind: "k", Realm: "rx"}, {Kind: "k", Realm: "", Account: "rx"}, {Kind: "", Realm: "kr", Account: "x"}, {Kind: "k", Realm: "r", Account: "y"}} {
		other.Address = netip.MustParseAddr("192.0.2.1")
		require.NotEqual(t, keys.pair, throttle.keys(other).pair)
	}
	require.NotEqual(t, keys.address, throttle.keys(at("192.0.2.2")).address)
	require.NotEqual(t, keys.pair, keys.account)
}

// BenchmarkThrottle is P9: questions to a throttle whose tables hold all accounts,
// and to one that knows ten times as many.
func BenchmarkThrottle(b *testing.B) {
	for _, accounts := range []int{10_000, 300_000} {
		throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
		attempts := make([]Attempt, accounts)
		for i := range attempts {
			attempts[i] = from(i/3, fmt.Sprint("user", i))
			_, _ = throttle.Begin(context.Background(), attempts[i])
		}
		i := 0
		b.Run(fmt.Sprint("wrong/", accounts), func(b *testing.B) {
			for b.Loop() {
				i++
				a := attempts[i%accounts]
				a.Tag = uint32(i)
				_, _ = throttle.Begin(context.Background(), a)
			}
		})
		b.Run(fmt.Sprint("right/", accounts), func(b *testing.B) { // two questions
			for b.Loop() {
				i++
				_, _ = throttle.Begin(context.Background(), attempts[i%accounts])
				_ = throttle.Succeed(context.Background(), attempts[i%accounts])
			}
		})
	}
	throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
	b.Run("blocked", func(b *testing.B) {
		for k := range uint32(10) {
			_, _ = throttle.Begin(context.Background(), Attempt{Kind: attemptPassword, Account: "x", Tag: k})
		}
		for b.Loop() {
			_, _ = throttle.Begin(context.Background(), Attempt{Kind: attemptPassword, Account: "x", Tag: 11})
		}
	})
}

// BenchmarkThrottleNames is P9: what 10^7 names take, each tried once, from as many
// addresses as it needs.
func BenchmarkThrottleNames(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
		passed, innocent := 0, 0
		for i := range 10_000_000 {
			if wait, _ := throttle.Begin(context.Background(), from(i%1_000_000, fmt.Sprint("name", i))); wait == 0 {
				passed++
			}
		}
		for i := range 1000 {
			if wait, _ := throttle.Begin(context.Background(), from(2_000_000+i, fmt.Sprint("innocent", i))); wait == 0 {
				innocent++
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(float64(passed), "passed")
		b.ReportMetric(float64(innocent)/10, "%-innocent-passed")
		runtime.KeepAlive(throttle)
	}
}

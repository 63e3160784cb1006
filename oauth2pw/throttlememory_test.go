package oauth2pw

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw/internal/attempts"
)

type testClock struct{ now time.Time }

func (c *testClock) Now() time.Time { return c.now }

func newTestThrottle(limit int, window time.Duration) (*memoryThrottle, *testClock) {
	c := &testClock{now: time.Unix(1_700_000_000, 0)}
	return newMemoryThrottle(limit, window, c.Now), c
}

// TestThrottleKeys: what is one thing has one key, and what is two has two.
func TestThrottleKeys(t *testing.T) {
	throttle, _ := newTestThrottle(1, time.Minute)
	at := func(address string) Attempt {
		return Attempt{Kind: AttemptPassword, Realm: "r", UserID: "x", Address: netip.MustParseAddr(address)}
	}
	require.Equal(t, throttle.keys(at("192.0.2.1")), throttle.keys(at("::ffff:192.0.2.1")))
	require.Equal(t, throttle.keys(at("fe80::1")), throttle.keys(at("fe80::2%eth0")))
	require.NotEqual(t, throttle.keys(at("::1")).pair, throttle.keys(Attempt{Kind: AttemptPassword, Realm: "r", UserID: "x"}).pair)
	one := at("192.0.2.1")
	keys := throttle.keys(one)
	one.Kind = AttemptCode
	require.Equal(t, keys, throttle.keys(one), "a code counts with the password")
	for name, edit := range map[string]func(a *Attempt){
		"another user":   func(a *Attempt) { a.UserID = "y" },
		"a name":         func(a *Attempt) { a.UserID, a.Name = "", "x" },
		"another realm":  func(a *Attempt) { a.Realm = "rx" },
		"realm and user": func(a *Attempt) { a.Realm, a.UserID = "", "rx" },
		"a client":       func(a *Attempt) { a.Kind, a.UserID, a.ClientID = AttemptClient, "", "x" },
		"no client":      func(a *Attempt) { a.Kind, a.UserID, a.Name = AttemptClient, "", "x" },
	} {
		other := at("192.0.2.1")
		edit(&other)
		require.NotEqual(t, keys.account, throttle.keys(other).account, name)
		require.NotEqual(t, keys.pair, throttle.keys(other).pair, name)
	}
	require.NotEqual(t, keys.place, throttle.keys(at("192.0.2.2")).place)
	require.NotEqual(t, keys.pair, keys.account)
	require.NotZero(t, keys.place)
	require.Zero(t, keys.network)
	require.NotZero(t, throttle.keys(at("2001:db8::1")).network)
}

// TestThrottleFlood: whatever strangers send at names, clients and users, what is right
// passes and is left counted nowhere, and a user at home is not touched.
//
// Conformance 131.
func TestThrottleFlood(t *testing.T) {
	throttle, _ := newTestThrottle(10, 15*time.Minute)
	begin := func(a Attempt) (openAttempt, bool) {
		open, wait, err := throttle.begin(context.Background(), a)
		require.NoError(t, err)
		return open, wait == 0
	}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	owner := Attempt{Kind: AttemptPassword, UserID: "owner", Address: netip.MustParseAddr("192.0.2.1"), HasTag: true, Tag: 1}
	open, ok := begin(owner)
	require.True(t, ok)
	require.NoError(t, open.succeed(context.Background(), ""))
	const flood = 400_000
	for i := range flood {
		switch i % 4 {
		case 0:
			begin(Attempt{Kind: AttemptPassword, Name: fmt.Sprint("invented", i), Address: address(i), HasTag: true, Tag: uint32(i)})
		case 1:
			begin(Attempt{Kind: AttemptClient, Name: fmt.Sprint("invented", i), Address: address(i), HasTag: true, Tag: uint32(i)})
		case 2:
			begin(Attempt{Kind: AttemptPassword, UserID: fmt.Sprint("user", i%40_000), Address: address(i), HasTag: true, Tag: uint32(i)})
		case 3:
			begin(Attempt{Kind: AttemptClient, ClientID: "backend", Address: address(i), HasTag: true, Tag: uint32(i)})
		}
	}
	for i := range 300 { // more than any limit of an account, each from its own address
		owner.Tag = uint32(1000 + i)
		open, ok := begin(owner)
		require.True(t, ok, "%d at home", i)
		require.NoError(t, open.succeed(context.Background(), ""))
		user := Attempt{Kind: AttemptPassword, UserID: "another", Address: address(1_000_000 + i), HasTag: true, Tag: 7}
		open, ok = begin(user)
		require.True(t, ok, "%d of a user at new addresses: what was right is left counted", i)
		if i%2 == 0 {
			require.NoError(t, open.succeed(context.Background(), ""))
		} else {
			require.NoError(t, open.cancel(context.Background()))
		}
		_, ok = begin(Attempt{Kind: AttemptClient, ClientID: "backend", Address: address(2_000_000 + i), Right: true})
		require.True(t, ok, "%d of a client", i)
	}
}

// TestThrottleApart: names count in no room of the users', and clients that do not exist in
// none of the clients'; and a right secret of a client is blocked by no other's.
func TestThrottleApart(t *testing.T) {
	const window = time.Minute
	throttle, _ := newTestThrottle(3, window)
	tiny := func() *attempts.Counter { return attempts.NewCounter(3, window, 1, 2) } // one key, then all share
	throttle.users = accountCounters{tiny(), attempts.NewGuesses(9, window, 1), tiny()}
	throttle.clients.pairs = tiny()
	address := netip.MustParseAddr("192.0.2.1")
	begin := func(a Attempt) (wait time.Duration) {
		_, wait, err := throttle.begin(context.Background(), a)
		require.NoError(t, err)
		return wait
	}
	for i := range 50 {
		begin(Attempt{Kind: AttemptPassword, Name: fmt.Sprint(i), Address: address})
		begin(Attempt{Kind: AttemptClient, Name: fmt.Sprint(i), Address: address})
	}
	for i := range 3 {
		require.Zero(t, begin(Attempt{Kind: AttemptPassword, UserID: "u", Address: netip.MustParseAddr("192.0.2.2")}), i)
		require.Zero(t, begin(Attempt{Kind: AttemptClient, ClientID: "c", Address: address}), i)
	}
	for i := range 50 { // in the sketch, which has two cells
		begin(Attempt{Kind: AttemptClient, ClientID: fmt.Sprint(i), Address: address})
	}
	require.Zero(t, begin(Attempt{Kind: AttemptClient, ClientID: "another", Address: address, Right: true}))
	require.Positive(t, begin(Attempt{Kind: AttemptClient, ClientID: "c", Address: address, Right: true}))
}

func BenchmarkThrottle(b *testing.B) {
	from := func(i int, account string) Attempt {
		return Attempt{
			Kind: AttemptPassword, UserID: account, HasTag: true, Tag: uint32(i),
			Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
		}
	}
	ctx := context.Background()
	for _, accounts := range []int{10_000, 300_000} {
		throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
		attempts := make([]Attempt, accounts)
		for i := range attempts {
			attempts[i] = from(i/3, fmt.Sprint("user", i))
			_, _, _ = throttle.begin(ctx, attempts[i])
		}
		i := 0
		b.Run(fmt.Sprint("wrong/", accounts), func(b *testing.B) {
			for b.Loop() {
				i++
				a := attempts[i%accounts]
				a.Tag = uint32(i)
				_, _, _ = throttle.begin(ctx, a)
			}
		})
		b.Run(fmt.Sprint("right/", accounts), func(b *testing.B) { // two questions
			for b.Loop() {
				i++
				if open, _, _ := throttle.begin(ctx, attempts[i%accounts]); open != nil {
					_ = open.succeed(ctx, "")
				}
			}
		})
	}
	throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
	b.Run("blocked", func(b *testing.B) {
		a := from(1, "x")
		for k := range uint32(10) {
			a.Tag = k
			_, _, _ = throttle.begin(ctx, a)
		}
		a.Tag = 11
		for b.Loop() {
			_, _, _ = throttle.begin(ctx, a)
		}
	})
}

// BenchmarkThrottleNames is P9: what 10^7 names take, each tried once, from a million
// addresses; and how many others pass then.
func BenchmarkThrottleNames(b *testing.B) {
	ctx := context.Background()
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		throttle := newMemoryThrottle(10, 15*time.Minute, time.Now)
		passes := func(i int, name, user string) bool {
			_, wait, _ := throttle.begin(ctx, Attempt{
				Kind: AttemptPassword, Name: name, UserID: user, HasTag: true, Tag: uint32(i),
				Address: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}),
			})
			return wait == 0
		}
		passed, names, users := 0, 0, 0
		for i := range 10_000_000 {
			if passes(i%1_000_000, fmt.Sprint("name", i), "") {
				passed++
			}
		}
		for i := range 1000 {
			if passes(2_000_000+i, fmt.Sprint("another", i), "") {
				names++
			}
			if passes(3_000_000+i, "", fmt.Sprint("user", i)) {
				users++
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		b.ReportMetric(float64(passed), "passed")
		b.ReportMetric(float64(names)/10, "%-other-names-passed")
		b.ReportMetric(float64(users)/10, "%-users-passed")
		runtime.KeepAlive(throttle)
	}
}

package oauth2pw

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
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

// naive is what the built-in throttle should do, in the plainest way: lists that are
// searched from end to end, and keys that are written out.
type naive struct {
	limit  int
	window time.Duration
	now    time.Time
	id     int

	counted map[string][]stamp // by what it counts for
	tried   map[string][]*naiveGuess
	again   map[string][]stamp
	proven  map[string]naiveGuess
	known   map[string][]stamp // places, by account
}

type stamp struct {
	at  time.Time
	id  int
	key string
}

type naiveGuess struct {
	tag  uint32
	at   time.Time
	uses int
	own  []stamp
}

// naiveOpen is an attempt that naive has counted.
type naiveOpen struct {
	stamps []stamp
	guess  *naiveGuess
	set    string
}

func newNaive(limit int, window time.Duration, now time.Time) *naive {
	return &naive{
		limit: limit, window: window, now: now,
		counted: map[string][]stamp{}, tried: map[string][]*naiveGuess{}, again: map[string][]stamp{},
		proven: map[string]naiveGuess{}, known: map[string][]stamp{},
	}
}

func (n *naive) count(key string, window time.Duration) (k int) {
	for _, s := range n.counted[key] {
		if n.now.Sub(s.at) < window {
			k++
		}
	}
	return k
}

func (n *naive) account(a Attempt) string {
	if a.UserID != "" {
		return "user " + a.UserID
	}
	return "name " + a.Name
}

func (n *naive) home(a Attempt) bool { return !a.Shared && n.knows(a) }

func (n *naive) knows(a Attempt) bool {
	return a.Address.IsValid() && slices.ContainsFunc(n.known[n.account(a)], func(s stamp) bool {
		return s.key == place(a) && n.now.Sub(s.at) < 30*24*time.Hour
	})
}

func place(a Attempt) string {
	if a.Address.Is6() {
		return netip.PrefixFrom(a.Address, 64).Masked().String()
	}
	return a.Address.String()
}

func (n *naive) set(a Attempt) string {
	set := "away "
	if n.home(a) {
		set = "home "
	}
	return set + n.account(a) + " at " + place(a)
}

// keys are what an attempt counts for: the account's own, and those that it shares.
func (n *naive) keys(a Attempt) (own, shared []string) {
	if n.home(a) {
		return []string{n.set(a)}, []string{"homes " + place(a)}
	}
	own = []string{n.account(a)}
	if a.Address.IsValid() {
		pair := n.set(a)
		if n.knows(a) { // and Shared: both count together
			pair = strings.Replace(pair, "away ", "home ", 1)
		}
		own, shared = append(own, pair), append(shared, "place "+place(a))
	}
	if a.Address.Is6() {
		shared = append(shared, "network "+netip.PrefixFrom(a.Address, 48).Masked().String())
	}
	return own, shared
}

// passes reports whether an attempt passes, and whether it does so as the first one of
// its account only.
func (n *naive) passes(a Attempt) (passes, first bool) {
	N, W := n.limit, n.window
	own, shared := n.keys(a)
	if n.home(a) {
		pair := n.count(own[0], W)
		crowded := n.count(shared[0], W) >= 100*N
		return pair < N && (!crowded || pair == 0), crowded
	}
	return n.count(n.account(a), 4*W) < 3*N &&
		(len(own) == 1 || n.count(own[1], W) < N) &&
		(len(shared) < 1 || n.count(shared[0], W) < 10*N) &&
		(len(shared) < 2 || n.count(shared[1], W) < 100*N), false
}

// begin counts an attempt that passes.
func (n *naive) begin(a Attempt, first bool) *naiveOpen {
	own, shared := n.keys(a)
	open := &naiveOpen{set: n.set(a)}
	if !first && a.HasTag {
		if p, found := n.proven[open.set]; found && p.tag == a.Tag && n.now.Sub(p.at) < n.window {
			own = nil
		} else {
			open.guess = n.try(open.set, a.Tag, own)
			own = nil
		}
	}
	open.stamps = n.add(append(own, shared...))
	return open
}

func (n *naive) add(keys []string) (stamps []stamp) {
	for _, key := range keys {
		n.id++
		s := stamp{n.now, n.id, key}
		n.counted[key] = append(n.counted[key], s)
		stamps = append(stamps, s)
	}
	return stamps
}

func (n *naive) try(pair string, tag uint32, own []string) *naiveGuess {
	repeats := 0
	for _, s := range n.again[pair] {
		if n.now.Sub(s.at) < n.window {
			repeats++
		}
	}
	for _, g := range n.tried[pair] {
		if g.tag == tag && n.now.Sub(g.at) < n.window && repeats < 3*n.limit {
			g.uses++
			n.id++
			n.again[pair] = append(n.again[pair], stamp{n.now, n.id, ""})
			return g
		}
	}
	g := &naiveGuess{tag: tag, at: n.now, uses: 1, own: n.add(own)}
	n.tried[pair] = append(n.tried[pair], g)
	return g
}

func (n *naive) remove(stamps []stamp) {
	for _, s := range stamps {
		n.counted[s.key] = slices.DeleteFunc(n.counted[s.key], func(other stamp) bool { return other.id == s.id })
	}
}

func (n *naive) cancel(o *naiveOpen) {
	n.remove(o.stamps)
	g := o.guess
	if g == nil {
		return
	}
	if g.uses--; g.uses == 0 {
		n.remove(g.own)
		n.tried[o.set] = slices.DeleteFunc(n.tried[o.set], func(other *naiveGuess) bool { return other == g })
	} else if list := n.again[o.set]; len(list) > 0 {
		n.again[o.set] = list[:len(list)-1]
	}
}

func (n *naive) succeed(o *naiveOpen, a Attempt) {
	n.cancel(o)
	n.clear(a)
	if a.Address.IsValid() && !a.Shared {
		list := slices.DeleteFunc(n.known[n.account(a)], func(s stamp) bool { return s.key == place(a) })
		if len(list) == 8 {
			list = list[1:]
		}
		n.known[n.account(a)] = append(list, stamp{n.now, 0, place(a)})
	}
	if a.HasTag {
		n.proven[n.set(a)] = naiveGuess{tag: a.Tag, at: n.now}
	}
}

// clear forgets an account at a place.
func (n *naive) clear(a Attempt) {
	for _, set := range []string{"home ", "away "} {
		pair := set + n.account(a) + " at " + place(a)
		delete(n.counted, pair)
		delete(n.tried, pair)
		delete(n.again, pair)
		delete(n.proven, pair)
	}
}

func (n *naive) forget(a Attempt) {
	delete(n.counted, n.account(a))
	n.clear(a)
}

// TestThrottleModel: over random attempts of users and names, from known addresses and
// others, with and without tags, that fail, are right, or are taken back, at once or
// while others are under way, the throttle decides as the plainest one does; and its
// waits are true.
func TestThrottleModel(t *testing.T) {
	passed, blocked, homes := 0, 0, 0
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(3, seed))
		limit, window := 1+random.IntN(4), time.Duration(1+random.IntN(100))*time.Second
		throttle, clock := newTestThrottle(limit, window)
		model := newNaive(limit, window, clock.now)
		type open struct {
			a     Attempt
			real  openAttempt
			model *naiveOpen
		}
		var under []open
		for i := range 4000 {
			switch random.IntN(40) {
			case 0:
				clock.now = clock.now.Add(time.Duration(random.IntN(200)) * time.Second)
			case 1:
				if random.IntN(20) == 0 {
					clock.now = clock.now.Add(time.Duration(random.IntN(31*24)) * time.Hour)
				}
			default:
				clock.now = clock.now.Add(time.Duration(random.IntN(1000)) * time.Millisecond)
			}
			model.now = clock.now
			a := Attempt{Kind: AttemptPassword, UserID: fmt.Sprint(random.IntN(4))}
			if random.IntN(4) == 0 {
				a.UserID, a.Name = "", a.UserID
			}
			if random.IntN(8) == 0 {
				a.Kind = AttemptCode
			}
			switch random.IntN(10) {
			case 0: // no address
			case 1, 2:
				a.Address = netip.AddrFrom16([16]byte{0x20, 1, 0, 0, 0, byte(random.IntN(2)), 0, byte(random.IntN(2)), 15: byte(i)})
			default:
				a.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(12))})
			}
			a.Shared = random.IntN(20) == 0
			if a.Kind == AttemptPassword && random.IntN(5) > 0 {
				a.HasTag, a.Tag = true, uint32(random.IntN(6))
			}
			if random.IntN(100) == 0 {
				throttle.forget(context.Background(), a)
				model.forget(a)
				continue
			}
			got, wait, err := throttle.begin(context.Background(), a)
			require.NoError(t, err)
			home := model.home(a)
			passes, first := model.passes(a)
			require.Equal(t, passes, wait == 0, "seed %d, attempt %d: %+v", seed, i, a)
			if !passes {
				blocked++
				require.Nil(t, got)
				if !home { // at home the first one of an account may pass before
					model.now = clock.now.Add(wait - 1)
					passes, _ = model.passes(a)
					require.False(t, passes)
				}
				model.now = clock.now.Add(wait)
				passes, _ = model.passes(a)
				require.True(t, passes)
				continue
			}
			want := model.begin(a, first)
			passed++
			if home {
				homes++
			}
			o := open{a, got, want}
			if random.IntN(3) == 0 {
				under = append(under, o)
				if len(under) < 4 {
					continue
				}
				k := random.IntN(len(under))
				o = under[k]
				under = slices.Delete(under, k, k+1)
			}
			switch random.IntN(5) {
			case 0:
				require.NoError(t, o.real.succeed(context.Background(), ""))
				model.succeed(o.model, o.a)
			case 1:
				require.NoError(t, o.real.cancel(context.Background()))
				model.cancel(o.model)
			}
		}
	}
	t.Logf("%d passed, %d of them at home, %d were blocked", passed, homes, blocked)
	require.Greater(t, blocked, 10_000)
	require.Greater(t, homes, 10_000)
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

package storetest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// plainThrottle is a throttle in the plainest way: lists that are searched from end to end, and
// keys that are written out. A plainThrottle counts passwords and codes, for one goroutine.
type plainThrottle struct {
	limit  int
	window time.Duration
	now    time.Time
	id     int

	counted map[string][]mark // by counter
	tried   map[string][]*plainGuess
	again   map[string][]mark
	proven  map[string]plainGuess
	known   map[string][]mark // places, by account
}

type mark struct {
	at  time.Time
	id  int
	key string
}

type plainGuess struct {
	tag  uint32
	at   time.Time
	uses int
	own  []mark
}

// plainOpen is an attempt that plainThrottle has counted.
type plainOpen struct {
	marks []mark
	guess *plainGuess
	set   string
}

func newPlain(limit int, window time.Duration, now time.Time) *plainThrottle {
	return &plainThrottle{
		limit: limit, window: window, now: now,
		counted: map[string][]mark{}, tried: map[string][]*plainGuess{}, again: map[string][]mark{},
		proven: map[string]plainGuess{}, known: map[string][]mark{},
	}
}

func (n *plainThrottle) count(key string, window time.Duration) (k int) {
	for _, s := range n.counted[key] {
		if n.now.Sub(s.at) < window {
			k++
		}
	}
	return k
}

func (n *plainThrottle) account(a oauth2pw.Attempt) string {
	if a.UserID != "" {
		return "user " + a.UserID
	}
	return "name " + a.Name
}

func (n *plainThrottle) home(a oauth2pw.Attempt) bool { return !a.Shared && n.knows(a) }

func (n *plainThrottle) knows(a oauth2pw.Attempt) bool {
	return a.Address.IsValid() && slices.ContainsFunc(n.known[n.account(a)], func(s mark) bool {
		return s.key == place(a) && n.now.Sub(s.at) < 30*24*time.Hour
	})
}

func place(a oauth2pw.Attempt) string {
	if a.Address.Is6() {
		return netip.PrefixFrom(a.Address, 64).Masked().String()
	}
	return a.Address.String()
}

func (n *plainThrottle) set(a oauth2pw.Attempt) string {
	set := "away "
	if n.home(a) {
		set = "home "
	}
	return set + n.account(a) + " at " + place(a)
}

// keys returns the counters of an attempt: those of the account, and the shared ones.
func (n *plainThrottle) keys(a oauth2pw.Attempt) (own, shared []string) {
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
func (n *plainThrottle) passes(a oauth2pw.Attempt) (passes, first bool) {
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
func (n *plainThrottle) begin(a oauth2pw.Attempt, first bool) *plainOpen {
	own, shared := n.keys(a)
	open := &plainOpen{set: n.set(a)}
	if !first && a.HasTag {
		if p, found := n.proven[open.set]; found && p.tag == a.Tag && n.now.Sub(p.at) < n.window {
			own = nil
		} else {
			open.guess = n.try(open.set, a.Tag, own)
			own = nil
		}
	}
	open.marks = n.add(append(own, shared...))
	return open
}

func (n *plainThrottle) add(keys []string) (marks []mark) {
	for _, key := range keys {
		n.id++
		s := mark{n.now, n.id, key}
		n.counted[key] = append(n.counted[key], s)
		marks = append(marks, s)
	}
	return marks
}

func (n *plainThrottle) try(pair string, tag uint32, own []string) *plainGuess {
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
			n.again[pair] = append(n.again[pair], mark{n.now, n.id, ""})
			return g
		}
	}
	g := &plainGuess{tag: tag, at: n.now, uses: 1, own: n.add(own)}
	n.tried[pair] = append(n.tried[pair], g)
	return g
}

func (n *plainThrottle) remove(marks []mark) {
	for _, s := range marks {
		n.counted[s.key] = slices.DeleteFunc(n.counted[s.key], func(other mark) bool { return other.id == s.id })
	}
}

func (n *plainThrottle) cancel(o *plainOpen) {
	n.remove(o.marks)
	g := o.guess
	if g == nil {
		return
	}
	if g.uses--; g.uses == 0 {
		n.remove(g.own)
		n.tried[o.set] = slices.DeleteFunc(n.tried[o.set], func(other *plainGuess) bool { return other == g })
	} else if list := n.again[o.set]; len(list) > 0 {
		n.again[o.set] = list[:len(list)-1]
	}
}

func (n *plainThrottle) succeed(o *plainOpen, a oauth2pw.Attempt) {
	n.cancel(o)
	n.clear(a)
	if a.Address.IsValid() && !a.Shared {
		list := slices.DeleteFunc(n.known[n.account(a)], func(s mark) bool { return s.key == place(a) })
		if len(list) == 8 {
			list = list[1:]
		}
		n.known[n.account(a)] = append(list, mark{n.now, 0, place(a)})
	}
	if a.HasTag {
		n.proven[n.set(a)] = plainGuess{tag: a.Tag, at: n.now}
	}
}

// clear forgets an account at a place.
func (n *plainThrottle) clear(a oauth2pw.Attempt) {
	for _, set := range []string{"home ", "away "} {
		pair := set + n.account(a) + " at " + place(a)
		delete(n.counted, pair)
		delete(n.tried, pair)
		delete(n.again, pair)
		delete(n.proven, pair)
	}
}

func (n *plainThrottle) forget(a oauth2pw.Attempt) {
	delete(n.counted, n.account(a))
	n.clear(a)
}

// randomAttempts compares a throttle with plainThrottle: attempts of users and names, from known
// addresses and others, with and without tags, that fail, are right, or are taken back, at once or
// while others are under way.
func randomAttempts(t *testing.T, c *throttled, seed uint64, n int) {
	random := rand.New(rand.NewPCG(3, seed))
	limit, window := 1+random.IntN(4), time.Duration(1+random.IntN(100))*time.Second
	c.open(limit, window)
	at := func() time.Time { return time.Unix(0, c.time.Load()) }
	model := newPlain(limit, window, at())
	type open struct {
		a     oauth2pw.Attempt
		model *plainOpen
	}
	counted := make(map[oauth2pw.Attempt][]open) // by the attempt with its place
	var under []oauth2pw.Attempt
	for i := range n {
		switch random.IntN(40) {
		case 0:
			c.pass(time.Duration(random.IntN(200_000_000)) * time.Microsecond)
		case 1:
			if random.IntN(20) == 0 {
				c.pass(time.Duration(random.IntN(31*24)) * time.Hour)
			}
		default:
			c.pass(time.Duration(1000+random.IntN(1_000_000)) * time.Microsecond)
		}
		model.now = at()
		a := oauth2pw.Attempt{Kind: oauth2pw.AttemptPassword, Realm: fmt.Sprint(seed), UserID: fmt.Sprint(random.IntN(4))}
		if random.IntN(4) == 0 {
			a.UserID, a.Name = "", a.UserID
		}
		if random.IntN(8) == 0 {
			a.Kind = oauth2pw.AttemptCode
		}
		switch random.IntN(10) {
		case 0: // no address
		case 1, 2:
			a.Address = netip.AddrFrom16([16]byte{0x20, 1, 0, 0, 0, byte(random.IntN(2)), 0, byte(random.IntN(2)), 15: byte(i)})
		default:
			a.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(12))})
		}
		a.Shared = random.IntN(20) == 0
		if a.Kind == oauth2pw.AttemptPassword && random.IntN(5) > 0 {
			a.HasTag, a.Tag = true, uint32(random.IntN(6))
		}
		if random.IntN(100) == 0 {
			c.forget(t, a)
			model.forget(a)
			continue
		}
		wait := c.begin(t, a)
		passes, first := model.passes(a)
		if passes != (wait == 0) {
			t.Fatalf("Attempt %d of the seed %d, %+v, got the wait %v; by the limits of Config.ThrottleLimit (N = %d, W = %v) that it passes is %v.", i, seed, a, wait, limit, window, passes)
		}
		if !passes {
			if !model.home(a) { // there the first attempt of an account may pass before
				model.now = at().Add(wait - time.Second)
				if passes, _ = model.passes(a); passes {
					t.Fatalf("Attempt %d of the seed %d got the wait %v, which is a second too long.", i, seed, wait)
				}
			}
			model.now = at().Add(wait + time.Millisecond)
			if passes, _ = model.passes(a); !passes {
				t.Fatalf("Attempt %d of the seed %d got the wait %v, after which it is still blocked.", i, seed, wait)
			}
			continue
		}
		same := a
		if a.Address.Is6() {
			same.Address = netip.PrefixFrom(a.Address, 64).Masked().Addr()
		}
		counted[same] = append(counted[same], open{a, model.begin(a, first)})
		if random.IntN(3) == 0 {
			under = append(under, same)
			if len(under) < 4 {
				continue
			}
			k := random.IntN(len(under))
			same = under[k]
			under = slices.Delete(under, k, k+1)
		}
		// Of equal attempts the latest is settled.
		last := len(counted[same]) - 1
		o := counted[same][last]
		switch random.IntN(5) {
		case 0:
			c.succeed(t, o.a)
			model.succeed(o.model, o.a)
			counted[same] = counted[same][:last]
		case 1:
			c.cancel(t, o.a)
			model.cancel(o.model)
			counted[same] = counted[same][:last]
		}
	}
}

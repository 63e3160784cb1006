package storetest

import (
	"net/netip"
	"slices"
	"strings"
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

package oauth2pw

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw/internal/attempts"
)

// memoryThrottle is the built-in Throttle. An account is a user, or a name that is
// nobody's. A place is an address, which for IPv6 is a /64. An account knows the places
// where it has succeeded within 30 days, 8 at most.
//
// Of passwords and codes it lets pass, with a limit of N in a window W,
//
//	from a place that the account knows:
//	N in W       for the account from the place
//	100 N in W   from the place, for all accounts that know it; beyond it, one more for
//	             each account that has none in W
//
//	from any other place, or from none:
//	N in W       for the account from the place
//	3 N in 4 W   for the account from all such places
//	10 N in W    from the place, for all accounts that do not know it
//	100 N in W   from the /48 of an IPv6, for the same
//
// Of other grants 10 N in W pass from a place and 100 N from a /48, and of wrong client
// secrets N in W for a client from a place.
//
// What is right does not count. The same wrong secret of an account from a place counts
// once in W for both, up to 3 N repeats, and each time for the place. The secret that was
// right last counts for the place alone, for W: a program may log in many times at once.
//
// What nobody has to pay for (names, client ids) is counted apart from users and
// clients, so that it takes no room of theirs; and what strangers do is counted apart
// from what comes from known places.
type memoryThrottle struct {
	seed maphash.Seed // keys are hashes: no name is kept

	mu    sync.Mutex
	clock *attempts.Clock

	known *attempts.Places // of accounts

	// Passwords and codes.
	home        accountCounters   // from known places
	homePlaces  *attempts.Counter // the same, by place
	users       accountCounters   // from other places, at users
	names       accountCounters   // the same, at names that are nobody's
	places      *attempts.Counter // the same, at both, by place
	networks    *attempts.Counter // the same, by /48
	grantPlaces *attempts.Counter // requests for other grants
	grantNets   *attempts.Counter
	clients     accountCounters // secrets of clients
	noClients   accountCounters // secrets of clients that do not exist
}

// accountCounters count by account: a user, a name or a client.
type accountCounters struct {
	pairs    *attempts.Counter // by account and place
	guesses  *attempts.Guesses // the same
	accounts *attempts.Counter // nil: without a limit
}

// An account beyond knownAccounts takes the place of the one whose last success is longest ago.
const (
	knownTime     = 30 * 24 * time.Hour
	knownPerUser  = 8
	knownAccounts = 1 << 17
)

func newMemoryThrottle(limit int, window time.Duration, now func() time.Time) *memoryThrottle {
	counter := func(limit, keys, width int) *attempts.Counter {
		return attempts.NewCounter(limit, window, keys, width)
	}
	pairs := func() *attempts.Counter { return counter(limit, 1<<15, 1<<20) }
	guesses := func() *attempts.Guesses { return attempts.NewGuesses(3*limit, window, 1<<14) }
	accounts := func() *attempts.Counter { return attempts.NewCounter(3*limit, 4*window, 1<<15, 1<<20) }
	return &memoryThrottle{
		seed:        maphash.MakeSeed(),
		clock:       attempts.NewClock(now),
		known:       attempts.NewPlaces(knownPerUser, knownTime, knownAccounts),
		home:        accountCounters{pairs(), guesses(), nil},
		homePlaces:  counter(100*limit, 1<<11, 1<<16),
		users:       accountCounters{pairs(), guesses(), accounts()},
		names:       accountCounters{pairs(), guesses(), accounts()},
		places:      counter(10*limit, 1<<13, 1<<18),
		networks:    counter(100*limit, 1<<10, 1<<16),
		grantPlaces: counter(10*limit, 1<<13, 1<<18),
		grantNets:   counter(100*limit, 1<<10, 1<<16),
		clients:     accountCounters{counter(limit, 1<<13, 1<<18), guesses(), nil},
		noClients:   accountCounters{counter(limit, 1<<13, 1<<18), guesses(), nil},
	}
}

// openCount is an attempt that was counted.
type openCount struct {
	throttle *memoryThrottle
	attempt  Attempt
	keys     attemptKeys
	counts   [4]attempts.Count

	// For an attempt with a tag that is not the one that was right last.
	guess   *attempts.Guess // has the counts of account and pair
	guesses *attempts.Guesses
}

// begin: what is counted, and when it is blocked.
func (t *memoryThrottle) begin(_ context.Context, a Attempt) (openAttempt, time.Duration, error) {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	open := &openCount{throttle: t, attempt: a, keys: k}
	var wait time.Duration
	switch a.Kind {
	case AttemptClient:
		wait = t.beginClient(open, now)
	case AttemptGrant:
		wait = open.countAll(now, bounds{{t.grantPlaces, k.place}, {t.grantNets, k.network}})
	default:
		known := k.place != 0 && t.known.Has(k.account, k.place, now)
		if known && !a.Shared {
			wait = t.beginHome(open, now)
		} else {
			wait = t.beginAway(open, known, now)
		}
	}
	if wait > 0 || a.Right {
		return nil, wait, nil
	}
	return open, 0, nil
}

// beginHome: an attempt from a place that the account knows.
func (t *memoryThrottle) beginHome(open *openCount, now attempts.Time) time.Duration {
	k := open.keys
	own, shared := bounds{{t.home.pairs, k.pair}}, bounds{{t.homePlaces, k.place}}
	if wait := own.wait(now); wait > 0 {
		return wait
	}
	if wait := shared.wait(now); wait > 0 {
		if t.home.pairs.Len(k.pair, now) > 0 {
			return wait
		}
		// The first of this account is never kept out by others.
		open.count(now, own, shared)
		return 0
	}
	open.countGuess(now, t.home.guesses, own, shared)
	return 0
}

// beginAway: an attempt from any other place, or from none; or from a known one, but with a
// forwarding header that nobody vouches for: such a header must not double the limit of the
// account from there.
func (t *memoryThrottle) beginAway(open *openCount, known bool, now attempts.Time) time.Duration {
	k, set := open.keys, t.away(open.attempt)
	own, shared := bounds{{set.accounts, k.account}}, bounds{{t.places, k.place}, {t.networks, k.network}}
	switch {
	case known:
		own[1] = bound{t.home.pairs, k.pair}
	case k.place != 0:
		own[1] = bound{set.pairs, k.pair}
	}
	if wait := max(own.wait(now), shared.wait(now)); wait > 0 {
		return wait
	}
	open.countGuess(now, set.guesses, own, shared)
	return 0
}

// away returns what counts attempts at an account from places that it does not know.
func (t *memoryThrottle) away(a Attempt) *accountCounters {
	if a.UserID == "" {
		return &t.names
	}
	return &t.users
}

// beginClient: only wrong secrets count. A right one is blocked by what was counted
// for this very client and place alone, and clears it.
func (t *memoryThrottle) beginClient(open *openCount, now attempts.Time) time.Duration {
	a, k := open.attempt, open.keys
	if k.place == 0 {
		return 0
	}
	if a.Right {
		wait := t.clients.pairs.WaitExactly(k.pair, now)
		if wait == 0 {
			t.clearPair(&t.clients, k)
		}
		return wait
	}
	set := &t.clients
	if a.ClientID == "" {
		set = &t.noClients
	}
	own := bounds{{set.pairs, k.pair}}
	wait := own.wait(now)
	if wait == 0 {
		open.countGuess(now, set.guesses, own, bounds{})
	}
	return wait
}

// succeed: what was right is uncounted, and so is what failed for this account from
// this place. From now on the account knows the place.
func (o *openCount) succeed(_ context.Context, userID string) error {
	t, a, k := o.throttle, o.attempt, o.keys
	if a.Kind == AttemptGrant {
		a.Kind, a.UserID = AttemptPassword, userID
		k = t.keys(a)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.Now()
	o.uncount(now)
	away := t.away(a)
	t.clearPair(&t.home, k)
	t.clearPair(away, k)
	next := away
	if k.place != 0 && !a.Shared {
		t.known.Add(k.account, k.place, now)
		next = &t.home
	}
	if a.HasTag {
		next.guesses.Prove(k.pair, a.Tag, now)
	}
	return nil
}

// cancel: what was no guess is uncounted, and nothing else.
func (o *openCount) cancel(context.Context) error {
	o.throttle.mu.Lock()
	defer o.throttle.mu.Unlock()
	o.uncount(o.throttle.clock.Now())
	return nil
}

// forget: what was counted for an account, and for the account from a place. The places
// that it knows stay.
func (t *memoryThrottle) forget(a Attempt) {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	away := t.away(a)
	away.accounts.Clear(k.account)
	t.clearPair(&t.home, k)
	t.clearPair(away, k)
}

func (t *memoryThrottle) clearPair(set *accountCounters, k attemptKeys) {
	set.pairs.Clear(k.pair)
	set.guesses.Clear(k.pair)
}

// bounds are the counters that an attempt counts in, with its keys there. A key of 0
// is none, and so is a nil counter.
type bounds [2]bound

type bound struct {
	counter *attempts.Counter
	key     uint64
}

// wait returns how long the longest wait is.
func (b bounds) wait(now attempts.Time) (wait time.Duration) {
	for _, l := range b {
		if l.counter != nil && l.key != 0 {
			wait = max(wait, l.counter.Wait(l.key, now))
		}
	}
	return wait
}

func (b bounds) add(now attempts.Time) (counts [2]attempts.Count) {
	for i, l := range b {
		if l.counter != nil && l.key != 0 {
			counts[i] = l.counter.Add(l.key, now)
		}
	}
	return counts
}

// countGuess counts an attempt at an account: in own, which is the account's, unless its
// secret was tried before or was right last; and in shared in any case.
func (o *openCount) countGuess(now attempts.Time, guesses *attempts.Guesses, own, shared bounds) {
	a, pair := o.attempt, o.keys.pair
	if a.HasTag {
		switch proven := guesses.Proven(pair, a.Tag, now); {
		case proven:
			own = bounds{}
		default:
			if o.guess = guesses.Repeat(pair, a.Tag, now); o.guess == nil {
				if o.guess = guesses.Try(pair, a.Tag, now); o.guess != nil {
					o.guess.Counts = own.add(now)
				}
			}
			if o.guess != nil {
				o.guesses, own = guesses, bounds{}
			}
		}
	}
	o.count(now, own, shared)
}

// countAll counts an attempt, or returns how long it is blocked.
func (o *openCount) countAll(now attempts.Time, b bounds) time.Duration {
	wait := b.wait(now)
	if wait == 0 {
		o.count(now, b, bounds{})
	}
	return wait
}

func (o *openCount) count(now attempts.Time, own, shared bounds) {
	first, second := own.add(now), shared.add(now)
	o.counts = [4]attempts.Count{first[0], first[1], second[0], second[1]}
}

func (o *openCount) uncount(now attempts.Time) {
	for _, n := range o.counts {
		n.Remove(now)
	}
	if o.guess != nil {
		o.guesses.TakeBack(o.keys.pair, o.guess, now)
	}
}

// attemptKeys are what an attempt counts for. 0 is none.
type attemptKeys struct {
	account uint64
	pair    uint64 // the account from the place; with no place, from anywhere without one
	place   uint64
	network uint64 // of an IPv6
}

func (t *memoryThrottle) keys(a Attempt) (k attemptKeys) {
	what, id := "name", a.Name
	switch {
	case a.Kind == AttemptClient && a.ClientID != "":
		what, id = "client", a.ClientID
	case a.Kind == AttemptClient:
		what = "no client"
	case a.UserID != "":
		what, id = "user", a.UserID
	}
	ip := a.Address.Unmap()
	place := placeOf(ip, 64)
	if ip.IsValid() {
		k.place = t.hash("place", a.Realm, "", place)
	}
	if ip.Is6() {
		k.network = t.hash("network", a.Realm, "", placeOf(ip, 48))
	}
	if a.Kind != AttemptGrant {
		k.account = t.hash(what, a.Realm, id, netip.Addr{})
		k.pair = t.hash(what+" at", a.Realm, id, place)
	}
	return k
}

// hash returns a key, which is never 0.
func (t *memoryThrottle) hash(what, realm, id string, place netip.Addr) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, s := range [...]string{what, realm, id} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	bytes := place.As16()
	h.WriteByte(byte(place.BitLen())) // 0 for none
	h.Write(bytes[:])
	return h.Sum64() | 1<<63
}

// placeOf returns the network of an IPv6 that counts as one, and an IPv4 as it is.
func placeOf(ip netip.Addr, bits int) netip.Addr {
	if !ip.Is6() {
		return ip
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ip
	}
	return p.Addr()
}

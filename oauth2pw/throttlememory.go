package oauth2pw

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw/internal/attempts"
)

// memoryThrottle is the built-in [Throttle], for one process.
//
// An account is a user, or a name: a name that no user has, or any name if
// Config.Authenticate is set. A place is an address; an IPv6 /64 is one place. A place is
// known to an account for 30 days after a success there; an account has at most 8 known
// places. N is the limit, W is the window.
//
// Limits for passwords and codes, from a known place:
//
//	N in W       for the account at the place
//	100 N in W   for the place, over all accounts that know it; above this limit, 1 more
//	             for each account that has none in W
//
// From any other place, or without a place:
//
//	N in W       for the account at the place
//	3 N in 4 W   for the account, over all such places
//	10 N in W    for the place, over all accounts that do not know it
//	100 N in W   for the /48 of an IPv6, over the same accounts
//
// Limits for other grants: 10 N in W for a place, 100 N in W for a /48. Limit for wrong
// client secrets: N in W for a client at a place.
//
// A correct secret is uncounted. The same wrong secret of an account at a place is counted
// once in W for the account, for up to 3 N repeats; each repeat is counted for the place.
// The last correct secret is counted only for the place, for W, because a program may log
// in many times at once.
//
// Memory is bounded: each counter is exact for a limited number of keys, and never counts
// too few for all others. Names and unknown client ids have counters of their own, because
// an attacker can invent any number of them: they take no room from users and clients.
// Attempts from known places have counters of their own, because attempts of strangers must
// not block users at known places.
type memoryThrottle struct {
	seed maphash.Seed // of keys: keys are hashes, and no name is stored

	mu    sync.Mutex
	clock *attempts.Clock

	known *attempts.Places // known places of accounts

	// Passwords and codes.
	home        accountCounters   // from known places
	homePlaces  *attempts.Counter // from known places, by place
	users       accountCounters   // of users, from other places
	names       accountCounters   // of names, from other places
	places      *attempts.Counter // of users and names, by place
	networks    *attempts.Counter // of users and names, by /48
	grantPlaces *attempts.Counter // requests for other grants
	grantNets   *attempts.Counter
	clients     accountCounters // secrets of existing clients
	noClients   accountCounters // secrets of unknown clients
}

// accountCounters count by account: a user, a name or a client.
type accountCounters struct {
	pairs    *attempts.Counter // by account and place
	guesses  *attempts.Guesses // by account and place
	accounts *attempts.Counter // nil: no limit over all places
}

// Above knownAccounts, a new account replaces the account whose last success is oldest.
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

// openCount is a counted attempt.
type openCount struct {
	throttle *memoryThrottle
	attempt  Attempt
	keys     attemptKeys
	counts   [4]attempts.Count

	// Set for an attempt with a tag, unless the tag is that of the last correct secret or
	// there is no room to remember it.
	guess   *attempts.Guess // has the counts of the account and of the pair
	guesses *attempts.Guesses
}

// begin counts an attempt in the counters of its kind, or returns the wait of a blocked
// attempt.
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

// beginHome counts an attempt from a known place.
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
		// Attempts of other accounts never block the first attempt of this account.
		open.count(now, own, shared)
		return 0
	}
	open.countGuess(now, t.home.guesses, own, shared)
	return 0
}

// beginAway counts an attempt from any other place, or without a place. An attempt from a
// known place with an untrusted forwarding header is counted here too, but in the pair of
// the known place: the header must not double the limit of the account at this place.
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

// away returns the counters for attempts of an account from places that are not known to
// it.
func (t *memoryThrottle) away(a Attempt) *accountCounters {
	if a.UserID == "" {
		return &t.names
	}
	return &t.users
}

// beginClient counts only wrong secrets. A correct secret is blocked only by the exact
// counts of this client at this place; a correct secret that passes clears these counts.
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

// succeed uncounts the attempt, and clears the failures of the account at this place. The
// failures stay counted for the account over all places. The place becomes known to the
// account.
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

// cancel uncounts the attempt, and nothing else.
func (o *openCount) cancel(context.Context) error {
	o.throttle.mu.Lock()
	defer o.throttle.mu.Unlock()
	o.uncount(o.throttle.clock.Now())
	return nil
}

// forget clears the counters of an account over all places, and of the account at one
// place. Known places stay known.
func (t *memoryThrottle) forget(_ context.Context, a Attempt) error {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	away := t.away(a)
	away.accounts.Clear(k.account)
	t.clearPair(&t.home, k)
	t.clearPair(away, k)
	return nil
}

func (t *memoryThrottle) clearPair(set *accountCounters, k attemptKeys) {
	set.pairs.Clear(k.pair)
	set.guesses.Clear(k.pair)
}

// bounds are up to two counters, each with a key of an attempt. A nil counter and the key 0
// are skipped.
type bounds [2]bound

type bound struct {
	counter *attempts.Counter
	key     uint64
}

// wait returns the longest wait of the counters.
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

// countGuess counts an attempt in shared, and in own, the counters of the account. A repeat
// and the last correct secret are not counted in own.
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

// countAll counts an attempt in b, or returns the wait.
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

// attemptKeys are the keys of an attempt in the counters. 0: no key.
type attemptKeys struct {
	account uint64
	pair    uint64 // the account at the place, or the account without a place
	place   uint64
	network uint64 // the /48 of an IPv6
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
	h.WriteByte(byte(place.BitLen())) // 0: no place
	h.Write(bytes[:])
	return h.Sum64() | 1<<63
}

// placeOf returns the network of an IPv6 with this many bits, or an IPv4 unchanged.
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

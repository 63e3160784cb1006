package oauth2pw

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// memoryThrottle is the built-in Throttle. With a limit of N in a window W it lets
// pass, of wrong attempts,
//
//	N in W       for one account from one address
//	3 N in 4 W   for one account from all addresses that are not its user's
//	10 N in W    from one address, an IPv6 /64
//	100 N in W   from an IPv6 /48
//
// exactly, in every such span of time, for as many accounts and addresses as the
// tables hold; those beyond share a sketch, which never counts too few.
//
// An account's user is not kept out by strangers: the second limit does not touch
// the addresses that the user has logged in from. Nor by himself: what was right
// counts no more for a window, so that a program may log in many times at once.
type memoryThrottle struct {
	now  func() time.Time
	seed maphash.Seed // keys are hashes: no name is kept

	mu        sync.Mutex
	pairs     counter
	accounts  counter
	addresses counter
	networks  counter
	known     knownAddresses
}

const (
	// repeatTime is how soon the same wrong secret may come again for nothing:
	// golang.org/x/oauth2, in its default mode, sends every failed login twice.
	repeatTime = time.Minute

	knownTime     = 30 * 24 * time.Hour // how long an address is a user's
	knownPerUser  = 8                   // addresses
	knownPerPlace = 20                  // users that an address may be known for, before it is nobody's
	knownUsers    = 1 << 17             // of which addresses are kept
)

func newMemoryThrottle(limit int, window time.Duration, now func() time.Time) *memoryThrottle {
	return &memoryThrottle{
		now:       now,
		seed:      maphash.MakeSeed(),
		pairs:     newCounter(limit, window, 1<<15, 1<<20),
		accounts:  newCounter(3*limit, 4*window, 1<<15, 1<<20),
		addresses: newCounter(10*limit, window, 1<<13, 1<<18),
		networks:  newCounter(100*limit, window, 1<<9, 1<<16),
		known:     knownAddresses{users: make(map[uint64][]seenAt), uses: make(map[uint64]int)},
	}
}

// attemptKeys are what an attempt counts for.
type attemptKeys struct {
	pair, account, address, network uint64
	hasAccount, hasNetwork          bool
	user                            bool // the account is a user's
}

func (t *memoryThrottle) keys(a Attempt) attemptKeys {
	ip := a.Address.Unmap()
	place := ip
	if ip.Is6() {
		place = prefix(ip, 64)
	}
	hash := func(what string, account string, place netip.Addr) uint64 {
		var h maphash.Hash
		h.SetSeed(t.seed)
		for _, s := range [...]string{what, a.Kind, a.Realm, account} {
			h.WriteString(s)
			h.WriteByte(0)
		}
		bytes := place.As16()
		h.Write(bytes[:])
		return h.Sum64()
	}
	k := attemptKeys{address: hash("address", "", place), hasAccount: a.Account != "", user: a.Kind == attemptPassword}
	if k.hasAccount {
		k.pair = hash("pair", a.Account, place)
		k.account = hash("account", a.Account, netip.Addr{})
	}
	if k.hasNetwork = ip.Is6(); k.hasNetwork {
		k.network = hash("network", "", prefix(ip, 48))
	}
	return k
}

func prefix(a netip.Addr, bits int) netip.Addr {
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (t *memoryThrottle) Begin(_ context.Context, a Attempt) (time.Duration, error) {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UnixNano()

	stranger := k.hasAccount && k.user && !t.known.has(k.account, k.address, now)
	wait := t.addresses.wait(k.address, now)
	if k.hasNetwork {
		wait = max(wait, t.networks.wait(k.network, now))
	}
	if k.hasAccount {
		wait = max(wait, t.pairs.wait(k.pair, now))
	}
	if stranger {
		wait = max(wait, t.accounts.wait(k.account, now))
	}
	if wait > 0 {
		return time.Duration(wait), nil
	}
	if a.Right {
		if k.hasAccount {
			t.pairs.forget(k.pair)
		}
		return 0, nil
	}

	g := guess{at: now, tag: a.Tag, stranger: stranger}
	if k.hasAccount {
		if t.pairs.repeats(k.pair, &g) || t.pairs.proven(k.pair, &g) {
			return 0, nil
		}
		if f := t.pairs.add(k.pair, now); f != nil {
			f.guesses = append(f.guesses, g)
		}
	}
	if stranger {
		t.accounts.add(k.account, now)
	}
	t.addresses.add(k.address, now)
	if k.hasNetwork {
		t.networks.add(k.network, now)
	}
	return 0, nil
}

func (t *memoryThrottle) Succeed(_ context.Context, a Attempt) error {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UnixNano()
	// All of this guess were right, those that are not back yet included.
	if f := t.pairs.find(k.pair, now); f != nil {
		for _, g := range f.guesses {
			if g.tag == a.Tag {
				t.takeBack(k, g)
			}
		}
	}
	t.pairs.forget(k.pair)
	t.pairs.prove(k.pair, a.Tag, now)
	if k.user && a.Address.IsValid() && !a.Shared {
		t.known.add(k.account, k.address, now)
	}
	return nil
}

func (t *memoryThrottle) Cancel(_ context.Context, a Attempt) error {
	k := t.keys(a)
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.pairs.find(k.pair, t.now().UnixNano())
	if f == nil {
		return nil
	}
	for i := len(f.guesses) - 1; i >= 0; i-- {
		g := &f.guesses[i]
		if g.tag != a.Tag {
			continue
		}
		if g.repeat == repeatUsed { // it was the one for nothing
			g.repeat = repeatFree
			return nil
		}
		at := *g
		f.guesses = slices.Delete(f.guesses, i, i+1)
		t.pairs.remove(k.pair, at.at)
		t.takeBack(k, at)
		return nil
	}
	return nil
}

// takeBack uncounts a guess, but for its pair.
func (t *memoryThrottle) takeBack(k attemptKeys, g guess) {
	if g.stranger {
		t.accounts.remove(k.account, g.at)
	}
	t.addresses.remove(k.address, g.at)
	if k.hasNetwork {
		t.networks.remove(k.network, g.at)
	}
}

// guess is a secret that was counted for a pair of account and address.
type guess struct {
	at       int64
	tag      uint32
	repeat   repeatState
	stranger bool // it counted for the account too
}

// repeatState says whether the same guess may come again for nothing.
type repeatState uint8

const (
	repeatFree repeatState = iota // it may, within repeatTime
	repeatUsed                    // it has
	repeatNone                    // it was one repeat too many itself
)

// failures are those of one key, in nanoseconds, the oldest first.
type failures struct {
	times   []int64
	guesses []guess // of a pair
	right   *proof  // of a pair; nil: nothing was right lately
	full    bool    // at the limit
}

// proof is of a secret that was right.
type proof struct {
	tag  uint32
	at   int64
	open int // how often it came again, and nobody has said yet that it is right still
}

// maxOpen bounds proof.open: a password that was right and is no more counts then.
const maxOpen = 1000

// counter counts failures by key in a sliding window: exactly for max keys, and in
// a sketch beyond. A key at its limit makes room for nobody.
type counter struct {
	limit      int
	window     int64
	max        int
	open, full map[uint64]*failures
	over       sketch
}

func newCounter(limit int, window time.Duration, keys, width int) counter {
	return counter{
		limit: limit, window: int64(window), max: keys,
		open: make(map[uint64]*failures), full: make(map[uint64]*failures),
		over: sketch{window: int64(window), width: width},
	}
}

// find returns what is known of a key now; nil: nothing.
func (c *counter) find(key uint64, now int64) *failures {
	f, open := c.open[key]
	if !open {
		f = c.full[key]
	}
	if f == nil {
		return nil
	}
	c.expire(f, now)
	if !c.place(key, f) {
		return nil
	}
	return f
}

func (c *counter) expire(f *failures, now int64) {
	n := 0
	for n < len(f.times) && f.times[n] <= now-c.window {
		n++
	}
	f.times = slices.Delete(f.times, 0, n)
	n = 0
	for n < len(f.guesses) && f.guesses[n].at <= now-max(c.window, int64(repeatTime)) {
		n++
	}
	f.guesses = slices.Delete(f.guesses, 0, n)
	if f.right != nil && f.right.at <= now-c.window {
		f.right = nil
	}
}

// place puts failures where they belong by now; false: nothing is left of them.
func (c *counter) place(key uint64, f *failures) bool {
	if len(f.times) == 0 && len(f.guesses) == 0 && f.right == nil {
		c.forget(key)
		return false
	}
	if full := len(f.times) >= c.limit; full != f.full {
		c.forget(key)
		f.full = full
		if full {
			c.full[key] = f
		} else {
			c.open[key] = f
		}
	}
	return true
}

func (c *counter) forget(key uint64) {
	delete(c.open, key)
	delete(c.full, key)
}

// wait is how long it takes until a key may fail again, in nanoseconds.
func (c *counter) wait(key uint64, now int64) int64 {
	var times []int64
	if f := c.find(key, now); f != nil {
		times = f.times
	}
	carried := c.over.estimate(key, now)
	first := len(times) + carried - c.limit // the first of them that must expire
	switch {
	case first < 0:
		return 0
	case carried >= c.limit:
		return c.over.wait(key, c.limit, now)
	default:
		return times[first] + c.window - now
	}
}

// add counts a failure. It returns nil where only the sketch has room.
func (c *counter) add(key uint64, now int64) *failures {
	f := c.get(key, now)
	if f == nil {
		c.over.add(key, 1, now)
		return nil
	}
	f.times = append(f.times, now)
	c.place(key, f)
	return f
}

// get returns what is kept of a key; nil: there is no room to keep anything.
func (c *counter) get(key uint64, now int64) *failures {
	f := c.find(key, now)
	if f == nil && c.makeRoom(now) {
		f = new(failures)
		c.open[key] = f
	}
	return f
}

// prove notes that a secret was right.
func (c *counter) prove(key uint64, tag uint32, now int64) {
	if f := c.get(key, now); f != nil {
		f.right = &proof{tag: tag, at: now}
	}
}

// proven reports whether a guess was right a while ago, and is no guess.
func (c *counter) proven(key uint64, g *guess) bool {
	f := c.find(key, g.at)
	if f == nil || f.right == nil || f.right.tag != g.tag || f.right.open == maxOpen {
		return false
	}
	f.right.open++
	return true
}

// remove uncounts a failure, if it is still there.
func (c *counter) remove(key uint64, at int64) {
	f := c.open[key]
	if f == nil {
		f = c.full[key]
	}
	if f == nil {
		return
	}
	if i, found := slices.BinarySearch(f.times, at); found {
		f.times = slices.Delete(f.times, i, i+1)
		c.place(key, f)
	}
}

// repeats reports whether a guess is the same as one before, and is for nothing.
func (c *counter) repeats(key uint64, g *guess) bool {
	f := c.find(key, g.at)
	if f == nil {
		return false
	}
	for i := len(f.guesses) - 1; i >= 0; i-- {
		before := &f.guesses[i]
		if before.tag != g.tag {
			continue
		}
		if g.at-before.at >= int64(repeatTime) {
			return false
		}
		if before.repeat == repeatFree {
			before.repeat = repeatUsed
			return true
		}
		g.repeat = repeatNone
		return false
	}
	return false
}

// makeRoom makes room for a key: one below the limit, whichever, goes into the
// sketch; or one that was at the limit and is over.
func (c *counter) makeRoom(now int64) bool {
	if len(c.open)+len(c.full) < c.max {
		return true
	}
	for key, f := range c.open { // begins anywhere
		c.expire(f, now)
		c.over.add(key, len(f.times), now)
		delete(c.open, key)
		return true
	}
	looked := 0
	for key, f := range c.full {
		c.expire(f, now)
		if !c.place(key, f) {
			return true
		}
		if !f.full {
			return c.makeRoom(now)
		}
		if looked++; looked == 4 {
			break
		}
	}
	return false
}

// sketch counts for any number of keys in fixed memory, and never too few: in two
// generations of a window each, in two rows, of which the lesser counts. It takes
// its memory when it is first needed.
type sketch struct {
	window int64
	width  int // a power of two
	began  int64
	rows   [2][2][]uint16 // the present generation first
}

func (s *sketch) cells(generation int, key uint64) [2]*uint16 {
	mask := uint64(s.width - 1)
	return [2]*uint16{&s.rows[generation][0][key&mask], &s.rows[generation][1][key>>32&mask]}
}

func (s *sketch) turn(now int64) {
	if s.rows[0][0] == nil {
		for g := range s.rows {
			for r := range s.rows[g] {
				s.rows[g][r] = make([]uint16, s.width)
			}
		}
		s.began = now
		return
	}
	for range 2 {
		if now-s.began < s.window {
			return
		}
		s.rows[0], s.rows[1] = s.rows[1], s.rows[0]
		clear(s.rows[0][0])
		clear(s.rows[0][1])
		s.began += s.window
	}
	if now-s.began >= s.window { // a long time: both are empty
		s.began = now
	}
}

func (s *sketch) add(key uint64, n int, now int64) {
	if n == 0 {
		return
	}
	s.turn(now)
	cells := s.cells(0, key)
	least := min(int(*cells[0]), int(*cells[1]))
	for _, cell := range cells {
		*cell = uint16(min(max(int(*cell), least+n), math.MaxUint16))
	}
}

func (s *sketch) generation(g int, key uint64) int {
	cells := s.cells(g, key)
	n := int(min(*cells[0], *cells[1]))
	if n == math.MaxUint16 { // or more: nobody knows
		return math.MaxInt32
	}
	return n
}

func (s *sketch) estimate(key uint64, now int64) int {
	if s.rows[0][0] == nil {
		return 0
	}
	s.turn(now)
	return s.generation(0, key) + s.generation(1, key)
}

// wait is how long the estimate stays at a limit, in nanoseconds.
func (s *sketch) wait(key uint64, limit int, now int64) int64 {
	next := s.began + s.window - now
	if s.generation(0, key) >= limit {
		next += s.window
	}
	return next
}

// knownAddresses are those that users have logged in from.
type knownAddresses struct {
	users map[uint64][]seenAt
	uses  map[uint64]int // how many users an address is known for
}

type seenAt struct {
	address uint64
	at      int64
}

func (k *knownAddresses) has(user, address uint64, now int64) bool {
	for _, s := range k.users[user] {
		if s.address == address {
			return now-s.at < int64(knownTime) && k.uses[address] <= knownPerPlace
		}
	}
	return false
}

func (k *knownAddresses) add(user, address uint64, now int64) {
	list, present := k.users[user]
	if !present && len(k.users) >= knownUsers {
		for other, theirs := range k.users { // any
			for _, s := range theirs {
				k.unuse(s.address)
			}
			delete(k.users, other)
			break
		}
	}
	list = slices.DeleteFunc(list, func(s seenAt) bool {
		if now-s.at >= int64(knownTime) || s.address == address {
			k.unuse(s.address)
			return true
		}
		return false
	})
	if len(list) == knownPerUser {
		slices.SortFunc(list, func(a, b seenAt) int { return cmp.Compare(a.at, b.at) })
		k.unuse(list[0].address)
		list = slices.Delete(list, 0, 1)
	}
	k.uses[address]++
	k.users[user] = append(list, seenAt{address, now})
}

func (k *knownAddresses) unuse(address uint64) {
	if k.uses[address]--; k.uses[address] <= 0 {
		delete(k.uses, address)
	}
}

package storetest

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Throttle tests an oauth2pw.Throttle with the limits of the built-in one, which are listed at
// oauth2pw.Config.ThrottleLimit. open returns a new throttle that has counted nothing, with this
// limit N, this window W, and this clock instead of its own. The clock goes back in one rule.
//
// Of equal attempts, Succeed and Cancel settle the latest. A wait may be a second too long, and a
// millisecond too short.
func Throttle(t *testing.T, open func(t *testing.T, limit int, window time.Duration, now func() time.Time) oauth2pw.Throttle) {
	run(t, throttleRules, func(t *testing.T) *throttled {
		c := &throttled{}
		c.time.Store(now.UnixNano())
		c.open = func(limit int, window time.Duration) {
			c.Throttle = open(t, limit, window, func() time.Time { return time.Unix(0, c.time.Load()).UTC() })
		}
		c.open(throttleLimit, throttleWindow)
		return c
	})
}

const (
	throttleLimit  = 3
	throttleWindow = 15 * time.Minute
)

// throttled is a throttle with its clock.
type throttled struct {
	oauth2pw.Throttle
	open func(limit int, window time.Duration)
	time atomic.Int64
}

func (c *throttled) pass(d time.Duration) { c.time.Add(int64(d)) }

// begin counts an attempt. Zero: it passes.
func (c *throttled) begin(t *testing.T, a oauth2pw.Attempt) time.Duration {
	t.Helper()
	wait, err := c.Begin(context.Background(), a)
	if err != nil {
		t.Fatalf("Begin returned the error %v.", err)
	}
	return wait
}

// passes counts attempts, all of which must pass.
func (c *throttled) passes(t *testing.T, n int, duty string, a func(i int) oauth2pw.Attempt) {
	t.Helper()
	for i := range n {
		if wait := c.begin(t, a(i)); wait != 0 {
			t.Fatalf("Attempt %d of %d is blocked for %v, and must pass: %s", i+1, n, wait, duty)
		}
	}
}

// blocked begins an attempt that must be blocked.
func (c *throttled) blocked(t *testing.T, duty string, a oauth2pw.Attempt) time.Duration {
	t.Helper()
	wait := c.begin(t, a)
	if wait <= 0 {
		t.Fatalf("An attempt passes, and must be blocked: %s", duty)
	}
	return wait
}

func checkWait(t *testing.T, got, want time.Duration) {
	t.Helper()
	if got < want-time.Millisecond || got > want+time.Second {
		t.Errorf("Begin returned the wait %v, and not %v: the first attempt of a limit leaves the window then.", got, want)
	}
}

func (c *throttled) settle(t *testing.T, call string, settle func(context.Context, oauth2pw.Attempt) error, a oauth2pw.Attempt) {
	t.Helper()
	if err := settle(context.Background(), a); err != nil {
		t.Fatalf("%s returned the error %v.", call, err)
	}
}

func (c *throttled) succeed(t *testing.T, a oauth2pw.Attempt) {
	t.Helper()
	c.settle(t, "Succeed", c.Succeed, a)
}

func (c *throttled) cancel(t *testing.T, a oauth2pw.Attempt) {
	t.Helper()
	c.settle(t, "Cancel", c.Cancel, a)
}

func (c *throttled) forget(t *testing.T, a oauth2pw.Attempt) {
	t.Helper()
	c.settle(t, "Forget", c.Forget, a)
}

// login is an attempt that is right.
func (c *throttled) login(t *testing.T, a oauth2pw.Attempt) {
	t.Helper()
	if wait := c.begin(t, a); wait != 0 {
		t.Fatalf("The right password of %q is blocked for %v, and must pass.", a.UserID, wait)
	}
	c.succeed(t, a)
}

const (
	homeAddress = "192.0.2.1"
	awayAddress = "203.0.113.1"
)

// guess is the i-th wrong password for a user from an address. "": no address.
func guess(user, address string, i int) oauth2pw.Attempt {
	a := oauth2pw.Attempt{Kind: oauth2pw.AttemptPassword, Realm: "api", UserID: user, HasTag: true, Tag: uint32(i + 1)}
	if address != "" {
		a.Address = netip.MustParseAddr(address)
	}
	return a
}

// guesses returns the guesses at a user from an address.
func guesses(user, address string) func(i int) oauth2pw.Attempt {
	return func(i int) oauth2pw.Attempt { return guess(user, address, i) }
}

// stranger is an address, another one for each i.
func stranger(i int) string {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
}

func with(a oauth2pw.Attempt, change func(a *oauth2pw.Attempt)) oauth2pw.Attempt {
	change(&a)
	return a
}

// ownLimit is the limit that most rules rely on.
const ownLimit = "N attempts in W pass for an account at an address."

var throttleRules = []rule[*throttled]{
	{"N attempts in W pass", func(t *testing.T, c *throttled) {
		c.passes(t, 1, ownLimit, guesses("1", awayAddress))
		c.pass(time.Minute)
		c.passes(t, throttleLimit-1, ownLimit, func(i int) oauth2pw.Attempt { return guess("1", awayAddress, 1+i) })
		for i := range 5 * throttleLimit {
			wait := c.blocked(t, "Begin counts an attempt as failed before its secret is checked.", guess("1", awayAddress, 100+i))
			checkWait(t, wait, throttleWindow-time.Minute)
		}
		c.pass(throttleWindow - time.Minute - time.Millisecond)
		c.blocked(t, "the window of the first attempt has not ended.", guess("1", awayAddress, 200))
		c.pass(2 * time.Millisecond)
		c.passes(t, 1, "a blocked attempt is not counted, so that one passes when the wait is over.", func(int) oauth2pw.Attempt { return guess("1", awayAddress, 201) })
		c.blocked(t, "only one attempt has left the window.", guess("1", awayAddress, 202))
	}},

	{"a burst passes no more than N", func(t *testing.T, c *throttled) {
		var mu sync.Mutex
		passed := 0
		parallel(20*throttleLimit, func(i int) {
			if wait, err := c.Begin(context.Background(), guess("1", awayAddress, i)); err == nil && wait == 0 {
				mu.Lock()
				passed++
				mu.Unlock()
			}
		})
		if passed != throttleLimit {
			t.Errorf("%d of %d attempts at once passed, and not %d: Begin must compare and count in one atomic step.", passed, 20*throttleLimit, throttleLimit)
		}
	}},

	{"accounts, realms and kinds are apart", func(t *testing.T, c *throttled) {
		c.passes(t, throttleLimit, ownLimit, guesses("5", awayAddress))
		c.blocked(t, ownLimit, guess("5", awayAddress, 100))
		for other, change := range map[string]func(a *oauth2pw.Attempt){
			"another user":              func(a *oauth2pw.Attempt) { a.UserID = "55" },
			"a name like the UserID":    func(a *oauth2pw.Attempt) { a.UserID, a.Name = "", "5" },
			"a user of another realm":   func(a *oauth2pw.Attempt) { a.Realm = "api5" },
			"another split":             func(a *oauth2pw.Attempt) { a.Realm, a.UserID = "", "api5" },
			"a client like the UserID":  func(a *oauth2pw.Attempt) { a.Kind, a.UserID, a.ClientID = oauth2pw.AttemptClient, "", "5" },
			"an unknown client like it": func(a *oauth2pw.Attempt) { a.Kind, a.UserID, a.Name = oauth2pw.AttemptClient, "", "5" },
			"a grant":                   func(a *oauth2pw.Attempt) { a.Kind, a.UserID, a.HasTag = oauth2pw.AttemptGrant, "", false },
			"another address":           func(a *oauth2pw.Attempt) { a.Address = netip.MustParseAddr(homeAddress) },
		} {
			if wait := c.begin(t, with(guess("5", awayAddress, 101), change)); wait != 0 {
				t.Errorf("The first attempt of %s is blocked: what is apart must have counters of its own.", other)
			}
		}
		c.blocked(t, "a code is counted together with the passwords of its user.", with(guess("5", awayAddress, 102), func(a *oauth2pw.Attempt) { a.Kind = oauth2pw.AttemptCode }))
	}},

	{"an address is one in every spelling, and an IPv6 is its /64", func(t *testing.T, c *throttled) {
		for _, same := range [][2]string{
			{"2001:db8::1", "2001:db8::ffff:1"}, {"192.0.2.9", "::ffff:192.0.2.9"}, {"fe80::1", "fe80::2%eth0"},
		} {
			c.passes(t, throttleLimit, ownLimit, guesses("1"+same[0], same[0]))
			c.blocked(t, same[1]+" is the same place as "+same[0]+".", guess("1"+same[0], same[1], 100))
		}
		c.passes(t, 1, "another /64 is another place.", guesses("12001:db8::1", "2001:db8:0:1::1"))
	}},

	{"one account from all strangers: 3 N in 4 W", func(t *testing.T, c *throttled) {
		duty := "3 N attempts in 4 W pass for an account from all places together that are not known to it."
		c.passes(t, 3*throttleLimit, duty, func(i int) oauth2pw.Attempt { return guess("1", stranger(i), i) })
		wait := c.blocked(t, duty, guess("1", stranger(1000), 1000))
		checkWait(t, wait, 4*throttleWindow)
		c.blocked(t, "without an address the limit of the account counts, too.", guess("1", "", 1001))
		c.passes(t, 3*throttleLimit, "attempts without an address share no counter but that of the account.", guesses("2", ""))
		c.blocked(t, duty, guess("2", "", 100))
		c.passes(t, 1, duty, guesses("3", ""))
	}},

	{"one address over all accounts: 10 N in W, and a /48: 100 N", func(t *testing.T, c *throttled) {
		duty := "10 N attempts in W pass for a place over all accounts that do not know it."
		c.passes(t, 10*throttleLimit, duty, func(i int) oauth2pw.Attempt { return guess(fmt.Sprint(i), awayAddress, i) })
		c.blocked(t, duty, guess("x", awayAddress, 1))
		duty = "100 N attempts in W pass for a /48 of IPv6."
		c.passes(t, 100*throttleLimit, duty, func(i int) oauth2pw.Attempt {
			return guess(fmt.Sprint("u", i), fmt.Sprintf("2001:db8:0:%x::1", i/throttleLimit), i)
		})
		c.blocked(t, duty, guess("x", "2001:db8:0:ffff::1", 1))
		c.passes(t, 1, duty, guesses("x", "2001:db8:1::1"))
	}},

	{"Succeed uncounts the attempt, and the failures of the account at this address", func(t *testing.T, c *throttled) {
		for i := range 5 * throttleLimit { // each time at another place
			c.login(t, guess("1", stranger(i), 1000+i))
		}
		for round := range 3 {
			c.passes(t, throttleLimit-1, "Succeed clears what was counted for the account at the address.", func(i int) oauth2pw.Attempt { return guess("2", awayAddress, 100*round+i) })
			c.login(t, guess("2", awayAddress, 1000))
		}
		c.passes(t, throttleLimit, ownLimit, guesses("3", awayAddress))
		c.login(t, guess("2", awayAddress, 101))
		c.blocked(t, "the success of another account clears nothing.", guess("3", awayAddress, 102))
		c.passes(t, throttleLimit, ownLimit, guesses("2", homeAddress))
		c.login(t, guess("2", awayAddress, 103))
		c.blocked(t, "a success at another address clears nothing here.", guess("2", homeAddress, 104))
	}},

	{"what strangers do keeps no user out at a known address", func(t *testing.T, c *throttled) {
		c.login(t, guess("1", homeAddress, 0))
		for i := range 3 * throttleLimit {
			c.begin(t, guess("1", stranger(i), 1+i))
		}
		c.blocked(t, "3 N in 4 W for the account from other places.", guess("1", stranger(1000), 100))
		for i := range 10 * throttleLimit {
			c.begin(t, guess(fmt.Sprint("other", i), homeAddress, i))
		}
		c.blocked(t, "10 N in W for the place over all accounts that do not know it.", guess("x", homeAddress, 1))
		c.passes(t, throttleLimit, "attempts from a known address have counters of their own.", func(i int) oauth2pw.Attempt { return guess("1", homeAddress, 200+i) })
		c.blocked(t, "N in W for the account at a known place.", guess("1", homeAddress, 300))
	}},

	{"an address is known for 30 days, 8 per account, and never a shared one", func(t *testing.T, c *throttled) {
		known := func(user, address string) bool { // the limit of the account for strangers is reached
			return c.begin(t, guess(user, address, 10_000)) == 0
		}
		attack := func(user string) {
			for i := range 3 * throttleLimit {
				c.begin(t, guess(user, stranger(100+i), i))
			}
		}
		for i := range 9 {
			c.login(t, guess("1", stranger(i), 1000))
			c.pass(time.Second)
		}
		c.login(t, with(guess("2", homeAddress, 0), func(a *oauth2pw.Attempt) { a.Shared = true }))
		attack("1")
		attack("2")
		if known("1", stranger(0)) || !known("1", stranger(1)) || !known("1", stranger(8)) {
			t.Error("Of nine addresses with a success the latest eight must be known to the account.")
		}
		if known("2", homeAddress) {
			t.Error("A Shared address has become known to an account: its header proves nothing.")
		}
		c.pass(30*24*time.Hour - time.Hour)
		attack("1")
		if !known("1", stranger(8)) {
			t.Error("An address must be known for 30 days.")
		}
		c.pass(2 * time.Hour)
		attack("1")
		if known("1", stranger(8)) {
			t.Error("An address must be known for 30 days only.")
		}
	}},

	{"a known address: 100 N in W, and then one of each account", func(t *testing.T, c *throttled) {
		users := 100
		for i := range users + 1 {
			c.login(t, guess(fmt.Sprint(i), homeAddress, 1000))
		}
		duty := "100 N attempts in W pass for a place over all accounts that know it."
		for i := range users {
			c.passes(t, throttleLimit, duty, guesses(fmt.Sprint(i), homeAddress))
		}
		for i := range throttleLimit { // the limit of each account is reached before
			c.blocked(t, duty, guess(fmt.Sprint(i), homeAddress, 100))
		}
		last := guess(fmt.Sprint(users), homeAddress, 0)
		c.passes(t, 1, "attempts of others never block the first attempt of an account at its known place.", func(int) oauth2pw.Attempt { return last })
		c.blocked(t, duty, with(last, func(a *oauth2pw.Attempt) { a.Tag++ }))
	}},

	{"the same wrong secret is one guess, up to 3 N repeats", func(t *testing.T, c *throttled) {
		c.passes(t, 1+3*throttleLimit, "a repeat of a wrong secret is not counted for the account.", func(int) oauth2pw.Attempt { return guess("1", awayAddress, 0) })
		c.passes(t, throttleLimit-1, "a repeat of a wrong secret is not counted for the account.", func(i int) oauth2pw.Attempt { return guess("1", awayAddress, 1+i) })
		c.blocked(t, "3 N repeats are not counted, for all secrets of an account at a place together.", guess("1", awayAddress, 0))
		without := func(int) oauth2pw.Attempt {
			return with(guess("2", stranger(1), 0), func(a *oauth2pw.Attempt) { a.HasTag, a.Tag = false, 0 })
		}
		c.passes(t, throttleLimit, ownLimit, without)
		c.blocked(t, "an attempt without a Tag is never a repeat.", without(0))
		// Each repeat is counted for the place.
		for i := range 3 {
			c.passes(t, 1+3*throttleLimit, ownLimit, func(int) oauth2pw.Attempt { return guess(fmt.Sprint("u", i), homeAddress, 0) })
		}
		c.blocked(t, "a repeat is counted for its place: 10 N in W.", guess("u9", homeAddress, 0))
		// A window begins with the first use.
		c.pass(throttleWindow + time.Millisecond)
		c.passes(t, throttleLimit, "the same secret is a repeat within W.", func(i int) oauth2pw.Attempt { return guess("1", awayAddress, i) })
		c.blocked(t, "after W the same secret is a guess again.", guess("1", awayAddress, 100))
	}},

	{"the last right secret is counted for its place alone", func(t *testing.T, c *throttled) {
		right := guess("1", awayAddress, 7)
		c.login(t, right)
		c.passes(t, 5*throttleLimit, "the last right secret of an account at a place is no guess, for W.", func(int) oauth2pw.Attempt { return right })
		c.passes(t, throttleLimit, ownLimit, guesses("1", awayAddress))
		c.blocked(t, ownLimit, guess("1", awayAddress, 100))
	}},

	{"Cancel uncounts, and frees nothing else", func(t *testing.T, c *throttled) {
		for i := range 5 * throttleLimit {
			for range 2 { // the second is a repeat
				c.passes(t, 1, "a cancelled attempt is not counted.", func(int) oauth2pw.Attempt { return guess("1", awayAddress, i) })
			}
			c.cancel(t, guess("1", awayAddress, i))
			c.cancel(t, guess("1", awayAddress, i))
		}
		c.passes(t, 2, "a cancelled attempt is not counted.", func(int) oauth2pw.Attempt { return guess("1", awayAddress, 200) })
		c.cancel(t, guess("1", awayAddress, 200))
		c.passes(t, throttleLimit-1, "a cancelled attempt is not counted.", func(i int) oauth2pw.Attempt { return guess("1", awayAddress, 100+i) })
		c.blocked(t, "a guess stays counted while one of its uses has failed.", guess("1", awayAddress, 300))
		for i := range 4 * throttleLimit {
			c.begin(t, guess("2", stranger(i), i))
			c.cancel(t, guess("2", stranger(i), i))
		}
		c.passes(t, 1, "a cancelled attempt is not counted for the account, from any place.", guesses("2", stranger(1000)))
	}},

	{"an attempt is settled where it was counted", func(t *testing.T, c *throttled) {
		// Begun from an unknown place, which becomes known before the attempt is settled.
		for i := range 5 * throttleLimit {
			user := fmt.Sprint(i % 2)
			first, second := guess(user, stranger(i), 2*i), guess(user, stranger(i), 2*i+1)
			if c.begin(t, first) != 0 || c.begin(t, second) != 0 {
				t.Fatal("Two right logins at once are blocked: what is right is left counted.")
			}
			c.succeed(t, first)
			c.succeed(t, second)
		}
		for i := range 3 * throttleLimit {
			c.passes(t, 1, "what Begin has counted for the account must be uncounted there, also if the place has become known since.", func(int) oauth2pw.Attempt { return guess("1", stranger(1000+i), i) })
		}
	}},

	{"Forget uncounts an account, and the account at the address", func(t *testing.T, c *throttled) {
		for i := range 3 * throttleLimit {
			c.begin(t, guess("1", stranger(i), i))
			c.begin(t, guess("2", stranger(i), i))
		}
		c.passes(t, throttleLimit, ownLimit, guesses("3", awayAddress))
		c.forget(t, guess("1", "", 0))
		c.forget(t, guess("3", awayAddress, 0))
		c.passes(t, 1, "Forget uncounts everything of the account.", guesses("1", stranger(1000)))
		c.passes(t, throttleLimit, "Forget uncounts the account at the address.", guesses("3", awayAddress))
		c.blocked(t, "Forget uncounts nothing of another account.", guess("2", stranger(1000), 1))
		c.forget(t, guess("nobody", awayAddress, 0))
	}},

	{"grants are counted for the address alone", func(t *testing.T, c *throttled) {
		grant := func(address string) oauth2pw.Attempt {
			return oauth2pw.Attempt{Kind: oauth2pw.AttemptGrant, Realm: "api", Address: netip.MustParseAddr(address)}
		}
		for range 20 * throttleLimit {
			c.passes(t, 1, "a grant that succeeds, or is cancelled, is not counted.", func(int) oauth2pw.Attempt { return grant(awayAddress) })
			c.cancel(t, grant(awayAddress))
			c.passes(t, 1, "a grant that succeeds, or is cancelled, is not counted.", func(int) oauth2pw.Attempt { return grant(awayAddress) })
			c.succeed(t, with(grant(awayAddress), func(a *oauth2pw.Attempt) { a.UserID = "1" }))
		}
		c.passes(t, 10*throttleLimit, "10 N grants in W pass for a place.", func(int) oauth2pw.Attempt { return grant(awayAddress) })
		c.blocked(t, "10 N grants in W pass for a place.", grant(awayAddress))
		for i := range 3 * throttleLimit {
			c.begin(t, guess("1", stranger(i), i))
		}
		c.passes(t, 1, "a grant that succeeds makes its address known to the user.", guesses("1", awayAddress))
	}},

	{"a right secret of a client counts nothing", func(t *testing.T, c *throttled) {
		client := func(i int, right bool) oauth2pw.Attempt {
			return with(guess("", awayAddress, i), func(a *oauth2pw.Attempt) {
				a.Kind, a.ClientID, a.Right = oauth2pw.AttemptClient, "backend", right
			})
		}
		c.passes(t, 20*throttleLimit, "an attempt that is Right counts nothing.", func(i int) oauth2pw.Attempt { return client(i, true) })
		for range 3 {
			c.passes(t, throttleLimit-1, "an attempt that is Right and passes clears the client at the place.", func(i int) oauth2pw.Attempt { return client(i, false) })
			c.passes(t, 1, "N in W for a client at a place.", func(int) oauth2pw.Attempt { return client(50, true) })
		}
		c.passes(t, throttleLimit, "N in W for a client at a place.", func(i int) oauth2pw.Attempt { return client(i, false) })
		c.blocked(t, "while a client at a place is blocked, a right secret is blocked, too.", client(100, true))
		c.blocked(t, "N in W for a client at a place.", client(100, false))
		c.passes(t, 1, "a client is never blocked at another place.", func(int) oauth2pw.Attempt {
			return with(client(1, true), func(a *oauth2pw.Attempt) { a.Address = netip.MustParseAddr(homeAddress) })
		})
		c.passes(t, 3*throttleLimit, "without an address nothing is counted for a client.", func(i int) oauth2pw.Attempt {
			return with(client(i, false), func(a *oauth2pw.Attempt) { a.Address = netip.Addr{} })
		})
	}},

	{"a clock that is set blocks nobody for longer than a window", func(t *testing.T, c *throttled) {
		c.passes(t, throttleLimit, ownLimit, guesses("1", awayAddress))
		c.pass(-365 * 24 * time.Hour)
		c.blocked(t, "a clock that is set back frees nothing at once.", guess("1", awayAddress, 100))
		c.pass(throttleWindow + time.Second)
		c.passes(t, throttleLimit, "after W an account is free again, whatever the clock did.", guesses("1", awayAddress))
	}},

	{"with an ended context Begin counts or fails", func(t *testing.T, c *throttled) {
		for i := range throttleLimit {
			if wait, err := c.Begin(ended(), guess("1", awayAddress, i)); wait == 0 && err == nil {
				continue
			}
			c.passes(t, 1, ownLimit, func(int) oauth2pw.Attempt { return guess("1", awayAddress, i) })
		}
		c.blocked(t, "Begin with an ended context returned no error, and has not counted.", guess("1", awayAddress, 100))
	}},

	{"random attempts are decided as by the plainest throttle", func(t *testing.T, c *throttled) {
		for seed := range uint64(4) {
			randomAttempts(t, c, seed, 3000)
		}
	}},
}

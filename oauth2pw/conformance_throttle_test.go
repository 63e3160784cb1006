package oauth2pw_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformanceThrottle: attempts count for an account, with the default numbers.
func TestConformanceThrottle(t *testing.T) {
	t.Run("123_too many failures, right and wrong told apart by nothing", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			a.clock.Advance(time.Second)
		}
		a.hasher.take()
		a.takeEvents()
		got, gotWrong := a.serve(post(right("johndoe"), from(home))), a.serve(post(wrong("johndoe", 11), from(home)))
		require.Equal(t, 15*time.Minute-10*time.Second, got.isThrottled(t))
		require.Equal(t, got.body, gotWrong.body)
		require.Equal(t, got.Header, gotWrong.Header)
		require.Zero(t, a.hasher.take(), "no hash is computed")
		events := a.takeEvents()
		require.Len(t, events, 2)
		for _, e := range events {
			require.Equal(t, oauth2pw.EventThrottled, e.Kind)
			require.Equal(t, oauth2pw.EventReason("password"), e.Reason)
			require.Equal(t, netip.MustParseAddr(home), e.Address)
			require.Equal(t, "u1", e.UserID)
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(away))).StatusCode, "another address")
		require.Equal(t, 400, a.serve(post(wrong("alice", 0), from(home))).StatusCode, "another account")
	})
	t.Run("124_unknown and disabled users count the same", func(t *testing.T) {
		a := newApp(t)
		for _, name := range []string{"johndoe", "nobody", "alice", "broken", "nopassword"} {
			for i := range 10 {
				a.serve(post(wrong(name, i), from(home))).isError(t, 400, "invalid_grant")
			}
			a.serve(post(wrong(name, 10), from(home))).isThrottled(t)
		}
	})
	t.Run("124_a form that is no password request does not count", func(t *testing.T) {
		a := newApp(t)
		for i := range 300 { // three times the limit of the address
			a.serve(post(strings.ToUpper(wrong("johndoe", i)), from(home))).isError(t, 400, "invalid_request")
			a.serve(post(wrong("johndoe", i)+"&scope=%22", from(home))).isError(t, 400, "invalid_scope")
		}
		require.Zero(t, a.hasher.take())
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("124_whatever the length of the password", func(t *testing.T) {
		for _, name := range []string{"johndoe", "nobody"} {
			a := newApp(t)
			for range 10 {
				a.serve(post(wrong(name, 0)+strings.Repeat("x", 1025), from(home))).isError(t, 400, "invalid_grant")
				a.clock.Advance(15 * time.Minute)
			}
			a = newApp(t)
			for i := range 10 {
				a.serve(post(wrong(name, i), from(home))).isError(t, 400, "invalid_grant")
			}
			a.serve(post(wrong(name, 0)+strings.Repeat("x", 1025), from(home))).isThrottled(t)
		}
	})
	t.Run("126_the same wrong password", func(t *testing.T) {
		a := newApp(t)
		left := func() (n int) { // how many more may fail
			for n = range 20 {
				if a.serve(post(wrong("johndoe", 1000+n), from(home))).StatusCode == 429 {
					break
				}
			}
			a.clock.Advance(time.Hour)
			return n
		}
		repeat := func(times int) {
			for range times {
				a.serve(post(wrong("johndoe", 0), from(home))).isError(t, 400, "invalid_grant")
			}
		}
		repeat(2)
		require.Equal(t, 9, left(), "twice counts once")
		repeat(31)
		require.Equal(t, 9, left(), "and 30 repeats")
		repeat(32)
		require.Equal(t, 8, left(), "one more counts")
		for i := range 5 { // of all secrets together
			for range 7 {
				a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			}
		}
		require.Equal(t, 5, left())
		for i := range 3 {
			for range 12 {
				a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			}
		}
		require.Equal(t, 4, left(), "33 repeats are three too many")
		repeat(1)
		a.clock.Advance(15*time.Minute - 1)
		repeat(1)
		a.clock.Advance(1)
		repeat(1)
		require.Equal(t, 9, left(), "once in a window")
		repeat(1)
		a.hasher.take()
		repeat(1)
		require.Equal(t, 1, a.hasher.take(), "it is hashed like any other")
		a.serve(post(wrong("johndoe", 0), from(away))).isError(t, 400, "invalid_grant")
		require.Equal(t, 9, left(), "another address is another pair")

		// Each repeat counts for the address.
		a = newApp(t)
		for i := range 4 {
			for range 25 {
				a.serve(post(wrong(fmt.Sprint("user", i), 0), from(home))).isError(t, 400, "invalid_grant")
			}
		}
		a.serve(post(wrong("another", 0), from(home))).isThrottled(t)
	})
}

// TestConformanceThrottleWait: how long an account is blocked.
func TestConformanceThrottleWait(t *testing.T) {
	t.Run("132_Retry-After is true", func(t *testing.T) {
		for _, limits := range []struct {
			n      int
			window time.Duration
		}{{}, {3, 2 * time.Second}} {
			a := newApp(t, func(c *oauth2pw.Config) { c.ThrottleLimit, c.ThrottleWindow = limits.n, limits.window })
			for i := range withDefault(limits.n, 10) {
				a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
				a.clock.Advance(100 * time.Millisecond)
			}
			wait := a.serve(post(right("johndoe"), from(home))).isThrottled(t)
			a.clock.Advance(wait - 2*time.Second)
			a.serve(post(right("johndoe"), from(home))).isThrottled(t)
			a.clock.Advance(2 * time.Second)
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		}
	})
	t.Run("132_at t-1, t and t+1", func(t *testing.T) {
		for offset, status := range map[time.Duration]int{-1: 429, 0: 200, 1: 200} {
			a := newApp(t)
			for i := range 10 {
				a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			}
			a.clock.Advance(15*time.Minute + offset)
			require.Equal(t, status, a.serve(post(right("johndoe"), from(home))).StatusCode, offset)
		}
	})
}

// TestConformanceThrottleAddresses: attempts count for an address, which no client can choose.
func TestConformanceThrottleAddresses(t *testing.T) {
	t.Run("124_one address", func(t *testing.T) {
		a := newApp(t)
		for i := range 100 {
			a.serve(post(wrong(fmt.Sprint("user", i), 0), from(home))).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 15*time.Minute, a.serve(post(right("johndoe"), from(home))).isThrottled(t), "to whom it is not known")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(away))).StatusCode)
	})
	t.Run("127_IPv6 by /64 and /48", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(fmt.Sprintf("2001:db8:1:1::%x", i)))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from("2001:db8:1:1:ffff::"))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from("2001:db8:1:2::"))).StatusCode)
		for i := range 990 {
			a.serve(post(wrong(fmt.Sprint("user", i), i), from(fmt.Sprintf("2001:db8:1:%x::", i+16)))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from("2001:db8:1:ffff::"))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from("2001:db8:2::"))).StatusCode)
		for i := range 100 {
			a.serve(post(wrong(fmt.Sprint("one", i), i), from("2001:db8:9::1"))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from("2001:db8:9::2"))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from("2001:db8:9:1::"))).StatusCode, "another /64")
		// An IPv4 in an IPv6 is the IPv4.
		for i := range 10 {
			a.serve(post(wrong("old", i), from([]string{"::ffff:198.51.100.1", "198.51.100.1"}[i%2]))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(wrong("old", 10), from("198.51.100.1"))).isThrottled(t)
	})
	t.Run("127_a spoofed header buys nothing", func(t *testing.T) {
		for _, trusted := range []string{"", "10.0.0.0/8"} {
			a := newApp(t, func(c *oauth2pw.Config) {
				if trusted != "" {
					c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
				}
			})
			header := func(i int) string {
				if trusted == "" {
					return fmt.Sprintf("X-Forwarded-For: 198.51.100.%d", i)
				}
				return fmt.Sprintf("X-Forwarded-For: 198.51.100.%d, %s", i, home) // the proxy wrote the last
			}
			peer := home
			if trusted != "" {
				peer = "10.1.2.3"
			}
			for i := range 10 {
				a.serve(post(wrong("johndoe", i), from(peer), with(header(i)))).isError(t, 400, "invalid_grant")
			}
			a.serve(post(right("johndoe"), from(peer), with(header(99)))).isThrottled(t)
			require.Equal(t, trusted != "", a.serve(post(right("johndoe"), from(peer), with("X-Forwarded-For: "+away))).StatusCode == 200)
		}
	})
}

// TestConformanceThrottleKnownAddresses: strangers do not keep users out of the addresses that
// know them.
func TestConformanceThrottleKnownAddresses(t *testing.T) {
	t.Run("125_strangers do not lock a user out", func(t *testing.T) {
		a := newApp(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		for i := range 30 {
			a.serve(post(wrong("johndoe", i), from(fmt.Sprintf("203.0.113.%d", i)))).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, time.Hour, a.serve(post(right("johndoe"), from(away+"9"))).isThrottled(t), "a stranger")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, "the user")
		for i := range 10 { // and at home the limit of the address holds
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.clock.Advance(time.Hour) // it ends by itself
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(away+"9"))).StatusCode)
	})
	t.Run("125_for 30 days, and 8 addresses", func(t *testing.T) {
		for days, status := range map[time.Duration]int{30*24*time.Hour - 1: 200, 30 * 24 * time.Hour: 429} {
			a := newApp(t)
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
			a.clock.Advance(days)
			a.attackAccount("johndoe")
			require.Equal(t, status, a.serve(post(right("johndoe"), from(home))).StatusCode)
		}
		a := newApp(t)
		for i := range 9 {
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(fmt.Sprintf("192.0.2.%d", i)))).StatusCode)
			a.clock.Advance(time.Second)
		}
		for _, last := range []string{"192.0.2.1", "192.0.2.200"} { // 1 is the last one again
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(last))).StatusCode)
		}
		a.attackAccount("johndoe")
		for i, status := range map[int]int{0: 429, 1: 200, 2: 429, 3: 200, 8: 200, 200: 200} {
			require.Equal(t, status, a.serve(post(right("johndoe"), from(fmt.Sprintf("192.0.2.%d", i)))).StatusCode, i)
		}
	})
	t.Run("125_an office of 200", func(t *testing.T) {
		a := newApp(t)
		users := a.addUsers("x", 200)
		for _, name := range users {
			require.Equal(t, 200, a.serve(post(right(name), from(home))).StatusCode)
		}
		for _, name := range users {
			a.attackAccount(name)
			a.clock.Advance(time.Minute)
			require.Equal(t, 200, a.serve(post(right(name), from(home))).StatusCode)
		}
	})
}

// TestConformanceThrottleSuccess: a login clears counts, and does not count.
func TestConformanceThrottleSuccess(t *testing.T) {
	t.Run("128_success clears the pair, and nothing else", func(t *testing.T) {
		a := newApp(t)
		for i := range 9 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		for range 3 {
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
			for i := range 9 {
				a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			}
		}
		for i := range 91 { // 9 still count for the address; those from the known address do not
			a.serve(post(wrong(fmt.Sprint("user", i), 0), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(wrong("other", 0), from(home))).isThrottled(t)

		a = newApp(t) // attempts of strangers stay counted for the account
		for i := range 30 {
			a.serve(post(wrong("johndoe", i), from(fmt.Sprintf("203.0.113.%d", i/10)))).isError(t, 400, "invalid_grant")
			if i == 8 {
				require.Equal(t, 200, a.serve(post(right("johndoe"), from("203.0.113.0"))).StatusCode)
			}
			if i == 9 {
				a.clock.Advance(15 * time.Minute)
			}
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from("203.0.113.0"))).StatusCode)
	})
	t.Run("what is right does not count", func(t *testing.T) {
		a := newApp(t)
		for range 300 {
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		}
		for range 300 { // a right password that is refused for its scope
			a.serve(post(right("johndoe")+"&scope=admin", from(home))).isError(t, 400, "invalid_scope")
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		for i := range 300 { // each from an address of its own
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(fmt.Sprintf("198.51.%d.%d", i/250, i%250)))).StatusCode)
		}
	})
	t.Run("many right ones at once", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		forms := make([]string, 200)
		for i := range forms {
			forms[i] = right("johndoe")
		}
		answers, hashed := a.atOnce(s, forms)
		require.Equal(t, 200, hashed, "all at once")
		require.Equal(t, map[int]int{200: 200}, statuses(answers))
		for i := range 10 { // wrong ones count
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
}

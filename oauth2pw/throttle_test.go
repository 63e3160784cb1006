package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

func wrong(name string, i int) string {
	return fmt.Sprintf("grant_type=password&username=%s&password=wrong%d", name, i)
}

func right(name string) string {
	return "grant_type=password&username=" + name + "&password=secret"
}

// isThrottled requires a 429 and returns its Retry-After.
func (a answer) isThrottled(t *testing.T) time.Duration {
	t.Helper()
	a.isError(t, 429, "slow_down")
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	return time.Duration(seconds) * time.Second
}

const home, away = "192.0.2.1", "203.0.113.9"

// TestConformanceThrottle: the built-in throttle with its default numbers.
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
		for _, e := range a.takeEvents() {
			require.Equal(t, oauth2pw.EventThrottled, e.Kind)
			require.Equal(t, oauth2pw.EventReason("password"), e.Reason)
			require.Equal(t, netip.MustParseAddr(home), e.Address)
			require.Equal(t, "u1", e.UserID)
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(away))).StatusCode, "another address")
		require.Equal(t, 400, a.serve(post(wrong("alice", 0), from(home))).StatusCode, "another account")
	})
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
		for i := range 300 { // thrice what the address may get wrong
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
		for i := range 91 { // 9 count for the address still, and what came from home does not
			a.serve(post(wrong(fmt.Sprint("user", i), 0), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(wrong("other", 0), from(home))).isThrottled(t)

		a = newApp(t) // what strangers have used up of the account stays
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
		for i := range 10 { // what is wrong counts as ever
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
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
	t.Run("a proxy that nobody configured", func(t *testing.T) {
		for _, header := range []string{"X-Forwarded-For: ", "X-Real-IP: ", "Forwarded: for="} {
			a := newApp(t)
			proxy := "192.0.2.250" // all clients seem to be it
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
			events := a.takeEvents()
			require.Equal(t, oauth2pw.EventUnknownProxy, events[0].Kind)
			require.Equal(t, netip.MustParseAddr(proxy), events[0].Address)
			a.attackAccount("johndoe")
			a.serve(post(right("johndoe"), from(proxy), with(header+"203.0.113.66"))).isThrottled(t) // an attacker has no known address
			for _, e := range a.takeEvents() {
				require.NotEqual(t, oauth2pw.EventUnknownProxy, e.Kind, "once")
			}
			a.clock.Advance(time.Hour)
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
			require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind, "and again after an hour")
			a.clock.Advance(-24 * time.Hour)
			require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
			require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind, "a clock that is set back silences nothing")
		}
		// A hop that cannot be read: who is behind it nobody knows.
		g := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		require.Equal(t, 200, g.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: unknown"))).StatusCode)
		unreadable := g.event()
		require.Equal(t, oauth2pw.EventProxyHeader, unreadable.Kind, "the proxy is known")
		require.Equal(t, oauth2pw.ReasonUnreadableHop, unreadable.Reason)
		g.attackAccount("johndoe")
		g.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: unknown"))).isThrottled(t)
		// A proxy in front of the trusted one.
		a := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		require.Equal(t, 200, a.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1, 192.0.2.250"))).StatusCode)
		require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind)
		a.attackAccount("johndoe")
		a.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 203.0.113.66, 192.0.2.250"))).isThrottled(t)
		// A trusted proxy that names its clients in another header.
		b := newApp(t, func(c *oauth2pw.Config) {
			c.TrustedProxies, c.ProxyHeader = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "X-Real-IP"
		})
		require.Equal(t, 200, b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1"))).StatusCode)
		e := b.event()
		require.Equal(t, oauth2pw.EventProxyHeader, e.Kind)
		require.Equal(t, oauth2pw.ReasonOtherHeader, e.Reason)
		require.ErrorContains(t, e.Err, "Config.ProxyHeader")
		b.attackAccount("johndoe")
		b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1"))).isThrottled(t)
		b.clock.Advance(2 * time.Hour)
		b.takeEvents()
		require.Equal(t, 200, b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1", "X-Real-IP: 198.51.100.1"))).StatusCode)
		require.Equal(t, oauth2pw.EventLogin, b.event().Kind, "both are fine")
	})
	t.Run("off", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.InsecureNoThrottle = true })
		for i := range 200 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
}

// addUsers adds users whose password is "secret", and returns their names.
func (a *app) addUsers(prefix string, n int) []string {
	a.Helper()
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprint(prefix, i)
		require.NoError(a, a.users.Add(oauth2pw.User{ID: "id-" + names[i], Username: names[i], PasswordHash: "new:secret"}))
	}
	return names
}

// attackAccount fails at an account from many addresses until strangers are blocked.
func (a *app) attackAccount(name string) {
	a.Helper()
	for i := range 30 {
		a.serve(post(wrong(name, i), from(fmt.Sprintf("203.0.113.%d", i)))).isError(a.T, 400, "invalid_grant")
	}
	a.serve(post(wrong(name, 31), from("203.0.113.31"))).isThrottled(a.T)
}

// TestThrottleClients: client secrets, per client and address.
//
// Conformance 42, 92.
func TestThrottleClients(t *testing.T) {
	backend := func(secret string) string { return "&client_id=backend&client_secret=" + secret }
	for target, form := range map[string]string{
		"/token": login, "/introspect": "token=x", "/revoke": "token=x",
	} {
		a := newApp(t)
		for i := range 10 {
			a.serve(post(form+backend(fmt.Sprint("wrong", i)), to(target), from(home))).isError(t, map[bool]int{true: 401, false: 400}[target == "/introspect"], "invalid_client")
		}
		got, gotWrong := a.serve(post(form+backend("backend-secret"), to(target), from(home))), a.serve(post(form+backend("wrong"), to(target), from(home)))
		got.isThrottled(t)
		require.Equal(t, got.body, gotWrong.body)
		require.Equal(t, got.Header, gotWrong.Header)
		require.Zero(t, a.hasher.take())
		require.Equal(t, 200, a.serve(post(form+backend("backend-secret"), to(target), from(away))).StatusCode, "never per client alone")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, "nor for passwords")
		a.serve(post(form, to(target), from(home), with(basic("backend", "backend-secret")))).isThrottled(t)
		a.serve(post(form, to(target), from(home), with(basic("b%61ckend", "wrong")))).isThrottled(t) // another spelling of the id
		a.clock.Advance(15 * time.Minute)
		require.Equal(t, 200, a.serve(post(form+backend("backend-secret"), to(target), from(home))).StatusCode)
	}

	c := newApp(t)
	for i := range 10 { // the client "a+b", in both spellings of its id
		id := []string{"a+b", "a%2Bb"}[i%2]
		c.serve(post(login, from(home), with(basic(id, fmt.Sprint("wrong", i))))).isError(t, 401, "invalid_client")
	}
	c.serve(post(login, from(home), with(basic("a+b", "wrong")))).isThrottled(t)
	c.serve(post(login, from(home), with(basic("a%2Bb", "wrong")))).isThrottled(t)

	a := newApp(t)
	for i := range 300 { // clients that do not exist count for themselves alone
		a.serve(post(login+fmt.Sprintf("&client_id=c%d&client_secret=x", i), from(home))).isError(t, 400, "invalid_client")
	}
	for i := range 9 {
		a.serve(post(login+fmt.Sprint("&client_id=c1&client_secret=", i), from(home))).isError(t, 400, "invalid_client")
	}
	a.serve(post(login+"&client_id=c1&client_secret=10", from(home))).isThrottled(t)
	require.Equal(t, 200, a.serve(post(login+backend("backend-secret"), from(home))).StatusCode)
	require.Equal(t, 200, a.serve(post(login+"&client_id=webapp", from(home))).StatusCode, "a public client guesses nothing")
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)

	// A busy client, and its calls in parallel: none of them waits or counts.
	b := newApp(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				got := b.serve(post("token=x", to("/introspect"), from(home), with(basic("backend", "backend-secret"))))
				assert.Equal(t, `{"active":false}`, got.body)
			}
		})
	}
	wg.Wait()
	for i := range 9 { // success clears (client, address)
		b.serve(post(login+backend(fmt.Sprint("wrong", i)), from(home))).isError(t, 400, "invalid_client")
		b.serve(post(login+backend(fmt.Sprint("wrong", i)), from(home))).isError(t, 400, "invalid_client") // the same once more is free
	}
	require.Equal(t, 200, b.serve(post(login+backend("backend-secret"), from(home))).StatusCode)
	for i := range 10 {
		b.serve(post(login+backend(fmt.Sprint("wrong again", i)), from(home))).isError(t, 400, "invalid_client")
	}
	b.serve(post(login+backend("wrong"), from(home))).isThrottled(t)
	for i := range 40 { // and strangers block no client elsewhere
		b.serve(post(login+backend("wrong"), from(fmt.Sprintf("203.0.113.%d", i)))).isError(t, 400, "invalid_client")
	}
	require.Equal(t, 200, b.serve(post(login+backend("backend-secret"), from(away))).StatusCode)
}

// TestConformance149: bogus refresh tokens, of every kind, block no right
// one, nor a password.
func TestConformance149(t *testing.T) {
	a := newSessionApp(t)
	good := a.granted(a.serve(post(right("johndoe"), from(home)))).refresh
	bogus := []string{"x", "rt1.garbage", good[:30] + swap(good[30]) + good[31:], good[:10] + swap(good[10]) + good[11:], good[:len(good)-5] + "AAAAA"}
	for i := range 1000 {
		a.serve(post("grant_type=refresh_token&refresh_token="+bogus[i%len(bogus)], from(home))).isError(t, 400, "invalid_grant")
	}
	got := a.serve(post("grant_type=refresh_token&refresh_token="+good, from(home)))
	require.Equal(t, 200, got.StatusCode, got.body)
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
}

func swap(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// TestThrottleChangePassword: the old password is guessed at as at a login, and a caller
// without an address shares nothing with others.
func TestThrottleChangePassword(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
	change := func(token, address, old string) answer {
		return a.serve(post(changeForm(old, "a new password"), to("/password"), from(address), with(bearer(token))))
	}
	john := a.login().access
	for i := range 5 {
		change(john, home, fmt.Sprint("wrong", i)).isError(t, 403, "invalid_grant")
		a.serve(post(wrong("johndoe", 10+i), from(home))).isError(t, 400, "invalid_grant")
	}
	a.hasher.take()
	require.Equal(t, 15*time.Minute, change(john, home, "secret").isThrottled(t))
	require.Zero(t, a.hasher.take())
	a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	require.Equal(t, 200, change(john, away, "secret").StatusCode)
	gone := a.tokenFor("nobody") // a user who is gone
	for i := range 10 {
		change(gone, home, fmt.Sprint("wrong", i)).isError(t, 403, "invalid_grant")
	}
	change(gone, home, "x").isThrottled(t)
	require.NoError(t, a.users.Update("u3", func(u *oauth2pw.User) { u.Username = "renamed" }))
	old := a.tokenFor("u3")
	for i := range 5 { // whatever the name is by now
		change(old, "198.51.100.7", fmt.Sprint("wrong", i)).isError(t, 403, "invalid_grant")
		a.serve(post(wrong("renamed", 10+i), from("198.51.100.7"))).isError(t, 400, "invalid_grant")
	}
	a.serve(post(wrong("renamed", 99), from("198.51.100.7"))).isThrottled(t)
}

// grantApp has a grant "otp": the account is in the parameter whose, and counts where
// counted is set; the code right-code is right.
func grantApp(t *testing.T, edits ...func(*oauth2pw.Config)) *app {
	return newApp(t, append(edits, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				if r.Param("counted") != "" {
					if err := r.Guess(ctx, r.Param("whose")); err != nil && r.Param("stubborn") == "" {
						return nil, err
					}
				}
				switch r.Param("otp") {
				case "down":
					return nil, errors.New("down")
				case "more":
					return nil, &oauth2pw.Error{Code: "mfa_required", Description: "Send the code too."}
				case "wrong":
					return nil, &oauth2pw.Error{Code: "invalid_grant", Description: "The code is wrong."}
				case "panic":
					panic("otp")
				case "right-code":
					return &oauth2pw.User{ID: r.Param("who")}, nil
				}
				return nil, oauth2pw.ErrNotFound
			},
		}
	})...)
}

// TestThrottleGrants: a grant of the app's own counts for the address, and for a user
// where it says so; only invalid_grant is a wrong guess.
func TestThrottleGrants(t *testing.T) {
	const otp = "grant_type=otp&username=johndoe&who=u1&otp="
	t.Run("for the address", func(t *testing.T) {
		a := grantApp(t)
		for range 150 {
			require.Equal(t, 200, a.serve(post(otp+"right-code", from(home))).StatusCode)
			a.serve(post(otp+"down", from(home))).isError(t, 503, "temporarily_unavailable")
			a.serve(post(otp+"more", from(home))).isError(t, 400, "mfa_required")
			a.serve(post(otp+"right-code&scope=admin", from(home))).isError(t, 400, "invalid_scope")
		}
		for i := range 100 {
			a.serve(post(otp+[]string{"x", "wrong"}[i%2], from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(otp+"right-code", from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(otp+"right-code", from(away))).StatusCode)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, "passwords count apart")
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
	t.Run("144_a parameter says nothing", func(t *testing.T) {
		a := grantApp(t)
		for i := range 9 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.serve(post("grant_type=otp&otp=right-code&username=johndoe&who=u3", from(home))).StatusCode, "somebody else logs in")
		a.serve(post(wrong("johndoe", 9), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		b := grantApp(t)
		require.Equal(t, 200, b.serve(post("grant_type=otp&otp=right-code&username=johndoe&who=u3", from(home))).StatusCode)
		b.attackAccount("johndoe")
		b.serve(post(right("johndoe"), from(home))).isThrottled(t) // and the address is not known to johndoe
	})
	t.Run("it makes the address known to who logs in", func(t *testing.T) {
		a := grantApp(t)
		require.Equal(t, 200, a.serve(post(otp+"right-code", from(home))).StatusCode)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("for a user", func(t *testing.T) {
		guess := otp + "right-code&counted=1&whose=u1"
		a := grantApp(t)
		for i := range 5 {
			a.serve(post(strings.Replace(guess, "right-code", fmt.Sprint(i), 1), from(home))).isError(t, 400, "invalid_grant")
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(guess, from(home))).isThrottled(t)
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.serve(post(guess+"&stubborn=1", from(home))).isThrottled(t) // whatever it has found
		a.serve(post(otp+"x&counted=1&whose=u1&stubborn=1", from(home))).isThrottled(t)
		const phone = "198.51.100.7"
		require.Equal(t, 200, a.serve(post(guess, from(phone))).StatusCode, "and the address is known from now on")
		a.clock.Advance(time.Hour)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(phone))).StatusCode)
	})
	t.Run("what is no guess", func(t *testing.T) {
		a := grantApp(t)
		for range 20 {
			a.serve(post(otp+"more&counted=1&whose=u1", from(home))).isError(t, 400, "mfa_required")
			a.serve(post(otp+"down&counted=1&whose=u1", from(home))).isError(t, 503, "temporarily_unavailable")
			require.Equal(t, 200, a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).StatusCode)
			a.serve(post(otp+"x&counted=1&whose=", from(home))).isError(t, 400, "invalid_grant") // nobody's
		}
		require.Equal(t, 200, a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).StatusCode)
	})
	t.Run("no free repeats", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			a.serve(post(otp+"000000&counted=1&whose=u1", from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t)
	})
	t.Run("a code that opens somebody else", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			require.Equal(t, 200, a.serve(post("grant_type=otp&otp=right-code&who=u3&counted=1&whose=u1", from(home))).StatusCode)
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t) // it was no right guess at this one
	})
	t.Run("a panic counts", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			a.serve(post(otp+"panic&counted=1&whose=u1", from(home))).isError(t, 500, "server_error")
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t)
	})
	t.Run("outside of a grant", func(t *testing.T) {
		require.NoError(t, new(oauth2pw.TokenRequest).Guess(t.Context(), "u1"))
	})
}

// atOnce serves token requests from home in parallel, while no password is looked at. It
// returns how many were about to be hashed when each request was answered or waited.
func (a *app) atOnce(s *script, forms []string) (answers []answer, hashed int) {
	a.Helper()
	answers = make([]answer, len(forms))
	s.take("PasswordHasher.Verify")
	synctest.Test(a.T, func(*testing.T) {
		gate := make(chan struct{})
		s.before("PasswordHasher.Verify", waits(gate))
		var wg sync.WaitGroup
		for i, form := range forms {
			wg.Go(func() { answers[i] = a.serve(post(form, from(home))) })
		}
		synctest.Wait()
		hashed = s.take("PasswordHasher.Verify")
		close(gate)
		wg.Wait()
		s.end()
	})
	return answers, hashed
}

// statuses counts answers by their status.
func statuses(answers []answer) map[int]int {
	n := make(map[int]int)
	for _, got := range answers {
		n[got.StatusCode]++
	}
	return n
}

// TestThrottleBurst: 300 wrong passwords at once compute 10 hashes.
func TestThrottleBurst(t *testing.T) {
	s := new(script)
	a := newApp(t, s.wrap)
	forms := make([]string, 300)
	for i := range forms {
		forms[i] = wrong("johndoe", i)
	}
	answers, hashed := a.atOnce(s, forms)
	require.Equal(t, 10, hashed)
	require.Equal(t, map[int]int{400: 10, 429: 290}, statuses(answers))
	require.Zero(t, s.take("PasswordHasher.Verify"), "none afterwards")
}

// TestThrottleCancel: a full queue or a store that is down uses up no attempt; a
// client that hangs up while its password is hashed does.
func TestThrottleCancel(t *testing.T) {
	t.Run("busy", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		s.before("PasswordHasher.Verify", fails(fmt.Errorf("full: %w", oauth2pw.ErrBusy)))
		for i := range 50 { // new ones and repeated ones
			a.serve(post(wrong("johndoe", i/3), from(home))).isError(t, 503, "temporarily_unavailable")
		}
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			wg.Go(func() { answers[i] = a.serve(post(wrong("johndoe", i%3), from(home))) })
		}
		wg.Wait()
		require.Equal(t, map[int]int{503: 8}, statuses(answers))
		s.end()
		for i := range 10 {
			a.serve(post(wrong("johndoe", 100+i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(wrong("johndoe", 200), from(home))).isThrottled(t)
	})
	t.Run("a repeat that is taken back may come again", func(t *testing.T) {
		s := new(script)
		a := newApp(t, func(c *oauth2pw.Config) { c.ThrottleLimit = 2 }, s.wrap)
		a.serve(post(wrong("johndoe", 0), from(home))).isError(t, 400, "invalid_grant")
		s.before("PasswordHasher.Verify", fails(oauth2pw.ErrBusy))
		a.serve(post(wrong("johndoe", 0), from(home))).isError(t, 503, "temporarily_unavailable")
		s.end()
		a.serve(post(wrong("johndoe", 0), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(wrong("johndoe", 1), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(wrong("johndoe", 2), from(home))).isThrottled(t)
	})
	t.Run("repeats that are taken back free nothing", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
			if i < 9 {
				s.before("PasswordHasher.Verify", fails(oauth2pw.ErrBusy))
				for range 3 {
					a.serve(post(wrong("johndoe", i), from(home))).isError(t, 503, "temporarily_unavailable")
				}
				s.end()
			}
		}
		a.serve(post(wrong("johndoe", 10), from(home))).isThrottled(t)
	})
	t.Run("store down", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		s.before("UserStore.UserByName", fails(errors.New("the database is gone")))
		for i := range 50 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 503, "temporarily_unavailable")
		}
		s.end()
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("hang up", func(t *testing.T) {
		s := new(script)
		a := newApp(t, s.wrap)
		for i := range 10 {
			ctx, hangUp := context.WithCancel(t.Context())
			s.before("PasswordHasher.Verify", once(hangUp))
			a.serve(post(wrong("johndoe", i), from(home), during(ctx))).isError(t, 400, "invalid_grant")
			require.Error(t, ctx.Err())
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
	t.Run("an Authenticate that ends with the client", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Hasher = nil
			c.Authenticate = func(ctx context.Context, _, _ string) (*oauth2pw.User, error) { return nil, ctx.Err() }
		})
		for i := range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			a.serve(post(wrong("johndoe", i), from(home), during(ctx))).isError(t, 503, "temporarily_unavailable")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
}

// recorder is a throttle that blocks nothing, and keeps the attempts that Begin gets.
type recorder struct {
	mu   sync.Mutex
	seen []oauth2pw.Attempt
}

func (r *recorder) Begin(_ context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, a)
	return 0, nil
}

func (r *recorder) Succeed(context.Context, oauth2pw.Attempt) error { return nil }
func (r *recorder) Cancel(context.Context, oauth2pw.Attempt) error  { return nil }
func (r *recorder) Forget(context.Context, oauth2pw.Attempt) error  { return nil }

// take returns the attempts since they were last taken.
func (r *recorder) take() []oauth2pw.Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// TestThrottlePlugFails: a throttle that fails lets nobody in, and one that cannot uncount
// keeps nobody out.
func TestThrottlePlugFails(t *testing.T) {
	s := new(script)
	a := newApp(t, func(c *oauth2pw.Config) { c.Throttle = new(recorder) }, s.wrap)
	down := errors.New("the network is down")
	s.before("Throttle.Begin", fails(down))
	for _, form := range []string{right("johndoe"), wrong("johndoe", 1), right("johndoe") + "&client_id=backend&client_secret=backend-secret"} {
		a.serve(post(form, from(home))).isError(t, 503, "temporarily_unavailable")
		e := a.event()
		require.Equal(t, oauth2pw.EventUnavailable, e.Kind)
		require.Equal(t, "Throttle.Begin", e.Plug)
	}
	require.Zero(t, a.hasher.take())

	s.end()
	s.after("Throttle.Succeed", fails(down))
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	require.Equal(t, "Throttle.Succeed", a.event().Plug)

	s.end()
	s.before("Throttle.Succeed", panics("secret"))
	a.serve(post(right("johndoe"), from(home))).isError(t, 500, "server_error")
	e := a.event()
	require.Equal(t, oauth2pw.EventPanic, e.Kind)
	require.NotContains(t, e.Err.Error(), "secret")

	s.end()
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, "the server goes on")
}

// TestThrottlePlugAttempts: what a throttle is told about each attempt.
func TestThrottlePlugAttempts(t *testing.T) {
	r := new(recorder)
	a := newApp(t, func(c *oauth2pw.Config) { c.Throttle, c.Realm = r, "tenant" })
	attempt := func(form string, status int) oauth2pw.Attempt {
		t.Helper()
		require.Equal(t, status, a.serve(post(form, from(home))).StatusCode)
		seen := r.take()
		require.NotEmpty(t, seen)
		return seen[0]
	}
	first := attempt(right("johndoe"), 200)
	require.Equal(t, oauth2pw.Attempt{
		Kind: oauth2pw.AttemptPassword, Realm: "tenant", UserID: "u1", Address: netip.MustParseAddr(home), Tag: first.Tag, HasTag: true,
	}, first)
	require.NotEqual(t, first.Tag, attempt(wrong("johndoe", 1), 400).Tag)
	require.NotEqual(t, first.Tag, attempt(right("old"), 200).Tag, "equal passwords of two accounts show nothing") // an ID as long
	client := attempt(right("johndoe")+"&client_id=backend&client_secret=backend-secret", 200)
	require.Equal(t, oauth2pw.AttemptClient, client.Kind)
	require.Equal(t, "backend", client.ClientID)
	require.True(t, client.Right)
}

// TestThrottlePlugAfterHangUp: a client hangs up while its password is looked at. What was
// right is uncounted all the same.
func TestThrottlePlugAfterHangUp(t *testing.T) {
	ctx, hangUp := context.WithCancel(t.Context())
	s := new(script)
	a := newApp(t, func(c *oauth2pw.Config) { c.Throttle = new(recorder) }, s.wrap)
	s.before("PasswordHasher.Verify", once(hangUp))
	var atSucceed error
	s.before("Throttle.Succeed", func(ctx context.Context, _ string) error {
		atSucceed = ctx.Err()
		return nil
	})
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home), during(ctx))).StatusCode)
	require.Error(t, ctx.Err())
	require.Equal(t, 1, s.take("Throttle.Succeed"))
	require.NoError(t, atSucceed)
}

// TestThrottleConfig: settings that New refuses.
//
// Conformance 153.
func TestThrottleConfig(t *testing.T) {
	for want, edit := range map[string]func(c *oauth2pw.Config){
		"ThrottleLimit":              func(c *oauth2pw.Config) { c.ThrottleLimit = -1 },
		"ThrottleWindow":             func(c *oauth2pw.Config) { c.ThrottleWindow = -1 },
		"under a second":             func(c *oauth2pw.Config) { c.ThrottleWindow = 15 },
		"at most 100000":             func(c *oauth2pw.Config) { c.ThrottleLimit = 100_001 },
		"at most a week":             func(c *oauth2pw.Config) { c.ThrottleWindow = 8 * 24 * time.Hour },
		"Config.Throttle is a nil *": func(c *oauth2pw.Config) { c.Throttle = (*recorder)(nil) },
		"InsecureNoThrottle":         func(c *oauth2pw.Config) { c.Throttle = new(recorder); c.InsecureNoThrottle = true },
		"has its own":                func(c *oauth2pw.Config) { c.Throttle = new(recorder); c.ThrottleLimit = 5 },
	} {
		users, err := store.NewUsers()
		require.NoError(t, err)
		c := oauth2pw.Config{Users: users, Hasher: new(plainHasher), Issuer: newApp(t).ring}
		edit(&c)
		_, err = oauth2pw.New(c)
		require.ErrorContains(t, err, want)
	}
}

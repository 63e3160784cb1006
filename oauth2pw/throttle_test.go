package oauth2pw_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// from sends a token request over TLS from an address.
func (a *app) from(address, form string, headers ...string) answer {
	a.Helper()
	return a.fromTo("/token", address, form, headers...)
}

func (a *app) fromTo(target, address, form string, headers ...string) answer {
	a.Helper()
	r := httptest.NewRequest("POST", target, strings.NewReader(form))
	r.TLS = new(tls.ConnectionState)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 40000).String()
	for _, h := range append([]string{formType}, headers...) {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return a.serve(r)
}

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

// TestConformanceThrottle holds lines 123 to 128, the numbers by default.
func TestConformanceThrottle(t *testing.T) {
	t.Run("123 too many failures, right and wrong told apart by nothing", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
			a.clock.Advance(time.Second)
		}
		a.hasher.take()
		a.takeEvents()
		got, gotWrong := a.from(home, right("johndoe")), a.from(home, wrong("johndoe", 11))
		require.Equal(t, 15*time.Minute-10*time.Second, got.isThrottled(t))
		require.Equal(t, got.body, gotWrong.body)
		require.Equal(t, got.Header, gotWrong.Header)
		require.Zero(t, a.hasher.take(), "no hash is computed")
		for _, e := range a.takeEvents() {
			require.Equal(t, oauth2pw.EventThrottled, e.Kind)
			require.Equal(t, "password", e.Reason)
			require.Equal(t, netip.MustParseAddr(home), e.Address)
			require.NotEmpty(t, e.NameTag)
		}
		require.Equal(t, 200, a.from(away, right("johndoe")).StatusCode, "another address")
		require.Equal(t, 400, a.from(home, wrong("alice", 0)).StatusCode, "another account")
	})
	t.Run("132 Retry-After is true", func(t *testing.T) {
		for _, limits := range [][]oauth2pw.Config{{{}}, {{ThrottleLimit: 3, ThrottleWindow: 2 * time.Second}}} {
			a := newApp(t, func(c *oauth2pw.Config) {
				c.ThrottleLimit, c.ThrottleWindow = limits[0].ThrottleLimit, limits[0].ThrottleWindow
			})
			for i := 0; a.from(home, wrong("johndoe", i)).StatusCode != 429; i++ {
				a.clock.Advance(100 * time.Millisecond)
			}
			wait := a.from(home, right("johndoe")).isThrottled(t)
			a.clock.Advance(wait - 2*time.Second)
			a.from(home, right("johndoe")).isThrottled(t)
			a.clock.Advance(2 * time.Second)
			require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
		}
	})
	t.Run("132 at t-1, t and t+1", func(t *testing.T) {
		for offset, status := range map[time.Duration]int{-1: 429, 0: 200, 1: 200} {
			a := newApp(t)
			for i := range 10 {
				a.from(home, wrong("johndoe", i))
			}
			a.clock.Advance(15*time.Minute + offset)
			require.Equal(t, status, a.from(home, right("johndoe")).StatusCode, offset)
		}
	})
	t.Run("124 unknown and disabled users count the same", func(t *testing.T) {
		a := newApp(t)
		for _, name := range []string{"johndoe", "nobody", "alice", "broken", "nopassword"} {
			for i := range 10 {
				a.from(home, wrong(name, i)).isError(t, 400, "invalid_grant")
			}
			a.from(home, wrong(name, 10)).isThrottled(t)
		}
		a.from(home, strings.ToUpper(wrong("x", 0))) // not a grant: not counted
		b := newApp(t)
		for i := range 10 { // 14: one account in any ASCII case
			b.from(home, wrong([]string{"johndoe", "JohnDoe", "JOHNDOE"}[i%3], i))
		}
		b.from(home, right("johndoe")).isThrottled(t)
	})
	t.Run("124 one address", func(t *testing.T) {
		a := newApp(t)
		for i := range 100 {
			a.from(home, wrong(fmt.Sprint("user", i), 0)).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 15*time.Minute, a.from(home, right("johndoe")).isThrottled(t))
		require.Equal(t, 200, a.from(away, right("johndoe")).StatusCode)
	})
	t.Run("127 IPv6 by /64 and /48", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.from(fmt.Sprintf("2001:db8:1:1::%x", i), wrong("johndoe", i)).isError(t, 400, "invalid_grant")
		}
		a.from("2001:db8:1:1:ffff::", right("johndoe")).isThrottled(t)
		require.Equal(t, 200, a.from("2001:db8:1:2::", right("johndoe")).StatusCode)
		for i := range 990 {
			a.from(fmt.Sprintf("2001:db8:1:%x::", i+16), wrong(fmt.Sprint("user", i), i)).isError(t, 400, "invalid_grant")
		}
		a.from("2001:db8:1:ffff::", right("johndoe")).isThrottled(t)
		require.Equal(t, 200, a.from("2001:db8:2::", right("johndoe")).StatusCode)
		for i := range 100 {
			a.from("2001:db8:9::1", wrong(fmt.Sprint("one", i), i)).isError(t, 400, "invalid_grant")
		}
		a.from("2001:db8:9::2", right("johndoe")).isThrottled(t)
		require.Equal(t, 200, a.from("2001:db8:9:1::", right("johndoe")).StatusCode, "another /64")
		// An IPv4 in an IPv6 is the IPv4.
		for i := range 10 {
			a.from([]string{"::ffff:198.51.100.1", "198.51.100.1"}[i%2], wrong("old", i))
		}
		a.from("198.51.100.1", wrong("old", 10)).isThrottled(t)
	})
	t.Run("125 strangers do not lock a user out", func(t *testing.T) {
		a := newApp(t)
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
		for i := range 30 {
			a.from(fmt.Sprintf("203.0.113.%d", i), wrong("johndoe", i)).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, time.Hour, a.from(away+"9", right("johndoe")).isThrottled(t), "a stranger")
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode, "the user")
		for i := range 10 { // and at home the limit of the address holds
			a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
		}
		a.from(home, right("johndoe")).isThrottled(t)
		a.clock.Advance(time.Hour) // it ends by itself
		require.Equal(t, 200, a.from(away+"9", right("johndoe")).StatusCode)
	})
	t.Run("125 for 30 days, and 8 addresses", func(t *testing.T) {
		for days, status := range map[time.Duration]int{30*24*time.Hour - 1: 200, 30 * 24 * time.Hour: 429} {
			a := newApp(t)
			a.from(home, right("johndoe"))
			a.clock.Advance(days)
			a.attackAccount("johndoe")
			require.Equal(t, status, a.from(home, right("johndoe")).StatusCode)
		}
		a := newApp(t)
		for i := range 9 {
			a.from(fmt.Sprintf("192.0.2.%d", i), right("johndoe"))
			a.clock.Advance(time.Second)
		}
		a.from("192.0.2.1", right("johndoe")) // 1 is the last one again
		a.from("192.0.2.200", right("johndoe"))
		a.attackAccount("johndoe")
		for i, status := range map[int]int{0: 429, 1: 200, 2: 429, 3: 200, 8: 200, 200: 200} {
			require.Equal(t, status, a.from(fmt.Sprintf("192.0.2.%d", i), right("johndoe")).StatusCode, i)
		}
	})
	t.Run("125 an address of more than 20 users is nobody's", func(t *testing.T) {
		for users, status := range map[int]int{20: 200, 21: 429} {
			a := newApp(t)
			for i := range users - 1 {
				require.NoError(t, a.users.Add(oauth2pw.User{ID: fmt.Sprint("x", i), Username: fmt.Sprint("x", i), PasswordHash: "new:secret"}))
				require.Equal(t, 200, a.from(home, right(fmt.Sprint("x", i))).StatusCode)
			}
			a.from(home, right("johndoe"))
			a.attackAccount("johndoe")
			require.Equal(t, status, a.from(home, right("johndoe")).StatusCode, users)
		}
	})
	t.Run("126 the same wrong password", func(t *testing.T) {
		a := newApp(t)
		left := func() (n int) { // how many more may fail
			for i := 0; a.from(home, wrong("johndoe", 1000+i)).StatusCode != 429; i++ {
				n++
			}
			a.clock.Advance(time.Hour)
			return n
		}
		repeat := func(times int) {
			for range times {
				a.from(home, wrong("johndoe", 0)).isError(t, 400, "invalid_grant")
			}
		}
		repeat(2)
		require.Equal(t, 9, left(), "twice counts once")
		repeat(3)
		require.Equal(t, 8, left(), "a third time counts")
		repeat(4)
		require.Equal(t, 7, left(), "and a fourth")
		repeat(1)
		a.clock.Advance(time.Minute - 1)
		repeat(1)
		require.Equal(t, 9, left())
		repeat(1)
		a.clock.Advance(time.Minute)
		repeat(1)
		require.Equal(t, 8, left(), "after 60 s it counts again")
		repeat(1)
		a.hasher.take()
		repeat(1)
		require.Equal(t, 1, a.hasher.take(), "it is hashed like any other")
		a.from(away, wrong("johndoe", 0))
		require.Equal(t, 9, left(), "another address is another pair")

		a = newApp(t, func(c *oauth2pw.Config) { c.ThrottleLimit, c.ThrottleWindow = 1, time.Second })
		repeat(1)
		a.from(home, wrong("johndoe", 0)).isThrottled(t)
		a.clock.Advance(59 * time.Second) // the window is long over
		repeat(2)
		a.from(home, wrong("johndoe", 0)).isThrottled(t)
	})
	t.Run("128 success clears the pair, and nothing else", func(t *testing.T) {
		a := newApp(t)
		for range 3 {
			for i := range 9 {
				a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
			}
			require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
		}
		for i := range 73 { // 27 count for the address still
			a.from(home, wrong(fmt.Sprint("user", i), 0)).isError(t, 400, "invalid_grant")
		}
		a.from(home, wrong("other", 0)).isThrottled(t)
	})
	t.Run("right ones count at no time", func(t *testing.T) {
		a := newApp(t)
		for range 300 {
			require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
		}
		for range 300 { // a right password that is refused for its scope
			a.from(home, right("johndoe")+"&scope=admin").isError(t, 400, "invalid_scope")
		}
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
	})
	t.Run("many right ones at once", func(t *testing.T) {
		h := &gatedHasher{gate: make(chan struct{}, 1000)}
		a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h })
		h.gate <- struct{}{}
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
		var wg sync.WaitGroup
		for range 200 {
			wg.Go(func() { assert.Equal(t, 200, a.from(home, right("johndoe")).StatusCode) })
		}
		require.Eventually(t, func() bool { return h.calls.Load() == 201 }, time.Minute, time.Millisecond, "all are being checked")
		close(h.gate)
		wg.Wait()
		for i := range 10 { // what is wrong counts as ever
			a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
		}
		a.from(home, right("johndoe")).isThrottled(t)

		b := newApp(t) // what was right, and is no more, counts in the end
		require.Equal(t, 200, b.from(home, right("johndoe")).StatusCode)
		require.NoError(t, b.users.Update("u1", func(u *oauth2pw.User) { u.PasswordHash = "new:another" }))
		for range 1000 + 11 { // one of them is a repeat
			b.from(home, right("johndoe")).isError(t, 400, "invalid_grant")
		}
		b.from(home, right("johndoe")).isThrottled(t)
		b = newApp(t)
		require.Equal(t, 200, b.from(home, right("johndoe")).StatusCode)
		require.NoError(t, b.users.Update("u1", func(u *oauth2pw.User) { u.PasswordHash = "new:another" }))
		b.clock.Advance(15 * time.Minute)
		for range 11 {
			b.from(home, right("johndoe")).isError(t, 400, "invalid_grant")
		}
		b.from(home, right("johndoe")).isThrottled(t)
	})
	t.Run("127 a spoofed header buys nothing", func(t *testing.T) {
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
				a.from(peer, wrong("johndoe", i), header(i)).isError(t, 400, "invalid_grant")
			}
			a.from(peer, right("johndoe"), header(99)).isThrottled(t)
			require.Equal(t, trusted != "", a.from(peer, right("johndoe"), "X-Forwarded-For: "+away).StatusCode == 200)
		}
	})
	t.Run("a proxy that nobody configured", func(t *testing.T) {
		for _, header := range []string{"X-Forwarded-For: ", "X-Real-IP: ", "Forwarded: for="} {
			a := newApp(t)
			proxy := "192.0.2.250" // all clients seem to be it
			require.Equal(t, 200, a.from(proxy, right("johndoe"), header+"198.51.100.1").StatusCode)
			events := a.takeEvents()
			require.Equal(t, oauth2pw.EventUnknownProxy, events[0].Kind)
			require.Equal(t, netip.MustParseAddr(proxy), events[0].Address)
			a.attackAccount("johndoe")
			a.from(proxy, right("johndoe"), header+"203.0.113.66").isThrottled(t) // an attacker has no known address
			for _, e := range a.takeEvents() {
				require.NotEqual(t, oauth2pw.EventUnknownProxy, e.Kind, "once")
			}
			a.clock.Advance(time.Hour)
			a.from(proxy, right("johndoe"), header+"198.51.100.1")
			require.Equal(t, oauth2pw.EventUnknownProxy, a.takeEvents()[0].Kind, "and again after an hour")
		}
		// A hop that cannot be read: who is behind it nobody knows.
		g := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		require.Equal(t, 200, g.from("10.1.2.3", right("johndoe"), "X-Forwarded-For: unknown").StatusCode)
		g.attackAccount("johndoe")
		g.from("10.1.2.3", right("johndoe"), "X-Forwarded-For: unknown").isThrottled(t)
		// A proxy in front of the trusted one.
		a := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
		require.Equal(t, 200, a.from("10.1.2.3", right("johndoe"), "X-Forwarded-For: 198.51.100.1, 192.0.2.250").StatusCode)
		require.Equal(t, oauth2pw.EventUnknownProxy, a.takeEvents()[0].Kind)
		a.attackAccount("johndoe")
		a.from("10.1.2.3", right("johndoe"), "X-Forwarded-For: 203.0.113.66, 192.0.2.250").isThrottled(t)
	})
	t.Run("off", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.InsecureNoThrottle = true })
		for i := range 200 {
			a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
	})
}

// attackAccount fails at an account from many addresses until strangers are blocked.
func (a *app) attackAccount(name string) {
	a.Helper()
	for i := range 30 {
		a.from(fmt.Sprintf("203.0.113.%d", i), wrong(name, i)).isError(a.T, 400, "invalid_grant")
	}
	a.from("203.0.113.31", wrong(name, 31)).isThrottled(a.T)
}

// TestThrottleClients holds lines 42 and 92: client secrets, per client and
// address, and per address.
func TestThrottleClients(t *testing.T) {
	backend := func(secret string) string { return "&client_id=backend&client_secret=" + secret }
	for target, form := range map[string]string{
		"/token": login, "/introspect": "token=x", "/revoke": "token=x",
	} {
		a := newApp(t)
		for i := range 10 {
			a.fromTo(target, home, form+backend(fmt.Sprint("wrong", i))).isError(t, 401, "invalid_client")
		}
		got, gotWrong := a.fromTo(target, home, form+backend("backend-secret")), a.fromTo(target, home, form+backend("wrong"))
		got.isThrottled(t)
		require.Equal(t, got.body, gotWrong.body)
		require.Equal(t, got.Header, gotWrong.Header)
		require.Zero(t, a.hasher.take())
		require.Equal(t, 200, a.fromTo(target, away, form+backend("backend-secret")).StatusCode, "never per client alone")
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode, "nor for passwords")
		a.fromTo(target, home, form, basic("backend", "backend-secret")).isThrottled(t)
		a.fromTo(target, home, form, basic("b%61ckend", "wrong")).isThrottled(t) // another spelling of the id
		a.clock.Advance(15 * time.Minute)
		require.Equal(t, 200, a.fromTo(target, home, form+backend("backend-secret")).StatusCode)
	}

	c := newApp(t)
	for i := range 10 { // the client "a+b", in both spellings of its id
		id := []string{"a+b", "a%2Bb"}[i%2]
		c.from(home, login, basic(id, fmt.Sprint("wrong", i))).isError(t, 401, "invalid_client")
	}
	c.from(home, login, basic("a+b", "wrong")).isThrottled(t)
	c.from(home, login, basic("a%2Bb", "wrong")).isThrottled(t)

	a := newApp(t)
	for i := range 100 { // unknown clients count for the address
		a.from(home, login+fmt.Sprintf("&client_id=c%d&client_secret=x", i)).isError(t, 401, "invalid_client")
	}
	a.from(home, login+backend("backend-secret")).isThrottled(t)
	require.Equal(t, 200, a.from(home, login+"&client_id=webapp").StatusCode, "a public client guesses nothing")

	// A busy client, and its calls in parallel: none of them waits or counts.
	b := newApp(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 20 {
				got := b.fromTo("/introspect", home, "token=x", basic("backend", "backend-secret"))
				assert.Equal(t, `{"active":false}`, got.body)
			}
		})
	}
	wg.Wait()
	for i := range 9 { // success clears (client, address)
		b.from(home, login+backend(fmt.Sprint("wrong", i))).isError(t, 401, "invalid_client")
		b.from(home, login+backend(fmt.Sprint("wrong", i))).isError(t, 401, "invalid_client") // the same once more is free
	}
	require.Equal(t, 200, b.from(home, login+backend("backend-secret")).StatusCode)
	for i := range 10 {
		b.from(home, login+backend(fmt.Sprint("wrong again", i))).isError(t, 401, "invalid_client")
	}
	b.from(home, login+backend("wrong")).isThrottled(t)
	for i := range 40 { // and strangers block no client elsewhere
		b.from(fmt.Sprintf("203.0.113.%d", i), login+backend("wrong")).isError(t, 401, "invalid_client")
	}
	require.Equal(t, 200, b.from(away, login+backend("backend-secret")).StatusCode)
}

// TestThrottleRefresh: refresh tokens that are guesses count for their address,
// apart from passwords.
func TestThrottleRefresh(t *testing.T) {
	a := newSessionApp(t)
	tokens := a.from(home, right("johndoe"))
	good := tokens.json["refresh_token"].(string)
	forged := good[:30] + swap(good[30]) + good[31:]
	for i := range 100 {
		a.from(home, "grant_type=refresh_token&refresh_token="+forged).isError(t, 400, "invalid_grant")
		if i == 50 { // what is no guess does not count
			for range 100 {
				a.from(home, "grant_type=refresh_token&refresh_token=rt1.garbage").isError(t, 400, "invalid_grant")
			}
			again := a.from(home, "grant_type=refresh_token&refresh_token="+good)
			require.Equal(t, 200, again.StatusCode)
			good = again.json["refresh_token"].(string)
		}
	}
	got, gotWrong := a.from(home, "grant_type=refresh_token&refresh_token="+good), a.from(home, "grant_type=refresh_token&refresh_token="+forged)
	got.isThrottled(t)
	require.Equal(t, got.body, gotWrong.body)
	require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
	require.Equal(t, 200, a.from(away, "grant_type=refresh_token&refresh_token="+good).StatusCode, "and it was not spent")
}

// TestThrottleRefreshKinds: a token of no session is a guess; one whose secret was
// dropped is none, for nobody can tell.
func TestThrottleRefreshKinds(t *testing.T) {
	a := newSessionApp(t)
	good := a.from(home, right("johndoe")).json["refresh_token"].(string)
	b := a.again(func(c *oauth2pw.Config) { c.RefreshSecrets = []oauth2pw.Secret{secret("another")} })
	for range 150 {
		b.from(home, "grant_type=refresh_token&refresh_token="+good).isError(t, 400, "invalid_grant")
	}
	unknown := good[:10] + swap(good[10]) + good[11:]
	for range 100 {
		b.from(home, "grant_type=refresh_token&refresh_token="+unknown).isError(t, 400, "invalid_grant")
	}
	b.from(home, "grant_type=refresh_token&refresh_token="+unknown).isThrottled(t)
}

func swap(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// TestThrottleChangePassword: the old password is guessed at as at a login.
func TestThrottleChangePassword(t *testing.T) {
	a := newSessionApp(t)
	ctx := func(address string) context.Context {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = address + ":1"
		return oauth2pw.ContextOf(a.auth, r)
	}
	change := func(address, old string) *oauth2pw.Error {
		err := a.auth.ChangePassword(ctx(address), "u1", old, "a new password", "")
		var e *oauth2pw.Error
		if err != nil {
			require.ErrorAs(t, err, &e)
		}
		return e
	}
	for i := range 5 {
		require.Equal(t, "invalid_grant", change(home, fmt.Sprint("wrong", i)).Code)
		a.from(home, wrong("johndoe", 10+i)).isError(t, 400, "invalid_grant")
	}
	a.hasher.take()
	e := change(home, "secret")
	require.Equal(t, "slow_down", e.Code)
	require.Equal(t, 15*time.Minute, e.RetryAfter)
	require.Zero(t, a.hasher.take())
	a.from(home, right("johndoe")).isThrottled(t)
	require.Nil(t, change(away, "secret"))
	require.Nil(t, changeOld(a, ctx("198.51.100.7"), "u3", "secret"))
	require.NoError(t, a.users.Update("u3", func(u *oauth2pw.User) { u.Username = "Old" }))
	for i := range 10 { // the name counts in any ASCII case
		require.Equal(t, "invalid_grant", changeOf(a, ctx("198.51.100.7"), "u3", fmt.Sprint("wrong", i)).Code)
	}
	a.from("198.51.100.7", wrong("old", 99)).isThrottled(t)
	for i := range 10 { // a user who is gone
		require.Equal(t, "invalid_grant", changeOf(a, ctx(home), "nobody", fmt.Sprint("wrong", i)).Code)
	}
	require.Equal(t, "slow_down", changeOf(a, ctx(home), "nobody", "x").Code)
}

func changeOld(a *sessionApp, ctx context.Context, id, old string) error {
	a.Helper()
	return a.auth.ChangePassword(ctx, id, old, "a new password", "")
}

func changeOf(a *sessionApp, ctx context.Context, id, old string) (e *oauth2pw.Error) {
	a.Helper()
	require.ErrorAs(a, a.auth.ChangePassword(ctx, id, old, "a new password", ""), &e)
	return e
}

// TestThrottleGrants: a grant of the app's own is guessed at like a password, and
// together with it.
func TestThrottleGrants(t *testing.T) {
	down := false
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Grants = map[string]func(context.Context, *oauth2pw.TokenRequest) (*oauth2pw.User, error){
			"otp": func(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				switch {
				case down:
					return nil, errors.New("down")
				case r.Param("otp") == "more":
					return nil, &oauth2pw.Error{Code: "mfa_required", Description: "Send the code too."}
				case r.Param("otp") != "123456":
					return nil, oauth2pw.ErrNotFound
				}
				return &oauth2pw.User{ID: "u1"}, nil
			},
		}
	})
	otp := func(code string) string { return "grant_type=otp&username=johndoe&password=secret&otp=" + code }
	down = true
	for i := range 20 {
		a.from(home, otp(fmt.Sprint(i))).isError(t, 503, "temporarily_unavailable")
	}
	down = false
	for i := range 5 { // with one password, but not one guess
		a.from(home, otp(fmt.Sprint(i))).isError(t, 400, "invalid_grant")
	}
	a.from(home, otp("more")).isError(t, 400, "mfa_required")
	for i := range 4 {
		a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
	}
	a.from(home, otp("123456")).isThrottled(t)
	a.from(home, right("johndoe")).isThrottled(t)
	require.Equal(t, 200, a.from(away, otp("123456")).StatusCode)
	for i := range 100 { // without a name, for the address alone
		a.from(away, fmt.Sprint("grant_type=otp&otp=", i)).isError(t, 400, "invalid_grant")
	}
	a.from(away, "grant_type=otp&otp=123456").isThrottled(t)
}

// gatedHasher computes when it is told to.
type gatedHasher struct {
	plainHasher
	gate  chan struct{}
	calls atomic.Int32
	err   error
}

func (h *gatedHasher) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	h.calls.Add(1)
	<-h.gate
	if h.err != nil {
		return false, false, h.err
	}
	return h.plainHasher.Verify(ctx, hash, password)
}

// TestThrottleBurst: 300 wrong passwords at once compute 10 hashes.
func TestThrottleBurst(t *testing.T) {
	h := &gatedHasher{gate: make(chan struct{})}
	a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h })
	var refused, blocked atomic.Int32
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			switch a.from(home, wrong("johndoe", i)).StatusCode {
			case 400:
				refused.Add(1)
			case 429:
				if blocked.Add(1) == 290 {
					close(h.gate) // all others have been answered: none waits for a hash
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 10, h.calls.Load())
	require.EqualValues(t, 10, refused.Load())
	require.EqualValues(t, 290, blocked.Load())
}

// TestThrottleCancel: a full queue or a store that is down uses up no attempt; a
// client that hangs up while its password is hashed does.
func TestThrottleCancel(t *testing.T) {
	open := make(chan struct{})
	close(open)
	t.Run("busy", func(t *testing.T) {
		h := &gatedHasher{gate: open, err: fmt.Errorf("full: %w", oauth2pw.ErrBusy)}
		a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h })
		for i := range 50 { // new ones and repeated ones
			a.from(home, wrong("johndoe", i/3)).isError(t, 503, "temporarily_unavailable")
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() { a.from(home, wrong("johndoe", i%3)) })
		}
		wg.Wait()
		for i := range 20 {
			r := httptest.NewRequest("POST", "/", nil)
			r.RemoteAddr = home + ":1"
			var e *oauth2pw.Error
			require.ErrorAs(t, a.auth.ChangePassword(oauth2pw.ContextOf(a.auth, r), "u1", fmt.Sprint("wrong", i), "x", ""), &e)
			require.Equal(t, "temporarily_unavailable", e.Code)
		}
		h.err = nil
		for i := range 10 {
			a.from(home, wrong("johndoe", 100+i)).isError(t, 400, "invalid_grant")
		}
		a.from(home, wrong("johndoe", 200)).isThrottled(t)
	})
	t.Run("a repeat that is taken back may come again", func(t *testing.T) {
		h := &gatedHasher{gate: open}
		a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h; c.ThrottleLimit = 2 })
		a.from(home, wrong("johndoe", 0)).isError(t, 400, "invalid_grant")
		h.err = oauth2pw.ErrBusy
		a.from(home, wrong("johndoe", 0)).isError(t, 503, "temporarily_unavailable")
		h.err = nil
		a.from(home, wrong("johndoe", 0)).isError(t, 400, "invalid_grant")
		a.from(home, wrong("johndoe", 1)).isError(t, 400, "invalid_grant")
		a.from(home, wrong("johndoe", 2)).isThrottled(t)
	})
	t.Run("repeats that are taken back free nothing", func(t *testing.T) {
		h := &gatedHasher{gate: open}
		a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h })
		for i := range 10 {
			a.from(home, wrong("johndoe", i)).isError(t, 400, "invalid_grant")
			if i < 9 {
				h.err = oauth2pw.ErrBusy
				for range 3 {
					a.from(home, wrong("johndoe", i)).isError(t, 503, "temporarily_unavailable")
				}
				h.err = nil
			}
		}
		a.from(home, wrong("johndoe", 10)).isThrottled(t)
	})
	t.Run("store down", func(t *testing.T) {
		f := &faulty{err: errors.New("the database is gone")}
		a := newApp(t, func(c *oauth2pw.Config) { f.UserStore = c.Users; c.Users = f })
		f.name = "UserByName"
		for i := range 50 {
			a.from(home, wrong("johndoe", i)).isError(t, 503, "temporarily_unavailable")
		}
		f.name = ""
		require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
	})
	t.Run("hang up", func(t *testing.T) {
		h := &gatedHasher{gate: make(chan struct{})}
		a := newApp(t, func(c *oauth2pw.Config) { c.Hasher = h })
		var wg sync.WaitGroup
		for i := range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			wg.Go(func() {
				r := httptest.NewRequest("POST", "/token", strings.NewReader(wrong("johndoe", i))).WithContext(ctx)
				r.TLS, r.RemoteAddr = new(tls.ConnectionState), home+":1"
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				a.serve(r)
			})
			require.Eventually(t, func() bool { return int(h.calls.Load()) == i+1 }, time.Minute, time.Millisecond)
			cancel()
		}
		close(h.gate)
		wg.Wait()
		a.from(home, right("johndoe")).isThrottled(t)
	})
	t.Run("an Authenticate that ends with the client", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Hasher = nil
			c.Authenticate = func(ctx context.Context, _, _ string) (*oauth2pw.User, error) { return nil, ctx.Err() }
		})
		for i := range 10 {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r := httptest.NewRequest("POST", "/token", strings.NewReader(wrong("johndoe", i))).WithContext(ctx)
			r.TLS, r.RemoteAddr = new(tls.ConnectionState), home+":1"
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			a.serve(r).isError(t, 503, "temporarily_unavailable")
		}
		a.from(home, right("johndoe")).isThrottled(t)
	})
}

// brokenThrottle fails where it is told to.
type brokenThrottle struct {
	oauth2pw.Throttle
	begin, after error
	ended        error // that of the context of Succeed
	seen         []oauth2pw.Attempt
}

func (b *brokenThrottle) Begin(_ context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	b.seen = append(b.seen, a)
	return 0, b.begin
}
func (b *brokenThrottle) Succeed(ctx context.Context, _ oauth2pw.Attempt) error {
	b.ended = ctx.Err()
	if errors.Is(b.after, errPanics) {
		panic("secret")
	}
	return b.after
}

var errPanics = errors.New("panics")

func (b *brokenThrottle) Cancel(context.Context, oauth2pw.Attempt) error { return b.after }

// TestThrottlePlug: a throttle that fails lets nobody in, and one that cannot take
// back keeps nobody out.
func TestThrottlePlug(t *testing.T) {
	b := &brokenThrottle{begin: errors.New("the network is down")}
	a := newApp(t, func(c *oauth2pw.Config) { c.Throttle = b; c.Realm = "tenant" })
	for _, form := range []string{right("johndoe"), wrong("johndoe", 1), right("johndoe") + "&client_id=backend&client_secret=backend-secret"} {
		a.from(home, form).isError(t, 503, "temporarily_unavailable")
		events := a.takeEvents()
		require.Equal(t, oauth2pw.EventUnavailable, events[0].Kind)
		require.Equal(t, "Throttle.Begin", events[0].Reason)
	}
	require.Zero(t, a.hasher.take())
	require.Equal(t, oauth2pw.Attempt{
		Kind: "password", Realm: "tenant", Account: "johndoe", Address: netip.MustParseAddr(home), Tag: b.seen[0].Tag,
	}, b.seen[0])
	require.NotEqual(t, b.seen[0].Tag, b.seen[1].Tag)
	a.from(home, right("janedoe")) // a name as long
	require.NotEqual(t, b.seen[0].Tag, b.seen[len(b.seen)-1].Tag, "equal passwords of two accounts show nothing")
	b.seen = b.seen[:len(b.seen)-1]
	a.takeEvents()
	require.Equal(t, "client", b.seen[2].Kind)
	require.True(t, b.seen[2].Right)

	b.begin, b.after = nil, errors.New("the network is down")
	require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode)
	require.Equal(t, "Throttle.Succeed", a.takeEvents()[0].Reason)

	// The client hangs up during its hash: what was right is taken back all the same.
	ctx, cancel := context.WithCancel(t.Context())
	hangUp := newApp(t, func(c *oauth2pw.Config) {
		c.Throttle = b
		c.Hasher = nil
		c.Authenticate = func(context.Context, string, string) (*oauth2pw.User, error) {
			cancel()
			return &oauth2pw.User{ID: "u1"}, nil
		}
	})
	r := httptest.NewRequest("POST", "/token", strings.NewReader(right("johndoe"))).WithContext(ctx)
	r.TLS = new(tls.ConnectionState)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b.ended = errPanics
	hangUp.serve(r)
	require.NoError(t, b.ended)

	b.after = errPanics
	a.from(home, right("johndoe")).isError(t, 500, "server_error")
	events := a.takeEvents()
	require.Equal(t, oauth2pw.EventPanic, events[0].Kind)
	require.NotContains(t, events[0].Err.Error(), "secret")
	b.after = nil
	require.Equal(t, 200, a.from(home, right("johndoe")).StatusCode, "the server goes on")
}

func TestThrottleConfig(t *testing.T) {
	for want, edit := range map[string]func(c *oauth2pw.Config){
		"ThrottleLimit":      func(c *oauth2pw.Config) { c.ThrottleLimit = -1 },
		"ThrottleWindow":     func(c *oauth2pw.Config) { c.ThrottleWindow = -1 },
		"at most 100000":     func(c *oauth2pw.Config) { c.ThrottleLimit = 100_001 },
		"at most a week":     func(c *oauth2pw.Config) { c.ThrottleWindow = 8 * 24 * time.Hour },
		"nil pointer":        func(c *oauth2pw.Config) { c.Throttle = (*brokenThrottle)(nil) },
		"InsecureNoThrottle": func(c *oauth2pw.Config) { c.Throttle = new(brokenThrottle); c.InsecureNoThrottle = true },
		"has its own":        func(c *oauth2pw.Config) { c.Throttle = new(brokenThrottle); c.ThrottleLimit = 5 },
	} {
		users, err := store.NewUsers()
		require.NoError(t, err)
		c := oauth2pw.Config{Users: users, Hasher: new(plainHasher), Issuer: newApp(t).ring}
		edit(&c)
		_, err = oauth2pw.New(c)
		require.ErrorContains(t, err, want)
	}
}

// TestGuessingRun: 100,000 guesses from 1,000 addresses at 1,000 accounts in three
// hours. In no hour do more than 40 get through to one account, and every owner
// still gets in from where the last login was.
func TestGuessingRun(t *testing.T) {
	const accounts, addresses, guesses = 1000, 1000, 100_000
	a := newApp(t, func(c *oauth2pw.Config) { c.OnEvent = nil })
	for i := range accounts {
		name := fmt.Sprint("owner", i)
		require.NoError(t, a.users.Add(oauth2pw.User{ID: name, Username: name, PasswordHash: "new:secret"}))
		require.Equal(t, 200, a.from(fmt.Sprintf("192.0.%d.%d", i/250, i%250), right(name)).StatusCode)
	}
	random := rand.New(rand.NewPCG(1, 2))
	through := make(map[string][]time.Time)
	most, all := 0, 0
	for i := range guesses {
		a.clock.Advance(3 * time.Hour / guesses)
		n := random.IntN(accounts)
		if random.IntN(2) == 0 {
			n = random.IntN(20) // a few are wanted more
		}
		name := fmt.Sprint("owner", n)
		address := random.IntN(addresses)
		if got := a.from(fmt.Sprintf("203.0.%d.%d", address/250, address%250), fmt.Sprintf("grant_type=password&username=%s&password=%d", name, i)); got.StatusCode == 400 {
			now := a.clock.Now()
			times := append(through[name], now)
			for now.Sub(times[0]) >= time.Hour {
				times = times[1:]
			}
			through[name] = times
			most = max(most, len(times))
			all++
		}
	}
	require.LessOrEqual(t, most, 40)
	for i := range accounts {
		require.Equal(t, 200, a.from(fmt.Sprintf("192.0.%d.%d", i/250, i%250), right(fmt.Sprint("owner", i))).StatusCode)
	}
	t.Logf("%d of %d guesses got through, at most %d at one account in an hour", all, guesses, most)
}

// slowUsers and the like are plugs that answer when their context ends.
type slowUsers struct{ oauth2pw.UserStore }

func (slowUsers) UserByName(ctx context.Context, _ string) (*oauth2pw.User, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type slowUpdater struct{ *store.Users }

func (slowUpdater) UpdatePasswordHash(ctx context.Context, _, _, _ string, _ time.Time) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

type slowClients struct{}

func (slowClients) ClientByID(ctx context.Context, _ string) (*oauth2pw.Client, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type slowSessions struct{ oauth2pw.SessionStore }

func (slowSessions) Create(ctx context.Context, _ *oauth2pw.Session) error {
	<-ctx.Done()
	return ctx.Err()
}

type slowThrottle struct{ oauth2pw.Throttle }

func (slowThrottle) Begin(ctx context.Context, _ oauth2pw.Attempt) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestStoreTimeout: a plug that hangs is a 503 after Config.StoreTimeout, by default
// 5 seconds.
func TestStoreTimeout(t *testing.T) {
	for name, edit := range map[string]func(c *oauth2pw.Config){
		"":                       func(c *oauth2pw.Config) { c.Users = slowUpdater{c.Users.(*store.Users)} }, // an upgrade: the login goes on
		"UserStore.UserByName":   func(c *oauth2pw.Config) { c.Users = slowUsers{c.Users} },
		"ClientStore.ClientByID": func(c *oauth2pw.Config) { c.Clients = slowClients{} },
		"SessionStore.Create":    func(c *oauth2pw.Config) { withSessions(c); c.Sessions = slowSessions{c.Sessions} },
		"Throttle.Begin":         func(c *oauth2pw.Config) { c.Throttle = slowThrottle{} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var event oauth2pw.Event
				users, err := store.NewUsers(oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "old:secret"})
				require.NoError(t, err)
				clients, err := store.NewClients(oauth2pw.Client{ID: "webapp", Grants: []string{"password"}})
				require.NoError(t, err)
				key, err := tokens.ParseKeys([]byte(testKey))
				require.NoError(t, err)
				ring, err := tokens.New(tokens.Config{Keys: key, Issuer: issuer, Audience: audience})
				require.NoError(t, err)
				c := oauth2pw.Config{
					Users: users, Hasher: new(plainHasher), Clients: clients, Issuer: ring,
					RequestID: func(context.Context) string { return "r-1" },
					OnEvent: func(_ context.Context, e oauth2pw.Event) {
						if e.Kind != oauth2pw.EventLogin && e.Kind != oauth2pw.EventHashUpgraded {
							event = e
						}
					},
				}
				edit(&c)
				auth, err := oauth2pw.New(c)
				require.NoError(t, err)
				r := httptest.NewRequest("POST", "/token", strings.NewReader(login+"&client_id=webapp"))
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.RemoteAddr = "127.0.0.1:1"
				w := httptest.NewRecorder()
				began := time.Now()
				auth.TokenHandler().ServeHTTP(w, r)
				if name == "" {
					require.Equal(t, 200, w.Code)
				} else {
					read(t, w.Result()).isError(t, 503, "temporarily_unavailable")
				}
				require.Equal(t, 5*time.Second, time.Since(began))
				require.Equal(t, name, event.Reason)
				require.ErrorIs(t, event.Err, context.DeadlineExceeded)
				require.Equal(t, "r-1", event.RequestID)
			})
		})
	}
}

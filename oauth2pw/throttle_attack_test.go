package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// attack is what an attacker does for some hours against the account of johndoe, whose
// owner is at home.
type attack struct {
	name  string
	setUp func(a *app)
	tries int                      // an hour
	guess func(a *app, i int) bool // the ith try; whether a password of johndoe was checked
	hour  int                      // the guesses that get through in an hour, at most
}

// quiet is for tests of so many requests that their events take the time.
func quiet(c *oauth2pw.Config) { c.OnEvent = func(context.Context, oauth2pw.Event) {} }

// checked reports whether a password was checked. An attacker never gets tokens.
func checked(a *app, got answer) bool {
	a.Helper()
	require.GreaterOrEqual(a, got.StatusCode, 400, got.body)
	return got.StatusCode == 400 && got.code() == "invalid_grant"
}

// TestAttackers: what each attacker gets of one account in an hour, and that its owner
// gets in at home all the time, at every minute, but for the price of a bound: somebody
// who guesses at this very name from this very address.
func TestAttackers(t *testing.T) {
	const hours = 3
	guess := func(a *app, address, name string, i int) bool {
		return checked(a, a.serve(post(wrong(name, i), from(address))))
	}
	for _, test := range []attack{
		{
			name: "from one address", tries: 600, hour: 30,
			guess: func(a *app, i int) bool { return guess(a, away, "johndoe", i) },
		},
		{
			name: "from 1,000 addresses", tries: 1000, hour: 30,
			guess: func(a *app, i int) bool {
				return guess(a, fmt.Sprintf("203.0.%d.%d", i/250%4, i%250), "johndoe", i)
			},
		},
		{
			name: "with an account of his own under another spelling", tries: 600, hour: 30,
			setUp: func(a *app) {
				require.NoError(a, a.users.Add(oauth2pw.User{ID: "m", Username: "JohnDoe", PasswordHash: "new:mallory"}))
			},
			guess: func(a *app, i int) bool {
				if i%5 == 0 {
					require.Equal(a, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(away))).StatusCode)
				}
				return guess(a, away, "johndoe", i)
			},
		},
		{
			name: "at home, at invented names", tries: 1200, hour: 0,
			guess: func(a *app, i int) bool { guess(a, home, fmt.Sprint("invented", i), i); return false },
		},
		{
			name: "at home, at other users, who are known there", tries: 1200, hour: 0,
			setUp: func(a *app) {
				for _, name := range a.addUsers("colleague", 150) {
					require.Equal(a, 200, a.serve(post(right(name), from(home))).StatusCode)
				}
			},
			guess: func(a *app, i int) bool { guess(a, home, fmt.Sprint("colleague", i%150), i); return false },
		},
		{
			name: "from all of the owner's /48", tries: 2400, hour: 30,
			guess: func(a *app, i int) bool { return guess(a, fmt.Sprintf("2001:db8:1:%x::1", 16+i), "johndoe", i) },
		},
		{
			name: "from the owner's /48, at invented names", tries: 2400, hour: 0,
			guess: func(a *app, i int) bool {
				guess(a, fmt.Sprintf("2001:db8:1:%x::1", 16+i), fmt.Sprint("x", i), i)
				return false
			},
		},
		{
			name: "through the owner's browser", tries: 600, hour: 0,
			guess: func(a *app, i int) bool {
				return checked(a, a.serve(post(wrong("johndoe", i), from(home), with("Sec-Fetch-Site: cross-site", "Origin: https://evil.example"))))
			},
		},
		{
			name: "by another grant that names him", tries: 600, hour: 0,
			guess: func(a *app, i int) bool {
				checked(a, a.serve(post(fmt.Sprint("grant_type=otp&username=johndoe&otp=", i), from(home))))
				return false // a code, and no password
			},
		},
		{
			name: "with invented clients and bogus refresh tokens, at home", tries: 1200, hour: 0,
			guess: func(a *app, i int) bool {
				bogus := checked(a, a.serve(post("grant_type=refresh_token&refresh_token=x", from(home))))
				return checked(a, a.serve(post(login+fmt.Sprintf("&client_id=c%d&client_secret=x", i), from(home)))) || bogus
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := grantApp(t, quiet)
			homes := []string{home, "2001:db8:1:1::7"}
			for _, address := range homes {
				require.Equal(t, 200, a.serve(post(right("johndoe"), from(address))).StatusCode)
			}
			if test.setUp != nil {
				test.setUp(a)
			}
			var times []time.Time
			most := 0
			for i := range hours * test.tries {
				a.clock.Advance(time.Hour / time.Duration(test.tries))
				if test.guess(a, i) {
					times = append(times, a.clock.Now())
				}
				for len(times) > 0 && a.clock.Now().Sub(times[0]) >= time.Hour {
					times = times[1:]
				}
				most = max(most, len(times))
				if i%(test.tries/60) == 0 {
					for _, address := range homes {
						require.Equal(t, 200, a.serve(post(right("johndoe"), from(address))).StatusCode, "the owner at home, minute %d", i/(test.tries/60))
					}
				}
			}
			t.Logf("%-60s at most %d guesses in an hour", test.name, most)
			require.Equal(t, test.hour, most)
		})
	}

	// The owner is not at home in these.
	t.Run("the price: this name from this address", func(t *testing.T) {
		a := newApp(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		through := 0
		for i := range 240 {
			a.clock.Advance(15 * time.Second)
			if guess(a, home, "johndoe", i) {
				through++
			}
		}
		t.Logf("this name from this address: %d guesses in an hour", through)
		require.LessOrEqual(t, through, 40)
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.clock.Advance(15 * time.Minute)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("an insider at an address of 400 users", func(t *testing.T) {
		a := newApp(t, quiet)
		names := a.addUsers("colleague", 400)
		for _, name := range names {
			require.Equal(t, 200, a.serve(post(right(name), from(home))).StatusCode)
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode) // the insider is one of them
		through := 0
		for i := range 400 * 15 {
			if i%100 == 0 {
				require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
			}
			if guess(a, home, names[i%390], i) {
				through++
			}
		}
		t.Logf("an insider at an address of 400 users: %d guesses in 15 minutes", through)
		require.LessOrEqual(t, through, 1000+390)
		require.GreaterOrEqual(t, through, 1000)
		for _, name := range names[390:] { // at whom he has not guessed
			require.Equal(t, 200, a.serve(post(right(name), from(home))).StatusCode)
			a.serve(post(wrong(name, 1), from(home))).isError(t, 400, "invalid_grant")
			a.serve(post(right(name), from(home))).isThrottled(t) // the first try alone passes in such a crowd
		}
	})
}

// TestPhoneWithOldPassword: after a change of the password a phone tries the old one every
// 30 seconds, and its owner gets in at home.
func TestPhoneWithOldPassword(t *testing.T) {
	for _, before := range []string{"secret", "older"} { // it was right lately, or never here
		a := newApp(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.PasswordHash = "new:changed" }))
		for i := range 2 * 60 * 4 {
			a.clock.Advance(30 * time.Second)
			got := a.serve(post("grant_type=password&username=johndoe&password="+before, from(home)))
			got.isError(t, 400, "invalid_grant")
			if i%10 == 5 {
				require.Equal(t, 200, a.serve(post("grant_type=password&username=johndoe&password=changed", from(home))).StatusCode, i)
			}
		}
	}
	// Without the owner in between it is one guess in a window.
	a := newApp(t)
	require.Equal(t, 200, a.serve(post("grant_type=password&username=johndoe&password=secret", from(home))).StatusCode)
	require.NoError(t, a.users.Update("u1", func(u *oauth2pw.User) { u.PasswordHash = "new:changed" }))
	a.clock.Advance(time.Hour)
	for range 3 * 60 * 2 {
		a.clock.Advance(30 * time.Second)
		a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
	}
	for i := range 9 {
		a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
	}
	a.serve(post(wrong("johndoe", 99), from(home))).isThrottled(t)
}

// foldingUsers takes names in any case, with spaces at the end, as a column with the
// collation RTRIM and lower() would.
type foldingUsers struct{ *store.Users }

func fold(name string) string { return strings.ToLower(strings.TrimRight(name, " ")) }

func (s foldingUsers) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return s.Users.UserByName(ctx, fold(name))
}

// oneUserOf takes every name for that of one user.
type oneUserOf struct{ user oauth2pw.User }

func (o oneUserOf) UserByName(context.Context, string) (*oauth2pw.User, error) {
	return o.UserByID(context.Background(), o.user.ID)
}

func (o oneUserOf) UserByID(context.Context, string) (*oauth2pw.User, error) {
	u := o.user
	return &u, nil
}

// TestConformance144: one account has one set of limits, whatever spelling
// the store takes for it; two have two.
func TestConformance144(t *testing.T) {
	spellings := func(name string) (all []string) {
		for i := range 11 {
			s := []byte(name + strings.Repeat(" ", i/4))
			if i%2 == 1 {
				s[0] -= 'a' - 'A'
			}
			if i%4 > 1 {
				s[1] -= 'a' - 'A'
			}
			all = append(all, strings.ReplaceAll(string(s), " ", "+"))
		}
		return all
	}
	for _, folds := range []bool{false, true} {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Users = foldingUsers{c.Users.(*store.Users)}
			if folds {
				c.FoldName = fold
			}
		})
		for i, name := range spellings("johndoe") {
			got := a.serve(post(wrong(name, i), from(home)))
			if i < 10 {
				got.isError(t, 400, "invalid_grant")
			} else {
				got.isThrottled(t)
			}
		}
		told := 0
		for _, e := range a.takeEvents() {
			if e.Kind == oauth2pw.EventNameFolding {
				told++
				require.Equal(t, "u1", e.UserID)
				require.ErrorContains(t, e.Err, "Config.FoldName")
			}
		}
		if folds {
			require.Zero(t, told)

			for i, name := range spellings("nobody") { // who is told apart from a user by nothing
				got := a.serve(post(wrong(name, i), from(home)))
				if i < 10 {
					got.isError(t, 400, "invalid_grant")
				} else {
					got.isThrottled(t)
				}
			}
		} else {
			require.Equal(t, 1, told, "once an hour")
			a.clock.Advance(time.Hour)
			a.serve(post(wrong("JOHNDOE", 0), from(home))).isError(t, 400, "invalid_grant")
			require.Equal(t, oauth2pw.EventNameFolding, a.event().Kind)
		}
	}

	t.Run("names that differ in case are two users", func(t *testing.T) {
		a := newApp(t)
		require.NoError(t, a.users.Add(oauth2pw.User{ID: "m", Username: "JohnDoe", PasswordHash: "new:mallory"}))
		for i := range 9 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		for range 3 {
			require.Equal(t, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(home))).StatusCode)
		}
		a.serve(post(wrong("johndoe", 9), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(home))).StatusCode)
	})
	t.Run("an ID and a name are two accounts", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.serve(post(wrong("u1", i), from(home))).isError(t, 400, "invalid_grant") // nobody's name, and johndoe's ID
		}
		a.serve(post(wrong("u1", 10), from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("Authenticate", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Hasher, c.FoldName = nil, fold
			c.Authenticate = func(_ context.Context, name, password string) (*oauth2pw.User, error) {
				if name != "johndoe" || password != "secret" {
					return nil, oauth2pw.ErrNotFound
				}
				return &oauth2pw.User{ID: "u1", Username: name}, nil
			}
		})
		require.Equal(t, 200, a.serve(post(right("JohnDoe++"), from(home))).StatusCode)
		a.attackAccount("JOHNDOE")
		require.Equal(t, 200, a.serve(post(right("johnDOE"), from(home))).StatusCode, "the address is known to the account")
		for i, name := range spellings("johndoe")[:10] {
			a.serve(post(wrong(name, i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
	t.Run("a FoldName that folds less than the store", func(t *testing.T) {
		for username, want := range map[string]bool{"JOHNDOE": false, "john doe": true} {
			a := newApp(t, func(c *oauth2pw.Config) {
				c.Users = oneUserOf{oauth2pw.User{ID: "u1", Username: username, PasswordHash: "new:secret"}}
				c.FoldName = strings.ToLower
			})
			require.Equal(t, 200, a.serve(post(right("JohnDoe"), from(home))).StatusCode)
			require.Equal(t, want, a.event().Kind == oauth2pw.EventNameFolding, username)
		}
	})
	t.Run("FoldName that panics, or leaves nothing", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.FoldName = func(string) string { panic("secret") } })
		a.serve(post(right("johndoe"), from(home))).isError(t, 500, "server_error")
		a = newApp(t, func(c *oauth2pw.Config) { c.FoldName = func(string) string { return "" } })
		a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
		require.Equal(t, 1, a.hasher.take())
	})
}

// TestConformance145: what a page of another site makes a browser send is
// refused before anything is counted.
func TestConformance145(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.TrustedOrigins = []string{"https://app.example.com", "capacitor://localhost", "http://localhost:5173"}
	})
	for _, test := range []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Origin: https://evil.example"}, 200}, // an old browser, or a program: nobody can tell
		{[]string{"Sec-Fetch-Site: same-origin"}, 200},
		{[]string{"Sec-Fetch-Site: same-site", "Origin: https://other.example.com"}, 200},
		{[]string{"Sec-Fetch-Site: none"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: capacitor://localhost"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: http://localhost:5173"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: null"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com.evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://APP.example.com"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com/"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: http://localhost"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com", "Origin: https://evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: Cross-Site"}, 403},
		{[]string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: same-origin, cross-site"}, 403},
	} {
		for target, form := range map[string]string{"/token": right("johndoe"), "/revoke": "token=x", "/introspect": "token=x&client_id=backend&client_secret=backend-secret"} {
			got := a.serve(post(form, to(target), from(home), with(test.headers...)))
			if test.status == 200 {
				require.Equal(t, 200, got.StatusCode, "%s %v %s", target, test.headers, got.body)
				continue
			}
			got.isError(t, 403, "access_denied")
			require.Empty(t, got.Header.Values("WWW-Authenticate"))
		}
	}
	for i := range 100 { // and it counts for nothing, neither for the client
		a.serve(post(wrong("johndoe", i)+fmt.Sprint("&client_id=backend&client_secret=", i), from(home), with("Sec-Fetch-Site: cross-site"))).isError(t, 403, "access_denied")
	}
	require.Equal(t, 200, a.serve(post(right("johndoe")+"&client_id=backend&client_secret=backend-secret", from(home))).StatusCode)
	a.takeEvents()
	a.serve(post(right("johndoe"), from(home), with("Sec-Fetch-Site: cross-site"))).isError(t, 403, "access_denied")
	e := a.event()
	require.Equal(t, oauth2pw.EventRequestRefused, e.Kind)
	require.Equal(t, oauth2pw.ReasonCrossSite, e.Reason)
	require.ErrorContains(t, e.Err, "Config.TrustedOrigins")

	for _, origin := range []string{"", "null", "*", "https://*.example.com", "app.example.com", "https://app.example.com/", "https://app.example.com/x", "HTTPS://app.example.com", "https://App.example.com", "https://app.example.com:443", "http://x:80", "https://user@app.example.com", "https://", "https://a b", "https://x?y", "//app.example.com", "https://x:"} {
		c := a.config()
		c.TrustedOrigins = []string{origin}
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, "Config.TrustedOrigins", origin)
	}
}

// config returns a Config that New takes.
func (a *app) config() oauth2pw.Config {
	return oauth2pw.Config{Users: a.users, Hasher: a.hasher, Issuer: a.ring, DefaultScopes: []string{"me"}}
}

// unixApp is an app whose requests come over a Unix socket.
type unixApp struct {
	*app
	socket string
}

func newUnixApp(t *testing.T, edit func(*oauth2pw.Config)) *unixApp {
	t.Helper()
	a := &unixApp{newApp(t, edit), filepath.Join(t.TempDir(), "s")}
	listener, err := net.Listen("unix", a.socket)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(a.watched), ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	a.url, a.client = "http://app", unixClient(a.socket, nil)
	return a
}

// unixClient sends to a Unix socket. Its own end has a name, or, with nil, none.
func unixClient(server string, own *net.UnixAddr) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.DialUnix("unix", own, &net.UnixAddr{Name: server, Net: "unix"})
		},
	}}
}

// TestUnixSocket: over a real socket callers without an address share no counter, and what
// such a proxy says is believed where that is configured.
//
// Conformance 140, 141.
func TestUnixSocket(t *testing.T) {
	t.Run("local peers without an address", func(t *testing.T) {
		a := newUnixApp(t, func(*oauth2pw.Config) {})
		names := a.addUsers("x", 11)
		for _, name := range names[:10] {
			for i := range 10 {
				a.post(wrong(name, i)).isError(t, 400, "invalid_grant")
			}
		}
		for i := range 150 {
			a.post(fmt.Sprintf("grant_type=password&username=invented%d&password=x", i)).isError(t, 400, "invalid_grant")
			a.post(login+fmt.Sprint("&client_id=backend&client_secret=", i)).isError(t, 400, "invalid_client")
		}
		require.Equal(t, 200, a.post(right(names[10])).StatusCode)
		require.Equal(t, 200, a.post(login+"&client_id=backend&client_secret=backend-secret").StatusCode)
		for i := range 20 { // the account's own limit holds
			a.post(wrong(names[0], 10+i)).isError(t, 400, "invalid_grant")
		}
		a.post(right(names[0])).isThrottled(t)
		for range 3 { // which a success does not clear, and the same wrong secret counts once
			a.post(wrong("johndoe", 0)).isError(t, 400, "invalid_grant")
		}
		for range 50 {
			require.Equal(t, 200, a.post(right("johndoe")).StatusCode)
		}
		for i := range 28 {
			a.post(wrong("johndoe", 1+i)).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.post(right("johndoe")).StatusCode)
		a.post(wrong("johndoe", 100)).isError(t, 400, "invalid_grant")
		a.post(right("johndoe")).isThrottled(t)
	})
	t.Run("not trusted", func(t *testing.T) {
		a := newUnixApp(t, func(*oauth2pw.Config) {})
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home, "X-Forwarded-Proto: https").StatusCode)
		e := a.event()
		require.Equal(t, oauth2pw.EventUnknownProxy, e.Kind)
		require.ErrorContains(t, e.Err, "Config.TrustUnixSocket")
		require.False(t, e.Address.IsValid())
		a.attackAccount("johndoe")
		a.post(right("johndoe"), "X-Forwarded-For: "+home).isThrottled(t) // the header makes nothing known
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.post(right("x"), "X-Forwarded-Proto: http").isError(t, 400, "invalid_request")
	})
	t.Run("trusted", func(t *testing.T) {
		a := newUnixApp(t, func(c *oauth2pw.Config) { c.TrustUnixSocket = true })
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home).StatusCode)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home).StatusCode, "the owner's address is known")
		a.post(right("johndoe"), "X-Forwarded-For: 203.0.113.99").isThrottled(t)
		a.post(right("johndoe"), "X-Forwarded-For: "+home, "X-Forwarded-Proto: http").isError(t, 400, "invalid_request")
	})
	t.Run("without an http.Server", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.TrustUnixSocket = true })
		r := post(right("johndoe"), peer("@"), with("X-Forwarded-For: "+home))
		require.Equal(t, 200, a.serve(r).StatusCode)
		require.Equal(t, home, oauth2pw.ClientAddress(oauth2pw.ContextOf(a.auth, r)).String())
		// What an app's own middleware has put there is an address.
		r.RemoteAddr = "@ 192.0.2.9"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}))
		a.serve(r).isError(t, 400, "invalid_request") // and never a Unix socket, if the server has another
	})
}

// TestUnixPeerNames: the other end of a Unix socket chooses its own name, and no name is an
// address: neither a proxy's, nor the owner's home.
func TestUnixPeerNames(t *testing.T) {
	t.Chdir(t.TempDir()) // the names are relative paths
	a := newUnixApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	named := func(name string) *http.Client { return unixClient(a.socket, &net.UnixAddr{Name: name, Net: "unix"}) }
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	for i := range 10 {
		a.client = named(fmt.Sprintf("%s:%d", home, i+1))
		a.post(wrong("johndoe", i)).isError(t, 400, "invalid_grant")
	}
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	a.takeEvents()
	a.client = named("10.1.2.3:4")
	a.post(wrong("old", 1), "X-Forwarded-For: 198.51.100.9").isError(t, 400, "invalid_grant")
	for _, e := range a.takeEvents() {
		require.False(t, e.Address.IsValid(), "%+v", e)
	}
}

// TestTwiceTheLimit: a forwarding header from a known address is no second set of limits.
func TestTwiceTheLimit(t *testing.T) {
	a := newApp(t)
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	n := 0
	for i := range 60 {
		var headers []string
		if i%2 == 1 {
			headers = []string{"X-Forwarded-For: x"}
		}
		if checked(a, a.serve(post(wrong("johndoe", i), from(home), with(headers...)))) {
			n++
		}
	}
	require.Equal(t, 10, n)
}

// TestGuessesOfAGrant: a grant that tries one code at several users pays for each, even if
// a later one is blocked, and whatever context it passes.
func TestGuessesOfAGrant(t *testing.T) {
	looked := 0
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				for _, id := range []string{"u1", "u3"} {
					if err := r.Guess(context.Background(), id); err != nil {
						return nil, err
					}
					if id == "u1" {
						looked++
					}
				}
				return nil, oauth2pw.ErrNotFound
			},
		}
	})
	for i := range 10 {
		a.serve(post(wrong("old", i), from(away))).isError(t, 400, "invalid_grant") // blocks u3 there
	}
	for i := range 300 {
		a.serve(post(fmt.Sprint("grant_type=otp&otp=", i), from(away))).isThrottled(t)
	}
	require.Equal(t, 10, looked)
	a.serve(post("grant_type=otp&otp=1", from(home))).isError(t, 400, "invalid_grant")
	require.Equal(t, 11, looked, "another address")
}

// TestTrustedProxiesConfig: networks that hold strangers are refused.
func TestTrustedProxiesConfig(t *testing.T) {
	a := newApp(t)
	for prefix, good := range map[string]bool{
		"0.0.0.0/0": false, "::/0": false, "0.0.0.0/1": false, "128.0.0.0/1": false, "8.0.0.0/7": false, "::/1": false, "2000::/3": false, "::ffff:0:0/96": false,
		"10.0.0.0/8": true, "127.0.0.1/32": true, "fc00::/7": true, "::1/128": true,
	} {
		c := a.config()
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(prefix)}
		_, err := oauth2pw.New(c)
		if good {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "Config.TrustedProxies", prefix)
		}
	}
}

// TestThrottleClock: a clock that is set back or forward blocks nobody, and lets nobody
// guess more than it must.
func TestThrottleClock(t *testing.T) {
	for _, jump := range []time.Duration{-100 * 24 * time.Hour, -time.Hour, -time.Minute, time.Hour, 100 * 24 * time.Hour, 200 * 365 * 24 * time.Hour} {
		a := newApp(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(away))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(away))).isThrottled(t)
		a.clock.Advance(jump)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, jump)
		if jump < 0 {
			wait := a.serve(post(right("johndoe"), from(away))).isThrottled(t)
			require.LessOrEqual(t, wait, 15*time.Minute)
			a.clock.Advance(15*time.Minute - 1)
			a.serve(post(right("johndoe"), from(away))).isThrottled(t)
			a.clock.Advance(1)
		}
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(away))).StatusCode, jump)
		for i := range 10 {
			a.serve(post(wrong("johndoe", 10+i), from("198.51.100.4"))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from("198.51.100.4"))).isThrottled(t)
	}
}

// TestClockBehindAChange: a process whose clock is behind that of the one that has changed
// the password lets its owner in, and counts nothing for it.
func TestClockBehindAChange(t *testing.T) {
	a := newSessionApp(t)
	_, err := a.users.UpdatePasswordHash(t.Context(), "u1", "new:secret", "new:changed", a.clock.Now().Add(3*time.Minute))
	require.NoError(t, err)
	for range 20 {
		got := a.serve(post("grant_type=password&username=johndoe&password=changed", from(home)))
		require.Equal(t, 200, got.StatusCode, got.body)
		n := a.sessionOf(pairOf(got))
		require.False(t, n.AuthenticatedAt.After(n.RefreshedAt), "which says that the last step was a change")
		a.refreshed(pairOf(got).refresh)
	}
	for _, e := range a.takeEvents() {
		require.NotEqual(t, oauth2pw.EventSessionEnded, e.Kind, "at the first try")
	}
	a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
	tokens, err := a.auth.Login(post(""), "u1", "")
	require.NoError(t, err)
	_, err = a.auth.Verify(t.Context(), string(tokens.AccessToken))
	require.NoError(t, err)
	// A custom grant may have checked what the change has made void: it is refused, and
	// is no guess.
	b := newApp(t, func(c *oauth2pw.Config) {
		c.ThrottleLimit = 1
		c.Grants = map[string]oauth2pw.GrantFunc{
			"x": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				if err := r.Guess(ctx, "u1"); err != nil {
					return nil, err
				}
				return &oauth2pw.User{ID: "u1", SessionsValidFrom: c.Now().Add(time.Minute)}, nil
			},
		}
	})
	for range 30 {
		b.serve(post("grant_type=x", from(home))).isError(t, 400, "invalid_grant")
	}
	require.Equal(t, 200, b.serve(post(right("johndoe"), from(home))).StatusCode)
}

// TestGuessingRun: 100,000 guesses from 1,000 addresses at 1,000 accounts in three
// hours. In no hour do more than 30 get through to one account, and every owner
// gets in from where the last login was.
func TestGuessingRun(t *testing.T) {
	const accounts, addresses, guesses = 1000, 1000, 100_000
	a := newApp(t, quiet)
	for i, name := range a.addUsers("owner", accounts) {
		require.Equal(t, 200, a.serve(post(right(name), from(fmt.Sprintf("192.0.%d.%d", i/250, i%250)))).StatusCode)
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
		if checked(a, a.serve(post(fmt.Sprintf("grant_type=password&username=%s&password=%d", name, i), from(fmt.Sprintf("203.0.%d.%d", address/250, address%250))))) {
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
	require.LessOrEqual(t, most, 30)
	for i := range accounts {
		require.Equal(t, 200, a.serve(post(right(fmt.Sprint("owner", i)), from(fmt.Sprintf("192.0.%d.%d", i/250, i%250)))).StatusCode)
	}
	t.Logf("%d of %d guesses got through, at most %d at one account in an hour", all, guesses, most)
}

// TestConnectionReset: a client that hangs up in the middle of a custom grant does not make
// its guesses free.
func TestConnectionReset(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"x": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				if err := r.Guess(ctx, "u1"); err != nil {
					return nil, err
				}
				if ctx.Err() != nil {
					return nil, errors.New("the client is gone")
				}
				return &oauth2pw.User{ID: "u1"}, nil
			},
		}
	})
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.serve(post("grant_type=x", during(ctx))).isError(t, 503, "temporarily_unavailable")
	}
	a.serve(post("grant_type=x")).isThrottled(t)
}

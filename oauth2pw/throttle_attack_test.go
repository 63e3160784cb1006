package oauth2pw_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
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

// tryAt sends a wrong password, and reports whether it was checked.
func tryAt(a *app, address, name string, i int) bool {
	a.Helper()
	return checked(a, a.serve(post(wrong(name, i), from(address))))
}

var attacks = []attack{
	{
		name: "from one address", tries: 600, hour: 30,
		guess: func(a *app, i int) bool { return tryAt(a, away, "johndoe", i) },
	},
	{
		name: "from 1,000 addresses", tries: 1000, hour: 30,
		guess: func(a *app, i int) bool {
			return tryAt(a, fmt.Sprintf("203.0.%d.%d", i/250%4, i%250), "johndoe", i)
		},
	},
	{
		name: "with an account of his own under another spelling", tries: 600, hour: 30,
		setUp: func(a *app) {
			require.NoError(a, a.users.Add(context.Background(), oauth2pw.User{ID: "m", Username: "JohnDoe", PasswordHash: "new:mallory"}))
		},
		guess: func(a *app, i int) bool {
			if i%5 == 0 {
				require.Equal(a, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(away))).StatusCode)
			}
			return tryAt(a, away, "johndoe", i)
		},
	},
	{
		name: "at home, at invented names", tries: 1200, hour: 0,
		guess: func(a *app, i int) bool { tryAt(a, home, fmt.Sprint("invented", i), i); return false },
	},
	{
		name: "at home, at other users, who are known there", tries: 1200, hour: 0,
		setUp: func(a *app) {
			for _, name := range a.addUsers("colleague", 150) {
				require.Equal(a, 200, a.serve(post(right(name), from(home))).StatusCode)
			}
		},
		guess: func(a *app, i int) bool { tryAt(a, home, fmt.Sprint("colleague", i%150), i); return false },
	},
	{
		name: "from all of the owner's /48", tries: 2400, hour: 30,
		guess: func(a *app, i int) bool { return tryAt(a, fmt.Sprintf("2001:db8:1:%x::1", 16+i), "johndoe", i) },
	},
	{
		name: "from the owner's /48, at invented names", tries: 2400, hour: 0,
		guess: func(a *app, i int) bool {
			tryAt(a, fmt.Sprintf("2001:db8:1:%x::1", 16+i), fmt.Sprint("x", i), i)
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
}

// TestAttackers: each attacker gets so many guesses at one account in an hour, and its owner
// logs in at home at every minute.
func TestAttackers(t *testing.T) {
	const hours = 3
	for _, test := range attacks {
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
}

// TestAttackersAtHome: an attacker at an address that users know keeps out those alone at whose
// names the attacker guesses.
func TestAttackersAtHome(t *testing.T) {
	t.Run("the price: this name from this address", func(t *testing.T) {
		a := newApp(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
		through := 0
		for i := range 240 {
			a.clock.Advance(15 * time.Second)
			if tryAt(a, home, "johndoe", i) {
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
			if tryAt(a, home, names[i%390], i) {
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
		require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.PasswordHash = "new:changed"; return nil }))
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
	require.NoError(t, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.PasswordHash = "new:changed"; return nil }))
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

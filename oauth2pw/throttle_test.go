package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

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
	require.NoError(t, a.users.Update(context.Background(), "u3", func(u *oauth2pw.User) error { u.Username = "renamed"; return nil }))
	old := a.tokenFor("u3")
	for i := range 5 { // whatever the name is by now
		change(old, "198.51.100.7", fmt.Sprint("wrong", i)).isError(t, 403, "invalid_grant")
		a.serve(post(wrong("renamed", 10+i), from("198.51.100.7"))).isError(t, 400, "invalid_grant")
	}
	a.serve(post(wrong("renamed", 99), from("198.51.100.7"))).isThrottled(t)
}

// TestThrottleOff: with Config.InsecureNoThrottle nothing counts.
func TestThrottleOff(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) { c.InsecureNoThrottle = true })
	for i := range 200 {
		a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
	}
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
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

// TestThrottlePlugFails: if Begin fails, nobody logs in; if Succeed fails, the login works.
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

// TestThrottlePlugAttempts: an Attempt has all that a throttle needs, and no secret.
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

// TestThrottlePlugAfterHangUp: a client disconnects while its password is verified. A correct
// password is uncounted all the same.
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
	a.serve(post(right("johndoe"), from(home), during(ctx))) // nobody reads the answer
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
	events := a.takeEvents()
	require.Len(t, events, 40, "20 logins and 20 refreshes")
	for _, e := range events {
		require.NotEqual(t, oauth2pw.EventSessionEnded, e.Kind, "at the first try")
	}
	a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
	tokens, err := a.auth.Login(post(""), "u1", "")
	require.NoError(t, err)
	_, err = a.auth.Verify(t.Context(), string(tokens.AccessToken))
	require.NoError(t, err)
	// A custom grant may have checked a secret from before the change: it is refused, and
	// does not count.
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

// TestThrottleSuite, see storetest.Throttle: the limits, rule by rule, and random attempts beside
// the plainest throttle.
func TestThrottleSuite(t *testing.T) {
	storetest.Throttle(t, func(_ *testing.T, limit int, window time.Duration, now func() time.Time) oauth2pw.Throttle {
		return oauth2pw.NewBuiltInThrottle(limit, window, now)
	})
}

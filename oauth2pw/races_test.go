package oauth2pw_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// The races of refreshes and of logins. A request comes between two calls of a store, at the
// worst place: a step of a script makes it, and records its answer.

// TestRacesOfRefreshes: a refresh revives nothing, and two of them have one successor.
//
// Conformance 146.
func TestRacesOfRefreshes(t *testing.T) {
	t.Run("a refresh does not revive what ends beside it", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var ended int
		var err error
		s.before("SessionStore.Advance", once(func() { ended, err = a.auth.EndAllSessions(t.Context(), "u1", "logout") }))
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		require.NoError(t, err)
		require.Equal(t, 1, ended)
		a.lives(p, false)
	})

	t.Run("a thief who hangs up does not save the session", func(t *testing.T) {
		a, s := newScriptedApp(t)
		first := a.login()
		second := a.refreshed(a.refreshed(first.refresh).refresh)
		ctx, hangUp := context.WithCancel(t.Context())
		s.before("SessionStore.End", once(hangUp))
		a.serve(post(refreshForm(first.refresh), during(ctx))).isError(t, 400, "invalid_grant")
		require.Error(t, ctx.Err())
		a.lives(second, false)
	})

	t.Run("a session that was ended is not ended again", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		require.Equal(t, 200, a.revoke("token="+p.refresh).StatusCode)
		require.Equal(t, 1, s.take("SessionStore.End"))
		a.lives(p, false)
		require.Zero(t, s.take("SessionStore.End"))
	})

	t.Run("two refreshes that both lost once", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		losers := make([]answer, 2)
		var winner answer
		reached := 0
		synctest.Test(t, func(*testing.T) {
			start := make(chan struct{})
			s.before("SessionStore.Advance", waits(start))
			var wg sync.WaitGroup
			for i := range losers {
				wg.Go(func() { losers[i] = a.serve(post(refreshForm(p.refresh))) })
			}
			synctest.Wait()
			reached = s.take("SessionStore.Advance")
			s.end()
			winner = a.serve(post(refreshForm(p.refresh)))
			close(start)
			wg.Wait()
		})
		require.Equal(t, 2, reached)
		successor := a.granted(winner).refresh
		for _, got := range losers {
			require.Equal(t, successor, a.granted(got).refresh)
		}
		require.Equal(t, uint64(2), a.session("u1").Generation)
	})

	t.Run("a refresh that always loses is 503 and spends nothing", func(t *testing.T) {
		lose := false
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.Sessions = losing{c.Sessions, &lose} })
		p := a.login()
		lose = true
		a.refresh(p.refresh).isError(t, 503, "temporarily_unavailable")
		lose = false
		a.lives(p, true)
	})
}

// losing is a store whose Advance never finds the generation that it is given.
type losing struct {
	oauth2pw.SessionStore
	lose *bool
}

func (l losing) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	if *l.lose {
		return false, nil
	}
	return l.SessionStore.Advance(ctx, from, n, now)
}

// TestRacesOfLoginAndChange: a login does not survive a change of the password, which comes at
// any of its calls.
//
// Conformance 146.
func TestRacesOfLoginAndChange(t *testing.T) {
	for _, call := range []string{"UserStore.UserByName", "SessionStore.Create", "UserStore.UserByID", "SessionStore.List"} {
		for _, when := range []string{"before", "after"} {
			t.Run(when+" "+call, func(t *testing.T) {
				a, s := newScriptedApp(t)
				mine := a.login()
				var changed answer
				change := once(func() {
					a.clock.Advance(time.Millisecond)
					changed = a.change(mine.access, "secret", "new")
				})
				if when == "before" {
					s.before(call, change)
				} else {
					s.after(call, change)
				}
				got := a.post(login)
				s.end()
				mine = a.granted(changed)
				if got.StatusCode == 200 { // the answer was on its way, and is worth nothing
					a.lives(pairOf(got), false)
				} else {
					got.isError(t, 400, "invalid_grant")
				}
				require.Equal(t, 1, a.live("u1"))
				a.lives(mine, true)
			})
		}
	}

	t.Run("a custom grant", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) {
			c.Grants = map[string]oauth2pw.GrantFunc{
				"x": func(context.Context, *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
					return &oauth2pw.User{ID: "u1", Scopes: []string{"me"}}, nil
				},
			}
		})
		mine := a.login()
		var changed answer
		s.before("SessionStore.Create", once(func() { changed = a.change(mine.access, "secret", "new") }))
		a.post("grant_type=x").isError(t, 400, "invalid_grant") // it has verified no password: the time decides
		a.lives(a.granted(changed), true)
		a.clock.Advance(time.Microsecond)
		require.Equal(t, 200, a.post("grant_type=x").StatusCode)
	})

	t.Run("without sessions", func(t *testing.T) {
		s := new(script)
		a := newApp(t, func(c *oauth2pw.Config) { c.LoadUser = false }, s.wrap)
		token := a.token("")
		var changed answer
		s.before("UserStore.UserByID", once(func() { changed = a.change(token, "secret", "new") }))
		a.post(login).isError(t, 400, "invalid_grant")
		require.Equal(t, 200, changed.StatusCode)
		a.change(token, "new", "newer").isError(t, 403, "access_denied") // it is older than the change

		// A change to the same password: the login begins anew, so that its token lives.
		a.hasher.salt = counter()
		a.clock.Advance(time.Minute)
		fresh := pairOf(a.post("grant_type=password&username=johndoe&password=new")).access
		s.before("UserStore.UserByID", once(func() { changed = a.change(fresh, "new", "new") }))
		got := a.post("grant_type=password&username=johndoe&password=new")
		require.Equal(t, 200, got.StatusCode, got.body)
		require.Equal(t, 200, changed.StatusCode)
		c := a.config()
		c.LoadUser, c.Now = true, a.clock.Now
		strict, err := oauth2pw.New(c)
		require.NoError(t, err)
		_, err = strict.Verify(t.Context(), pairOf(got).access)
		require.NoError(t, err)
	})
}

// TestRacesOfLogins: a login beside other changes of its user, and beside other logins.
//
// Conformance 146.
func TestRacesOfLogins(t *testing.T) {
	t.Run("a login does not survive that its user is disabled", func(t *testing.T) {
		a, s := newScriptedApp(t)
		var err error
		s.before("SessionStore.Create", once(func() {
			err = a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil })
		}))
		a.post(login).isError(t, 400, "invalid_grant")
		require.NoError(t, err)
		a.saw(oauth2pw.EventSessionEnded, "user_disabled")
	})

	t.Run("a hash that two logins upgrade", func(t *testing.T) {
		a, s := newScriptedApp(t)
		a.hasher.salt = counter() // no two hashes are equal
		var other answer
		s.before("PasswordUpdater.UpdatePasswordHash", once(func() { other = a.post(right("old")) }))
		a.hasher.take()
		a.granted(a.post(right("old")))
		a.granted(other)
		require.Equal(t, 3, a.hasher.take(), "the one that lost verifies the password once more")
		require.Equal(t, 2, a.live("u3"))
	})

	t.Run("a login beside a change to the same password", func(t *testing.T) {
		a, s := newScriptedApp(t)
		a.hasher.salt = counter()
		mine := a.login()
		var changed answer
		s.before("SessionStore.Create", once(func() { changed = a.change(mine.access, "secret", "secret") }))
		a.hasher.take()
		other := a.login() // it begins anew, from the time of the change
		require.Equal(t, 3, a.hasher.take(), "its own, that of the change, and once more against the new hash")
		a.lives(other, true)
		a.lives(a.granted(changed), true)
		require.Equal(t, 2, a.live("u1"))
	})

	t.Run("parallel logins at the limit", func(t *testing.T) {
		for _, limit := range []int{1, 3} {
			a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.MaxSessions = limit })
			for range limit {
				a.refreshed(a.login().refresh)
			}
			a.clock.Advance(time.Minute)
			var inner answer
			s.before("SessionStore.List", once(func() { // both rows are there before either looks
				a.clock.Advance(time.Millisecond)
				inner = a.post(login)
			}))
			a.login()
			a.granted(inner)
			require.Equal(t, limit, a.live("u1"))
		}
	})

	t.Run("UserByID without the hash", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.Users = noHashByID{c.Users} })
		a.post(login).isError(t, 503, "temporarily_unavailable")
		e := a.saw(oauth2pw.EventUnavailable, "UserStore.UserByID")
		require.ErrorContains(t, e.Err, "without PasswordHash")
		require.Zero(t, a.live("u1"))
	})
}

// noHashByID forgets the hash where a user is read by ID.
type noHashByID struct{ oauth2pw.UserStore }

func (s noHashByID) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	u, err := s.UserStore.UserByID(ctx, id)
	if err == nil {
		u.PasswordHash = ""
	}
	return u, err
}

// counter returns a function that returns another string each time.
func counter() func() string {
	var mu sync.Mutex
	n := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprint(n)
	}
}

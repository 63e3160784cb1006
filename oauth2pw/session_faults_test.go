package oauth2pw_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// scripted wraps the stores of an app: before and after, where they are set, are
// called around every call, with its name. An error of theirs is the store's.
type scripted struct {
	users interface {
		oauth2pw.UserStore
		oauth2pw.PasswordUpdater
	}
	sessions      oauth2pw.SessionStore
	clients       oauth2pw.ClientStore
	mu            sync.Mutex
	before, after func(call string) error
}

func (s *scripted) set(before, after func(call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func around[T any](s *scripted, call string, do func() (T, error)) (T, error) {
	s.mu.Lock()
	before, after := s.before, s.after
	s.mu.Unlock()
	var none T
	if before != nil {
		if err := before(call); err != nil {
			return none, err
		}
	}
	v, err := do()
	if after != nil {
		if failed := after(call); failed != nil {
			return none, failed
		}
	}
	return v, err
}

type (
	scriptedUsers    struct{ *scripted }
	scriptedSessions struct{ *scripted }
	scriptedClients  struct{ *scripted }
)

func (s scriptedUsers) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return around(s.scripted, "UserByName", func() (*oauth2pw.User, error) { return s.users.UserByName(ctx, name) })
}

func (s scriptedUsers) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return around(s.scripted, "UserByID", func() (*oauth2pw.User, error) { return s.users.UserByID(ctx, id) })
}

func (s scriptedUsers) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	return around(s.scripted, "UpdatePasswordHash", func() (bool, error) { return s.users.UpdatePasswordHash(ctx, id, old, new, changed) })
}

func (s scriptedClients) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	return around(s.scripted, "ClientByID", func() (*oauth2pw.Client, error) { return s.clients.ClientByID(ctx, id) })
}

func (s scriptedSessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	_, err := around(s.scripted, "Create", func() (any, error) { return nil, s.sessions.Create(ctx, n) })
	return err
}

func (s scriptedSessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	return around(s.scripted, "Get", func() (*oauth2pw.Session, error) { return s.sessions.Get(ctx, id) })
}

func (s scriptedSessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	return around(s.scripted, "Advance", func() (bool, error) { return s.sessions.Advance(ctx, from, n, now) })
}

func (s scriptedSessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	return around(s.scripted, "List", func() ([]*oauth2pw.Session, error) { return s.sessions.List(ctx, userID, now) })
}

func (s scriptedSessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	return around(s.scripted, "End", func() ([]string, error) { return s.sessions.End(ctx, f, reason, now) })
}

func (s scriptedSessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	return around(s.scripted, "Sweep", func() (int, error) { return s.sessions.Sweep(ctx, before, limit) })
}

func newScriptedApp(t *testing.T, edits ...func(*oauth2pw.Config)) (*sessionApp, *scripted) {
	t.Helper()
	s := new(scripted)
	a := newSessionApp(t, append(edits, func(c *oauth2pw.Config) {
		s.users = c.Users.(interface {
			oauth2pw.UserStore
			oauth2pw.PasswordUpdater
		})
		s.sessions, s.clients = c.Sessions, c.Clients
		c.Users, c.Sessions, c.Clients = scriptedUsers{s}, scriptedSessions{s}, scriptedClients{s}
	})...)
	a.sessions = s.sessions
	return a, s
}

// once returns a script that does something at the nth call of a name, and then
// never again.
func once(call string, n int, do func()) func(string) error {
	var mu sync.Mutex
	return func(name string) error {
		mu.Lock()
		hit := false
		if name == call {
			n--
			hit = n == 0
		}
		mu.Unlock()
		if hit {
			do()
		}
		return nil
	}
}

// TestRaces: what happens between two calls of a store, at the worst place.
//
// Conformance 146.
func TestRaces(t *testing.T) {
	t.Run("a refresh does not revive what ends beside it", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		s.set(once("Advance", 1, func() {
			_, err := a.auth.EndAllSessions(t.Context(), "u1", "logout")
			require.NoError(t, err)
		}), nil)
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.lives(p, false)
	})

	t.Run("a login does not survive a change of the password", func(t *testing.T) {
		for _, call := range []string{"UserByName", "Create", "UserByID", "List"} {
			for _, when := range []string{"before", "after"} {
				t.Run(when+" "+call, func(t *testing.T) {
					a, s := newScriptedApp(t)
					mine := a.login()
					change := func() {
						a.clock.Advance(time.Millisecond)
						mine = a.changed(mine, "secret", "new")
					}
					if when == "before" {
						s.set(once(call, 1, change), nil)
					} else {
						s.set(nil, once(call, 1, change))
					}
					got := a.post(login)
					s.set(nil, nil)
					if got.StatusCode == 200 { // the answer was on its way, and is worth nothing
						a.lives(pairOf(got), false)
					} else {
						got.isError(t, 400, "invalid_grant")
					}
					list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
					require.NoError(t, err)
					require.Len(t, list, 1)
					a.lives(mine, true)
				})
			}
		}
	})

	t.Run("a login does not survive that its user is disabled", func(t *testing.T) {
		a, s := newScriptedApp(t)
		s.set(once("Create", 1, func() {
			require.NoError(t, a.users.Update(t.Context(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
		}), nil)
		a.post(login).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventSessionEnded, "user_disabled")
	})

	t.Run("a crash between the new hash and the end of the other sessions", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine, other := a.login(), a.login()
		s.set(func(call string) error {
			if call == "End" {
				return errors.New("crashed")
			}
			return nil
		}, nil)
		a.takeEvents()
		mine = a.changed(mine, "secret", "new")
		a.saw(oauth2pw.EventUnavailable, "SessionStore.End")
		require.Equal(t, 401, a.get("/status", other.access).StatusCode)
		s.set(nil, nil)
		list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
		require.NoError(t, err)
		require.Len(t, list, 2, "the store does not know it yet")
		a.lives(other, false)
		a.lives(mine, true)
	})

	t.Run("a thief who hangs up does not save the session", func(t *testing.T) {
		a, s := newScriptedApp(t)
		first := a.login()
		second := a.refreshed(a.refreshed(first.refresh).refresh)
		ctx, hangUp := context.WithCancel(t.Context())
		s.set(once("End", 1, hangUp), nil)
		r := formRequest("grant_type=refresh_token&refresh_token=" + first.refresh).WithContext(ctx)
		r.RemoteAddr = "127.0.0.1:1"
		a.serve(r).isError(t, 400, "invalid_grant")
		require.Error(t, ctx.Err())
		a.lives(second, false)
	})

	t.Run("a session that was ended is not ended again", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		require.Equal(t, 200, a.revoke("token="+p.refresh).StatusCode)
		s.set(func(call string) error {
			require.NotEqual(t, "End", call)
			return nil
		}, nil)
		a.lives(p, false)
	})

	t.Run("two refreshes that both lost once", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var winner pair
		reached, start := make(chan struct{}, 2), make(chan struct{})
		var mu sync.Mutex
		advances := 0
		s.set(func(call string) error {
			if call != "Advance" {
				return nil
			}
			mu.Lock()
			advances++
			first := advances <= 2
			mu.Unlock()
			if first {
				reached <- struct{}{}
				<-start
			}
			return nil
		}, nil)
		answers := make(chan answer, 2)
		for range 2 {
			go func() { answers <- a.refresh(p.refresh) }()
		}
		<-reached
		<-reached
		winner = a.refreshed(p.refresh)
		close(start)
		for range 2 {
			got := <-answers
			require.Equal(t, 200, got.StatusCode, got.body)
			require.Equal(t, winner.refresh, pairOf(got).refresh)
		}
		require.Equal(t, uint64(2), a.session("u1").Generation)
	})

	t.Run("a refresh that always loses is 503 and spends nothing", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		lose := true
		s.sessions = losing{s.sessions, &lose}
		a.refresh(p.refresh).isError(t, 503, "temporarily_unavailable")
		lose = false
		a.lives(p, true)
	})

	t.Run("a refresh in another tab while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var next pair
		s.set(once("UpdatePasswordHash", 1, func() { next = a.refreshed(p.refresh) }), nil)
		now := a.changed(p, "secret", "new")
		require.NotEmpty(t, next.refresh)
		a.refresh(next.refresh).isError(t, 400, "invalid_grant") // refused, and nothing ends
		a.lives(now, true)
	})

	t.Run("a refresh in another tab after the new hash", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		s.set(once("Advance", 1, func() {
			a.refresh(p.refresh).isError(t, 400, "invalid_grant")
			a.saw(oauth2pw.EventRefreshFailed, "password_changed")
		}), nil)
		a.lives(a.changed(p, "secret", "new"), true)
	})

	t.Run("a log-out while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p, other := a.login(), a.login()
		s.set(once("Advance", 1, func() { require.Equal(t, 200, a.revoke("token="+p.refresh).StatusCode) }), nil)
		got := a.change(p.access, "secret", "new")
		got.isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "The password has changed. Log in again.", got.json["error_description"])
		a.saw(oauth2pw.EventPasswordChanged, "")
		a.lives(p, false)
		a.lives(other, false)
		require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=new").StatusCode)
	})

	t.Run("a hash that is upgraded while the password changes", func(t *testing.T) {
		a, s := newScriptedApp(t)
		token := a.tokenFor("u3")
		s.set(once("UpdatePasswordHash", 1, func() {
			require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		}), nil)
		require.Equal(t, 200, a.change(token, "secret", "changed").StatusCode)
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=changed").StatusCode)
	})

	t.Run("a hash that two logins upgrade", func(t *testing.T) {
		a, s := newScriptedApp(t)
		salt := 0
		a.hasher.salt = func() string { salt++; return fmt.Sprint(salt) } // no two hashes are equal
		s.set(once("UpdatePasswordHash", 1, func() {
			require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		}), nil)
		a.hasher.take()
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		require.Equal(t, 3, a.hasher.take(), "the one that lost verifies the password once more")
		list, err := a.sessions.List(t.Context(), "u3", a.clock.Now())
		require.NoError(t, err)
		require.Len(t, list, 2)
	})

	t.Run("a login beside a change to the same password", func(t *testing.T) {
		a, s := newScriptedApp(t)
		salt := 0
		a.hasher.salt = func() string { salt++; return fmt.Sprint(salt) }
		mine := a.login()
		s.set(once("Create", 1, func() { mine = a.changed(mine, "secret", "secret") }), nil)
		a.hasher.take()
		other := a.login() // it begins anew, from the time of the change
		require.Equal(t, 3, a.hasher.take(), "its own, that of the change, and once more against the new hash")
		a.lives(other, true)
		a.lives(mine, true)
		list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
		require.NoError(t, err)
		require.Len(t, list, 2)
	})

	t.Run("a custom grant beside a change", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) {
			c.Grants = map[string]oauth2pw.GrantFunc{
				"x": func(context.Context, *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
					return &oauth2pw.User{ID: "u1", Scopes: []string{"me"}}, nil
				},
			}
		})
		mine := a.login()
		s.set(once("Create", 1, func() { mine = a.changed(mine, "secret", "new") }), nil)
		a.post("grant_type=x").isError(t, 400, "invalid_grant") // it has verified no password: the time decides
		a.lives(mine, true)
		a.clock.Advance(time.Microsecond)
		require.Equal(t, 200, a.post("grant_type=x").StatusCode)
	})

	t.Run("without sessions a login does not survive a change either", func(t *testing.T) {
		users := new(onceUsers)
		a := newApp(t, func(c *oauth2pw.Config) {
			users.Users = c.Users.(*store.Users)
			c.Users, c.LoadUser = users, false
		})
		token := a.token("")
		users.byID = func() { require.Equal(t, 200, a.change(token, "secret", "new").StatusCode) }
		a.post(login).isError(t, 400, "invalid_grant")
		a.change(token, "new", "newer").isError(t, 403, "access_denied") // it is older than the change

		// A change to the same password: the login begins anew, so that its token lives.
		salt := 0
		a.hasher.salt = func() string { salt++; return fmt.Sprint(salt) }
		a.clock.Advance(time.Minute)
		fresh := pairOf(a.post("grant_type=password&username=johndoe&password=new")).access
		users.byID = func() { require.Equal(t, 200, a.change(fresh, "new", "new").StatusCode) }
		got := a.post("grant_type=password&username=johndoe&password=new")
		require.Equal(t, 200, got.StatusCode, got.body)
		c := a.config()
		c.LoadUser, c.Now = true, a.clock.Now
		strict, err := oauth2pw.New(c)
		require.NoError(t, err)
		_, err = strict.Verify(t.Context(), pairOf(got).access)
		require.NoError(t, err)
	})

	t.Run("a client that hangs up after the new hash", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p, other := a.login(), a.login()
		ctx, hangUp := context.WithCancel(t.Context())
		s.set(nil, once("UpdatePasswordHash", 1, hangUp))
		r := formRequest(changeForm("secret", "new")).WithContext(ctx)
		r.URL.Path = "/password"
		r.Header.Set("Authorization", "Bearer "+p.access)
		got := a.serve(r)
		require.Equal(t, 200, got.StatusCode, got.body)
		a.lives(pairOf(got), true)
		a.lives(other, false)
	})

	t.Run("a change that is overtaken by the next one ends nothing of it", func(t *testing.T) {
		a, s := newScriptedApp(t)
		p := a.login()
		var b pair
		s.set(once("Advance", 1, func() {
			b = pairOf(a.post("grant_type=password&username=johndoe&password=new"))
			b = a.changed(b, "new", "newest")
		}), nil)
		got := a.change(p.access, "secret", "new")
		got.isError(t, 503, "temporarily_unavailable")
		a.lives(b, true)
		a.lives(p, false)
	})

	t.Run("a change that is slow to end the others ends nothing of the next one", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine, other := a.login(), a.login()
		a.clock.Advance(time.Second)
		var b pair
		s.set(once("End", 1, func() {
			b = a.changed(pairOf(a.post("grant_type=password&username=johndoe&password=n1")), "n1", "n2")
		}), nil)
		require.Equal(t, 200, a.change(mine.access, "secret", "n1").StatusCode)
		a.lives(b, true)
		a.lives(other, false)
		a.lives(mine, false)
	})

	t.Run("a slow change does not outlive the next one", func(t *testing.T) {
		a, s := newScriptedApp(t)
		mine := a.login()
		a.clock.Advance(time.Millisecond)
		ends := 0
		s.set(func(call string) error { // the end of the others fails in both
			if call == "End" {
				ends++
				return errors.New("down")
			}
			return nil
		}, once("UpdatePasswordHash", 1, func() {
			a.clock.Advance(time.Millisecond)
			a.changed(pairOf(a.post("grant_type=password&username=johndoe&password=n1")), "n1", "n2")
			a.clock.Advance(1500 * time.Millisecond)
		}))
		got := pairOf(a.change(mine.access, "secret", "n1"))
		s.set(nil, nil)
		require.Equal(t, 2, ends)
		require.Equal(t, 401, a.get("/status", got.access).StatusCode)
		a.refresh(got.refresh).isError(t, 400, "invalid_grant")
	})

	t.Run("sessions of a clock ahead, and nobody ends them", func(t *testing.T) {
		for _, stateless := range []bool{false, true} {
			a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.StatelessTokens = stateless })
			a.clock.Advance(980 * time.Millisecond)
			mine := a.login()
			a.clock.Advance(20 * time.Millisecond) // that of another process
			other := a.login()
			a.clock.Advance(-15 * time.Millisecond)
			s.set(func(call string) error {
				if call == "End" {
					return errors.New("crashed")
				}
				return nil
			}, nil)
			now := a.changed(mine, "secret", "new")
			s.set(nil, nil)
			a.clock.Advance(time.Minute)
			require.Equal(t, 401, a.get("/status", other.access).StatusCode)
			a.refresh(other.refresh).isError(t, 400, "invalid_grant")
			a.lives(now, true)
		}
	})

	t.Run("a plug that panics after the new hash", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		mine, other := a.login(), a.login()
		s.set(once("Advance", 1, func() { panic("driver") }), nil)
		got := a.change(mine.access, "secret", "new")
		got.isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "The password has changed. Log in again.", got.json["error_description"])
		a.saw(oauth2pw.EventPasswordChanged, "")
		a.lives(mine, false)
		a.lives(other, false)
	})

	t.Run("parallel logins at the limit", func(t *testing.T) {
		for _, limit := range []int{1, 3} {
			a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.MaxSessions = limit })
			for range limit {
				a.refreshed(a.login().refresh)
			}
			a.clock.Advance(time.Minute)
			inner := true
			s.set(once("List", 1, func() { // both rows are there before either looks
				a.clock.Advance(time.Millisecond)
				inner = a.post(login).StatusCode == 200
			}), nil)
			a.login()
			require.True(t, inner)
			list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
			require.NoError(t, err)
			require.Len(t, list, limit)
		}
	})

	t.Run("a session that cannot be moved on ends", func(t *testing.T) {
		a, s := newScriptedApp(t, func(c *oauth2pw.Config) { c.LoadUser = false })
		p, other := a.login(), a.login()
		s.set(func(call string) error {
			if call == "Advance" {
				return errors.New("down")
			}
			return nil
		}, nil)
		a.change(p.access, "secret", "new").isError(t, 503, "temporarily_unavailable")
		s.set(nil, nil)
		list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
		require.NoError(t, err)
		require.Empty(t, list, "nobody has its tokens")
		a.lives(other, false)
		a.lives(p, false)
	})

	t.Run("UserByID without the hash", func(t *testing.T) {
		a := newSessionApp(t, func(c *oauth2pw.Config) { c.Users = noHashByID{c.Users} })
		a.post(login).isError(t, 503, "temporarily_unavailable")
		e := a.saw(oauth2pw.EventUnavailable, "UserStore.UserByID")
		require.ErrorContains(t, e.Err, "without PasswordHash")
		list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
		require.NoError(t, err)
		require.Empty(t, list)
	})
}

// onceUsers does something at the next read by ID, and never again.
type onceUsers struct {
	*store.Users
	byID func()
}

func (u *onceUsers) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	if do := u.byID; do != nil {
		u.byID = nil
		do()
	}
	return u.Users.UserByID(ctx, id)
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

// losing is a store whose Advance never finds what it was told.
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

// TestEveryStoreCallFailsOnce: at each call of each flow the store fails once,
// before or after it did what it was asked. The answer is 503, nothing is half
// done, and the next try works.
func TestEveryStoreCallFailsOnce(t *testing.T) {
	type flow struct {
		name   string
		edit   func(*oauth2pw.Config)
		setUp  func(a *sessionApp) pair
		try    func(a *sessionApp, p pair) answer
		status int // of a try that works
		// after checks what is there once it has worked
		after func(a *sessionApp, p pair, got answer)
		// tolerated are the calls whose failure does not fail the flow; spent those
		// of which the flow sees that they were done, if they fail after it.
		tolerated, spent string
		// last comes after the flow's work was done.
		last string
	}
	live := func(a *sessionApp, n int) {
		list, err := a.sessions.List(a.Context(), "u1", a.clock.Now())
		require.NoError(a, err)
		require.Len(a, list, n)
	}
	loggedIn := func(a *sessionApp) pair { return a.login("scope=me+items") }
	change := func(a *sessionApp, p pair) answer { return a.change(p.access, "secret", "changed") }
	flows := []flow{
		{
			name: "login", setUp: func(*sessionApp) pair { return pair{} },
			try:    func(a *sessionApp, _ pair) answer { return a.post(login, basic("backend", "backend-secret")) },
			status: 200, after: func(a *sessionApp, _ pair, got answer) { live(a, 1) },
		},
		{
			name: "login beyond the limit", edit: func(c *oauth2pw.Config) { c.MaxSessions = 2 },
			setUp:  func(a *sessionApp) pair { p := a.login(); a.clock.Advance(time.Second); a.login(); return p },
			try:    func(a *sessionApp, _ pair) answer { return a.post(login) },
			status: 200, after: func(a *sessionApp, p pair, _ answer) { live(a, 2); a.lives(p, false) },
		},
		{
			name: "refresh", setUp: loggedIn,
			try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh, "scope=me") },
			status: 200, after: func(a *sessionApp, p pair, got answer) {
				require.Equal(t, uint64(2), a.session("u1").Generation)
				a.lives(pairOf(got), true)
			},
		},
		{
			name: "repeat", setUp: func(a *sessionApp) pair { p := a.login(); a.refreshed(p.refresh); return p },
			try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
			status: 200, after: func(a *sessionApp, p pair, got answer) { a.lives(pairOf(got), true) },
		},
		{
			name: "reuse", setUp: func(a *sessionApp) pair { p := a.login(); a.refreshed(a.refreshed(p.refresh).refresh); return p },
			try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
			status: 400, after: func(a *sessionApp, p pair, got answer) { live(a, 0) },
		},
		{
			name: "refresh of a disabled user", setUp: func(a *sessionApp) pair {
				p := a.login()
				require.NoError(t, a.users.Update(t.Context(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
				return p
			},
			try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
			status: 400, after: func(a *sessionApp, p pair, got answer) { live(a, 0) },
		},
		{
			name: "revoke a refresh token", setUp: loggedIn,
			try:    func(a *sessionApp, p pair) answer { return a.revoke("token=" + p.refresh) },
			status: 200, after: func(a *sessionApp, p pair, got answer) { a.lives(p, false) },
		},
		{
			name: "revoke an access token", setUp: loggedIn,
			try:    func(a *sessionApp, p pair) answer { return a.revoke("token=" + p.access) },
			status: 200, after: func(a *sessionApp, p pair, got answer) { a.lives(p, false) },
		},
		{
			name: "introspect", setUp: loggedIn,
			try:    func(a *sessionApp, p pair) answer { return a.introspect(p.access) },
			status: 200, after: func(a *sessionApp, p pair, got answer) { require.Equal(t, true, got.json["active"]) },
		},
		{
			name: "introspect a refresh token", setUp: func(a *sessionApp) pair { return a.login("client_id=backend&client_secret=backend-secret") },
			try:    func(a *sessionApp, p pair) answer { return a.introspect(p.refresh) },
			status: 200, after: func(a *sessionApp, p pair, got answer) { require.Equal(t, true, got.json["active"]) },
		},
		{
			name: "a protected route", setUp: loggedIn,
			try:    func(a *sessionApp, p pair) answer { return a.get("/items", p.access) },
			status: 200, after: func(a *sessionApp, p pair, got answer) {},
		},
		{
			name: "a protected route after a change of the password", setUp: func(a *sessionApp) pair {
				p := a.login()
				return a.changed(p, "secret", "changed")
			},
			try:    func(a *sessionApp, p pair) answer { return a.get("/me", p.access) },
			status: 200, after: func(a *sessionApp, p pair, got answer) {},
		},
		{
			name: "change of the password", setUp: func(a *sessionApp) pair { a.login(); return a.login() },
			try: change, status: 200, tolerated: "End", spent: "UpdatePasswordHash", last: "Advance",
			after: func(a *sessionApp, p pair, got answer) { a.lives(pairOf(got), true) },
		},
	}
	for _, f := range flows {
		for _, mode := range []string{"before", "after"} {
			t.Run(f.name+" "+mode, func(t *testing.T) {
				for n := 1; ; n++ {
					edit := func(*oauth2pw.Config) {}
					if f.edit != nil {
						edit = f.edit
					}
					a, s := newScriptedApp(t, edit)
					p := f.setUp(a)
					failed, calls := "", 0
					fail := func(call string) error {
						if calls++; calls == n {
							failed = call
							return fmt.Errorf("%s: the disk is on fire", call)
						}
						return nil
					}
					if mode == "before" {
						s.set(fail, nil)
					} else {
						s.set(nil, fail)
					}
					got := f.try(a, p)
					s.set(nil, nil)
					if failed == "" {
						require.Equal(t, f.status, got.StatusCode, got.body)
						require.Greater(t, n, 1, "no call was made")
						return
					}
					what := fmt.Sprintf("call %d, %s", n, failed)
					if failed == f.tolerated {
						require.Equal(t, f.status, got.StatusCode, what)
						continue
					}
					if failed == f.spent && mode == "after" { // it has seen that it was done
						require.Equal(t, f.status, got.StatusCode, what)
						f.after(a, p, got)
						continue
					}
					require.Equal(t, 503, got.StatusCode, what+got.body)
					require.NotContains(t, got.body, "fire")
					a.clock.Advance(time.Millisecond)
					got = f.try(a, p)
					if failed == f.last {
						// The work is done, and the token of the one who did it is dead.
						require.Equal(t, 401, got.StatusCode, what)
						require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=changed").StatusCode)
						continue
					}
					require.Equal(t, f.status, got.StatusCode, what+got.body)
					f.after(a, p, got)
				}
			})
		}
	}
}

// TestConfigOfSessions: what New refuses.
func TestConfigOfSessions(t *testing.T) {
	base := newSessionApp(t).config
	for _, test := range []struct {
		names string
		edit  func(*oauth2pw.Config)
	}{
		{"Config.Secrets", func(c *oauth2pw.Config) { c.Secrets = nil }},
		{"Config.Secrets[0] has 31 bytes", func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("x")[:31]} }},
		{"Config.Secrets[1] is there twice", func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("x"), secret("x")} }},
		{"Config.RefreshGrace", func(c *oauth2pw.Config) { c.RefreshGrace = 2*time.Minute + 1 }},
		{"Config.RefreshIdle", func(c *oauth2pw.Config) { c.RefreshIdle = -1 }},
		{"Config.RefreshIdle", func(c *oauth2pw.Config) { c.RefreshIdle = time.Second - 1 }},
		{"Config.RefreshMax", func(c *oauth2pw.Config) { c.RefreshMax = -1 }},
		{"Config.MaxSessions", func(c *oauth2pw.Config) { c.MaxSessions = -1 }},
		{"Config.Sessions", func(c *oauth2pw.Config) { c.Sessions = (*losing)(nil) }},
		{"Config.Sessions", func(c *oauth2pw.Config) { c.Sessions = nil }},
		{"Config.Sessions", func(c *oauth2pw.Config) {
			c.LoadUser, c.Verifier, c.Issuer = false, c.Issuer.(oauth2pw.TokenVerifier), onlyIssuer{c.Issuer}
		}},
		{"Config.Grants", func(c *oauth2pw.Config) { c.DisablePasswordGrant, c.Grants = true, grantsNamed("password") }},
		{"Config.Hasher", func(c *oauth2pw.Config) { c.Hasher = nil }},
	} {
		c := base
		test.edit(&c)
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, test.names)
		require.NotContains(t, err.Error(), string(secret("x")))
	}
	c := base
	c.DisablePasswordGrant, c.Hasher = true, nil // nobody logs in by password
	_, err := oauth2pw.New(c)
	require.NoError(t, err)
}

// TestSecrets: server secrets come and go.
func TestSecrets(t *testing.T) {
	a := newSessionApp(t)
	kept, repeated, reused, dropped := a.login(), a.login(), a.login(), a.login()
	repeatedNext := a.refreshed(repeated.refresh)
	reusedNext := a.refreshed(a.refreshed(reused.refresh).refresh)

	a = a.again(func(c *oauth2pw.Config) {
		c.Secrets = []oauth2pw.Secret{secret("second"), secret("first")}
	})
	kept = a.lives(kept, true)
	require.Equal(t, repeatedNext.refresh, a.refreshed(repeated.refresh).refresh, "the same bytes under a new first secret")
	a.refresh(reused.refresh).isError(t, 400, "invalid_grant")
	a.saw(oauth2pw.EventRefreshReuse, "same_place")
	a.lives(reusedNext, false)
	fresh := a.login()

	a = a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second")} })
	fresh = a.lives(fresh, true)
	a.takeEvents()
	for _, p := range []pair{kept, dropped} { // dropped too early: cleanly refused
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventRefreshFailed, "unknown_secret")
	}
	require.Equal(t, 200, a.revoke("token="+kept.refresh).StatusCode, "nobody can tell that it is ours")
	// Back again, it works again: what was a mistake has logged nobody out.
	a = a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second"), secret("first")} })
	a.lives(kept, true)
	a.lives(fresh, true)
}

// TestStoreRollback: a store that was restored from an hour ago.
func TestStoreRollback(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	backup := *a.session("u1")
	stolen := p
	for range 5 {
		a.clock.Advance(10 * time.Minute)
		p = a.refreshed(p.refresh)
		if stolen.scope == "me" {
			stolen = pair{refresh: p.refresh}
		}
	}
	// The restore: the row is what it was.
	row := *a.session("u1")
	now := a.clock.Now()
	ok, err := a.sessions.Advance(t.Context(), row.Generation, &backup, now)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, uint64(1), a.session("u1").Generation)

	a.takeEvents()
	next := a.refreshed(p.refresh)
	e := a.saw(oauth2pw.EventStoreRollback, "")
	require.Equal(t, "u1", e.UserID)
	require.Equal(t, row.Generation+1, a.session("u1").Generation, "it does not fall")
	require.Equal(t, next.refresh, a.refreshed(p.refresh).refresh)
	a.refresh(stolen.refresh).isError(t, 400, "invalid_grant") // and reuse is found out as ever
	a.lives(next, false)
}

// forge makes a refresh token from a server secret and a row, as the doc comment
// in refresh.go says.
func forge(t *testing.T, secret oauth2pw.Secret, row *oauth2pw.Session, generation uint64) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh token rt1", 32)
	require.NoError(t, err)
	id, err := base64.RawURLEncoding.DecodeString(row.ID)
	require.NoError(t, err)
	body := binary.BigEndian.AppendUint64(id, generation)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("rt1"))
	mac.Write(row.Salt[:])
	mac.Write(body)
	return "rt1." + base64.RawURLEncoding.EncodeToString(mac.Sum(body))
}

// TestConformance59StoreAndSecret: together they make every token; the store alone
// makes none, nor does the secret alone.
func TestConformance59StoreAndSecret(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	row := a.session("u1")
	require.Equal(t, p.refresh, forge(t, secret("first"), row, 1))

	for _, guess := range []oauth2pw.Secret{"", secret("guess"), oauth2pw.Secret(row.KeyID), oauth2pw.Secret(row.Salt[:])} {
		a.refresh(forge(t, guess, row, 1)).isError(t, 400, "invalid_grant")
	}
	unsalted, salted := *row, *row
	unsalted.Salt = [16]byte{}
	salted.Salt[15] ^= 1
	for _, guess := range []*oauth2pw.Session{&unsalted, &salted} {
		a.refresh(forge(t, secret("first"), guess, 1)).isError(t, 400, "invalid_grant")
	}
	dump := fmt.Sprintf("%+v %#v %x", row, row, row.Salt)
	require.NotContains(t, dump, p.refresh[4:])
	require.NotContains(t, dump, p.refresh[4+33:], "the MAC is not in the store")
	require.NotContains(t, dump, p.access)
	a.lives(p, true)
}

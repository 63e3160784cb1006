package oauth2pw_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// script wraps every plug of a Config, counts the calls, and runs a step before or after one.
// A call has the name that events have for it, such as "SessionStore.End". A test of a fault
// or of a race sets a step for the calls that matter to it:
//
//	a, s := newScriptedApp(t)
//	s.before("SessionStore.End", fails(errors.New("down")))
type script struct {
	users    oauth2pw.UserStore
	updater  oauth2pw.PasswordUpdater
	clients  oauth2pw.ClientStore
	sessions oauth2pw.SessionStore
	hasher   oauth2pw.PasswordHasher
	issuer   oauth2pw.TokenIssuer
	verifier oauth2pw.TokenVerifier
	throttle oauth2pw.Throttle

	mu      sync.Mutex
	calls   map[string]int  // since they were last taken
	befores map[string]step // by call
	afters  map[string]step
}

// step runs at a call, and its error is the error of the call. If a step before the call fails,
// the plug is not called. If a step after the call fails, the plug has done its work, and only
// the answer is lost.
//
// A step runs in the goroutine of the request. With app.do that is not the goroutine of the
// test: the step records answers, and the test requires them afterwards.
type step func(ctx context.Context, call string) error

// The steps that tests share.

func fails(err error) step { return func(context.Context, string) error { return err } }

func panics(value any) step { return func(context.Context, string) error { panic(value) } }

// hangs answers when the context of the call ends.
func hangs(ctx context.Context, _ string) error {
	<-ctx.Done()
	return ctx.Err()
}

// waits goes on when the gate is opened.
func waits(gate <-chan struct{}) step {
	return func(context.Context, string) error {
		<-gate
		return nil
	}
}

// once does something at the first call, and never again: at those that it makes itself.
func once(do func()) step {
	var begun atomic.Bool
	return func(context.Context, string) error {
		if !begun.Swap(true) {
			do()
		}
		return nil
	}
}

// storeCalls are the calls of the stores that requests make.
var storeCalls = []string{
	"UserStore.UserByName", "UserStore.UserByID", "PasswordUpdater.UpdatePasswordHash", "ClientStore.ClientByID",
	"SessionStore.Create", "SessionStore.Get", "SessionStore.Advance", "SessionStore.List", "SessionStore.End",
}

func (s *script) before(call string, do step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.befores == nil {
		s.befores = make(map[string]step)
	}
	s.befores[call] = do
}

func (s *script) after(call string, do step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.afters == nil {
		s.afters = make(map[string]step)
	}
	s.afters[call] = do
}

// end takes all steps away.
func (s *script) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.befores)
	clear(s.afters)
}

// take returns how many calls of a name there were since it was last called for that name.
func (s *script) take(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.calls[call]
	delete(s.calls, call)
	return n
}

// around makes a call, between its steps.
func around[T any](ctx context.Context, s *script, call string, do func() (T, error)) (T, error) {
	s.mu.Lock()
	if s.calls == nil {
		s.calls = make(map[string]int)
	}
	s.calls[call]++
	before, after := s.befores[call], s.afters[call]
	s.mu.Unlock()
	var none T
	if before != nil {
		if err := before(ctx, call); err != nil {
			return none, err
		}
	}
	v, err := do()
	if after != nil {
		if failed := after(ctx, call); failed != nil {
			return none, failed
		}
	}
	return v, err
}

// wrap replaces each plug of a Config by a wrapper with the same optional methods. It is the last
// edit of a Config.
func (s *script) wrap(c *oauth2pw.Config) {
	s.users, s.clients, s.sessions, s.hasher, s.issuer, s.verifier, s.throttle = c.Users, c.Clients, c.Sessions, c.Hasher, c.Issuer, c.Verifier, c.Throttle
	if s.users != nil {
		c.Users = scriptedUsers{s}
		if s.updater, _ = s.users.(oauth2pw.PasswordUpdater); s.updater != nil {
			c.Users = scriptedUpdater{scriptedUsers{s}}
		}
	}
	if s.clients != nil {
		c.Clients = scriptedClients{s}
	}
	if s.sessions != nil {
		c.Sessions = scriptedSessions{s}
	}
	if s.hasher != nil {
		c.Hasher = scriptedHasher{s}
	}
	if s.verifier != nil {
		c.Issuer, c.Verifier = scriptedIssuer{s}, scriptedVerifier{s}
	} else {
		s.verifier = s.issuer.(oauth2pw.TokenVerifier)
		c.Issuer = scriptedRing{scriptedIssuer{s}, scriptedVerifier{s}}
	}
	if s.throttle != nil {
		c.Throttle = scriptedThrottle{s}
	}
}

// newScriptedApp returns an app with sessions, and the script of its plugs. a.sessions is the
// store without the script.
func newScriptedApp(t *testing.T, edits ...func(*oauth2pw.Config)) (*sessionApp, *script) {
	t.Helper()
	s := new(script)
	a := newSessionApp(t, append(edits, s.wrap)...)
	a.sessions = s.sessions
	return a, s
}

type (
	scriptedUsers    struct{ s *script }
	scriptedUpdater  struct{ scriptedUsers }
	scriptedClients  struct{ s *script }
	scriptedSessions struct{ s *script }
	scriptedHasher   struct{ s *script }
	scriptedIssuer   struct{ s *script }
	scriptedVerifier struct{ s *script }
	scriptedRing     struct {
		scriptedIssuer
		scriptedVerifier
	}
	scriptedThrottle struct{ s *script }
)

func (w scriptedUsers) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return around(ctx, w.s, "UserStore.UserByName", func() (*oauth2pw.User, error) { return w.s.users.UserByName(ctx, name) })
}

func (w scriptedUsers) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return around(ctx, w.s, "UserStore.UserByID", func() (*oauth2pw.User, error) { return w.s.users.UserByID(ctx, id) })
}

func (w scriptedUpdater) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	return around(ctx, w.s, "PasswordUpdater.UpdatePasswordHash", func() (bool, error) { return w.s.updater.UpdatePasswordHash(ctx, id, old, new, changed) })
}

func (w scriptedClients) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	return around(ctx, w.s, "ClientStore.ClientByID", func() (*oauth2pw.Client, error) { return w.s.clients.ClientByID(ctx, id) })
}

func (w scriptedSessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	return w.s.call(ctx, "SessionStore.Create", func() error { return w.s.sessions.Create(ctx, n) })
}

func (w scriptedSessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	return around(ctx, w.s, "SessionStore.Get", func() (*oauth2pw.Session, error) { return w.s.sessions.Get(ctx, id) })
}

func (w scriptedSessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	return around(ctx, w.s, "SessionStore.Advance", func() (bool, error) { return w.s.sessions.Advance(ctx, from, n, now) })
}

func (w scriptedSessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	return around(ctx, w.s, "SessionStore.List", func() ([]*oauth2pw.Session, error) { return w.s.sessions.List(ctx, userID, now) })
}

func (w scriptedSessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	return around(ctx, w.s, "SessionStore.End", func() ([]string, error) { return w.s.sessions.End(ctx, f, reason, now) })
}

func (w scriptedSessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	return around(ctx, w.s, "SessionStore.Sweep", func() (int, error) { return w.s.sessions.Sweep(ctx, before, limit) })
}

func (w scriptedHasher) Hash(ctx context.Context, password string) (string, error) {
	return around(ctx, w.s, "PasswordHasher.Hash", func() (string, error) { return w.s.hasher.Hash(ctx, password) })
}

func (w scriptedHasher) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	type result struct{ ok, outdated bool }
	v, err := around(ctx, w.s, "PasswordHasher.Verify", func() (v result, err error) {
		v.ok, v.outdated, err = w.s.hasher.Verify(ctx, hash, password)
		return v, err
	})
	return v.ok, v.outdated, err
}

func (w scriptedIssuer) Issue(ctx context.Context, p oauth2pw.Principal) (token string, issued oauth2pw.Principal, err error) {
	type result struct {
		token  string
		issued oauth2pw.Principal
	}
	v, err := around(ctx, w.s, "TokenIssuer.Issue", func() (v result, err error) {
		v.token, v.issued, err = w.s.issuer.Issue(ctx, p)
		return v, err
	})
	return v.token, v.issued, err
}

func (w scriptedIssuer) Issuer() string { return w.s.issuer.(oauth2pw.NamedIssuer).Issuer() }

func (w scriptedVerifier) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	return around(ctx, w.s, "TokenVerifier.Verify", func() (oauth2pw.Principal, error) { return w.s.verifier.Verify(ctx, token) })
}

func (w scriptedThrottle) Begin(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	return around(ctx, w.s, "Throttle.Begin", func() (time.Duration, error) { return w.s.throttle.Begin(ctx, a) })
}

func (w scriptedThrottle) Succeed(ctx context.Context, a oauth2pw.Attempt) error {
	return w.s.call(ctx, "Throttle.Succeed", func() error { return w.s.throttle.Succeed(ctx, a) })
}

func (w scriptedThrottle) Cancel(ctx context.Context, a oauth2pw.Attempt) error {
	return w.s.call(ctx, "Throttle.Cancel", func() error { return w.s.throttle.Cancel(ctx, a) })
}

func (w scriptedThrottle) Forget(ctx context.Context, a oauth2pw.Attempt) error {
	return w.s.call(ctx, "Throttle.Forget", func() error { return w.s.throttle.Forget(ctx, a) })
}

// call is around for a call that returns nothing but an error.
func (s *script) call(ctx context.Context, call string, do func() error) error {
	_, err := around(ctx, s, call, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

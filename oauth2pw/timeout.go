package oauth2pw

import (
	"context"
	"errors"
	"sync"
	"time"
)

const defaultStoreTimeout = 5 * time.Second

// setTimeout bounds every call of a store and of the throttle.
func (c *config) setTimeout() error {
	switch {
	case c.StoreTimeout < 0:
		return nil
	case c.StoreTimeout == 0:
		c.StoreTimeout = defaultStoreTimeout
	case c.StoreTimeout < time.Millisecond:
		return errors.New("oauth2pw: Config.StoreTimeout is less than a millisecond")
	}
	t := timeout(c.StoreTimeout)
	c.Users = timedUsers{c.Users, t}
	if c.updater != nil {
		c.updater = timedUpdater{c.updater, t}
	}
	if c.Clients != nil {
		c.Clients = timedClients{c.Clients, t}
	}
	if c.Sessions != nil {
		c.Sessions = timedSessions{c.Sessions, t}
	}
	if _, builtIn := c.Throttle.(*memoryThrottle); c.Throttle != nil && !builtIn {
		c.Throttle = timedThrottle{c.Throttle, t}
	}
	return nil
}

// timeout is how long a call may take.
type timeout time.Duration

func (t timeout) start(ctx context.Context) *callContext {
	return &callContext{Context: ctx, deadline: time.Now().Add(time.Duration(t))}
}

// callContext is context.WithDeadline for a call that may never ask: a store in
// memory does not. Its timer runs once somebody waits for it.
type callContext struct {
	context.Context // the caller's
	deadline        time.Time

	mu    sync.Mutex
	timed context.Context // nil: nobody waits
	stop  context.CancelFunc
	over  bool
}

// wait returns the context with its timer running.
func (c *callContext) wait() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.stop = context.WithDeadline(c.Context, c.deadline)
		if c.over {
			c.stop()
		}
	}
	return c.timed
}

// cancel ends the call.
func (c *callContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.stop != nil {
		c.stop()
	}
}

func (c *callContext) Deadline() (time.Time, bool) {
	if d, ok := c.Context.Deadline(); ok && d.Before(c.deadline) {
		return d, true
	}
	return c.deadline, true
}

func (c *callContext) Done() <-chan struct{} { return c.wait().Done() }

func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.Context.Err()
	switch {
	case c.timed != nil:
		return c.timed.Err()
	case err != nil:
		return err
	case c.over:
		return context.Canceled
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	}
	return nil
}

// Value finds the running timer too, so that contexts made of this one hang on to
// it without a goroutine.
func (c *callContext) Value(key any) any {
	c.mu.Lock()
	timed := c.timed
	c.mu.Unlock()
	if timed != nil {
		return timed.Value(key)
	}
	return c.Context.Value(key)
}

type timedUsers struct {
	store UserStore
	timeout
}

func (s timedUsers) UserByName(ctx context.Context, name string) (*User, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.UserByName(call, name)
}

func (s timedUsers) UserByID(ctx context.Context, id string) (*User, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.UserByID(call, id)
}

type timedUpdater struct {
	store PasswordUpdater
	timeout
}

func (s timedUpdater) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.UpdatePasswordHash(call, id, old, new, changed)
}

type timedClients struct {
	store ClientStore
	timeout
}

func (s timedClients) ClientByID(ctx context.Context, id string) (*Client, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.ClientByID(call, id)
}

type timedSessions struct {
	store SessionStore
	timeout
}

func (s timedSessions) Create(ctx context.Context, session *Session) error {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.Create(call, session)
}

func (s timedSessions) Get(ctx context.Context, id string) (*Session, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.Get(call, id)
}

func (s timedSessions) Advance(ctx context.Context, from uint64, session *Session, now time.Time) (bool, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.Advance(call, from, session, now)
}

func (s timedSessions) List(ctx context.Context, userID string, now time.Time) ([]*Session, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.List(call, userID, now)
}

func (s timedSessions) End(ctx context.Context, f SessionFilter, reason string, now time.Time) ([]string, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.store.End(call, f, reason, now)
}

// Sweep has all the time that its caller gives it: nobody waits for it.
func (s timedSessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.store.Sweep(ctx, before, limit)
}

type timedThrottle struct {
	throttle Throttle
	timeout
}

func (s timedThrottle) Begin(ctx context.Context, a Attempt) (time.Duration, error) {
	call := s.start(ctx)
	defer call.cancel()
	return s.throttle.Begin(call, a)
}

func (s timedThrottle) Succeed(ctx context.Context, a Attempt) error {
	call := s.start(ctx)
	defer call.cancel()
	return s.throttle.Succeed(call, a)
}

func (s timedThrottle) Cancel(ctx context.Context, a Attempt) error {
	call := s.start(ctx)
	defer call.cancel()
	return s.throttle.Cancel(call, a)
}

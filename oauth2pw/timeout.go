package oauth2pw

import (
	"context"
	"errors"
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

func (t timeout) start(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(t))
}

type timedUsers struct {
	store UserStore
	timeout
}

func (s timedUsers) UserByName(ctx context.Context, name string) (*User, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.UserByName(ctx, name)
}

func (s timedUsers) UserByID(ctx context.Context, id string) (*User, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.UserByID(ctx, id)
}

type timedUpdater struct {
	store PasswordUpdater
	timeout
}

func (s timedUpdater) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.UpdatePasswordHash(ctx, id, old, new, changed)
}

type timedClients struct {
	store ClientStore
	timeout
}

func (s timedClients) ClientByID(ctx context.Context, id string) (*Client, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.ClientByID(ctx, id)
}

type timedSessions struct {
	store SessionStore
	timeout
}

func (s timedSessions) Create(ctx context.Context, session *Session) error {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.Create(ctx, session)
}

func (s timedSessions) Get(ctx context.Context, id string) (*Session, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.Get(ctx, id)
}

func (s timedSessions) Advance(ctx context.Context, from uint64, session *Session, now time.Time) (bool, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.Advance(ctx, from, session, now)
}

func (s timedSessions) List(ctx context.Context, userID string, now time.Time) ([]*Session, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.List(ctx, userID, now)
}

func (s timedSessions) End(ctx context.Context, f SessionFilter, reason string, now time.Time) ([]string, error) {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.store.End(ctx, f, reason, now)
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
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.throttle.Begin(ctx, a)
}

func (s timedThrottle) Succeed(ctx context.Context, a Attempt) error {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.throttle.Succeed(ctx, a)
}

func (s timedThrottle) Cancel(ctx context.Context, a Attempt) error {
	ctx, cancel := s.start(ctx)
	defer cancel()
	return s.throttle.Cancel(ctx, a)
}

package oauth2pw

import (
	"context"
	"errors"
	"time"
)

const defaultStoreTimeout = 5 * time.Second

// setTimeout bounds every call of a store.
func (c *config) setTimeout() error {
	if c.StoreTimeout = withDefault(c.StoreTimeout, defaultStoreTimeout); c.StoreTimeout < 0 {
		return nil
	}
	if c.StoreTimeout < time.Millisecond {
		return errors.New("oauth2pw: Config.StoreTimeout is under a millisecond: write 5*time.Second; negative is for no limit")
	}
	t := c.timeout()
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
	return nil
}

// timeout is how long a call may take; negative: as long as it takes.
type timeout time.Duration

func (c *config) timeout() timeout { return timeout(c.StoreTimeout) }

func (t timeout) start(ctx context.Context) (context.Context, context.CancelFunc) {
	if t < 0 {
		return ctx, func() {}
	}
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

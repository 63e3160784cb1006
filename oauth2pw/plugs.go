package oauth2pw

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"time"
)

const defaultStoreTimeout = 5 * time.Second

// plugs calls every plug of the app. Each call of a store has a time limit, each error is
// an *Error with the name of the plug, and a miss is nil.
type plugs struct {
	users    UserStore       // nil: only Config.Authenticate and Config.Grants know users
	updater  PasswordUpdater // nil: the store of users is read-only
	clients  ClientStore     // nil: no clients
	sessions SessionStore    // nil: no sessions
	hasher   PasswordHasher
	issuer   TokenIssuer
	verifier TokenVerifier
	limit    time.Duration // of a call of a store; negative: no limit
}

// Checker is the optional side of a plug that works only if its constructor has made it.
// New and the middleware refuse a plug whose Check returns an error.
type Checker interface {
	Check() error
}

func checkPlug(name string, plug any) error {
	if c, ok := plug.(Checker); ok && !isNil(plug) {
		if err := c.Check(); err != nil {
			return fmt.Errorf("oauth2pw: %s: %w", name, err)
		}
	}
	return nil
}

// isNil reports whether a plug is missing: nil, or a nil pointer in an interface.
func isNil(plug any) bool {
	if plug == nil {
		return true
	}
	switch v := reflect.ValueOf(plug); v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Map, reflect.Slice, reflect.Chan:
		return v.IsNil()
	default:
		return false
	}
}

// missing returns the error for a nil plug. A constructor that fails often returns a nil
// pointer beside its error.
func missing(name string, plug any) error {
	if plug == nil {
		return fmt.Errorf("oauth2pw: %s is nil", name)
	}
	return fmt.Errorf("oauth2pw: %s is a nil %T: look at the error of the call that made it", name, plug)
}

func newPlugs(c *Config) (*plugs, error) {
	for _, plug := range []struct {
		name  string
		value any
	}{
		{"Config.Users", c.Users}, {"Config.Hasher", c.Hasher}, {"Config.Issuer", c.Issuer}, {"Config.Verifier", c.Verifier},
		{"Config.Clients", c.Clients}, {"Config.Sessions", c.Sessions}, {"Config.Throttle", c.Throttle},
	} {
		if plug.value != nil && isNil(plug.value) {
			return nil, missing(plug.name, plug.value)
		}
		if err := checkPlug(plug.name, plug.value); err != nil {
			return nil, err
		}
	}
	p := &plugs{
		users: c.Users, clients: c.Clients, sessions: c.Sessions, hasher: c.Hasher, issuer: c.Issuer, verifier: c.Verifier,
		limit: withDefault(c.StoreTimeout, defaultStoreTimeout),
	}
	p.updater, _ = c.Users.(PasswordUpdater)
	switch {
	case c.Authenticate != nil && c.Hasher != nil, c.Authenticate == nil && c.Hasher == nil && !c.DisablePasswordGrant:
		return nil, errors.New("oauth2pw: set one of Config.Hasher and Config.Authenticate")
	case c.Users == nil && (c.Hasher != nil || c.Sessions != nil || c.LoadUser):
		return nil, errors.New("oauth2pw: Config.Users is nil; Config.Hasher, Config.Sessions and Config.LoadUser need it")
	case c.Issuer == nil:
		return nil, missing("Config.Issuer", nil)
	case 0 < p.limit && p.limit < time.Millisecond:
		return nil, errors.New("oauth2pw: Config.StoreTimeout is under a millisecond: write 5*time.Second; negative is for no limit")
	}
	if p.verifier == nil {
		v, ok := c.Issuer.(TokenVerifier)
		if !ok {
			return nil, errors.New("oauth2pw: Config.Verifier is nil, and Config.Issuer verifies nothing")
		}
		p.verifier = v
	}
	return p, nil
}

// limited returns the context of one call of a store, with the time limit.
func (p *plugs) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.limit < 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, p.limit)
}

var (
	errWrongRow = errors.New("the store returned another row than it was asked for, or none and no error")
	errNoUserID = errors.New("a user without an ID")
)

func (p *plugs) userByName(ctx context.Context, name string) (*User, error) {
	const plug = "UserStore.UserByName"
	ctx, cancel := p.limited(ctx)
	defer cancel()
	u, err := p.users.UserByName(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError(plug, err)
	case u == nil:
		return nil, plugError(plug, errWrongRow)
	case u.ID == "":
		return nil, plugError(plug, errNoUserID)
	}
	return u, nil
}

// userByID returns a user with only an ID if Config.Users is nil.
func (p *plugs) userByID(ctx context.Context, id string) (*User, error) {
	const plug = "UserStore.UserByID"
	if p.users == nil {
		return &User{ID: id}, nil
	}
	ctx, cancel := p.limited(ctx)
	defer cancel()
	u, err := p.users.UserByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError(plug, err)
	case u == nil || u.ID != id:
		return nil, plugError(plug, errWrongRow)
	}
	return u, nil
}

func (p *plugs) updatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	ctx, cancel := p.limited(ctx)
	defer cancel()
	replaced, err := p.updater.UpdatePasswordHash(ctx, id, old, new, changed)
	if err != nil {
		return false, plugError("PasswordUpdater.UpdatePasswordHash", err)
	}
	return replaced, nil
}

func (p *plugs) clientByID(ctx context.Context, id string) (*Client, error) {
	const plug = "ClientStore.ClientByID"
	ctx, cancel := p.limited(ctx)
	defer cancel()
	client, err := p.clients.ClientByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError(plug, err)
	case client == nil || client.ID != id:
		return nil, plugError(plug, errWrongRow)
	case client.SecretSHA256 != nil && len(client.SecretSHA256) != sha256.Size:
		return nil, plugError(plug, errors.New("the SecretSHA256 of the client has not 32 bytes; nil is for a public client"))
	}
	return client, nil
}

func (p *plugs) createSession(ctx context.Context, s *Session) error {
	ctx, cancel := p.limited(ctx)
	defer cancel()
	if err := p.sessions.Create(ctx, s); err != nil {
		return plugError("SessionStore.Create", err)
	}
	return nil
}

func (p *plugs) session(ctx context.Context, id string) (*Session, error) {
	const plug = "SessionStore.Get"
	ctx, cancel := p.limited(ctx)
	defer cancel()
	s, err := p.sessions.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError(plug, err)
	case s == nil || s.ID != id:
		return nil, plugError(plug, errWrongRow)
	}
	return s, nil
}

func (p *plugs) advanceSession(ctx context.Context, from uint64, s *Session, now time.Time) (bool, error) {
	ctx, cancel := p.limited(ctx)
	defer cancel()
	advanced, err := p.sessions.Advance(ctx, from, s, now)
	if err != nil {
		return false, plugError("SessionStore.Advance", err)
	}
	return advanced, nil
}

func (p *plugs) listSessions(ctx context.Context, userID string, now time.Time) ([]*Session, error) {
	ctx, cancel := p.limited(ctx)
	defer cancel()
	list, err := p.sessions.List(ctx, userID, now)
	if err != nil {
		return nil, plugError("SessionStore.List", err)
	}
	return list, nil
}

func (p *plugs) endSessions(ctx context.Context, f SessionFilter, reason string, now time.Time) ([]string, error) {
	ctx, cancel := p.limited(ctx)
	defer cancel()
	ids, err := p.sessions.End(ctx, f, reason, now)
	if err != nil {
		return nil, plugError("SessionStore.End", err)
	}
	return ids, nil
}

// sweepSessions has only the caller's time limit, because no request waits for it.
func (p *plugs) sweepSessions(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := p.sessions.Sweep(ctx, before, limit)
	if err != nil {
		return 0, plugError("SessionStore.Sweep", err)
	}
	return n, nil
}

func (p *plugs) hash(ctx context.Context, password string) (string, error) {
	hash, err := p.hasher.Hash(ctx, password)
	if err != nil {
		return "", plugError("PasswordHasher.Hash", err)
	}
	return hash, nil
}

// verifyHash reports a password that is too long for the format of its hash separately from
// a wrong password.
func (p *plugs) verifyHash(ctx context.Context, hash, password string) (ok, outdated, tooLong bool, err error) {
	ok, outdated, err = p.hasher.Verify(ctx, hash, password)
	switch {
	case errors.Is(err, ErrPasswordTooLong):
		return false, false, true, nil
	case err != nil:
		return false, false, false, plugError("PasswordHasher.Verify", err)
	}
	return ok, outdated, false, nil
}

func (p *plugs) issue(ctx context.Context, says Principal) (token string, issued Principal, err error) {
	token, issued, err = p.issuer.Issue(ctx, says)
	if err != nil {
		return "", Principal{}, plugError("TokenIssuer.Issue", err)
	}
	return token, issued, nil
}

// plugThrottle is Config.Throttle.
type plugThrottle struct {
	Throttle
	*plugs
}

func (t plugThrottle) begin(ctx context.Context, a Attempt) (openAttempt, time.Duration, error) {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	wait, err := t.Begin(ctx, a)
	if err != nil {
		return nil, 0, plugError("Throttle.Begin", err)
	}
	if wait > 0 || a.Right {
		return nil, wait, nil
	}
	return plugAttempt{t, a}, 0, nil
}

func (t plugThrottle) forget(ctx context.Context, a Attempt) error {
	ctx, cancel := t.limited(ctx)
	defer cancel()
	if err := t.Forget(ctx, a); err != nil {
		return plugError("Throttle.Forget", err)
	}
	return nil
}

// plugAttempt is an attempt that Config.Throttle has counted.
type plugAttempt struct {
	throttle plugThrottle
	attempt  Attempt
}

func (p plugAttempt) succeed(ctx context.Context, userID string) error {
	ctx, cancel := p.throttle.limited(ctx)
	defer cancel()
	a := p.attempt
	if a.Kind == AttemptGrant {
		a.UserID = userID
	}
	if err := p.throttle.Succeed(ctx, a); err != nil {
		return plugError("Throttle.Succeed", err)
	}
	return nil
}

func (p plugAttempt) cancel(ctx context.Context) error {
	ctx, cancel := p.throttle.limited(ctx)
	defer cancel()
	if err := p.throttle.Cancel(ctx, p.attempt); err != nil {
		return plugError("Throttle.Cancel", err)
	}
	return nil
}

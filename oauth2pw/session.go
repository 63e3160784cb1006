package oauth2pw

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Session is one login, until it ends. All tokens that descend from it carry its
// ID. Times are whole microseconds, in UTC.
//
// A store keeps every field as it is, and needs to understand none but those that
// the methods of [SessionStore] name.
type Session struct {
	ID       string // 22 characters of base64url: 128 random bits
	UserID   string // User.ID
	ClientID string // "" where no client was named
	Scope    string // what the login was granted: scopes between single spaces

	// Of the refresh token. None of them is a secret: without Config.Secrets
	// they make no token.
	Salt       [16]byte
	KeyID      string // which secret makes its tokens
	Generation uint64 // of the token that may be used next: 1 at the login

	CreatedAt time.Time // the login
	// AuthenticatedAt is when the user last proved who he is. At the login it is the
	// time of the request, or User.SessionsValidFrom if that is later. ChangePassword sets
	// it to a whole second after itself, which is later than RefreshedAt then, and at no
	// other time.
	AuthenticatedAt time.Time
	RefreshedAt     time.Time // the last refresh or ChangePassword, or the login
	IdleExpiresAt   time.Time // when it ends if it is not refreshed; never after ExpiresAt
	ExpiresAt       time.Time // when it ends, whatever happens
	EndedAt         time.Time // zero: it was not ended
	EndReason       string    // see EventSessionEnded

	Address   netip.Addr // the client's at the login; invalid: unknown
	UserAgent string     // the same; at most 256 bytes, without control characters
	Data      []byte     // the app's own; at most 1 KiB
}

// over says why a session is over, "" if it lives.
func (s *Session) over(now time.Time) string {
	switch {
	case !s.EndedAt.IsZero():
		return "ended"
	case !now.Before(s.ExpiresAt):
		return "age"
	case !now.Before(s.IdleExpiresAt):
		return "idle"
	}
	return ""
}

// end is when a session ends if nothing happens.
func (s *Session) end() time.Time {
	if s.IdleExpiresAt.Before(s.ExpiresAt) {
		return s.IdleExpiresAt
	}
	return s.ExpiresAt
}

// SessionFilter names sessions of one user: all of them, or one, or all but one, or those
// of before a time.
type SessionFilter struct {
	UserID string // always compared: an empty one names no session
	ID     string // only this one; "": any
	Except string // not this one; "": none is left out
	// AuthenticatedBefore leaves out those whose AuthenticatedAt is not before it; zero:
	// none.
	AuthenticatedBefore time.Time
}

// SessionStore keeps sessions. A session is live until it is ended or one of its expiries
// comes: at the time of an expiry it has expired. These are the duties of a store, and
// package store/storetest tests them:
//
//   - The methods are called concurrently. A call sees the writes of all earlier calls: a
//     replica that lags behind must not answer.
//   - Every field of a Session is kept as it is: times to the microsecond, Data byte for
//     byte. Nil and empty Data are the same.
//   - IDs and UserIDs are compared byte for byte.
//   - Sessions that a method takes or returns are copies: a later write of the caller does
//     not reach the store, and the other way round.
//   - A call with a context that has ended returns an error, and not that of a miss.
//   - Any error but that of a miss is a failure of the store (503).
type SessionStore interface {
	// Create adds a session. An ID that is there already is an error, and changes nothing.
	Create(ctx context.Context, s *Session) error
	// Get returns a session: live, expired or ended. A miss is an error that wraps [ErrNotFound], and
	// no session.
	Get(ctx context.Context, id string) (*Session, error)
	// Advance writes Generation, AuthenticatedAt, RefreshedAt and IdleExpiresAt of s, and no
	// other field, in one atomic step, only if the Generation of the stored session is still
	// from and the session is live at now. It reports whether it did: false and no error also
	// if there is no such session. Of concurrent calls with the same from, one writes. A
	// session that End ends at the same time stays ended.
	Advance(ctx context.Context, from uint64, s *Session, now time.Time) (bool, error)
	// List returns the sessions of a user that are live at now, the latest CreatedAt first.
	List(ctx context.Context, userID string, now time.Time) ([]*Session, error)
	// End ends the sessions that f names and that are not ended yet, expired ones included:
	// it sets EndedAt to now, and EndReason, and no other field. It returns the IDs of those
	// that it ended, in any order. Of concurrent calls one ends a session.
	End(ctx context.Context, f SessionFilter, reason string, now time.Time) (ids []string, err error)
	// Sweep removes at most limit sessions that ended or expired before a time, and returns
	// their number. Fewer than limit: there are no more. A session that ended or expired at
	// that time, or later, stays.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}

const (
	defaultRefreshIdle  = 14 * 24 * time.Hour
	defaultRefreshMax   = 90 * 24 * time.Hour
	defaultRefreshGrace = 30 * time.Second
	maxRefreshGrace     = 2 * time.Minute
	defaultMaxSessions  = 100
	maxUserAgent        = 256 // bytes
)

// setSessions checks what a Config says of sessions and refresh tokens.
func (c *config) setSessions() error {
	if c.Sessions == nil {
		if len(c.Secrets) > 0 || c.SessionCache != 0 || c.StatelessTokens {
			return errors.New("oauth2pw: Config.Secrets, SessionCache and StatelessTokens need Config.Sessions")
		}
		if c.RefreshIdle != 0 || c.RefreshMax != 0 || c.RefreshGrace != 0 || c.MaxSessions != 0 || c.DisableRefresh {
			return errors.New("oauth2pw: Config.RefreshIdle, RefreshMax, RefreshGrace, MaxSessions and DisableRefresh need Config.Sessions")
		}
		return nil
	}
	if isNil(c.Sessions) {
		return errors.New("oauth2pw: Config.Sessions is a nil pointer")
	}
	c.refreshes = !c.DisableRefresh
	if c.refreshes && len(c.Secrets) == 0 {
		return errors.New("oauth2pw: Config.Secrets is empty; Config.DisableRefresh is for sessions without refresh tokens")
	}
	var err error
	if c.keys, err = newRefreshKeys(c.Secrets); err != nil {
		return err
	}
	c.RefreshIdle = withDefault(c.RefreshIdle, defaultRefreshIdle)
	c.RefreshMax = withDefault(c.RefreshMax, defaultRefreshMax)
	c.RefreshGrace = max(withDefault(c.RefreshGrace, defaultRefreshGrace), 0)
	c.MaxSessions = withDefault(c.MaxSessions, defaultMaxSessions)
	switch {
	case c.RefreshIdle < time.Second:
		return errors.New("oauth2pw: Config.RefreshIdle is under a second: write 14*24*time.Hour")
	case c.RefreshMax < time.Second:
		return errors.New("oauth2pw: Config.RefreshMax is under a second: write 90*24*time.Hour")
	case 0 < c.RefreshGrace && c.RefreshGrace < time.Millisecond:
		return errors.New("oauth2pw: Config.RefreshGrace is under a millisecond: write 30*time.Second; negative is for none")
	case c.SessionCache != 0 && c.SessionCache < time.Millisecond:
		return errors.New("oauth2pw: Config.SessionCache is under a millisecond: write 10*time.Second")
	case c.SessionCache != 0 && c.StatelessTokens:
		return errors.New("oauth2pw: Config.StatelessTokens asks for no session, so that Config.SessionCache has none to remember")
	case c.RefreshGrace > maxRefreshGrace:
		return errors.New("oauth2pw: Config.RefreshGrace is over two minutes")
	case c.MaxSessions < 0:
		return errors.New("oauth2pw: Config.MaxSessions is negative")
	}
	c.live = newLiveMemory(c.SessionCache)
	return nil
}

func withDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// newSession returns the session of a login that is not stored yet.
func (c *config) newSession(ctx context.Context, r *TokenRequest, p *proof, scope string) *Session {
	var id, salt [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, _ = rand.Read(salt[:])
	s := &Session{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), UserID: p.user.ID, ClientID: r.Client.id(), Scope: scope,
		Salt: salt, KeyID: c.keys.first, Generation: 1,
		CreatedAt: r.now, AuthenticatedAt: p.at, RefreshedAt: latest(r.now, p.at), ExpiresAt: r.now.Add(c.RefreshMax),
		Address: ClientAddress(ctx), UserAgent: cleanUserAgent(r.userAgent),
	}
	s.IdleExpiresAt = c.idleExpiry(s, r.now)
	return s
}

func (c *config) idleExpiry(s *Session, now time.Time) time.Time {
	if t := now.Add(c.RefreshIdle); t.Before(s.ExpiresAt) {
		return t
	}
	return s.ExpiresAt
}

// openSession stores the session of a login, and reports false if the login must begin
// anew. A login that fails from here on leaves no session.
func (c *config) openSession(ctx context.Context, s *Session, p *proof) (open bool, err error) {
	reason := ""
	defer func() {
		if !open {
			// Whether it was stored is not known where Create failed. Nobody has
			// its tokens, so that nothing depends on this.
			_ = c.endOne(ctx, s, withDefault(reason, "abandoned"))
		}
	}()
	if err := c.Sessions.Create(ctx, s); err != nil {
		return false, plugError("SessionStore.Create", err)
	}
	var moved bool
	if moved, reason, err = c.recheck(ctx, p); moved || reason != "" || err != nil {
		return false, loginRefused(reason, err)
	}
	if err := c.limitSessions(ctx, s, p.user.SessionsValidFrom); err != nil {
		return false, err
	}
	return true, nil
}

// limitSessions ends those sessions of a user that are too many, but not the new one:
// first those that were never refreshed, whose access tokens are over or will be; then
// the ones that have been idle longest. Of each the oldest goes first.
func (c *config) limitSessions(ctx context.Context, newest *Session, validFrom time.Time) error {
	list, err := c.Sessions.List(ctx, newest.UserID, newest.CreatedAt)
	if err != nil {
		return plugError("SessionStore.List", err)
	}
	if len(list) <= c.MaxSessions {
		return nil
	}
	list = slices.DeleteFunc(list, func(s *Session) bool { return s.AuthenticatedAt.Before(validFrom) }) // which is dead already
	tooMany := len(list) - c.MaxSessions
	if tooMany <= 0 {
		return nil
	}
	// Parallel logins agree on the order, and on the newest of them, which stays.
	slices.SortFunc(list, func(a, b *Session) int {
		return cmp.Or(cmp.Compare(min(a.Generation, 2), min(b.Generation, 2)), a.RefreshedAt.Compare(b.RefreshedAt), strings.Compare(a.ID, b.ID))
	})
	if refreshed := slices.IndexFunc(list, func(s *Session) bool { return s.Generation > 1 }); refreshed > 0 {
		list = slices.Delete(list, refreshed-1, refreshed)
	} else if refreshed < 0 {
		list = list[:len(list)-1]
	}
	for _, s := range list[:tooMany] {
		if s.ID == newest.ID {
			continue // the newer login beside this one ends it
		}
		if err := c.endOne(ctx, s, "limit"); err != nil {
			return err
		}
	}
	return nil
}

// standing reads a user again, and says why what the user authenticated at some
// time no longer stands, "" if it does. The user is nil without one.
func (c *config) standing(ctx context.Context, id string, authenticated time.Time) (u *User, reason string, err error) {
	u, err = c.Users.UserByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, "user_deleted", nil
	case err != nil:
		return nil, "", plugError("UserStore.UserByID", err)
	case u == nil || u.ID != id:
		return nil, "", plugError("UserStore.UserByID", errWrongUser)
	case u.Disabled:
		return u, "user_disabled", nil
	case authenticated.Before(u.SessionsValidFrom):
		return u, "password_changed", nil
	}
	return u, "", nil
}

// getSession reads a session: nil if there is none.
func (c *config) getSession(ctx context.Context, id string) (*Session, error) {
	s, err := c.Sessions.Get(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError("SessionStore.Get", err)
	case s == nil || s.ID != id:
		return nil, plugError("SessionStore.Get", errors.New("the store returned another session than it was asked for"))
	}
	return s, nil
}

// EndSession ends one session of a user, by the app's own will, and reports whether it
// did: false where the user has no such session, or it has ended already. Its refresh
// token is dead at once, and so are its access tokens unless Config.StatelessTokens is set. reason
// goes to the events and into the store.
//
// The error is a failure of the store, or says that userID or id is empty: a token
// without a session names none.
func (a *Auth) EndSession(ctx context.Context, userID, id, reason string) (bool, error) {
	if id == "" {
		return false, errors.New("oauth2pw: EndSession: the id is empty: the token has no session")
	}
	n, err := a.end(ctx, "EndSession", SessionFilter{UserID: userID, ID: id}, reason)
	return n > 0, err
}

// EndOtherSessions ends all sessions of a user but one, and returns how many. An empty
// keep is an error: EndAllSessions is for that. The rest is as for EndSession.
func (a *Auth) EndOtherSessions(ctx context.Context, userID, keep, reason string) (int, error) {
	if keep == "" {
		return 0, errors.New("oauth2pw: EndOtherSessions: keep is empty: the token has no session")
	}
	return a.end(ctx, "EndOtherSessions", SessionFilter{UserID: userID, Except: keep}, reason)
}

// EndAllSessions ends all sessions of a user, and returns how many. The rest is as for
// EndSession.
func (a *Auth) EndAllSessions(ctx context.Context, userID, reason string) (int, error) {
	return a.end(ctx, "EndAllSessions", SessionFilter{UserID: userID}, reason)
}

func (a *Auth) end(ctx context.Context, method string, f SessionFilter, reason string) (int, error) {
	switch {
	case a.c.Sessions == nil:
		return 0, fmt.Errorf("oauth2pw: %s needs Config.Sessions", method)
	case f.UserID == "":
		return 0, fmt.Errorf("oauth2pw: %s: the userID is empty", method)
	}
	return a.c.end(ctx, f, reason)
}

func (c *config) end(ctx context.Context, f SessionFilter, reason string) (int, error) {
	ids, err := c.Sessions.End(ctx, f, reason, c.time())
	c.live.forget(ids, err != nil)
	if err != nil {
		return 0, plugError("SessionStore.End", err)
	}
	for _, id := range ids {
		c.emit(ctx, Event{Kind: EventSessionEnded, Reason: reason, UserID: f.UserID, SessionID: id})
	}
	return len(ids), nil
}

// endTime bounds the end of a session that a request has caused.
const endTime = 10 * time.Second

// endOne ends a session because of what a request has shown. That the client hangs
// up does not stop it.
func (c *config) endOne(ctx context.Context, s *Session, reason string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	_, err := c.end(ctx, SessionFilter{UserID: s.UserID, ID: s.ID}, reason)
	return err
}

const (
	sweepBatch = 1000
	sweepAfter = 24 * time.Hour
)

// SweepSessions removes the sessions that have been over for a day, in batches of
// 1000. With every zero it does so once. Else it does so now and then again every
// such time until ctx ends, whose error it returns; a failure of the store is told
// to Config.OnEvent then, and the next pass tries again.
func (a *Auth) SweepSessions(ctx context.Context, every time.Duration) error {
	c := a.c
	if c.Sessions == nil {
		return errors.New("oauth2pw: SweepSessions needs Config.Sessions")
	}
	if every <= 0 {
		return c.sweep(ctx)
	}
	if every < time.Second {
		return errors.New("oauth2pw: SweepSessions: every is under a second: write time.Hour")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := c.sweep(ctx); err != nil && ctx.Err() == nil {
			c.emit(ctx, Event{Kind: EventUnavailable, Reason: "SessionStore.Sweep", Err: err})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (c *config) sweep(ctx context.Context) error {
	before := c.time().Add(-sweepAfter)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := c.Sessions.Sweep(ctx, before, sweepBatch)
		if err != nil {
			return fmt.Errorf("oauth2pw: SessionStore.Sweep: %w", err)
		}
		if n < sweepBatch {
			return nil
		}
	}
}

// cleanUserAgent cuts what a client says of itself to what a store can keep and a
// page can show.
func cleanUserAgent(s string) string {
	if len(s) > 4*maxUserAgent { // what is looked at is bounded too
		s = s[:4*maxUserAgent]
	}
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
	for len(s) > maxUserAgent {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

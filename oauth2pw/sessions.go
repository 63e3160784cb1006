package oauth2pw

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	defaultRefreshIdle  = 14 * 24 * time.Hour
	defaultRefreshMax   = 90 * 24 * time.Hour
	defaultRefreshGrace = 30 * time.Second
	maxRefreshGrace     = 2 * time.Minute
	defaultMaxSessions  = 100
	maxUserAgent        = 256 // bytes
)

// sessions opens, reads and ends sessions. Without Config.Sessions it is off, and no
// method but on is called.
type sessions struct {
	plugs   *plugs
	clients *clients
	events  *reporter
	clock   clock

	refreshes bool // there are refresh tokens
	keys      refreshKeys
	idle, age time.Duration
	grace     time.Duration
	limit     int // of live sessions of a user
	stateless bool
	live      *liveMemory
}

func newSessions(c *Config, plugs *plugs, clients *clients, events *reporter) (*sessions, error) {
	s := &sessions{
		plugs: plugs, clients: clients, events: events, clock: events.clock,
		idle: withDefault(c.RefreshIdle, defaultRefreshIdle), age: withDefault(c.RefreshMax, defaultRefreshMax),
		grace: max(withDefault(c.RefreshGrace, defaultRefreshGrace), 0), limit: withDefault(c.MaxSessions, defaultMaxSessions),
		stateless: c.StatelessTokens,
	}
	if c.Sessions == nil {
		if len(c.Secrets) > 0 || c.SessionCache != 0 || c.StatelessTokens {
			return nil, errors.New("oauth2pw: Config.Secrets, SessionCache and StatelessTokens need Config.Sessions")
		}
		if c.RefreshIdle != 0 || c.RefreshMax != 0 || c.RefreshGrace != 0 || c.MaxSessions != 0 || c.DisableRefresh {
			return nil, errors.New("oauth2pw: Config.RefreshIdle, RefreshMax, RefreshGrace, MaxSessions and DisableRefresh need Config.Sessions")
		}
		return s, nil
	}
	s.refreshes = !c.DisableRefresh
	if s.refreshes && len(c.Secrets) == 0 {
		return nil, errors.New("oauth2pw: Config.Secrets is empty; Config.DisableRefresh is for sessions without refresh tokens")
	}
	var err error
	if s.keys, err = newRefreshKeys(c.Secrets); err != nil {
		return nil, err
	}
	switch {
	case s.idle < time.Second:
		return nil, errors.New("oauth2pw: Config.RefreshIdle is under a second: write 14*24*time.Hour")
	case s.age < time.Second:
		return nil, errors.New("oauth2pw: Config.RefreshMax is under a second: write 90*24*time.Hour")
	case 0 < s.grace && s.grace < time.Millisecond:
		return nil, errors.New("oauth2pw: Config.RefreshGrace is under a millisecond: write 30*time.Second; negative is for none")
	case s.grace > maxRefreshGrace:
		return nil, errors.New("oauth2pw: Config.RefreshGrace is over two minutes")
	case c.SessionCache != 0 && c.SessionCache < time.Millisecond:
		return nil, errors.New("oauth2pw: Config.SessionCache is under a millisecond: write 10*time.Second")
	case c.SessionCache != 0 && c.StatelessTokens:
		return nil, errors.New("oauth2pw: Config.StatelessTokens asks for no session, so that Config.SessionCache has none to remember")
	case s.limit < 0:
		return nil, errors.New("oauth2pw: Config.MaxSessions is negative")
	}
	s.live = newLiveMemory(c.SessionCache)
	return s, nil
}

// on reports whether there are sessions.
func (x *sessions) on() bool { return x.plugs.sessions != nil }

// new returns the session of a login that is not stored yet.
func (x *sessions) new(ctx context.Context, r *TokenRequest, p *proof, scope string) *Session {
	var id, salt [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, _ = rand.Read(salt[:])
	s := &Session{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), UserID: p.user.ID, ClientID: r.Client.id(), Scope: scope,
		Salt: salt, KeyID: x.keys.first, Generation: 1,
		CreatedAt: r.now, AuthenticatedAt: p.at, RefreshedAt: latest(r.now, p.at), ExpiresAt: r.now.Add(x.age),
		Address: ClientAddress(ctx), UserAgent: cleanUserAgent(r.userAgent),
	}
	s.IdleExpiresAt = x.idleExpiry(s, r.now)
	return s
}

// idleExpiry is when a session that is used now expires if it is not used again.
func (x *sessions) idleExpiry(s *Session, now time.Time) time.Time {
	if t := now.Add(x.idle); t.Before(s.ExpiresAt) {
		return t
	}
	return s.ExpiresAt
}

// mayRefresh reports whether the sessions of a client have refresh tokens.
func (x *sessions) mayRefresh(c *Client) bool { return x.refreshes && c.mayUse(grantRefresh) }

// open stores the session of a login, and reports false if the login must begin anew.
// recheck reads the user once more. A login that fails from here on leaves no session.
func (x *sessions) open(ctx context.Context, s *Session, validFrom time.Time, recheck func() (moved bool, refusal EventReason, err error)) (open bool, refusal EventReason, err error) {
	defer func() {
		if !open {
			// Whether it was stored is not known where Create failed. Nobody has
			// its tokens, so that nothing depends on this.
			_ = x.endOne(ctx, s, withDefault(refusal, ReasonAbandoned))
		}
	}()
	if err := x.plugs.createSession(ctx, s); err != nil {
		return false, "", err
	}
	moved, refusal, err := recheck()
	if moved || refusal != "" || err != nil {
		return false, refusal, err
	}
	if err := x.enforceLimit(ctx, s, validFrom); err != nil {
		return false, "", err
	}
	return true, "", nil
}

// enforceLimit ends those sessions of a user that are too many, but not the new one:
// first those that were never refreshed, whose access tokens have expired or will soon;
// then the ones that have been idle longest. Of each the oldest goes first.
func (x *sessions) enforceLimit(ctx context.Context, newest *Session, validFrom time.Time) error {
	list, err := x.plugs.listSessions(ctx, newest.UserID, newest.CreatedAt)
	if err != nil {
		return err
	}
	if len(list) <= x.limit {
		return nil
	}
	list = slices.DeleteFunc(list, func(s *Session) bool { return s.AuthenticatedAt.Before(validFrom) }) // which is dead already
	tooMany := len(list) - x.limit
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
		if err := x.endOne(ctx, s, ReasonLimit); err != nil {
			return err
		}
	}
	return nil
}

// byToken returns the session that a refresh token proves to be of, live or not, or why
// the token proves nothing.
func (x *sessions) byToken(ctx context.Context, t refreshToken) (*Session, EventReason, error) {
	s, err := x.plugs.session(ctx, t.sessionID)
	if err != nil {
		return nil, "", err
	}
	if s == nil {
		return nil, ReasonUnknownSession, nil
	}
	if reason := x.keys.prove(s, t); reason != "" {
		return nil, reason, nil
	}
	return s, "", nil
}

// of returns the session of an own access token. The session must live, and the token
// must be of the last login, or change of the password, in it.
func (x *sessions) of(ctx context.Context, p Principal) (*Session, error) {
	s, err := x.plugs.session(ctx, p.SessionID)
	switch {
	case err != nil:
		return nil, err
	case s == nil || s.UserID != p.Subject || x.clients.owner(s.ClientID) != x.clients.owner(p.ClientID):
		return nil, deadToken("the session is unknown")
	case s.dead(x.clock.time()) != "":
		return nil, deadToken("the session is over")
	case superseded(p, s.AuthenticatedAt):
		return nil, deadToken("the user has proved the password again since")
	}
	return s, nil
}

// deadToken is the error for a token that is genuine and does not hold any more.
func deadToken(reason string) error {
	return fmt.Errorf("oauth2pw: %s: %w", reason, ErrInvalidToken)
}

// superseded reports whether a token is from before the user last proved the password in
// its session. A token says whole seconds.
func superseded(p Principal, authenticated time.Time) bool {
	return p.AuthTime.Before(authenticated.Truncate(time.Second))
}

// check refuses a token whose session does not live.
func (x *sessions) check(ctx context.Context, p Principal) error {
	known, epoch, found := x.live.recall(p.SessionID, x.clock.time())
	if found && known.userID == p.Subject && x.clients.owner(known.clientID) == x.clients.owner(p.ClientID) && !superseded(p, known.authenticated) {
		return nil
	}
	s, err := x.of(ctx, p)
	if err != nil {
		return err
	}
	x.live.remember(epoch, s, x.clock.time())
	return nil
}

// EndSession ends one session of a user, by the app's own will, and reports whether it
// did: false where the user has no such session, or it has ended already. Its refresh
// token is dead at once, and so are its access tokens unless Config.StatelessTokens is set.
// reason goes to the events and into the store.
//
// The error is a failure of the store, or says that userID or id is empty: a token
// without a session has an empty id.
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

func (a *Auth) end(ctx context.Context, method string, f SessionFilter, reason string) (n int, err error) {
	switch {
	case !a.sessions.on():
		return 0, fmt.Errorf("oauth2pw: %s needs Config.Sessions", method)
	case f.UserID == "":
		return 0, fmt.Errorf("oauth2pw: %s: the userID is empty", method)
	}
	n, failed := a.sessions.end(ctx, f, EventReason(reason))
	return n, failed
}

func (x *sessions) end(ctx context.Context, f SessionFilter, reason EventReason) (int, error) {
	ids, err := x.plugs.endSessions(ctx, f, string(reason), x.clock.time())
	x.live.forget(ids, err != nil)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		x.events.emit(ctx, Event{Kind: EventSessionEnded, Reason: reason, UserID: f.UserID, SessionID: id})
	}
	return len(ids), nil
}

// endTime bounds the end of a session that a request has caused.
const endTime = 10 * time.Second

// endOne ends a session because of what a request has shown. It continues if the client
// disconnects.
func (x *sessions) endOne(ctx context.Context, s *Session, reason EventReason) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	_, err := x.end(ctx, SessionFilter{UserID: s.UserID, ID: s.ID}, reason)
	return err
}

const (
	sweepBatch = 1000
	sweepAfter = 24 * time.Hour
)

// SweepSessions removes the sessions that ended or expired a day ago, in batches of
// 1000. With every zero it does so once, and returns the error of the store. Else it does
// so now and then again every such time until ctx ends, whose error it returns; a failure
// of the store is an event then, and the next pass tries again.
func (a *Auth) SweepSessions(ctx context.Context, every time.Duration) error {
	if !a.sessions.on() {
		return errors.New("oauth2pw: SweepSessions needs Config.Sessions")
	}
	if every <= 0 {
		err := a.sessions.sweep(ctx)
		if e := (*Error)(nil); errors.As(err, &e) {
			return fmt.Errorf("oauth2pw: %s: %w", e.plug, e.cause)
		}
		return err
	}
	if every < time.Second {
		return errors.New("oauth2pw: SweepSessions: every is under a second: write time.Hour")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := a.sessions.sweep(ctx); err != nil && ctx.Err() == nil {
			a.answers.tell(ctx, asError(err), Event{})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (x *sessions) sweep(ctx context.Context) error {
	before := x.clock.time().Add(-sweepAfter)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := x.plugs.sweepSessions(ctx, before, sweepBatch)
		if err != nil {
			return err
		}
		if n < sweepBatch {
			return nil
		}
	}
}

// cleanUserAgent cuts the User-Agent of a request to what a store can keep and a
// page can show.
func cleanUserAgent(s string) string {
	if len(s) > 4*maxUserAgent { // bounds the work
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

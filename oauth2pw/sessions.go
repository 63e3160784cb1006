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

// sessions opens, reads and ends sessions. Without Config.Sessions only the method on is
// called.
type sessions struct {
	plugs   *plugs
	clients *clients
	events  *reporter
	clock   clock

	refreshes bool // sessions have refresh tokens
	keys      refreshKeys
	idle, age time.Duration
	grace     time.Duration
	forgive   time.Duration
	limit     int // the highest number of live sessions of a user
	stateless bool
	live      *liveMemory
	choose    func(ctx context.Context, u *User, r *TokenRequest, s *Session) error // Config.OpenSession
}

func newSessions(c *Config, plugs *plugs, clients *clients, secrets serverSecrets, events *reporter) (*sessions, error) {
	s := &sessions{
		plugs: plugs, clients: clients, events: events, clock: events.clock,
		idle: withDefault(c.RefreshIdle, defaultRefreshIdle), age: withDefault(c.RefreshMax, defaultRefreshMax),
		grace: max(withDefault(c.RefreshGrace, defaultRefreshGrace), 0), limit: withDefault(c.MaxSessions, defaultMaxSessions),
		stateless: c.StatelessTokens, forgive: c.RefreshForgive, choose: c.OpenSession,
	}
	if c.Sessions == nil {
		if c.SessionCache != 0 || c.StatelessTokens {
			return nil, errors.New("oauth2pw: Config.SessionCache and StatelessTokens need Config.Sessions")
		}
		if c.RefreshIdle != 0 || c.RefreshMax != 0 || c.RefreshGrace != 0 || c.RefreshForgive != 0 || c.MaxSessions != 0 || c.DisableRefresh || c.OpenSession != nil {
			return nil, errors.New("oauth2pw: Config.RefreshIdle, RefreshMax, RefreshGrace, RefreshForgive, MaxSessions, DisableRefresh and OpenSession need Config.Sessions")
		}
		return s, nil
	}
	s.refreshes = !c.DisableRefresh
	if s.refreshes && len(c.Secrets) == 0 {
		return nil, errors.New("oauth2pw: Config.Secrets is empty; Config.DisableRefresh is for sessions without refresh tokens")
	}
	var err error
	if s.keys, err = newRefreshKeys(secrets); err != nil {
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
	case s.forgive != 0 && (s.grace == 0 || s.forgive <= s.grace || s.forgive > s.idle):
		return nil, errors.New("oauth2pw: Config.RefreshForgive must be longer than Config.RefreshGrace, which must be on, and at most Config.RefreshIdle")
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

// on reports whether Config.Sessions is set.
func (x *sessions) on() bool { return x.plugs.sessions != nil }

// new returns the session of a login, which is not stored yet.
func (x *sessions) new(ctx context.Context, r *TokenRequest, p *proof, scope string) (*Session, error) {
	var id, salt [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	_, _ = rand.Read(salt[:])
	s := &Session{
		ID: base64.RawURLEncoding.EncodeToString(id[:]), UserID: p.user.ID, ClientID: r.Client.id(), Scope: scope,
		Salt: salt, KeyID: x.keys.first, Generation: 1,
		CreatedAt: r.now, AuthenticatedAt: p.at, RefreshedAt: latest(r.now, p.at), ExpiresAt: r.now.Add(x.age),
		Address: ClientAddress(ctx), UserAgent: cleanUserAgent(r.userAgent),
	}
	if x.choose != nil {
		if err := x.askApp(ctx, r, p.user, s); err != nil {
			return nil, err
		}
	}
	s.IdleExpiresAt = x.idleExpiry(s, r.now)
	return s, nil
}

// askApp lets Config.OpenSession choose Idle, ExpiresAt and Label of a new session.
func (x *sessions) askApp(ctx context.Context, r *TokenRequest, u *User, s *Session) error {
	const plug = "Config.OpenSession"
	chosen := *s
	chosen.Idle = x.idle
	if err := x.choose(ctx, u, r, &chosen); err != nil {
		return plugError(plug, err)
	}
	expires := chosen.ExpiresAt.UTC().Truncate(time.Microsecond)
	switch {
	case expires.Sub(r.now) < time.Second:
		return plugError(plug, errors.New("Session.ExpiresAt is not a second ahead"))
	case chosen.Idle < time.Second:
		return plugError(plug, errors.New("Session.Idle is under a second"))
	}
	if expires.Before(s.ExpiresAt) {
		s.ExpiresAt = expires
	}
	s.Idle, s.Label = min(chosen.Idle, x.idle).Truncate(time.Microsecond), cleanUserAgent(chosen.Label)
	return nil
}

// idleExpiry returns the idle expiry of a session that is used now.
func (x *sessions) idleExpiry(s *Session, now time.Time) time.Time {
	if t := now.Add(min(withDefault(s.Idle, x.idle), x.idle)); t.Before(s.ExpiresAt) {
		return t
	}
	return s.ExpiresAt
}

// mayRefresh reports whether the sessions of a client have refresh tokens.
func (x *sessions) mayRefresh(c *Client) bool { return x.refreshes && c.mayUse(grantRefresh) }

// open stores the session of a login, and calls recheck, which reads the user again. opened
// is false if the login is refused, fails, or must begin again. A login that fails from here
// on leaves no live session. place compares the login with the other live sessions.
func (x *sessions) open(ctx context.Context, s *Session, validFrom time.Time, recheck func() (moved bool, refusal EventReason, err error)) (opened bool, place EventReason, err error) {
	reason := ReasonAbandoned
	defer func() {
		if !opened {
			// If Create failed, the session may be stored or not. The error of endOne
			// changes nothing, because nobody has the tokens of the session.
			_ = x.endOne(ctx, s, reason)
		}
	}()
	if err := x.plugs.createSession(ctx, s); err != nil {
		return false, "", err
	}
	moved, refusal, err := recheck()
	if refusal != "" {
		reason = refusal
		return false, "", errInvalidGrant.because(EventLoginFailed, refusal, nil)
	}
	if moved || err != nil {
		return false, "", err
	}
	list, err := x.plugs.listSessions(ctx, s.UserID, s.CreatedAt)
	if err != nil {
		return false, "", err
	}
	if err := x.enforceLimit(ctx, list, s, validFrom); err != nil {
		return false, "", err
	}
	return true, newPlace(list, s, validFrom), nil
}

// newPlace compares the place of a login with the other live sessions of the user.
func newPlace(list []*Session, newest *Session, validFrom time.Time) EventReason {
	others, address, agent := false, false, false
	for _, s := range list {
		if s.ID == newest.ID || s.CreatedAt.After(newest.CreatedAt) || s.AuthenticatedAt.Before(validFrom) {
			continue
		}
		others = true
		address = address || s.Address == newest.Address
		agent = agent || s.UserAgent == newest.UserAgent
	}
	switch {
	case !others || address && agent:
		return ""
	case address:
		return ReasonNewUserAgent
	case agent:
		return ReasonNewAddress
	}
	return ReasonNewPlace
}

// enforceLimit ends the sessions of a user above the limit, except the new session: first
// the sessions without a refresh, whose access tokens have expired or will expire soon;
// then the sessions that are idle longest. In each group the oldest session ends first.
func (x *sessions) enforceLimit(ctx context.Context, list []*Session, newest *Session, validFrom time.Time) error {
	if len(list) <= x.limit {
		return nil
	}
	list = filter(list, func(s *Session) bool { return !s.AuthenticatedAt.Before(validFrom) }) // the others are refused already
	tooMany := len(list) - x.limit
	if tooMany <= 0 {
		return nil
	}
	// Parallel logins agree on the order, and on the newest of them, which stays live.
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
			continue // a newer parallel login ends the new session
		}
		if err := x.endOne(ctx, s, ReasonLimit); err != nil {
			return err
		}
	}
	return nil
}

// byToken returns the session of a refresh token, live or not, or the reason why the token
// proves no session.
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

// of returns the session of an access token of the own issuer. The session must be live,
// and the token must be of the last login, or change of the password, in the session.
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

// deadToken returns the error for a genuine token that is no longer valid.
func deadToken(reason string) error {
	return fmt.Errorf("oauth2pw: %s: %w", reason, ErrInvalidToken)
}

// superseded reports whether a token is older than the last proof of the password in its
// session. The times in a token are whole seconds.
func superseded(p Principal, authenticated time.Time) bool {
	return p.AuthTime.Before(authenticated.Truncate(time.Second))
}

// check refuses a token whose session is not live.
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

// cleanUserAgent cuts the User-Agent of a request to a text that a store can keep and a
// page can show.
func cleanUserAgent(s string) string {
	if len(s) > 4*maxUserAgent { // limits the work
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

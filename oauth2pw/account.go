package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// accounts changes what a user has proved, and with what.
type accounts struct {
	plugs     *plugs
	guard     *guard
	passwords *passwords
	clients   *clients
	scopes    *scopePolicy
	sessions  *sessions
	logins    *logins
	verifiers *verifiers
	answers   answerer
	events    *reporter
	clock     clock
	checkNew  func(ctx context.Context, u *User, password string) error // Config.CheckNewPassword
}

// ChangePassword replaces the password of the user whose token the middleware of this
// Auth has verified for r, if the user knows the old one. It returns new tokens of the
// caller's session, with the scopes of its login. Every other session of the user ends,
// and every token from before is dead, the caller's own included: a copy that somebody
// has stolen is worth nothing afterwards. The caller's refresh token from before is
// refused; used again after Config.RefreshGrace it is reuse, and ends the session. An
// access token is refused from then on, unless Config.StatelessTokens is set and
// Config.LoadUser is not; another process may accept it for Config.SessionCache.
//
// The order is: the old password, then Config.CheckNewPassword, then the new hash and
// User.SessionsValidFrom in one step of the store, which makes the other sessions dead; then
// the caller's session moves on, and the others are ended.
//
// The error is an [*Error], for [WriteError]: access_denied (403) if r carries no verified
// token of this Auth, or one without a session, or whose session is over; invalid_grant
// (403) if the old password is wrong or there is no such user; invalid_request (422) if
// the new one is no password (1 to 1,024 bytes) or CheckNewPassword refuses it; slow_down
// (429) if the old password was wrong too often, here or at a login; or a failure. The
// failure temporarily_unavailable "The password has changed. Log in again." comes after
// the change: the event is password_changed, and the caller's session is over. If the
// store fails to end the other sessions, which is an event, none of them can be refreshed all
// the same; their access tokens are dead where the user is read (Config.LoadUser).
func (a *Auth) ChangePassword(r *http.Request, old, new string) (*Tokens, error) {
	x := a.accounts
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventPasswordRefused}
	var tokens *Tokens
	err := a.answers.told(ctx, &event, func() error {
		if x.plugs.updater == nil || x.plugs.hasher == nil {
			return wiringError("ChangePassword needs Config.Users to be a PasswordUpdater, and Config.Hasher")
		}
		p, err := a.ownPrincipal(ctx)
		if err != nil {
			return err
		}
		event.UserID, event.ClientID, event.SessionID = p.Subject, p.ClientID, p.SessionID
		for range changeAttempts {
			if tokens, err = x.changePassword(ctx, p, old, new); tokens != nil || err != nil {
				return err
			}
		}
		return plugError("PasswordUpdater.UpdatePasswordHash", errors.New("the hash changed each time it was read"))
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// changeAttempts: a login that replaces an outdated hash may come in between, once.
const changeAttempts = 3

var (
	errWrongOldPassword = &Error{Code: "invalid_grant", Description: "The old password is wrong.", Status: http.StatusForbidden}
	errNoPrincipal      = (&Error{Code: "access_denied", Description: "The request carries no token of this service."}).because("", ReasonNoPrincipal, nil)
	errNoSession        = (&Error{Code: "access_denied", Description: "The token has no session."}).because("", ReasonNoSession, nil)
	errSessionOver      = (&Error{Code: "access_denied", Description: "The session is over."}).because("", ReasonSessionOver, nil)
	errLogInAgain       = &Error{Code: "temporarily_unavailable", Description: "The password has changed. Log in again."}
)

// ownPrincipal returns the principal of a request that this Auth has verified itself,
// of its own issuer.
func (a *Auth) ownPrincipal(ctx context.Context) (Principal, error) {
	s := stateFrom(ctx)
	if !s.present || s.verifier != any(a) || !a.verifiers.own(s.principal) {
		return Principal{}, errNoPrincipal
	}
	if a.sessions.on() && s.principal.SessionID == "" {
		return Principal{}, errNoSession
	}
	return s.principal, nil
}

// changePassword returns no tokens and no error if the stored hash was replaced
// meanwhile.
func (x *accounts) changePassword(ctx context.Context, p Principal, old, new string) (*Tokens, error) {
	u, err := x.plugs.userByID(ctx, p.Subject)
	if err != nil {
		return nil, err
	}
	attempt := x.guard.attempt(ctx, Attempt{Kind: AttemptPassword, UserID: p.Subject}, old)
	err = x.guard.guess(ctx, attempt, func() (verdict, string, error) {
		reason, _, err := x.passwords.verify(ctx, u, u.closed(), old)
		switch {
		case err != nil:
			return undecided, "", err
		case reason != "":
			return wrong, "", errWrongOldPassword.because("", reason, nil)
		}
		return right, "", nil
	})
	if err != nil {
		return nil, err
	}
	if err := x.checkNewPassword(ctx, u, new); err != nil {
		return nil, err
	}
	hash, err := x.plugs.hash(ctx, new)
	if err != nil {
		return nil, err
	}
	own, err := x.ownLogin(ctx, p, u)
	if err != nil {
		return nil, err
	}
	if own.change, err = x.newChange(ctx, own); err != nil {
		return nil, err
	}
	// From here on the client may disconnect.
	ctx = context.WithoutCancel(ctx)
	replaced, err := x.plugs.updatePasswordHash(ctx, u.ID, string(u.PasswordHash), hash, own.change.validFrom)
	if err != nil {
		// It may have been written all the same: a new hash is equal to no other.
		now, failed := x.plugs.userByID(ctx, u.ID)
		if failed != nil || now == nil || string(now.PasswordHash) != hash || hash == string(u.PasswordHash) {
			return nil, err
		}
		x.answers.tell(ctx, asError(err), Event{UserID: u.ID})
	} else if !replaced {
		return nil, nil
	}
	return x.afterChange(ctx, own)
}

// change is a change of a password.
type change struct {
	at        time.Time // when it began to be written
	validFrom time.Time // what User.SessionsValidFrom becomes
}

// authenticated is the time of which the caller's session is from then on: the first
// whole second after the change. The next change is later than it.
func (c change) authenticated() time.Time { return wholeSecond(c.validFrom) }

// newChange returns a change of now. Whatever was authenticated up to now, in this
// microsecond too, is older than the change; and so are all sessions that there are,
// although the clock of another process may be ahead. Access tokens say whole seconds:
// those that were made in the second of the change before say the next one at most.
func (x *accounts) newChange(ctx context.Context, own ownLogin) (change, error) {
	before := own.user.SessionsValidFrom
	n := change{at: x.clock.time()}
	n.validFrom = latest(n.at, wholeSecond(before))
	older := []*Session{own.session}
	if x.sessions.on() {
		list, err := x.plugs.listSessions(ctx, own.user.ID, n.at)
		if err != nil {
			return n, err
		}
		older = append(older, list...)
	}
	for _, s := range older {
		n.validFrom = latest(n.validFrom, latest(s.AuthenticatedAt, authTime(s.AuthenticatedAt, before)))
	}
	n.validFrom = n.validFrom.Add(time.Microsecond)
	return n, nil
}

// wholeSecond rounds up.
func wholeSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// ownLogin is the login of somebody who changes something about it.
type ownLogin struct {
	user    *User
	client  *Client  // nil: none was named
	session *Session // with an ID of "" without Config.Sessions
	scope   string
	change  change
}

// ownLogin reads what a change needs of the caller's session, before anything is
// written.
func (x *accounts) ownLogin(ctx context.Context, p Principal, u *User) (own ownLogin, err error) {
	own.user = u
	if id := x.clients.owner(p.ClientID); id != "" {
		if own.client, err = x.clients.find(ctx, id); err != nil {
			return own, err
		}
		if own.client == nil {
			return own, errSessionOver
		}
	}
	now := x.clock.time()
	if !x.sessions.on() {
		if p.AuthTime.Before(u.SessionsValidFrom) {
			return own, errSessionOver
		}
		own.session = &Session{UserID: p.Subject, ClientID: p.ClientID, Scope: p.Scope, AuthenticatedAt: p.AuthTime}
	} else {
		s, err := x.sessions.of(ctx, p)
		if errors.Is(err, ErrInvalidToken) {
			return own, errSessionOver
		}
		if err != nil {
			return own, err
		}
		// The new access token says whole seconds, and must not say zero of them.
		if s.AuthenticatedAt.Before(u.SessionsValidFrom) || s.end().Sub(now) < time.Second {
			return own, errSessionOver
		}
		own.session = s
	}
	scopes, err := x.scopes.keep(ctx, u, own.client, strings.Fields(own.session.Scope))
	own.scope = strings.Join(scopes, " ")
	return own, err
}

// afterChange moves the caller's session on and ends the others, for a password that
// has changed: neither a failure nor a panic takes that back.
func (x *accounts) afterChange(ctx context.Context, own ownLogin) (tokens *Tokens, err error) {
	s := own.session
	err = recovered(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		tokens, err = x.moveOn(ctx, own)
		return err
	})
	if x.sessions.on() {
		if failed := recovered(func() error { return x.endOthers(ctx, own, err == nil) }); failed != nil {
			x.answers.tell(ctx, asError(failed), Event{UserID: s.UserID})
		}
	}
	x.events.emit(ctx, Event{Kind: EventPasswordChanged, UserID: s.UserID, ClientID: s.ClientID, SessionID: s.ID})
	if err != nil {
		e := asError(err)
		return nil, errLogInAgain.failed(withDefault(e.kind, EventUnavailable), e.plug, withDefault(e.cause, err))
	}
	return tokens, nil
}

// endOthers ends the sessions of before a change, but for the one that has moved on. They
// are dead already where the user is read, and for every refresh, by SessionsValidFrom. A
// session that the next change has kept is later by a second, and stays; a login with the new
// password in the second of the change may end with the others.
func (x *accounts) endOthers(ctx context.Context, own ownLogin, moved bool) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	f := SessionFilter{UserID: own.session.UserID, AuthenticatedBefore: own.change.authenticated().Add(time.Second)}
	if moved {
		f.Except = own.session.ID
	}
	_, err := x.sessions.end(ctx, f, ReasonPasswordChanged)
	return err
}

// moveOn notes in a session that the user has proved again who he is, and returns its
// new tokens. The session moves on by two generations: every refresh token that anybody
// has of it is refused from now on. The compare of Advance proves that no other request
// has moved it in between.
func (x *accounts) moveOn(ctx context.Context, own ownLogin) (*Tokens, error) {
	u := *own.user
	u.SessionsValidFrom = own.change.validFrom
	s, proved := own.session, own.session.AuthenticatedAt
	if !x.sessions.on() {
		next := *s
		next.AuthenticatedAt = own.change.authenticated()
		return x.logins.tokens(ctx, &next, &u, own.scope)
	}
	refreshes := x.sessions.mayRefresh(own.client)
	for range refreshAttempts {
		now := x.clock.time()
		next := *s
		next.Generation, next.RefreshedAt, next.AuthenticatedAt = s.Generation+2, own.change.at, own.change.authenticated()
		if refreshes {
			next.IdleExpiresAt = x.sessions.idleExpiry(s, now)
		}
		tokens, err := x.logins.tokens(ctx, &next, &u, own.scope)
		if err != nil {
			return nil, err
		}
		if refreshes {
			tokens.RefreshToken = x.sessions.keys.token(&next, next.Generation)
		}
		advanced, err := x.plugs.advanceSession(ctx, s.Generation, &next, now)
		x.sessions.live.forget([]string{s.ID}, false)
		if err != nil {
			return nil, err
		}
		if advanced {
			return tokens, nil
		}
		if s, err = x.plugs.session(ctx, s.ID); err != nil {
			return nil, err
		}
		if s == nil || s.dead(now) != "" || s.AuthenticatedAt.After(proved) {
			return nil, plugError("SessionStore.Advance", errors.New("the session has ended meanwhile, or another change has moved it on"))
		}
	}
	return nil, plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

func (x *accounts) checkNewPassword(ctx context.Context, u *User, password string) error {
	refused := &Error{Code: "invalid_request", Description: "The new password is not acceptable.", Status: http.StatusUnprocessableEntity}
	if password == "" || len(password) > maxPassword {
		refused.Description = fmt.Sprintf("The new password must have 1 to %d bytes.", maxPassword)
		return refused.because("", ReasonUnacceptable, nil)
	}
	if x.checkNew == nil {
		return nil
	}
	err := x.checkNew(ctx, u, password)
	if err == nil {
		return nil
	}
	e := plugError("Config.CheckNewPassword", err)
	if e.kind != "" { // it failed
		return e
	}
	if e.Code != refused.Code {
		return e.because("", ReasonUnacceptable, err)
	}
	refused.Description, refused.Status, refused.Extra = withDefault(e.Description, refused.Description), withDefault(e.Status, refused.Status), e.Extra
	return refused.because("", ReasonUnacceptable, err)
}

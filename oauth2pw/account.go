package oauth2pw

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// accounts changes passwords.
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

// ChangePassword replaces the password of a user who knows the old password: the user of
// the token that the middleware of this Auth has verified for r. The result is new tokens
// of the caller's session, with the scopes of its login.
//
// Every other session of the user ends, and every older token is refused, the caller's own
// included, because somebody may have a copy. An older refresh token of the caller's
// session is refused within Config.RefreshGrace; afterwards the token is reuse and ends the
// session. An older access token is refused at once, by another process after
// Config.SessionCache at the latest. Without Config.LoadUser an older access token stays
// valid until it expires if Config.Sessions is nil or Config.StatelessTokens is set.
//
// The steps are: check the old password; call Config.CheckNewPassword; write the new hash
// and User.SessionsValidFrom in one store call, which already invalidates the other
// sessions; move the caller's session on; mark the other sessions ended.
//
// The error is an [*Error], for [WriteError]:
//
//   - access_denied (403): r has no verified token of this Auth; with Config.Sessions, too:
//     the token has no session, or the session has ended or expired
//   - invalid_grant (403): the old password is wrong, or the user is missing or disabled
//   - invalid_request (422): the new password has not 1 to 1,024 bytes, or CheckNewPassword
//     refuses it
//   - slow_down (429): too many wrong old passwords, here or at a login
//   - any other code: a failure
//
// The failure temporarily_unavailable "The password has changed. Log in again." comes after
// the change: the event is password_changed, and the caller's session has ended. If the
// store fails to end the other sessions, the failure is an event. No such session can be
// refreshed; its access tokens are refused only if the user is read (Config.LoadUser).
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

// changeAttempts is the number of tries: a login may replace an outdated hash in between,
// once.
const changeAttempts = 3

var (
	errWrongOldPassword = &Error{Code: "invalid_grant", Description: "The old password is wrong.", Status: http.StatusForbidden}
	errWrongPassword    = &Error{Code: "invalid_grant", Description: "The password is wrong.", Status: http.StatusForbidden}
	errNoPrincipal      = (&Error{Code: "access_denied", Description: "The request carries no token of this service."}).because("", ReasonNoPrincipal, nil)
	errNoSession        = (&Error{Code: "access_denied", Description: "The token has no session."}).because("", ReasonNoSession, nil)
	errSessionOver      = (&Error{Code: "access_denied", Description: "The session is over."}).because("", ReasonSessionOver, nil)
	errLogInAgain       = &Error{Code: "temporarily_unavailable", Description: "The password has changed. Log in again."}
)

// ownPrincipal returns the principal that this Auth has verified for a request, of its own
// issuer.
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

// changePassword returns no tokens and no error if the stored hash was replaced in between.
func (x *accounts) changePassword(ctx context.Context, p Principal, old, new string) (*Tokens, error) {
	u, err := x.plugs.userByID(ctx, p.Subject)
	if err != nil {
		return nil, err
	}
	if err := x.proveAgain(ctx, p.Subject, u, old, errWrongOldPassword); err != nil {
		return nil, err
	}
	hash, err := x.hashNew(ctx, u, new)
	if err != nil {
		return nil, err
	}
	own, err := x.ownLogin(ctx, p, u)
	if err != nil {
		return nil, err
	}
	if own.change, err = x.newChange(ctx, u, own.session); err != nil {
		return nil, err
	}
	// From here on the change continues if the client disconnects.
	ctx = context.WithoutCancel(ctx)
	own.change.hash = hash
	if replaced, err := x.replaceHash(ctx, u, own.change); !replaced || err != nil {
		return nil, err
	}
	changed := *u
	changed.SessionsValidFrom = own.change.validFrom
	own.user = &changed
	return x.afterChange(ctx, own)
}

// proveAgain checks the password of a user who has a token. The user is nil if the store
// does not have one any more. wrongPassword is the answer to a wrong password.
func (x *accounts) proveAgain(ctx context.Context, userID string, u *User, password string, wrongPassword *Error) error {
	a := Attempt{Kind: AttemptPassword, UserID: userID}
	if x.passwords.authenticate != nil && u != nil { // attempts are counted by name
		a.UserID, a.Name = "", u.Username
		if x.passwords.fold != nil {
			a.Name = x.passwords.fold(u.Username)
		}
	}
	return x.guard.guess(ctx, x.guard.attempt(ctx, a, password), func() (verdict, string, error) {
		reason, err := x.verifyAgain(ctx, u, a.Name, password)
		switch {
		case err != nil && x.passwords.authenticate != nil && ctx.Err() != nil:
			return wrong, "", err
		case err != nil:
			return undecided, "", err
		case reason != "":
			return wrong, "", wrongPassword.because("", reason, nil)
		}
		return right, "", nil
	})
}

func (x *accounts) verifyAgain(ctx context.Context, u *User, name, password string) (EventReason, error) {
	reason := u.closed()
	if x.passwords.authenticate == nil {
		reason, _, err := x.passwords.verify(ctx, u, reason, password)
		return reason, err
	}
	if reason != "" && reason != ReasonNoPassword || name == "" || password == "" || len(password) > maxPassword {
		return withDefault(reason, ReasonMalformed), nil
	}
	same, err := x.passwords.authenticate(ctx, name, password)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (same == nil || same.ID != u.ID):
		return ReasonWrongPassword, nil
	case err == nil && same.Disabled:
		return ReasonUserDisabled, nil
	case err != nil:
		e := plugError(plugAuthenticate, err)
		if e.Code == errInvalidGrant.Code {
			return ReasonRefused, nil
		}
		return "", e
	}
	return "", nil
}

// hashNew checks a new password and hashes it.
func (x *accounts) hashNew(ctx context.Context, u *User, password string) (string, error) {
	if err := x.checkNewPassword(ctx, u, password); err != nil {
		return "", err
	}
	return x.plugs.hash(ctx, password)
}

// replaceHash writes a new hash of a new password, and reports false if the stored hash is
// not that of u any more.
func (x *accounts) replaceHash(ctx context.Context, u *User, c change) (bool, error) {
	replaced, err := x.plugs.updatePasswordHash(ctx, u.ID, string(u.PasswordHash), c.hash, c.validFrom)
	if err == nil {
		return replaced, nil
	}
	// The hash may be stored despite the error. A new hash is equal to no other hash.
	now, failed := x.plugs.userByID(ctx, u.ID)
	if failed != nil || now == nil || string(now.PasswordHash) != c.hash || c.hash == string(u.PasswordHash) {
		return false, err
	}
	x.answers.tell(ctx, asError(err), Event{UserID: u.ID})
	return true, nil
}

// change has the times of a new proof of identity: of a new password, or of the same
// password again.
type change struct {
	at        time.Time // the time before the write
	validFrom time.Time // the new User.SessionsValidFrom of a new password
	hash      string    // of a new password
}

// authenticated returns the new AuthenticatedAt of the caller's session: the first whole
// second after the change. The next change is later than this second.
func (c change) authenticated() time.Time { return wholeSecond(c.validFrom) }

// newChange returns a change that is later than every authentication until now, in the same
// microsecond too, and later than every existing session, even if the clock of another
// process is ahead. Access tokens have whole seconds: a token from the second of the
// previous change has the next whole second at most. own is the caller's session; nil: no
// session.
func (x *accounts) newChange(ctx context.Context, u *User, own *Session) (change, error) {
	n := x.newProof(u, own)
	if !x.sessions.on() {
		return n, nil
	}
	list, err := x.plugs.listSessions(ctx, u.ID, n.at)
	if err != nil {
		return n, err
	}
	for _, s := range list {
		n.validFrom = latest(n.validFrom, x.newProof(u, s).validFrom)
	}
	return n, nil
}

// newProof returns a change that is later than every authentication in one session.
func (x *accounts) newProof(u *User, s *Session) change {
	n := change{at: x.clock.time()}
	n.validFrom = latest(n.at, wholeSecond(u.SessionsValidFrom))
	if s != nil {
		n.validFrom = latest(n.validFrom, latest(s.AuthenticatedAt, authTime(s.AuthenticatedAt, u.SessionsValidFrom)))
	}
	n.validFrom = n.validFrom.Add(time.Microsecond)
	return n
}

// wholeSecond rounds up to a whole second.
func wholeSecond(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return whole.Add(time.Second)
	}
	return t
}

// ownLogin is the login of the caller of ChangePassword or Reauthenticate.
type ownLogin struct {
	user    *User
	client  *Client  // nil: no client was named
	session *Session // the ID is "" without Config.Sessions
	scope   string
	change  change
}

// ownLogin reads the caller's session, client and scopes, before anything is written.
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
		// The lifetime of an access token is in whole seconds, and must not be zero.
		if s.AuthenticatedAt.Before(u.SessionsValidFrom) || s.end().Sub(now) < time.Second {
			return own, errSessionOver
		}
		own.session = s
	}
	scopes, err := x.scopes.keep(ctx, u, own.client, strings.Fields(own.session.Scope))
	own.scope = strings.Join(scopes, " ")
	return own, err
}

// afterChange moves the caller's session on and ends the other sessions, after the password
// has changed. A failure or a panic does not undo the change.
func (x *accounts) afterChange(ctx context.Context, own ownLogin) (tokens *Tokens, err error) {
	s := own.session
	err = recovered(func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		tokens, err = x.moveOn(ctx, own)
		return err
	})
	keep := ""
	if err == nil {
		keep = s.ID
	}
	if failed := x.endOlder(ctx, s.UserID, keep, own.change); err == nil {
		err = failed
	}
	x.events.emit(ctx, Event{Kind: EventPasswordChanged, UserID: s.UserID, ClientID: s.ClientID, SessionID: s.ID})
	if err != nil {
		e := asError(err)
		return nil, errLogInAgain.failed(withDefault(e.kind, EventUnavailable), e.plug, withDefault(e.cause, err))
	}
	return tokens, nil
}

// endOlder ends the sessions that are older than a change of the password, except one; keep
// "": no exception. SessionsValidFrom has invalidated these sessions already, for every
// refresh and where the user is read: a store failure is an event then, and no error. Without
// a column for SessionsValidFrom a store failure is an error, because the sessions are live.
//
// A login with the new password in the second of the change may end with the older sessions.
func (x *accounts) endOlder(ctx context.Context, userID, keep string, c change) error {
	if !x.sessions.on() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	before, stamped := c.authenticated().Add(time.Second), false
	tell := func(failed error) {
		if failed != nil {
			x.answers.tell(ctx, asError(failed), Event{UserID: userID})
		}
	}
	unread := recovered(func() (err error) { before, stamped, err = x.endBound(ctx, userID, keep, c, before); return err })
	if unread != nil {
		tell(unread)
		before, stamped = time.Time{}, false // every session but one
	}
	failed := recovered(func() error {
		_, err := x.sessions.end(ctx, SessionFilter{UserID: userID, Except: keep, AuthenticatedBefore: before}, ReasonPasswordChanged)
		return err
	})
	if stamped {
		tell(failed)
		return nil
	}
	return failed
}

// endBound returns the time before which a session is authenticated that the change must
// end: before, or later. A session may be authenticated later than the change although it is
// older: by a login or a Reauthenticate with the old password, between the change's list of
// sessions and its new hash, with a clock that is ahead. Every such session is in the store
// now. If the next change has begun meanwhile, it is later than these sessions, and the
// session that it keeps must stay live: it is later by a second. stamped reports that
// SessionsValidFrom has the change.
func (x *accounts) endBound(ctx context.Context, userID, keep string, c change, before time.Time) (_ time.Time, stamped bool, _ error) {
	list, failed := x.plugs.listSessions(ctx, userID, c.at)
	u, err := x.plugs.userByID(ctx, userID)
	if err != nil {
		return before, false, err
	}
	stamped = u == nil || !u.SessionsValidFrom.Before(c.validFrom)
	if failed != nil || u == nil || string(u.PasswordHash) != c.hash {
		return before, stamped, failed
	}
	for _, s := range list {
		before = latest(before, s.AuthenticatedAt.Add(time.Microsecond))
		stamped = stamped && (s.ID == keep || s.AuthenticatedAt.Before(u.SessionsValidFrom))
	}
	return before, stamped, nil
}

// moveOn writes the new proof of the password into the caller's session, and returns its
// new tokens. The generation grows by 2: every existing refresh token of the session is
// refused from now on. The comparison in Advance proves that no other request has moved the
// session in between.
func (x *accounts) moveOn(ctx context.Context, own ownLogin) (*Tokens, error) {
	s, proved := own.session, own.session.AuthenticatedAt
	if !x.sessions.on() {
		next := *s
		next.AuthenticatedAt = own.change.authenticated()
		return x.logins.tokens(ctx, &next, own.user, own.scope)
	}
	refreshes := x.sessions.mayRefresh(own.client)
	for range refreshAttempts {
		now := x.clock.time()
		next := *s
		next.Generation, next.RefreshedAt, next.AuthenticatedAt = s.Generation+2, own.change.at, own.change.authenticated()
		if refreshes {
			next.IdleExpiresAt = x.sessions.idleExpiry(s, now)
		}
		tokens, err := x.logins.tokens(ctx, &next, own.user, own.scope)
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
			return nil, errSessionOver
		}
	}
	return nil, plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

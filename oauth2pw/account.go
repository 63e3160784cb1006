package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ChangePassword replaces the password of the user whose token the middleware of this
// Auth has verified for r, if the user knows the old one. It returns new tokens of the
// caller's session, with the scopes of its login. Every other session of the user ends,
// and every token from before is dead, the caller's own included: a copy that somebody
// has stolen is worth nothing afterwards. The caller's refresh token from before is
// refused; used again after Config.RefreshGrace it is reuse, and ends the session. An
// access token is noticed to be dead where the session is asked (Config.LiveSessions) or
// the user is read (Config.LoadUser), and lives until it expires where neither is.
//
// The order is: the old password, then Config.CheckNewPassword, then the new hash and
// User.SessionsFrom in one step of the store, which makes the other sessions dead; then
// the caller's session moves on, and the others are ended.
//
// The error is an [*Error], for [WriteError]: access_denied (403) if r carries no verified
// token of this Auth, or one without a session, or whose session is over; invalid_grant
// (403) if the old password is wrong or there is no such user; invalid_request (422) if
// the new one is no password (1 to 1,024 bytes) or CheckNewPassword refuses it; slow_down
// (429) if the old password was wrong too often, here or at a login; or a failure. The
// failure temporarily_unavailable "The password has changed. Log in again." comes after
// the change: the event is password_changed, and the caller's session is over.
func (a *Auth) ChangePassword(r *http.Request, old, new string) (*Tokens, error) {
	c := a.c
	if c.updater == nil || isNil(c.Hasher) {
		return nil, errors.New("oauth2pw: ChangePassword needs Config.Users to be a PasswordUpdater, and Config.Hasher")
	}
	ctx := c.withAddress(r)
	event := Event{Kind: EventPasswordRefused}
	var tokens *Tokens
	err := c.told(ctx, &event, func() error {
		p, err := a.ownPrincipal(ctx)
		if err != nil {
			return err
		}
		event.UserID, event.ClientID, event.SessionID = p.Subject, p.ClientID, p.SessionID
		for range changeAttempts {
			if tokens, err = c.changePassword(ctx, p, old, new); tokens != nil || err != nil {
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
	errWrongOldPassword = &Error{Code: "invalid_grant", Description: "The old password is wrong.", status: http.StatusForbidden}
	errNoPrincipal      = (&Error{Code: "access_denied", Description: "The request carries no token of this service."}).because("", "no_principal", nil)
	errNoSession        = (&Error{Code: "access_denied", Description: "The token has no session."}).because("", "no_session", nil)
	errSessionOver      = (&Error{Code: "access_denied", Description: "The session is over."}).because("", "session_over", nil)
	errLogInAgain       = &Error{Code: "temporarily_unavailable", Description: "The password has changed. Log in again."}
)

// ownPrincipal returns the principal of a request that this Auth has verified itself,
// of its own issuer.
func (a *Auth) ownPrincipal(ctx context.Context) (Principal, error) {
	s := stateFrom(ctx)
	if !s.present || s.verifier != any(a) || !a.c.own(s.principal) {
		return Principal{}, errNoPrincipal
	}
	if a.c.Sessions != nil && s.principal.SessionID == "" {
		return Principal{}, errNoSession
	}
	return s.principal, nil
}

// changePassword returns no tokens and no error if the stored hash was replaced
// meanwhile.
func (c *config) changePassword(ctx context.Context, p Principal, old, new string) (*Tokens, error) {
	u, reason, err := c.standing(ctx, p.Subject, maxTime)
	if err != nil {
		return nil, err
	}
	attempt := c.attempt(ctx, Attempt{Kind: AttemptPassword, UserID: p.Subject}, old)
	err = c.guess(ctx, attempt, func() (verdict, string, error) {
		reason, _, err := c.verifyPassword(ctx, u, reason, old)
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
	if err := c.checkNewPassword(ctx, u, new); err != nil {
		return nil, err
	}
	hash, err := c.Hasher.Hash(ctx, new)
	if err != nil {
		return nil, plugError("PasswordHasher.Hash", err)
	}
	own, err := c.ownLogin(ctx, p, u)
	if err != nil {
		return nil, err
	}
	changed := changeTime(c.time(), u.SessionsFrom, own.session.AuthenticatedAt)
	replaced, err := c.updater.UpdatePasswordHash(ctx, u.ID, string(u.PasswordHash), hash, changed)
	if err != nil {
		return nil, plugError("PasswordUpdater.UpdatePasswordHash", err)
	}
	if !replaced {
		return nil, nil
	}
	return c.afterChange(ctx, own, hash, changed)
}

// changeTime returns what User.SessionsFrom becomes. Whatever was authenticated up to
// now, in this microsecond too, is older than the change; and so is the caller's session,
// although the clock of another process may be ahead. Access tokens say whole seconds:
// those that were made in the second of the change before say the next one at most.
func changeTime(now, before, own time.Time) time.Time {
	return latest(latest(now, own), wholeSecond(before)).Add(time.Microsecond)
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
}

// ownLogin reads what a change needs of the caller's session, before anything is
// written.
func (c *config) ownLogin(ctx context.Context, p Principal, u *User) (own ownLogin, err error) {
	own.user = u
	if id := c.owner(p.ClientID); id != "" {
		if own.client, err = c.findClient(ctx, id); err != nil {
			return own, err
		}
		if own.client == nil {
			return own, errSessionOver
		}
	}
	now := c.time()
	if c.Sessions == nil {
		if p.AuthTime.Before(u.SessionsFrom) {
			return own, errSessionOver
		}
		own.session = &Session{UserID: p.Subject, ClientID: p.ClientID, Scope: p.Scope, AuthenticatedAt: p.AuthTime}
	} else {
		s, err := c.sessionOf(ctx, p)
		if errors.Is(err, ErrInvalidToken) {
			return own, errSessionOver
		}
		if err != nil {
			return own, err
		}
		// The new access token says whole seconds, and must not say zero of them.
		if s.AuthenticatedAt.Before(u.SessionsFrom) || s.end().Sub(now) < time.Second {
			return own, errSessionOver
		}
		own.session = s
	}
	scopes, err := c.keepScopes(ctx, u, own.client, strings.Fields(own.session.Scope))
	own.scope = strings.Join(scopes, " ")
	return own, err
}

// afterChange moves the caller's session on and ends the others, for a password that
// has changed: nothing takes that back, neither a failure nor that the client
// disconnects.
func (c *config) afterChange(ctx context.Context, own ownLogin, hash string, changed time.Time) (*Tokens, error) {
	s := own.session
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	tokens, err := c.moveOn(ctx, own, changed)
	if c.Sessions != nil {
		// They are dead already, by SessionsFrom.
		if err := c.endOthers(ctx, s, err == nil, hash); err != nil {
			c.answers.tell(ctx, asError(err), Event{UserID: s.UserID})
		}
	}
	c.emit(ctx, Event{Kind: EventPasswordChanged, UserID: s.UserID, ClientID: s.ClientID, SessionID: s.ID})
	if err != nil {
		return nil, errLogInAgain.because(EventUnavailable, asError(err).reason, err)
	}
	return tokens, nil
}

// endOthers ends the sessions of a user whose password has changed, but for the one that
// has moved on. If it could not, nobody has its tokens, and it ends too; unless the hash is
// another one by now: then that change has ended what it did not keep.
func (c *config) endOthers(ctx context.Context, s *Session, moved bool, hash string) error {
	f := SessionFilter{UserID: s.UserID, Except: s.ID}
	if !moved {
		u, _, err := c.standing(ctx, s.UserID, maxTime)
		if err != nil {
			return err
		}
		if u != nil && string(u.PasswordHash) != hash {
			return nil
		}
		f.Except = ""
	}
	_, err := c.end(ctx, f, "password_changed")
	return err
}

// moveOn notes in a session that the user has proved again who he is, and returns its
// new tokens. The session moves on by two generations: every refresh token that anybody
// has of it is refused from now on. The compare of Advance proves that no other request
// has moved it in between.
func (c *config) moveOn(ctx context.Context, own ownLogin, validFrom time.Time) (*Tokens, error) {
	u, before := *own.user, own.user.SessionsFrom
	u.SessionsFrom = latest(before, validFrom)
	if c.Sessions == nil {
		s := *own.session
		s.AuthenticatedAt = provedAgain(c.time(), authTime(s.AuthenticatedAt, before), u.SessionsFrom)
		return c.makeTokens(ctx, &s, &u, own.scope)
	}
	s := own.session
	for range refreshAttempts {
		now := c.time()
		next := *s
		next.Generation, next.AdvancedAt = s.Generation+2, now
		next.AuthenticatedAt = provedAgain(now, authTime(s.AuthenticatedAt, before), u.SessionsFrom)
		if c.refreshes && own.client.mayUse(grantRefresh) {
			next.IdleExpiresAt = c.idleExpiry(s, now)
		}
		tokens, err := c.makeTokens(ctx, &next, &u, own.scope)
		if err != nil {
			return nil, err
		}
		if c.refreshes && own.client.mayUse(grantRefresh) {
			tokens.RefreshToken = c.refreshTokenOf(&next, next.Generation)
		}
		advanced, err := c.Sessions.Advance(ctx, s.Generation, &next, now)
		if err != nil {
			return nil, plugError("SessionStore.Advance", err)
		}
		if advanced {
			c.live.forget([]string{s.ID}, false)
			return tokens, nil
		}
		if s, err = c.getSession(ctx, s.ID); err != nil {
			return nil, err
		}
		if s == nil || s.over(now) != "" {
			return nil, plugError("SessionStore.Advance", errors.New("the session has ended meanwhile"))
		}
	}
	return nil, plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

// provedAgain returns the first whole second after now, after the auth_time that the
// session's access tokens had before, and not before validFrom.
func provedAgain(now, before, validFrom time.Time) time.Time {
	return latest(latest(now, before).Truncate(time.Second).Add(time.Second), wholeSecond(validFrom))
}

func (c *config) checkNewPassword(ctx context.Context, u *User, password string) error {
	refused := &Error{Code: "invalid_request", Description: "The new password is not acceptable.", status: http.StatusUnprocessableEntity}
	if password == "" || len(password) > maxPassword {
		refused.Description = fmt.Sprintf("The new password must have 1 to %d bytes.", maxPassword)
		return refused.because("", "unacceptable", nil)
	}
	if c.CheckNewPassword == nil {
		return nil
	}
	err := c.CheckNewPassword(ctx, u, password)
	if err == nil {
		return nil
	}
	e := (*Error)(nil)
	if !errors.As(err, &e) || e.Code != refused.Code {
		return plugError("Config.CheckNewPassword", err)
	}
	refused.Description, refused.Extra = withDefault(e.Description, refused.Description), e.Extra
	return refused.because("", "unacceptable", err)
}

// maxTime is later than any SessionsFrom.
var maxTime = time.Unix(1<<40, 0)

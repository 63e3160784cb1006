package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Reauthenticate proves the password of the user of a request again: the user of the token
// that the middleware of this Auth has verified for r. The result is new tokens of the same
// session with a fresh auth_time, for [Auth.RequireRecent]. The other sessions stay live.
//
// Every older token of the caller's session is refused, the caller's own included: after
// Reauthenticate the client continues with the tokens of the answer. An older refresh token is
// refused within Config.RefreshGrace; afterwards the token is reuse and ends the session. For
// the access tokens see [Auth.ChangePassword].
//
// The error is an [*Error], for [Auth.WriteError]: access_denied (403) and slow_down (429) as
// for ChangePassword; invalid_grant (403): the password is wrong, or the user is missing or
// disabled; any other code: a failure. Config.CheckLogin is not called.
func (a *Auth) Reauthenticate(r *http.Request, password string) (tokens *Tokens, err error) {
	x := a.accounts
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventPasswordRefused}
	err = a.answers.told(ctx, &event, func() error {
		if x.plugs.hasher == nil && x.passwords.authenticate == nil {
			return wiringError("Reauthenticate needs Config.Hasher or Config.Authenticate")
		}
		if x.plugs.users == nil {
			return wiringError("Reauthenticate needs Config.Users, because of the name of the user")
		}
		p, err := a.ownPrincipal(ctx)
		if err != nil {
			return err
		}
		event.UserID, event.ClientID, event.SessionID = p.Subject, p.ClientID, p.SessionID
		tokens, err = x.reauthenticate(ctx, p, password)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

func (x *accounts) reauthenticate(ctx context.Context, p Principal, password string) (*Tokens, error) {
	u, err := x.plugs.userByID(ctx, p.Subject)
	if err != nil {
		return nil, err
	}
	if err := x.proveAgain(ctx, p.Subject, u, password, errWrongPassword); err != nil {
		return nil, err
	}
	own, err := x.ownLogin(ctx, p, u)
	if err != nil {
		return nil, err
	}
	if wait := own.session.AuthenticatedAt.Sub(x.clock.time().Add(max(x.sessions.grace, leastSkew))); wait > 0 { // proofs faster than the clock
		return nil, (&Error{Code: "slow_down", RetryAfter: wait}).because(EventThrottled, EventReason(AttemptPassword), nil)
	}
	own.change = x.newProof(u, own.session)
	tokens, err := x.moveOn(ctx, own)
	if err != nil {
		return nil, err
	}
	// The session is later than a change of the password beside this request, and would
	// outlive it: as at a login, the verified password must still be that of the user.
	valid, err := x.stillProved(ctx, u, password)
	if !valid || err != nil {
		if x.sessions.on() {
			_ = x.sessions.endOne(ctx, own.session, ReasonPasswordChanged) // nobody has its new tokens
		}
		if err == nil {
			err = errSessionOver
		}
		return nil, err
	}
	x.events.emit(ctx, Event{Kind: EventReauthenticated, UserID: p.Subject, ClientID: p.ClientID, SessionID: p.SessionID})
	return tokens, nil
}

// stillProved reads a user again, and reports whether the password that was verified for u
// is still the password of the user.
func (x *accounts) stillProved(ctx context.Context, u *User, password string) (bool, error) {
	now, err := x.plugs.userByID(ctx, u.ID)
	switch {
	case err != nil:
		return false, err
	case now.dead(maxTime) != "":
		return false, nil
	case x.passwords.authenticate != nil: // no hash was verified
		return now.SessionsValidFrom.Equal(u.SessionsValidFrom), nil
	}
	return x.passwords.sameHash(string(u.PasswordHash), password)(ctx, now)
}

// HashNewPassword checks a new password by Config.CheckNewPassword and hashes it, for a
// sign-up. u is the new user, for a check against the name; nil: no user yet.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_request (422) if the password has
// not 1 to 1,024 bytes or is refused, or a failure.
func (a *Auth) HashNewPassword(r *http.Request, u *User, password string) (hash string, err error) {
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventPasswordRefused}
	err = a.answers.told(ctx, &event, func() error {
		if a.accounts.plugs.hasher == nil {
			return wiringError("HashNewPassword needs Config.Hasher")
		}
		hash, err = a.accounts.hashNew(ctx, u, password)
		return err
	})
	return hash, err
}

// ResetPassword sets a new password by a ticket with [PurposeReset]: of two requests with
// one ticket one succeeds. Every session of the user ends, and every attempt that was counted
// against the user, also from the client address of r, is uncounted: the user can log in at
// once, with the new password.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_ticket (400) as for
// [Auth.RedeemTicket]; invalid_request (422) if the new password is refused, and the ticket
// stays valid; or a failure. The failure temporarily_unavailable "The password has changed.
// Log in again." comes after the change, if a session could not be ended and is still live.
func (a *Auth) ResetPassword(r *http.Request, ticket, new string) error {
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventTicketRefused}
	return a.answers.told(ctx, &event, func() error {
		if err := a.accounts.writable("ResetPassword"); err != nil {
			return err
		}
		_, u, err := a.tickets.redeem(ctx, ticket, PurposeReset, &event)
		if err != nil {
			return err
		}
		event.Kind = EventPasswordRefused
		changed, err := a.accounts.set(ctx, u, new)
		if err == nil && !changed {
			event.Kind = EventTicketRefused
			return ticketRefused(ReasonForged) // another request was first, so that the ticket is of another password
		}
		return err
	})
}

// SetPassword sets a new password of a user, by an administrator. Every session of the user
// ends, and every attempt that was counted against the user is uncounted. A disabled user
// stays disabled.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_request (422) if the new password
// is refused by Config.CheckNewPassword, (404) if there is no such user, which wraps
// [ErrNotFound]; or a failure, as for [Auth.ResetPassword].
func (a *Auth) SetPassword(ctx context.Context, userID, new string) error {
	event := Event{Kind: EventPasswordRefused, UserID: userID}
	return a.answers.told(ctx, &event, func() error {
		if err := a.accounts.writable("SetPassword"); err != nil {
			return err
		}
		for range changeAttempts {
			u, err := a.accounts.plugs.userByID(ctx, userID)
			if err != nil {
				return err
			}
			if u == nil {
				return errNoSuchUser
			}
			if changed, err := a.accounts.set(ctx, u, new); changed || err != nil {
				return err
			}
		}
		return plugError("PasswordUpdater.UpdatePasswordHash", errors.New("the hash changed each time it was read"))
	})
}

var errNoSuchUser = (&Error{Code: "invalid_request", Description: "There is no such user.", Status: http.StatusNotFound}).
	because("", ReasonUserDeleted, ErrNotFound)

func (x *accounts) writable(method string) error {
	if x.plugs.updater == nil || x.plugs.hasher == nil {
		return wiringError("%s needs Config.Users to be a PasswordUpdater, and Config.Hasher", method)
	}
	return nil
}

// set sets the password of a user, ends the user's sessions and forgets the user's failures.
// set reports false if the stored hash is not that of u any more.
func (x *accounts) set(ctx context.Context, u *User, new string) (changed bool, err error) {
	hash, err := x.hashNew(ctx, u, new)
	if err != nil {
		return false, err
	}
	c, err := x.newChange(ctx, u, nil)
	if err != nil {
		return false, err
	}
	// From here on the change continues if the client disconnects.
	ctx = context.WithoutCancel(ctx)
	c.hash = hash
	if replaced, err := x.replaceHash(ctx, u, c); !replaced || err != nil {
		return false, err
	}
	failed := x.endOlder(ctx, u.ID, "", c)
	x.guard.forget(ctx, u.ID)
	x.events.emit(ctx, Event{Kind: EventPasswordChanged, UserID: u.ID})
	if failed != nil {
		e := asError(failed)
		return true, errLogInAgain.failed(withDefault(e.kind, EventUnavailable), e.plug, withDefault(e.cause, failed))
	}
	return true, nil
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
	if e.kind != "" { // CheckNewPassword failed
		return e
	}
	if e.Code != refused.Code {
		return e.because("", ReasonUnacceptable, err)
	}
	refused.Description, refused.Status, refused.Extra = withDefault(e.Description, refused.Description), withDefault(e.Status, refused.Status), e.Extra
	return refused.because("", ReasonUnacceptable, err)
}

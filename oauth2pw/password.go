package oauth2pw

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxPassword is the length of the longest accepted password, in bytes.
const maxPassword = 1024

// passwords proves the identity of a user by a name and a password.
type passwords struct {
	plugs        *plugs
	guard        *guard
	check        *loginCheck
	events       *reporter
	keepHashes   bool                                                                // Config.KeepHashes
	fold         func(name string) string                                            // Config.FoldName
	authenticate func(ctx context.Context, username, password string) (*User, error) // Config.Authenticate
	foldTold     hourly                                                              // EventNameFolding
}

// prove is the password grant (RFC 6749, section 4.3).
func (w *passwords) prove(ctx context.Context, r *TokenRequest) (*proof, error) {
	u, outdated, err := w.identify(ctx, r, func(a Attempt, u *User) (verdict, error) { return w.check.ask(ctx, a, u, r) })
	if err != nil {
		return nil, err
	}
	if w.authenticate != nil {
		return &proof{user: u, at: r.now, plug: plugAuthenticate}, nil
	}
	hash := string(u.PasswordHash)
	if outdated && w.plugs.updater != nil && !w.keepHashes {
		hash = w.upgrade(ctx, u, r.Param("password"))
	}
	return &proof{
		user:  u,
		at:    latest(r.now, u.SessionsValidFrom), // the current password is proved, even if the clock is behind
		holds: w.sameHash(hash, r.Param("password")),
	}, nil
}

const plugAuthenticate = "Config.Authenticate"

// identify returns the user whose name and password a request has. accept has the last word
// on a correct password.
//
// An unknown user, a disabled user and a wrong password get the same answer, after one
// verification of a password. The user is looked up before the throttle is called, because
// attempts are counted for the user, in any spelling of the name. A blocked attempt looks
// the user up too.
func (w *passwords) identify(ctx context.Context, r *TokenRequest, accept func(Attempt, *User) (verdict, error)) (u *User, outdated bool, err error) {
	name, password := r.Param("username"), r.Param("password")
	if w.fold != nil {
		name = w.fold(name)
	}
	if w.authenticate != nil {
		u, err = w.identifyByApp(ctx, r, name, password, accept)
		return u, false, err
	}
	u, reason, err := w.find(ctx, name)
	if err != nil {
		return nil, false, err
	}
	a := Attempt{Kind: AttemptPassword, Name: name}
	if u != nil {
		a.UserID, a.Name = u.ID, ""
		r.event.UserID = u.ID
		w.noteFolding(ctx, u, name)
	}
	err = w.guard.guess(ctx, w.guard.attempt(ctx, a, password), func() (_ verdict, _ string, err error) {
		reason, outdated, err = w.verify(ctx, u, reason, password)
		switch {
		case err != nil:
			return undecided, "", err
		case reason != "":
			return wrong, "", errInvalidGrant.because(EventLoginFailed, reason, nil)
		}
		v, err := accept(a, u)
		return v, "", err
	})
	return u, outdated, err
}

// identifyByApp calls Config.Authenticate. Attempts are counted by name.
func (w *passwords) identifyByApp(ctx context.Context, r *TokenRequest, name, password string, accept func(Attempt, *User) (verdict, error)) (u *User, err error) {
	a := Attempt{Kind: AttemptPassword, Name: name}
	err = w.guard.guess(ctx, w.guard.attempt(ctx, a, password), func() (v verdict, _ string, err error) {
		if name == "" || password == "" || len(password) > maxPassword {
			return wrong, "", errInvalidGrant.because(EventLoginFailed, ReasonMalformed, nil)
		}
		u, err = w.authenticate(ctx, name, password)
		if v, err = judge(ctx, plugAuthenticate, r, u, err); v == right {
			v, err = accept(a, u)
		}
		return v, "", err
	})
	return u, err
}

// CheckPassword returns the user of a name and a password, for an endpoint of the app's own:
// "confirm with your password" in a form without a token, for example. CheckPassword is
// throttled together with logins, and does the same work for every user. CheckPassword makes
// no client address known, clears no failure, replaces no hash and does not call Config.CheckLogin.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_grant (400), slow_down (429),
// access_denied (403) for a form from a page of another site (see Config.TrustedOrigins), or
// a failure.
func (a *Auth) CheckPassword(r *http.Request, username, password string) (u *User, err error) {
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventRequestRefused}
	err = a.answers.told(ctx, &event, func() (err error) {
		if w := a.accounts.passwords; w.plugs.hasher == nil && w.authenticate == nil {
			return wiringError("CheckPassword needs Config.Hasher or Config.Authenticate")
		}
		if err := a.proxies.requireSameSite(r); err != nil {
			return err
		}
		request := newRequest(r, a.endpoints.clock.time(), &event)
		request.param = url.Values{"username": {username}, "password": {password}}.Get
		u, _, err = a.accounts.passwords.identify(ctx, request, func(Attempt, *User) (verdict, error) { return undecided, nil })
		if err != nil && event.UserID == "" && username != "" {
			event.NameTag = a.accounts.events.nameTag(username)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return u, nil
}

// find returns the user of a name, and the reason why no password is correct, or "".
func (w *passwords) find(ctx context.Context, name string) (*User, EventReason, error) {
	if name == "" || strings.ContainsRune(name, 0) {
		// PostgreSQL accepts no NUL in text: no user has such a name, and the store is not
		// called.
		return nil, ReasonMalformed, nil
	}
	u, err := w.plugs.userByName(ctx, name)
	switch {
	case err != nil:
		return nil, "", err
	case u == nil:
		return nil, ReasonUnknownUser, nil
	}
	return u, u.closed(), nil
}

// noteFolding sends an event, at most once an hour, if the store has found a user by a name
// that is not Username, and that Config.FoldName does not make of Username.
func (w *passwords) noteFolding(ctx context.Context, u *User, asked string) {
	if u.Username == asked {
		return
	}
	if w.fold != nil && w.fold(u.Username) == asked {
		return
	}
	if w.foldTold.due(w.events.clock()) {
		w.events.emit(ctx, Event{Kind: EventNameFolding, UserID: u.ID, Err: errNameFolding})
	}
}

var errNameFolding = errors.New("oauth2pw: UserStore.UserByName takes several names for one user, and Config.FoldName does not fold them into one: the throttle tells which names exist")

// verify verifies a password once, even if no password is correct, and returns the reason
// of a wrong password, or "". The argument reason is the reason why no password is correct,
// or "".
func (w *passwords) verify(ctx context.Context, u *User, reason EventReason, password string) (_ EventReason, outdated bool, _ error) {
	if reason == "" && (password == "" || len(password) > maxPassword) {
		reason = ReasonMalformed
	}
	var hash string // the empty hash never matches, and takes as long as a mismatch
	if reason == "" {
		hash = string(u.PasswordHash)
	}
	ok, outdated, tooLong, err := w.plugs.verifyHash(ctx, hash, password[:min(len(password), maxPassword)])
	switch {
	case err != nil:
		return "", false, err
	case reason != "":
		return reason, false, nil
	case tooLong:
		return ReasonTooLongForHash, false, nil
	case !ok && outdated:
		return ReasonUnreadableHash, false, nil
	case !ok:
		return ReasonWrongPassword, false, nil
	}
	return "", outdated, nil
}

// sameHash returns the function that gets the user, read again, and decides whether a login
// with a verified hash is still valid. The function compares hashes, because times do not
// distinguish a login with the old password from a login with the new password during a
// change. A hash may differ because a second login has upgraded it; then the password is
// verified again.
func (w *passwords) sameHash(verified, password string) func(context.Context, *User) (bool, error) {
	return func(ctx context.Context, u *User) (bool, error) {
		switch hash := string(u.PasswordHash); hash {
		case verified:
			return true, nil
		case "":
			return false, plugError("UserStore.UserByID", errors.New("it returned a user without PasswordHash, which UserByName had: both must return the whole record"))
		default:
			ok, _, _, err := w.plugs.verifyHash(ctx, hash, password)
			if err != nil {
				return false, err
			}
			verified = hash
			return ok, nil
		}
	}
}

// upgrade replaces a hash that the hasher calls outdated, after the password has matched,
// and returns the hash that is stored now. The login does not depend on the result.
func (w *passwords) upgrade(ctx context.Context, u *User, password string) string {
	old, event := string(u.PasswordHash), Event{Kind: EventHashUpgraded, UserID: u.ID}
	hash, err := w.plugs.hash(ctx, password)
	if err == nil {
		var replaced bool
		replaced, err = w.plugs.updatePasswordHash(ctx, u.ID, old, hash, time.Time{})
		if err == nil && !replaced { // another login was first
			return old
		}
	}
	if err != nil {
		e := asError(err)
		hash, event.Kind, event.Plug, event.Err = old, EventUpgradeFailed, e.plug, e.cause
	}
	w.events.emit(ctx, event)
	return hash
}

// requirePassword refuses a form without the parameters of the password grant (RFC 6749,
// section 4.3.2).
func requirePassword(param func(name string) string) error {
	if param("username") == "" || param("password") == "" {
		return badRequest("The parameters username and password are required.")
	}
	return nil
}

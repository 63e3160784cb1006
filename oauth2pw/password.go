package oauth2pw

import (
	"context"
	"errors"
	"strings"
	"time"
)

// maxPassword is the length of the longest password that is looked at, in bytes.
const maxPassword = 1024

var errInvalidGrant = &Error{Code: "invalid_grant"}

// passwordLogin is the password grant (RFC 6749, section 4.3). An unknown user, a
// disabled one and a wrong password get the same answer, after one verification of a
// password each. The user is looked up before the throttle is asked, blocked or not:
// attempts count for the user whom the password would open, whatever spelling of the
// name found the user.
func (c *config) passwordLogin(ctx context.Context, r *TokenRequest) (*proof, error) {
	name, password := r.Param("username"), r.Param("password")
	if c.FoldName != nil {
		name = c.FoldName(name)
	}
	if c.Authenticate != nil {
		return c.authenticate(ctx, r, name, password)
	}
	u, reason, err := c.findUser(ctx, name)
	if err != nil {
		return nil, err
	}
	a := Attempt{Kind: AttemptPassword, Name: name}
	if u != nil {
		a.UserID, a.Name = u.ID, ""
		r.event.UserID = u.ID
		c.noteFolding(ctx, u, name)
	}
	outdated := false
	err = c.guess(ctx, c.attempt(ctx, a, password), func() (_ verdict, _ string, err error) {
		reason, outdated, err = c.verifyPassword(ctx, u, reason, password)
		switch {
		case err != nil:
			return undecided, "", err
		case reason != "":
			return wrong, "", errInvalidGrant.because(EventLoginFailed, reason, nil)
		}
		return right, "", nil
	})
	if err != nil {
		return nil, err
	}
	hash := string(u.PasswordHash)
	if outdated && c.updater != nil {
		hash = c.upgradeHash(ctx, u, password)
	}
	return &proof{
		user:   u,
		at:     latest(r.now, u.SessionsValidFrom), // it has proved the password of now, whatever the clock says
		stands: c.sameHash(hash, password),
	}, nil
}

// authenticate asks Config.Authenticate, for which a name stands for its user.
func (c *config) authenticate(ctx context.Context, r *TokenRequest, name, password string) (*proof, error) {
	var u *User
	err := c.guess(ctx, c.attempt(ctx, Attempt{Kind: AttemptPassword, Name: name}, password), func() (v verdict, _ string, err error) {
		if len(password) > maxPassword {
			return wrong, "", errInvalidGrant.because(EventLoginFailed, "malformed", nil)
		}
		u, err = c.Authenticate(ctx, name, password)
		v, err = judge(ctx, "Config.Authenticate", r, u, err)
		return v, "", err
	})
	if err != nil {
		return nil, err
	}
	return &proof{user: u, at: r.now}, nil
}

// findUser returns the user of a name, and, where no password can open it, why.
func (c *config) findUser(ctx context.Context, name string) (u *User, reason string, err error) {
	if name == "" || strings.ContainsRune(name, 0) {
		// PostgreSQL takes no NUL in text: no user has that name, and no store
		// is asked.
		return nil, "malformed", nil
	}
	u, err = c.Users.UserByName(ctx, name)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, "unknown_user", nil
	case err != nil:
		return nil, "", plugError("UserStore.UserByName", err)
	case u == nil:
		return nil, "", plugError("UserStore.UserByName", errWrongUser)
	case u.ID == "":
		return nil, "", plugError("UserStore.UserByName", errNoUserID)
	case u.Disabled:
		return u, "disabled", nil
	case u.PasswordHash == "":
		return u, "no_password", nil
	}
	return u, "", nil
}

var errNoUserID = errors.New("a user without an ID")

// noteFolding tells the event hook, once an hour at most, that the store takes a name
// for that of a user whose name Config.FoldName writes in another way.
func (c *config) noteFolding(ctx context.Context, u *User, asked string) {
	if u.Username == asked {
		return
	}
	if c.FoldName != nil && c.FoldName(u.Username) == asked {
		return
	}
	if c.foldTold.due(c.now()) {
		c.emit(ctx, Event{Kind: EventNameFolding, UserID: u.ID, Err: errNameFolding})
	}
}

var errNameFolding = errors.New("oauth2pw: UserStore.UserByName takes several names for one user, and Config.FoldName does not fold them into one: the throttle tells which names exist")

// verifyPassword verifies a password once, whatever is wrong. It returns why it is
// wrong, "" if it is right. reason says why no password can be right, "" if one can.
func (c *config) verifyPassword(ctx context.Context, u *User, reason, password string) (_ string, outdated bool, _ error) {
	if reason == "" && (password == "" || len(password) > maxPassword) {
		reason = "malformed"
	}
	var hash string // the empty hash never matches, and costs what a mismatch costs
	if reason == "" {
		hash = string(u.PasswordHash)
	}
	ok, outdated, err := c.Hasher.Verify(ctx, hash, password[:min(len(password), maxPassword)])
	switch {
	case errors.Is(err, ErrPasswordTooLong):
		return withDefault(reason, "too_long_for_hash"), false, nil
	case err != nil:
		return "", false, plugError("PasswordHasher.Verify", err)
	case reason != "":
		return reason, false, nil
	case !ok && outdated:
		return "unreadable_hash", false, nil
	case !ok:
		return "wrong_password", false, nil
	}
	return "", outdated, nil
}

// sameHash returns what decides whether a login whose password matched a hash stands,
// when the user is read once more: by value, because times cannot tell a login with
// the old password from one with the new password beside a change. The user's hash may
// be another one because a second login has upgraded it; then the password is verified
// once more.
func (c *config) sameHash(verified, password string) func(context.Context, *User) (bool, error) {
	return func(ctx context.Context, u *User) (bool, error) {
		switch hash := string(u.PasswordHash); hash {
		case verified:
			return true, nil
		case "":
			return false, plugError("UserStore.UserByID", errors.New("it returned a user without PasswordHash, which UserByName had: both must return the whole record"))
		default:
			ok, _, err := c.Hasher.Verify(ctx, hash, password)
			if err != nil && !errors.Is(err, ErrPasswordTooLong) {
				return false, plugError("PasswordHasher.Verify", err)
			}
			verified = hash
			return ok, nil
		}
	}
}

// upgradeHash replaces a hash that the hasher calls outdated, for a password that
// has just matched it, and returns the one that is stored now. The login does not
// depend on it.
func (c *config) upgradeHash(ctx context.Context, u *User, password string) string {
	old, event := string(u.PasswordHash), Event{Kind: EventHashUpgraded, UserID: u.ID}
	hash, err := c.Hasher.Hash(ctx, password)
	if err == nil {
		var replaced bool
		replaced, err = c.updater.UpdatePasswordHash(ctx, u.ID, old, hash, time.Time{})
		if err == nil && !replaced { // another login was first
			return old
		}
	}
	if err != nil {
		hash, event.Kind, event.Err = old, EventUpgradeFailed, err
	}
	c.emit(ctx, event)
	return hash
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

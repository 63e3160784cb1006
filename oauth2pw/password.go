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

// passwordUser is the password grant (RFC 6749, section 4.3): whose name and
// password these are. An unknown user, a disabled one and a wrong password get
// the same answer, after one verification of a password each.
func (c *config) passwordUser(ctx context.Context, r *TokenRequest) (_ *User, decided bool, _ error) {
	name, password := r.Param("username"), r.Param("password")
	refuse := func(reason string) (*User, bool, error) {
		return nil, true, errInvalidGrant.because(EventLoginFailed, reason, nil)
	}
	if c.Authenticate != nil {
		if len(password) > maxPassword {
			return refuse("malformed")
		}
		u, err := c.Authenticate(ctx, name, password)
		return judged(ctx, "Config.Authenticate", u, err)
	}

	u, reason, err := c.findUser(ctx, name, password)
	if err != nil {
		return nil, false, err
	}
	var hash string // the empty hash never matches, and costs what a mismatch costs
	if u != nil {
		r.event.UserID = u.ID
	}
	if reason == "" {
		hash = string(u.PasswordHash)
	}
	if len(password) > maxPassword {
		password = password[:maxPassword]
	}
	ok, outdated, err := c.Hasher.Verify(ctx, hash, password)
	if err != nil {
		return nil, false, plugError("PasswordHasher.Verify", err)
	}
	switch {
	case reason != "":
		return refuse(reason)
	case !ok && outdated:
		return refuse("unreadable_hash")
	case !ok:
		return refuse("wrong_password")
	case outdated && c.updater != nil:
		c.upgradeHash(ctx, u, password)
	}
	return u, true, nil
}

// findUser returns the user of a name, and, where no password can open it, why.
func (c *config) findUser(ctx context.Context, name, password string) (u *User, reason string, err error) {
	if len(password) > maxPassword || strings.ContainsRune(name, 0) {
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
	case u.Disabled:
		return u, "disabled", nil
	case u.PasswordHash == "":
		return u, "no_password", nil
	}
	return u, "", nil
}

// upgradeHash replaces a hash that the hasher calls outdated, for a password that
// has just matched it. The login does not depend on it.
func (c *config) upgradeHash(ctx context.Context, u *User, password string) {
	event := Event{Kind: EventHashUpgraded, UserID: u.ID}
	hash, err := c.Hasher.Hash(ctx, password)
	if err == nil {
		var replaced bool
		replaced, err = c.updater.UpdatePasswordHash(ctx, u.ID, string(u.PasswordHash), hash, time.Time{})
		if err == nil && !replaced { // another login was first
			return
		}
	}
	if err != nil {
		event.Kind, event.Err = EventUpgradeFailed, err
	}
	c.emit(ctx, event)
}

package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// ChangePassword replaces a user's password, for a caller who knows the old one,
// and ends every other session of the user. keep is the caller's session
// ([Principal.SessionID]), which counts as authenticated anew; "": all sessions
// end.
//
// The order is: the old password, then Config.CheckNewPassword, then the new hash
// and User.SessionsFrom in one step of the store, which alone makes the other
// sessions dead; then they are ended.
//
// The error is an [*Error], for [WriteError]: invalid_grant (403) if the old
// password is wrong or there is no such user, invalid_request (422) if the new
// one is no password (1 to 1,024 bytes) or CheckNewPassword refuses it,
// access_denied (403) if keep is no live session of the user, slow_down (429) if
// the old password was wrong too often, here or at a login, or a failure. The
// address that counts is the one that the middleware has put into ctx.
func (a *Auth) ChangePassword(ctx context.Context, userID, old, new, keep string) error {
	c := a.c
	if c.updater == nil || isNil(c.Hasher) {
		return errors.New("oauth2pw: ChangePassword needs Config.Users to be a PasswordUpdater, and Config.Hasher")
	}
	if keep != "" && c.Sessions == nil {
		return errors.New("oauth2pw: ChangePassword keeps a session only with Config.Sessions")
	}
	event := Event{Kind: EventPasswordRefused, UserID: userID, SessionID: keep}
	return c.told(ctx, &event, func() error {
		for range changeAttempts {
			changed, err := c.changePassword(ctx, userID, old, new, keep)
			if err != nil {
				return err
			}
			if changed {
				c.emit(ctx, Event{Kind: EventPasswordChanged, UserID: userID, SessionID: keep})
				return nil
			}
		}
		return plugError("PasswordUpdater.UpdatePasswordHash", errors.New("the hash changed each time it was read"))
	})
}

// changeAttempts: a login that replaces an outdated hash may come in between, once.
const changeAttempts = 3

var errWrongOldPassword = (&Error{
	Code: "invalid_grant", Description: "The old password is wrong.", status: http.StatusForbidden,
}).because("", "wrong_password", nil)

// changePassword reports false if the stored hash was replaced meanwhile.
func (c *config) changePassword(ctx context.Context, userID, old, new, keep string) (bool, error) {
	u, reason, err := c.standing(ctx, userID, maxTime)
	if err != nil {
		return false, err
	}
	var hash string // never matches, and costs what a mismatch costs
	if reason == "" && old != "" && len(old) <= maxPassword {
		hash = string(u.PasswordHash)
	}
	account := userID // which a login cannot name, if the user has no name any more
	if u != nil {
		account = foldName(u.Username)
	}
	err = c.guess(ctx, c.attempt(ctx, attemptPassword, account, old), func() (decided bool, err error) {
		ok, _, err := c.Hasher.Verify(ctx, hash, old[:min(len(old), maxPassword)])
		if err != nil {
			return false, plugError("PasswordHasher.Verify", err)
		}
		if !ok {
			return true, errWrongOldPassword
		}
		return true, nil
	})
	if err != nil {
		return false, err
	}
	if err := c.checkNewPassword(ctx, u, new); err != nil {
		return false, err
	}
	newHash, err := c.Hasher.Hash(ctx, new)
	if err != nil {
		return false, plugError("PasswordHasher.Hash", err)
	}

	// Whatever was authenticated up to now, in this microsecond too, is older
	// than the change; the caller, who has just proved the old password, is not.
	changed := c.time().Add(time.Microsecond)
	if keep != "" {
		if err := c.reauthenticate(ctx, u, keep, changed); err != nil {
			return false, err
		}
	}
	replaced, err := c.updater.UpdatePasswordHash(ctx, userID, string(u.PasswordHash), newHash, changed)
	if err != nil {
		return false, plugError("PasswordUpdater.UpdatePasswordHash", err)
	}
	if !replaced {
		return false, nil
	}
	if c.Sessions != nil {
		// They are dead already, by SessionsFrom. A store that fails now is an
		// event, not an answer: the password has changed.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		if _, err := c.end(end, SessionFilter{UserID: userID, Except: keep}, "password_changed"); err != nil {
			c.answers.tell(ctx, asError(err), Event{UserID: userID})
		}
	}
	return true, nil
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

// reauthenticate notes that the user has proved again, in this session, who he is.
// Its tokens stay what they are.
func (c *config) reauthenticate(ctx context.Context, u *User, id string, at time.Time) error {
	for range refreshAttempts {
		s, err := c.getSession(ctx, id)
		if err != nil {
			return err
		}
		now := c.time()
		if s == nil || s.UserID != u.ID || s.over(now) != "" || s.AuthenticatedAt.Before(u.SessionsFrom) {
			return (&Error{Code: "access_denied", Description: "The session is over."}).because("", "session_over", nil)
		}
		s.AuthenticatedAt = at
		advanced, err := c.Sessions.Advance(ctx, s.Generation, s, now)
		if err != nil {
			return plugError("SessionStore.Advance", err)
		}
		if advanced {
			c.live.forget([]string{id}, false)
			return nil
		}
	}
	return plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

// maxTime is later than any SessionsFrom.
var maxTime = time.Unix(1<<40, 0)

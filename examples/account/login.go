package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First the library checks the password. Next checkLogin has the last word: the address
// must be verified, and then the second factor is checked. Last openSession chooses the life
// of the session. A wrong password reaches none of them, so that a stranger learns nothing
// about the account.

const (
	longSession  = 90 * 24 * time.Hour // with remember=1
	shortSession = 12 * time.Hour
)

// checkLogin is Config.CheckLogin.
func (a *app) checkLogin(ctx context.Context, u *oauth2pw.User, r *oauth2pw.TokenRequest) error {
	own, err := a.readUser(ctx, u.ID)
	switch {
	case errors.Is(err, sql.ErrNoRows): // deleted meanwhile
		return &oauth2pw.Error{Code: "invalid_grant"}
	case err != nil:
		return err // the answer is 503
	case !own.verified:
		return &oauth2pw.Error{Code: "email_unverified", Description: "The address is not verified: follow the link in the mail."}
	case !own.totpOn:
		return nil
	}
	code := r.Param("totp")
	if code == "" {
		return &oauth2pw.Error{Code: "mfa_required", Description: "Send the code of the second factor in the parameter totp."}
	}
	ok, err := a.useCode(ctx, u.ID, own.totpSecret, code)
	if err == nil && !ok {
		err = &oauth2pw.Error{Code: "invalid_grant"} // the same answer as for a wrong password
	}
	return err
}

// openSession is Config.OpenSession.
func (a *app) openSession(_ context.Context, _ *oauth2pw.User, r *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
	if r.Param("remember") != "1" {
		s.ExpiresAt = s.CreatedAt.Add(shortSession)
	}
	return nil
}

package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First makeTOTP stores a secret that is not on yet; the user's phone reads the uri from a QR
// code. Next confirmTOTP takes the first code and switches the second factor on. Last useCode
// checks the code of every login, and removeTOTP switches the second factor off.
//
// A code has 6 digits and belongs to a time step of 30 seconds (RFC 6238). The codes of the
// steps before and after the current step are accepted, too. An accepted code, and every code
// of an earlier step, is refused from then on.

const (
	totpPeriod = 30 // seconds
	totpSkew   = 1  // steps
)

// matchStep returns the time step of a code; 0: the code is wrong.
func matchStep(secret, code string, now time.Time) (int64, error) {
	current := now.Unix() / totpPeriod
	for step := current - totpSkew; step <= current+totpSkew; step++ {
		ok, err := hotp.ValidateCustom(code, uint64(step), secret, hotp.ValidateOpts{Digits: otp.DigitsSix})
		switch {
		case errors.Is(err, otp.ErrValidateInputInvalidLength):
			return 0, nil
		case err != nil:
			return 0, err
		case ok:
			return step, nil
		}
	}
	return 0, nil
}

// useCode accepts a code once. Of two parallel logins with one code, one writes the step.
func (a *app) useCode(ctx context.Context, userID, secret, code string) (bool, error) {
	step, err := matchStep(secret, code, a.now())
	if step == 0 || err != nil {
		return false, err
	}
	return a.write(ctx, "UPDATE users SET totp_step = ? WHERE id = ? AND totp_on AND totp_secret = ? AND totp_step < ?", step, userID, secret, step)
}

var errTOTPOn = &oauth2pw.Error{Code: "invalid_request", Description: "The second factor is on already.", Status: http.StatusConflict}

// makeTOTP replaces a secret that was not confirmed.
func (a *app) makeTOTP(w http.ResponseWriter, r *http.Request) {
	id, u, err := a.caller(r)
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "account", AccountName: u.email, Period: totpPeriod}) // 20 random bytes
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	written, err := a.write(r.Context(), "UPDATE users SET totp_secret = ? WHERE id = ? AND NOT totp_on", key.Secret(), id)
	if err == nil && !written {
		err = errTOTPOn
	}
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"secret": key.Secret(), "uri": key.URL()})
}

// confirmTOTP proves that the user's phone has the secret. The code is used by it. Nothing is
// counted here, because the caller has got the secret.
func (a *app) confirmTOTP(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "code")
	if !ok {
		return
	}
	if err := a.switchOn(r, body[0]); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *app) switchOn(r *http.Request, code string) error {
	id, u, err := a.caller(r)
	switch {
	case err != nil:
		return err
	case u.totpOn:
		return errTOTPOn
	case u.totpSecret == "":
		return &oauth2pw.Error{Code: "invalid_request", Description: "There is no secret yet: POST /totp makes one.", Status: http.StatusConflict}
	}
	step, err := matchStep(u.totpSecret, code, a.now())
	if err != nil {
		return err
	}
	if step == 0 {
		return &oauth2pw.Error{Code: "invalid_grant", Description: "The code is wrong.", Status: http.StatusForbidden}
	}
	written, err := a.write(r.Context(), "UPDATE users SET totp_on = 1, totp_step = ? WHERE id = ? AND NOT totp_on AND totp_secret = ?", step, id, u.totpSecret)
	if err == nil && !written { // a parallel request was first
		err = errTOTPOn
	}
	return err
}

func (a *app) removeTOTP(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	if _, err := a.write(r.Context(), "UPDATE users SET totp_on = 0, totp_secret = NULL WHERE id = ?", p.Subject); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

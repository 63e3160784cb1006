package main

import (
	"net/http"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First showAccount returns the account of the token. Next reauthenticate and changePassword
// prove the password: each answers with new tokens of the same session, and the client must
// continue with these. Last deleteAccount removes the user, and then the sessions.

func (a *app) showAccount(w http.ResponseWriter, r *http.Request) {
	_, u, err := a.caller(r)
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Email    string `json:"email"`
		Verified bool   `json:"verified"`
		TOTP     bool   `json:"totp"`
	}{u.email, u.verified, u.totpOn})
}

// reauthenticate renews the proof that RequireRecent asks for.
func (a *app) reauthenticate(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "password")
	if !ok {
		return
	}
	tokens, err := a.auth.Reauthenticate(r, body[0])
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	tokens.Write(w)
}

// changePassword ends the other sessions of the caller, too. The mail follows from the event.
func (a *app) changePassword(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "old_password", "new_password")
	if !ok {
		return
	}
	tokens, err := a.auth.ChangePassword(r, body[0], body[1])
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	tokens.Write(w)
}

// deleteAccount deletes the row first: from then on every token of the user is refused,
// because the library reads the user at every request and at every refresh.
func (a *app) deleteAccount(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	if _, err := a.write(r.Context(), "DELETE FROM users WHERE id = ?", p.Subject); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	if _, err := a.auth.EndAllSessions(r.Context(), p.Subject, "account_deleted"); err != nil {
		a.logger.Error("the sessions of a deleted user are not ended", "user", p.Subject, "err", err)
	}
	w.WriteHeader(http.StatusNoContent)
}

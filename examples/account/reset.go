package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First forgot takes an address and answers at once, the same for every address. Next the
// outbox looks for the account, and mails a ticket to it. Last reset sets the new password
// by the ticket, and the library ends all sessions of the user.

const (
	resetLife  = time.Hour
	resetPause = 2 * time.Minute // between two mails to one account
)

func (a *app) forgot(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "email")
	if !ok || !a.allow(w, r) {
		return
	}
	email := foldEmail(body[0])
	// All work that depends on the address is in the outbox, after the answer.
	if err := a.mails.add(func(ctx context.Context) (*mail, error) { return a.resetMail(ctx, email) }); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	accepted(w)
}

// resetMail returns the mail to an account; nil: there is no such account, or the last mail
// is too fresh.
func (a *app) resetMail(ctx context.Context, email string) (*mail, error) {
	now := a.now()
	var id string
	m := &mail{Kind: "reset"}
	// The mail goes to the address of the table, not to the address of the request: the two
	// might differ in a database that compares more loosely.
	err := a.db.QueryRowContext(ctx, `UPDATE users SET reset_mailed_at = ?
		WHERE email = ? AND disabled = 0 AND reset_mailed_at <= ? RETURNING id, email`,
		now.UnixMicro(), email, now.Add(-resetPause).UnixMicro()).Scan(&id, &m.To)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ticket, err := a.auth.NewTicket(ctx, oauth2pw.Ticket{
		UserID: id, Purpose: oauth2pw.PurposeReset, Data: m.To, ExpiresAt: now.Add(resetLife),
	})
	m.Token = string(ticket)
	return m, err
}

func (a *app) reset(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "token", "password")
	if !ok {
		return
	}
	if err := a.resetPassword(r, body[0], body[1]); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *app) resetPassword(r *http.Request, token, password string) error {
	ticket, user, err := a.auth.RedeemTicket(r.Context(), token, oauth2pw.PurposeReset)
	if err != nil {
		return err
	}
	if ticket.Data != user.Username {
		return errInvalidTicket // the account has another address now: the old mailbox may be lost
	}
	if err := a.auth.ResetPassword(r, token, password); err != nil {
		return err
	}
	// The ticket came by mail, so that the address is verified, too. Not before: until the
	// password has changed, a stranger who signed up with this address knows it.
	_, err = a.write(context.WithoutCancel(r.Context()), `UPDATE users SET email_verified = 1, email_version = email_version + 1
		WHERE id = ? AND email = ? AND email_verified = 0`, user.ID, ticket.Data)
	return err
}

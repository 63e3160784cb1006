package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First verifyMail makes a ticket and its mail, for a new account or for another address of
// an account. Next the owner of the mailbox sends the ticket to POST /verify. Last one
// conditional UPDATE writes the address: the account must be as it was when the ticket was
// made, so that a ticket works once.

const (
	purposeVerify = "verify"
	verifyLife    = 24 * time.Hour
)

// addressChange is the Data of a ticket: the facts that must be unchanged when the ticket is
// redeemed, and the address to write.
type addressChange struct {
	from, to  string // equal: the first verification
	version   int64  // email_version: a redeemed ticket is spent, also after the change back
	validFrom int64  // sessions_from: a new password voids the ticket, which a thief may have asked for
}

func (c addressChange) data() string {
	return fmt.Sprintf("%s\n%s\n%d\n%d", c.from, c.to, c.version, c.validFrom)
}

func parseAddressChange(data string) (c addressChange, err error) {
	lines := strings.Split(data, "\n") // an address has no control character
	if len(lines) != 4 {
		return c, errors.New("the data of the ticket has another format")
	}
	c.from, c.to = lines[0], lines[1]
	_, err = fmt.Sscan(lines[2]+" "+lines[3], &c.version, &c.validFrom)
	return c, err
}

// verifyMail returns a mail to the new address.
func (a *app) verifyMail(ctx context.Context, userID string, c addressChange) (*mail, error) {
	ticket, err := a.auth.NewTicket(ctx, oauth2pw.Ticket{
		UserID: userID, Purpose: purposeVerify, Data: c.data(), ExpiresAt: a.now().Add(verifyLife),
	})
	return &mail{To: c.to, Kind: "verify", Token: string(ticket)}, err
}

func (a *app) verify(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "token")
	if !ok {
		return
	}
	if err := a.redeemVerify(r.Context(), body[0]); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

var errInvalidTicket = &oauth2pw.Error{Code: "invalid_ticket"}

func (a *app) redeemVerify(ctx context.Context, token string) error {
	ticket, _, err := a.auth.RedeemTicket(ctx, token, purposeVerify)
	if err != nil {
		return err
	}
	c, err := parseAddressChange(ticket.Data)
	if err != nil {
		return err
	}
	// OR IGNORE writes nothing if another account has the address.
	written, err := a.write(ctx, `UPDATE OR IGNORE users SET email = ?, email_verified = 1, email_version = email_version + 1
		WHERE id = ? AND email = ? AND email_version = ? AND COALESCE(sessions_from, 0) = ?`,
		c.to, ticket.UserID, c.from, c.version, c.validFrom)
	if err == nil && !written {
		err = errInvalidTicket
	}
	return err
}

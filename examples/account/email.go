package main

import (
	"context"
	"net/http"
)

// First the caller proves the password again, if the last proof is old: RequireRecent is in
// front of this handler. Next changeEmail mails a ticket to the new address; the account
// keeps the old one. Last POST /verify writes the new address.
//
// The answer does not show whether another account has the address: then POST /verify
// refuses the ticket.

func (a *app) changeEmail(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "email")
	if !ok || !a.allow(w, r) {
		return
	}
	to := foldEmail(body[0])
	if !validEmail(to) {
		a.badRequest(w, r, "The email is no address.")
		return
	}
	id, u, err := a.caller(r)
	if err == nil && to != u.email {
		err = a.mails.add(func(ctx context.Context) (*mail, error) {
			return a.verifyMail(ctx, id, addressChange{from: u.email, to: to, version: u.version, validFrom: u.validFrom})
		})
	}
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	accepted(w)
}

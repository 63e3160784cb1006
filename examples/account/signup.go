package main

import (
	"context"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First signUp checks the password and hashes it, for a known address too. Next one
// statement inserts the user, or counts the sign-up of a known address. Last the outbox
// writes a mail: a ticket for the new account, or a notice to the owner of the old one.
//
// Only the mail shows whether the address had an account. The answer has the same bytes for
// every address, and comes after the same work.

const maxEmail = 200 // bytes; two addresses fit into a ticket

func (a *app) signUp(w http.ResponseWriter, r *http.Request) {
	body, ok := a.readStrings(w, r, "email", "password")
	if !ok || !a.allow(w, r) {
		return
	}
	email := foldEmail(body[0])
	if !validEmail(email) {
		a.badRequest(w, r, "The email is no address.")
		return
	}
	// The policy gets the address, because it refuses a password equal to the address.
	hash, err := a.auth.HashNewPassword(r, &oauth2pw.User{Username: email}, body[1])
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	var id string
	var signups int
	err = a.db.QueryRowContext(r.Context(), `INSERT INTO users (email, password_hash, created_at) VALUES (?, ?, ?)
		ON CONFLICT (email) DO UPDATE SET signups = signups + 1 RETURNING id, signups`,
		email, hash, a.now().UnixMicro()).Scan(&id, &signups)
	if err == nil {
		err = a.mails.add(func(ctx context.Context) (*mail, error) {
			if signups > 1 {
				return &mail{To: email, Kind: "taken"}, nil
			}
			return a.verifyMail(ctx, id, addressChange{from: email, to: email})
		})
	}
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	accepted(w)
}

// foldEmail returns an address in the form of the table: ASCII letters in lower case.
// foldEmail is Config.FoldName, too. Nothing else is folded or trimmed: a space at the end
// of an address makes another, invalid address.
func foldEmail(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// validEmail accepts an address with one @, without spaces and control characters. Only the
// mail proves that the address exists.
func validEmail(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return local != "" && domain != "" && !strings.Contains(domain, "@") && len(s) <= maxEmail && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

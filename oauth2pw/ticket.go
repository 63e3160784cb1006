package oauth2pw

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// PurposeReset is the purpose of a [Ticket] that sets a new password; see
// [Auth.ResetPassword].
const PurposeReset = "reset"

const (
	maxTicketData = 512 // bytes
	maxTicketLife = 30 * 24 * time.Hour
	maxTicket     = 4 << 10 // bytes, encoded
)

// Ticket is a link that the app sends to a user: to reset a password, to verify an address.
// A ticket is a credential: write it into the mail, and into no log. A ticket is not
// encrypted: its holder can read the user's ID and Data.
//
// A thief of Config.Secrets can make tickets with any purpose except PurposeReset, which also
// needs the password hash of the user.
//
// A ticket has no row in a store. A ticket with PurposeReset is valid until it expires, or
// until the password, its hash, the Username or the SessionsValidFrom of the user changes, so
// that it sets one password. A login may replace an outdated hash. A ticket with another
// purpose is valid until it expires: the app writes into Data the facts that must be
// unchanged, such as the address of the user, and compares them.
type Ticket struct {
	UserID  string // User.ID; not empty
	Purpose string // PurposeReset, or the app's own word; not empty
	Data    string // the app's own; at most 512 bytes
	// ExpiresAt is the first time at which the ticket is refused. Required: in the future,
	// and at most 30 days ahead.
	ExpiresAt time.Time
}

// A ticket is "tk1." and the base64url of
//
//	key id (12 bytes) ‖ expiry (8 bytes, Unix microseconds) ‖ length of the user's ID (2 bytes) ‖ ID ‖ data ‖ MAC (32 bytes)
//
// where MAC = HMAC-SHA256(K, "tk1" ‖ the issuer and the realm, the purpose, the ID and the data, each behind its
// length ‖ expiry ‖ bound), and K = HKDF-SHA256 of the server secret that the key id names,
// for the purpose. bound is empty; for PurposeReset it is the user's Username, password hash
// and SessionsValidFrom: a link in the mailbox of an old address sets no password.
const (
	ticketVersion = "tk1"
	ticketPrefix  = ticketVersion + "."
	ticketHead    = keyIDLength + 8 + 2
)

// tickets makes and redeems tickets.
type tickets struct {
	plugs   *plugs
	clock   clock
	secrets serverSecrets
	server  string // the issuer and the realm: servers that share secrets share no ticket
}

// NewTicket makes a ticket with the first secret of Config.Secrets. The result prints as
// [redacted]: write string(ticket) into the mail.
//
// The error names a wrong field of t, or the missing Secrets. A user who does not exist is
// [ErrNotFound] for PurposeReset. A store failure is an [*Error].
func (a *Auth) NewTicket(ctx context.Context, t Ticket) (ticket Secret, err error) {
	err = recovered(func() (err error) { ticket, err = a.tickets.make(ctx, t); return err })
	return ticket, err
}

// RedeemTicket checks a ticket for a purpose and returns the ticket with its user.
// RedeemTicket changes nothing: a ticket with another purpose than PurposeReset can be
// redeemed until it expires.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_ticket (400) if the ticket is
// malformed, expired, forged or for another purpose, if its secret is dropped, if its user is
// disabled or deleted, and with PurposeReset if the password has changed since; or a store
// failure. An invalid ticket is an event.
func (a *Auth) RedeemTicket(ctx context.Context, ticket, purpose string) (t Ticket, u *User, err error) {
	event := Event{Kind: EventTicketRefused}
	err = a.answers.told(ctx, &event, func() error {
		t, u, err = a.tickets.redeem(ctx, ticket, purpose, &event)
		return err
	})
	if err != nil {
		return Ticket{}, nil, err
	}
	return t, u, nil
}

var errInvalidTicket = &Error{Code: "invalid_ticket"}

func ticketRefused(reason EventReason) error { return errInvalidTicket.because("", reason, nil) }

func (x *tickets) make(ctx context.Context, t Ticket) (Secret, error) {
	now := x.clock.time()
	switch {
	case x.secrets.first == "":
		return "", errors.New("oauth2pw: NewTicket needs Config.Secrets")
	case t.UserID == "" || len(t.UserID) > 1024:
		return "", errors.New("oauth2pw: NewTicket: Ticket.UserID must have 1 to 1,024 bytes")
	case t.Purpose == "":
		return "", errors.New("oauth2pw: NewTicket: Ticket.Purpose is empty")
	case len(t.Data) > maxTicketData:
		return "", errors.New("oauth2pw: NewTicket: Ticket.Data has more than 512 bytes")
	case !t.ExpiresAt.After(now):
		return "", errors.New("oauth2pw: NewTicket: Ticket.ExpiresAt is not in the future")
	case t.ExpiresAt.After(now.Add(maxTicketLife)):
		return "", errors.New("oauth2pw: NewTicket: Ticket.ExpiresAt is more than 30 days ahead")
	}
	var u *User
	if t.Purpose == PurposeReset {
		if x.plugs.updater == nil || x.plugs.hasher == nil {
			return "", errors.New("oauth2pw: NewTicket: ResetPassword needs Config.Users to be a PasswordUpdater, and Config.Hasher")
		}
		var err error
		if u, err = x.plugs.userByID(ctx, t.UserID); err != nil {
			return "", err
		}
		if u == nil {
			return "", fmt.Errorf("oauth2pw: NewTicket: the user: %w", ErrNotFound)
		}
	}
	t.ExpiresAt = t.ExpiresAt.UTC().Truncate(time.Microsecond)
	mac, err := x.mac(x.secrets.first, t, u)
	if err != nil {
		return "", err
	}
	b := []byte(x.secrets.first)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ExpiresAt.UnixMicro()))
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.UserID)))
	b = append(b, t.UserID...)
	b = append(b, t.Data...)
	b = append(b, mac...)
	return Secret(ticketPrefix + base64url.EncodeToString(b)), nil
}

// parse takes a ticket apart. Nothing is proved yet.
func (x *tickets) parse(ticket, purpose string) (id string, t Ticket, mac []byte, ok bool) {
	encoded, found := strings.CutPrefix(ticket, ticketPrefix)
	if !found || len(ticket) > maxTicket || strings.ContainsAny(encoded, "\r\n") {
		return "", Ticket{}, nil, false
	}
	b, err := base64url.DecodeString(encoded)
	if err != nil || len(b) < ticketHead+sha256.Size {
		return "", Ticket{}, nil, false
	}
	b, mac = b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	length := int(binary.BigEndian.Uint16(b[ticketHead-2:]))
	if length == 0 || length > len(b)-ticketHead {
		return "", Ticket{}, nil, false
	}
	t = Ticket{
		UserID: string(b[ticketHead : ticketHead+length]), Purpose: purpose, Data: string(b[ticketHead+length:]),
		ExpiresAt: time.UnixMicro(int64(binary.BigEndian.Uint64(b[keyIDLength:]))).UTC(),
	}
	return string(b[:keyIDLength]), t, mac, len(t.Data) <= maxTicketData
}

func (x *tickets) redeem(ctx context.Context, ticket, purpose string, event *Event) (Ticket, *User, error) {
	if x.secrets.first == "" {
		return Ticket{}, nil, wiringError("RedeemTicket needs Config.Secrets")
	}
	id, t, mac, ok := x.parse(ticket, purpose)
	if !ok || purpose == "" || strings.ContainsRune(t.UserID, 0) {
		return Ticket{}, nil, ticketRefused(ReasonMalformed)
	}
	if _, known := x.secrets.byID[id]; !known {
		return Ticket{}, nil, ticketRefused(ReasonUnknownSecret)
	}
	if purpose != PurposeReset { // otherwise the proof needs the user
		if err := x.prove(id, t, nil, mac); err != nil {
			return Ticket{}, nil, err
		}
	}
	u, err := x.plugs.userByID(ctx, t.UserID)
	if err != nil {
		return Ticket{}, nil, err
	}
	if u != nil && purpose == PurposeReset {
		if err := x.prove(id, t, u, mac); err != nil {
			return Ticket{}, nil, err
		}
	}
	if reason := u.dead(maxTime); reason != "" {
		return Ticket{}, nil, ticketRefused(reason)
	}
	event.UserID = u.ID
	if !x.clock.time().Before(t.ExpiresAt) {
		return Ticket{}, nil, ticketRefused(ReasonExpired)
	}
	return t, u, nil
}

func (x *tickets) prove(id string, t Ticket, u *User, mac []byte) error {
	want, err := x.mac(id, t, u)
	if err != nil {
		return err
	}
	if !hmac.Equal(want, mac) {
		return ticketRefused(ReasonForged)
	}
	return nil
}

// mac returns the MAC of a ticket. u binds it to the user's password; nil: it is not bound.
func (x *tickets) mac(id string, t Ticket, u *User) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(x.secrets.byID[id]), nil, "passwordflow ticket "+t.Purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("oauth2pw: Config.Secrets: %w", err)
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(ticketVersion))
	write := func(s string) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(s)))
		h.Write(length[:])
		h.Write([]byte(s))
	}
	write(x.server)
	write(t.Purpose)
	write(t.UserID)
	write(t.Data)
	write(string(binary.BigEndian.AppendUint64(nil, uint64(t.ExpiresAt.UnixMicro()))))
	if u != nil {
		write(u.Username)
		write(string(u.PasswordHash))
		write(string(binary.BigEndian.AppendUint64(nil, uint64(u.SessionsValidFrom.UnixMicro()))))
	}
	return h.Sum(nil), nil
}

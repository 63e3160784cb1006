package oauth2pw

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// TokenRequest is a token request with a well-formed form and an authenticated client. A
// printed TokenRequest shows no parameter of the form.
type TokenRequest struct {
	GrantType string
	Client    *Client  // nil: no client was named
	Scopes    []string // the requested scopes, without duplicates; nil: no scopes

	now       time.Time // a time before the user and the session are read
	userAgent string
	event     *Event                   // the facts about the request, for the event hook
	param     func(name string) string // of the form; nil: an empty form
	guess     func(ctx context.Context, userID string) error
}

// NewTokenRequest returns a request for a test of a grant of Config.Grants. The token
// endpoint makes its own requests. Guess counts nothing.
func NewTokenRequest(grantType string, form url.Values) *TokenRequest {
	return &TokenRequest{GrantType: grantType, event: new(Event), param: func(name string) string {
		if values := form[name]; len(values) == 1 {
			return values[0]
		}
		return ""
	}}
}

func newRequest(r *http.Request, now time.Time, event *Event) *TokenRequest {
	return &TokenRequest{now: now, userAgent: r.UserAgent(), event: event}
}

// Param returns a parameter of the form, or "" if the parameter is absent, empty or
// repeated.
func (r *TokenRequest) Param(name string) string {
	if r.param == nil {
		return ""
	}
	return r.param(name)
}

// Guess counts an attempt at a user, together with the passwords of the user. A grant of
// Config.Grants calls Guess before it checks a secret that can be guessed, such as a code
// by SMS; userID is the User.ID of the user that the secret would open. The error means:
// too many attempts (slow_down), or a failure of the throttle. The grant returns this error
// unchanged and checks nothing.
//
// The attempt stays counted if the grant returns an error that wraps [ErrNotFound], an
// *Error with the code invalid_grant, or another user, or if a later Guess is refused. If
// the grant returns the user, the failures of this user from this address are uncounted.
// Give each sent code a random ID, and find the code and its user by this ID, never by a
// parameter that names a user: otherwise anybody could block any user by wrong codes. An
// empty userID counts nothing: a code of no user is counted for the address, as every
// request is.
//
// Call Guess in the goroutine of the grant; outside of a grant Guess does nothing. With
// Config.Authenticate passwords are counted by name, and codes separately by user.
func (r *TokenRequest) Guess(ctx context.Context, userID string) error {
	if r.guess == nil || userID == "" {
		return nil
	}
	return r.guess(ctx, userID)
}

// GrantFunc is one of the app's own grant types, in Config.Grants. A GrantFunc proves the
// identity of a user and returns the user, and is called concurrently.
type GrantFunc func(ctx context.Context, r *TokenRequest) (*User, error)

// proof is the identity of a user, as a login has proved it.
type proof struct {
	user *User
	at   time.Time // of the proof: a later change of the password invalidates the login
	// holds reports whether the proof is still valid for the current record of the user.
	// Nil: only the time decides.
	holds func(ctx context.Context, u *User) (bool, error)
	plug  string // the plug that has found the user; "": Config.Users
}

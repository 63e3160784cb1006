package oauth2pw

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// TokenRequest is a token request whose form is well formed and whose client is
// authenticated. Printing a request shows no parameter of its form.
type TokenRequest struct {
	GrantType string
	Client    *Client  // nil: none was named
	Scopes    []string // as asked, without duplicates; nil: none

	now       time.Time // when it came in, before anything was read
	userAgent string
	event     *Event                   // the facts about the request so far, for the event hook
	param     func(name string) string // the form; nil: it is empty
	guess     func(ctx context.Context, userID string) error
}

// NewTokenRequest returns a request for a test of a grant of the app's own. The token
// endpoint makes its requests itself. Guess counts nothing.
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

// Param returns a parameter of the form, "" if it is absent, empty, or sent more
// than once.
func (r *TokenRequest) Param(name string) string {
	if r.param == nil {
		return ""
	}
	return r.param(name)
}

// Guess says that a grant of Config.Grants will check something that can be
// guessed, such as a code by SMS, and would open a user: User.ID. It counts an attempt
// at the user, together with the user's passwords. The error says that there were too
// many (slow_down), or that the throttle failed: the grant returns it as it is, and checks
// nothing.
//
// The attempt stays counted if the grant returns an error that wraps [ErrNotFound], or an
// *Error with the code invalid_grant, or another user, or if a later Guess is refused. If
// the grant returns the user, failures of this user from this address are forgotten. The
// grant must find the user by the thing that it checks, never by a parameter that only
// names one. An empty userID counts nothing: it is for a code that opens nobody, which
// counts for the address as every request does.
//
// It is called from the goroutine of the grant, and outside of a grant it does nothing. With
// Config.Authenticate passwords count by name, and codes apart from them by user.
func (r *TokenRequest) Guess(ctx context.Context, userID string) error {
	if r.guess == nil || userID == "" {
		return nil
	}
	return r.guess(ctx, userID)
}

// GrantFunc is a grant type of the app's own, in Config.Grants. It proves who the user
// is and returns the user. It is called concurrently.
type GrantFunc func(ctx context.Context, r *TokenRequest) (*User, error)

// proof is what a login has proved.
type proof struct {
	user *User
	at   time.Time // since when: a change of the password after it ends the login
	// holds decides, by the user's record of now, whether the proof still holds; nil: the
	// time alone does.
	holds func(ctx context.Context, u *User) (bool, error)
	plug  string // the plug that has found the user, where it is not Config.Users; "": it is
}

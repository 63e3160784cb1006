package oauth2pw

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"
)

var (
	// ErrNotFound is wrapped by every store for a miss. Any other error of a store is a
	// store failure: the answer is 503.
	ErrNotFound = errors.New("not found")

	// ErrExists is wrapped by the stores of this module for a user, a client or a session
	// with an ID that exists already, and for a user with the name of another user. ErrExists
	// is for the app's own code; for the endpoints it is a store failure.
	ErrExists = errors.New("exists already")

	// ErrInvalidToken is wrapped by a [TokenVerifier] for an invalid token. Any other error
	// is a failure of the check: the answer is 503.
	ErrInvalidToken = errors.New("invalid token")

	// ErrPasswordTooLong is wrapped by a [PasswordHasher], after the work of a mismatch,
	// for a password that is longer than the format of the stored hash allows: 72 bytes for
	// bcrypt. The answer is that of a wrong password, and the event has
	// ReasonTooLongForHash.
	ErrPasswordTooLong = errors.New("the password is longer than the format of its hash allows")

	// ErrBusy is wrapped by a [PasswordHasher] without free capacity. The answer is 503
	// with Retry-After: 1.
	ErrBusy = errors.New("busy")
)

// Error is a protocol error: the content of an error answer. A plug may return or wrap an
// Error to choose the answer.
//
// Code is an error code of RFC 6749 (section 5.2), RFC 6750 (section 3.1) or RFC 7009
// (section 2.2.1), or one of "access_denied" (403), "unauthorized" (401), "slow_down"
// (429), "temporarily_unavailable" (503) and "server_error" (500). Any other code answers
// 400. An empty code, and a code with a character outside of printable ASCII, a double
// quote or a backslash (RFC 6749, appendix A.7), becomes a server_error.
type Error struct {
	Code string
	// Description is for the client's developer. Empty: the standard description of Code.
	// RFC 6749, appendix A.8, allows printable ASCII without the double quote and the
	// backslash in the member "error_description". Any other text becomes the member
	// "message", and "error_description" is the standard description.
	Description string
	// Status is the HTTP status, 4xx or 5xx. Any other value, and zero: the status of Code.
	Status int
	// RetryAfter is the Retry-After header, rounded up to seconds. Zero: no header.
	RetryAfter time.Duration
	// Extra are further members of the body. The members "error" and "error_description"
	// are never replaced.
	Extra map[string]any

	allow  string // the Allow header of a 405
	scheme string // the scheme of the challenge; empty: the scheme of the code; noChallenge: no challenge
	scope  string // the scope attribute of a Bearer challenge
	maxAge string // the max_age attribute of a Bearer challenge, in seconds

	// for the event hook, never for the client
	kind   EventKind // empty: the kind of the endpoint
	reason EventReason
	plug   string
	cause  error
	told   bool // the hook has the event already
}

// Error returns the code, and the Description if there is one.
func (e *Error) Error() string {
	if e.Description == "" {
		return "oauth2pw: " + e.Code
	}
	return "oauth2pw: " + e.Code + ": " + e.Description
}

// Unwrap returns the cause, which is also Event.Err: for logs, never for a client. Nil: no
// cause.
func (e *Error) Unwrap() error {
	if e == nil { // a nil *Error in an error
		return nil
	}
	return e.cause
}

// errorCodes maps each code to its HTTP answer.
var errorCodes = map[string]struct {
	status      int
	scheme      string
	description string
}{
	// RFC 6749, section 5.2
	"invalid_request":        {400, "", "The request is malformed."},
	"invalid_client":         {401, "Basic", "The client is unknown or could not be authenticated."},
	"invalid_grant":          {400, "", "The credentials are wrong."},
	"unauthorized_client":    {400, "", "The client may not use this grant type."},
	"unsupported_grant_type": {400, "", "The grant type is not supported."},
	"invalid_scope":          {400, "", "The scope is malformed, unknown or not allowed."},
	// RFC 6750, section 3.1
	"unauthorized":       {401, "Bearer", "A bearer token is required."},
	"invalid_token":      {401, "Bearer", "The token is malformed, expired, revoked or not meant for this service."},
	"insufficient_scope": {403, "Bearer", "The token lacks a scope that is required here."},
	// RFC 9470, section 3
	"insufficient_user_authentication": {401, "Bearer", "The password must be proved again."},
	// RFC 7009, section 2.2.1
	"unsupported_token_type": {400, "", "Tokens of this type cannot be revoked."},
	// not registered for these endpoints
	"invalid_ticket":          {400, "", "The ticket is invalid or has expired."},
	"access_denied":           {403, "", "This is not allowed."},
	"slow_down":               {429, "", "Too many failed attempts. Try again later."},
	"temporarily_unavailable": {503, "", "The service cannot answer at the moment. Try again later."},
	"server_error":            {500, "", "An internal error occurred."},
}

var errInvalidGrant = &Error{Code: "invalid_grant"}

func badRequest(description string) *Error {
	return &Error{Code: "invalid_request", Description: description}
}

// because returns a copy of e with the kind, the reason and the cause of the event.
func (e *Error) because(kind EventKind, reason EventReason, cause error) *Error {
	c := *e
	c.kind, c.reason, c.cause = kind, reason, cause
	return &c
}

// failed returns a copy of e with the plug that failed, for the event.
func (e *Error) failed(kind EventKind, plug string, cause error) *Error {
	c := *e
	c.kind, c.plug, c.cause = kind, plug, cause
	return &c
}

// plugError returns the answer to an error of a plug. The name of the plug is for
// operators. An error that plugError or because has made is returned unchanged.
func plugError(plug string, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e) && e == nil:
		err = errors.New("it returned a nil *oauth2pw.Error as an error: return nil")
		return (&Error{Code: "temporarily_unavailable"}).failed(EventUnavailable, plug, err)
	case errors.As(err, &e) && (e.kind != "" || e.plug != ""):
		return e
	case errors.As(err, &e):
		kind := EventKind("")
		if e.complete().Status >= http.StatusInternalServerError {
			kind = EventUnavailable
		}
		return e.failed(kind, plug, err)
	case errors.Is(err, ErrBusy):
		return (&Error{Code: "temporarily_unavailable", RetryAfter: time.Second}).failed(EventOverload, plug, err)
	default:
		return (&Error{Code: "temporarily_unavailable"}).failed(EventUnavailable, plug, err)
	}
}

// asError returns the protocol error in err. Any other error is a failure (503).
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	return plugError("handler", err)
}

// wiringError returns the answer to a call that the Config does not allow.
func wiringError(format string, args ...any) *Error {
	return (&Error{Code: "server_error"}).because(EventUnavailable, "", fmt.Errorf("oauth2pw: "+format, args...))
}

const noChallenge = "none"

// complete fills empty fields with the defaults of the code.
func (e *Error) complete() *Error {
	c := *e
	if c.Code == "" || !onlyNQSChar(c.Code) {
		c = Error{Code: "server_error"}
	}
	row, known := errorCodes[c.Code]
	if !known {
		row.status, row.description = http.StatusBadRequest, "The request was refused."
	}
	if c.Status < 400 || c.Status > 599 {
		c.Status = row.status
	}
	switch c.scheme {
	case "":
		c.scheme = row.scheme
	case noChallenge:
		c.scheme = ""
	}
	if c.Description == "" {
		c.Description = row.description
	}
	return &c
}

// description returns the text of the member "error_description".
func (e *Error) description() string {
	if onlyNQSChar(e.Description) {
		return e.Description
	}
	return (&Error{Code: e.Code}).complete().Description
}

// onlyNQSChar reports whether s has only %x20-21 / %x23-5B / %x5D-7E (RFC 6749, appendix
// A.7 and A.8).
func onlyNQSChar(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// onlyVSChar reports whether s is *VSCHAR (RFC 6749, appendix A).
func onlyVSChar(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// recoverPlug turns a panic of a plug into a refusal. Callers defer recoverPlug.
func recoverPlug(refusal *error) {
	if v := recover(); v != nil {
		*refusal = (&Error{Code: "server_error"}).because(EventPanic, "", panicError(v))
	}
}

// recovered calls do, and turns a panic into a refusal.
func recovered(do func() error) (refusal error) {
	defer recoverPlug(&refusal)
	return do()
}

// panicError describes a panic by its type and its place. The value of the panic may hold a
// secret and is printed only for a runtime.Error.
func panicError(value any) error {
	what := fmt.Sprintf("%T", value)
	if e, ok := value.(runtime.Error); ok {
		what = e.Error()
	}
	return fmt.Errorf("panic (%s) at %s", what, panicPlace())
}

// panicPlace returns the innermost frame outside of the runtime below a panic. Only a
// deferred function may call panicPlace.
func panicPlace() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for panicked := false; ; {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || f.Function == "runtime.gopanic"
		case panicked:
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

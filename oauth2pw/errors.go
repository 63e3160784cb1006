package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrNotFound is wrapped by every store for a miss. Any other error of a
	// store means that the store failed, and the answer is 503.
	ErrNotFound = errors.New("not found")

	// ErrExists is wrapped by the stores of this module for a user, a client or a session
	// whose ID exists already, and for a user with the name of another user. It is for the
	// app's own code. The endpoints treat it as a failure of the store.
	ErrExists = errors.New("exists already")

	// ErrInvalidToken is wrapped by a [TokenVerifier] for a token that is not
	// good. Any other error means that it could not be checked: 503.
	ErrInvalidToken = errors.New("invalid token")

	// ErrPasswordTooLong is wrapped by a [PasswordHasher] for a password that is longer
	// than what the format of the stored hash looks at, after the work of a
	// mismatch: bcrypt's 72 bytes. It is answered as a wrong password, and the event
	// says so.
	ErrPasswordTooLong = errors.New("the password is longer than the format of its hash allows")

	// ErrBusy is wrapped by a [PasswordHasher] that has no room left: 503 with
	// Retry-After.
	ErrBusy = errors.New("busy")
)

// Error is a protocol error: what a client is told. A plug may return one, or
// wrap one, to choose the answer; the status follows from the code.
//
// Code is an error code of RFC 6749 (section 5.2), RFC 6750 (section 3.1) or
// RFC 7009 (section 2.2.1), or one of "access_denied" (403), "unauthorized"
// (401), "slow_down" (429), "temporarily_unavailable" (503) and "server_error"
// (500). Any other code answers 400. Code and Description must keep to the
// characters of RFC 6749, appendix A.7 and A.8: printable ASCII without the
// double quote and the backslash. One that does not becomes a server_error.
type Error struct {
	Code        string
	Description string // for the client's developer; empty: the one of Code
	// RetryAfter, rounded up to seconds, is the Retry-After header; zero: none.
	RetryAfter time.Duration
	// Extra are further members of the body. They never replace "error" and
	// "error_description".
	Extra map[string]any

	status int    // zero: that of the code
	allow  string // the Allow header of a 405
	scheme string // the scheme of the challenge; empty: that of the code; noChallenge: none
	scope  string // the scope attribute of a Bearer challenge

	// for the event hook, never for the client
	kind, reason string // of the Event; empty: the endpoint's, and the code
	cause        error
}

// Error returns the code and the description.
func (e *Error) Error() string {
	if e.Description == "" {
		return "oauth2pw: " + e.Code
	}
	return "oauth2pw: " + e.Code + ": " + e.Description
}

// errorCodes is the one table from protocol error to HTTP answer.
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
	// RFC 7009, section 2.2.1
	"unsupported_token_type": {400, "", "Tokens of this type cannot be revoked."},
	// not registered for these endpoints
	"access_denied":           {403, "", "This is not allowed."},
	"slow_down":               {429, "", "Too many failed attempts. Try again later."},
	"temporarily_unavailable": {503, "", "The service cannot answer at the moment. Try again later."},
	"server_error":            {500, "", "An internal error occurred."},
}

func badRequest(description string) *Error {
	return &Error{Code: "invalid_request", Description: description}
}

// because returns a copy of e that tells the event hook what happened.
func (e *Error) because(kind, reason string, cause error) *Error {
	c := *e
	c.kind, c.reason, c.cause = kind, reason, cause
	return &c
}

// plugError turns an error of a plug, named as an operator knows it, into the
// answer that it deserves. One that has been through here stays what it is.
func plugError(plug string, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e) && e.kind != "":
		return e
	case errors.As(err, &e):
		kind := ""
		if e.complete().status >= http.StatusInternalServerError {
			kind = EventUnavailable
		}
		return e.because(kind, plug, err)
	case errors.Is(err, ErrBusy):
		return (&Error{Code: "temporarily_unavailable", RetryAfter: time.Second}).because(EventOverload, plug, err)
	default:
		return (&Error{Code: "temporarily_unavailable"}).because(EventUnavailable, plug, err)
	}
}

// asError returns the protocol error that err is, or the one for a failure.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return plugError("handler", err)
}

// recoverPlug turns a panic of a plug into a refusal. It is deferred.
func recoverPlug(refusal *error) {
	if v := recover(); v != nil {
		*refusal = (&Error{Code: "server_error"}).because(EventPanic, "", panicError(v))
	}
}

// recovered does something that may panic.
func recovered(do func() error) (refusal error) {
	defer recoverPlug(&refusal)
	return do()
}

// told does something outside of the endpoints that may be refused, and tells the
// event hook if it was. A panic of a plug, the hook included, becomes a refusal.
func (c *config) told(ctx context.Context, event *Event, do func() error) (refusal error) {
	defer recoverPlug(&refusal)
	if refusal = recovered(do); refusal != nil {
		c.answers.tell(ctx, asError(refusal), *event)
	}
	return refusal
}

const noChallenge = "none"

// complete fills in what the code implies, and replaces an error that must not
// be sent.
func (e *Error) complete() *Error {
	c := *e
	if c.Code == "" || !onlyNQSChar(c.Code) || !onlyNQSChar(c.Description) {
		c = Error{Code: "server_error"}
	}
	row, known := errorCodes[c.Code]
	if !known {
		row.status = http.StatusBadRequest
	}
	if c.status == 0 {
		c.status = row.status
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

// onlyNQSChar reports whether s keeps to %x20-21 / %x23-5B / %x5D-7E (RFC 6749,
// appendix A.7 and A.8).
func onlyNQSChar(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// answerer answers with errors.
type answerer struct {
	realm string
	body  func(ctx context.Context, e *Error) any
	emit  func(ctx context.Context, e Event) // nil: nobody listens
}

const defaultRealm = "api"

// WriteError answers a request with err, as the token endpoint and the
// middleware do: an [*Error] becomes its status, headers and JSON body, and any
// other error is a 503 that says nothing about its cause. It is for endpoints
// that an app writes itself on [ParsePasswordRequestForm].
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	answerer{realm: defaultRealm}.refuse(r.Context(), w, err, Event{})
}

// refuse tells the event hook about err and answers with it. A hook that panics
// makes it a 500.
func (a answerer) refuse(ctx context.Context, w http.ResponseWriter, err error, event Event) {
	e := asError(err)
	full, body, failed := a.prepare(ctx, e, event)
	if failed != nil {
		e = asError(failed)
		a.body = nil
		if full, body, failed = a.prepare(ctx, e, event); failed != nil {
			a.emit = nil
			full, body, _ = a.prepare(ctx, e, event)
		}
	}
	h := w.Header()
	if full.allow != "" {
		h.Set("Allow", full.allow)
	}
	if full.scheme != "" {
		h.Set("WWW-Authenticate", a.challenge(full))
	}
	if full.RetryAfter > 0 {
		seconds := int64(full.RetryAfter / time.Second)
		if full.RetryAfter%time.Second > 0 {
			seconds++
		}
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	writeJSON(w, full.status, body)
}

// prepare runs the hooks.
func (a answerer) prepare(ctx context.Context, e *Error, event Event) (full *Error, body []byte, failed error) {
	defer recoverPlug(&failed)
	full = e.complete()
	a.tell(ctx, e, event)
	return full, a.encode(ctx, full), nil
}

// tell completes an event by what e says and hands it to the hook. A request
// without credentials is none.
func (a answerer) tell(ctx context.Context, e *Error, event Event) {
	if a.emit == nil || e.Code == "unauthorized" {
		return
	}
	if e.kind != "" {
		event.Kind = e.kind
	}
	event.Reason, event.Err = e.reason, e.cause
	if event.Reason == "" {
		event.Reason = e.Code
	}
	a.emit(ctx, event)
}

// encode returns the body of e. The hook sees the public part only.
func (a answerer) encode(ctx context.Context, e *Error) []byte {
	if a.body != nil {
		public := &Error{Code: e.Code, Description: e.Description, RetryAfter: e.RetryAfter, Extra: maps.Clone(e.Extra)}
		if v := a.body(ctx, public); v != nil {
			if body, err := json.Marshal(v); err == nil {
				return body
			}
		}
	}
	members := map[string]any{}
	maps.Copy(members, e.Extra)
	members["error"], members["error_description"] = e.Code, e.Description
	body, err := json.Marshal(members)
	if err != nil { // an Extra that JSON cannot hold
		body, _ = json.Marshal(map[string]string{"error": e.Code, "error_description": e.Description})
	}
	return body
}

// challenge returns the WWW-Authenticate value of e (RFC 6750, section 3; RFC
// 7617, section 2). The answer to a request without credentials carries no
// error attributes.
func (a answerer) challenge(e *Error) string {
	var b strings.Builder
	b.WriteString(e.scheme + ` realm="` + quotedString.Replace(a.realm) + `"`)
	if e.scheme == "Bearer" && e.Code != "unauthorized" {
		b.WriteString(`, error="` + e.Code + `", error_description="` + e.Description + `"`)
		if e.scope != "" {
			b.WriteString(`, scope="` + e.scope + `"`)
		}
	}
	return b.String()
}

var quotedString = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// writeJSON answers with headers that keep any cache from storing it (RFC 6749,
// section 5.1).
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}

package oauth2pw

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answerer writes error answers.
type answerer struct {
	realm  string
	body   func(ctx context.Context, e *Error) any // Config.ErrorBody
	events *reporter
}

const defaultRealm = "api"

// newAnswerer returns the answerer of handlers without an Auth.
func newAnswerer(realm string, body func(context.Context, *Error) any, onEvent func(context.Context, Event)) answerer {
	return answerer{withDefault(realm, defaultRealm), body, newReporter(onEvent, nil, time.Now)}
}

var defaultAnswerer = newAnswerer("", nil, nil)

// WriteError answers a request with err, as the token endpoint and the middleware do. An
// [*Error] becomes its status, headers and JSON body. Any other error becomes a 503 without
// the cause, which goes to slog.Default. WriteError is for endpoints on
// [ParsePasswordRequestForm]; the handlers of an app with an [Auth] use [Auth.WriteError].
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	defaultAnswerer.refuse(r.Context(), w, err, Event{Kind: EventRequestRefused})
}

// WriteError is the package's [WriteError] with the realm, the error body and the events of
// the [Config]. An error of a method of Auth is already an event, and makes no second
// event.
func (a *Auth) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	ctx := context.Background()
	if r != nil { // CheckBearer returns none with an error
		ctx = a.proxies.withAddress(r)
	}
	a.answers.refuse(ctx, w, err, Event{Kind: EventRequestRefused})
}

// refuse sends err to the event hook and answers the request with err. If the hook panics,
// the answer is a 500.
func (a answerer) refuse(ctx context.Context, w http.ResponseWriter, err error, event Event) {
	e := asError(err)
	full, body, failed := a.prepare(ctx, e, event)
	if failed != nil {
		e = asError(failed)
		a.body = nil
		if full, body, failed = a.prepare(ctx, e, event); failed != nil {
			e.told = true
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
	writeJSON(w, full.Status, body)
}

// prepare calls Config.OnEvent and Config.ErrorBody.
func (a answerer) prepare(ctx context.Context, e *Error, event Event) (full *Error, body []byte, failed error) {
	defer recoverPlug(&failed)
	full = e.complete()
	a.tell(ctx, e, event)
	return full, a.encode(ctx, full), nil
}

// tell completes an event with the fields of e and sends the event to the hook. Missing
// credentials are not an event.
func (a answerer) tell(ctx context.Context, e *Error, event Event) {
	if e.told || e.Code == "unauthorized" {
		return
	}
	event.Kind = withDefault(e.kind, event.Kind)
	event.Reason, event.Plug, event.Code, event.Err = e.reason, e.plug, e.Code, e.cause
	a.events.emit(ctx, event)
}

// told calls do, outside of the endpoints, and makes a refusal an event. The returned error
// is an *Error; nil: nothing was refused. A panic of a plug or of the hook is a refusal.
func (a answerer) told(ctx context.Context, event *Event, do func() error) error {
	refusal := recovered(do)
	if refusal == nil {
		return nil
	}
	if failed := recovered(func() error { a.tell(ctx, asError(refusal), *event); return nil }); failed != nil {
		refusal = failed
	}
	e := *asError(refusal)
	e.told = true
	return &e
}

// encode returns the body of e. Config.ErrorBody gets only the public part.
func (a answerer) encode(ctx context.Context, e *Error) []byte {
	if a.body != nil {
		public := &Error{Code: e.Code, Description: e.Description, Status: e.Status, RetryAfter: e.RetryAfter, Extra: maps.Clone(e.Extra)}
		if v := a.body(ctx, public); v != nil {
			if body, err := json.Marshal(v); err == nil {
				return body
			}
		}
	}
	members := map[string]any{}
	description := e.description()
	if description != e.Description {
		members["message"] = e.Description
	}
	maps.Copy(members, e.Extra)
	members["error"], members["error_description"] = e.Code, description
	body, err := json.Marshal(members)
	if err != nil { // JSON cannot encode a value of Extra
		body, _ = json.Marshal(map[string]string{"error": e.Code, "error_description": description})
	}
	return body
}

// challenge returns the WWW-Authenticate value of e (RFC 6750, section 3; RFC 7617, section
// 2). The answer to a request without credentials has no error attributes.
func (a answerer) challenge(e *Error) string {
	var b strings.Builder
	b.WriteString(e.scheme + ` realm="` + quotedString.Replace(a.realm) + `"`)
	if e.scheme == "Bearer" && e.Code != "unauthorized" {
		b.WriteString(`, error="` + e.Code + `", error_description="` + e.description() + `"`)
		if e.scope != "" {
			b.WriteString(`, scope="` + e.scope + `"`)
		}
		if e.maxAge != "" {
			b.WriteString(`, max_age="` + e.maxAge + `"`)
		}
	}
	return b.String()
}

var quotedString = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// writeJSON writes an answer with headers against caching (RFC 6749, section 5.1).
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means: the client has disconnected
}

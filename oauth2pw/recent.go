package oauth2pw

import (
	"net/http"
	"strconv"
	"time"
)

// RequireRecent returns middleware that lets a request pass only if the user has proved the
// password, or the identity in another way, less than maxAge ago: before something
// dangerous. [Auth.Reauthenticate] renews the proof. A refresh does not.
//
// Put it inside of [Auth.RequireBearer] of the same Auth. The answer is 401
// insufficient_user_authentication with max_age in seconds (RFC 9470, section 3) if the proof
// is too old, if the token has no auth_time, or if the token has another issuer; and 401
// without a token that this Auth has verified. RequireRecent panics, at wiring, if maxAge is
// under a second, and on a nil handler.
func (a *Auth) RequireRecent(maxAge time.Duration) func(http.Handler) http.Handler {
	if maxAge < time.Second {
		panic("oauth2pw: RequireRecent: maxAge is under a second: write 5*time.Minute")
	}
	stale := &Error{Code: "insufficient_user_authentication", maxAge: strconv.FormatInt(int64(maxAge/time.Second), 10)}
	return func(next http.Handler) http.Handler {
		if isNil(next) {
			panic("oauth2pw: RequireRecent: the handler is nil")
		}
		return &recentHandler{a, maxAge, stale, next}
	}
}

// recentHandler is the handler of RequireRecent.
type recentHandler struct {
	auth   *Auth
	maxAge time.Duration
	stale  *Error
	next   http.Handler
}

// RequiredScopes returns no scopes: for package openapi, a token is required.
func (h *recentHandler) RequiredScopes() []string { return nil }

// Unwrap returns the next handler, for package openapi.
func (h *recentHandler) Unwrap() http.Handler { return h.next }

func (h *recentHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, s := h.auth, stateFrom(r.Context())
	switch verified := s.present && s.verifier == any(a); {
	case !verified:
		a.answers.refuse(a.proxies.withAddress(r), w, errUnauthorized, Event{Kind: EventTokenRefused})
	case !a.verifiers.own(s.principal) || a.accounts.clock().Sub(s.principal.AuthTime) >= h.maxAge: // without an auth_time the age is centuries
		a.answers.refuse(r.Context(), w, h.stale, Event{Kind: EventTokenRefused, UserID: s.principal.Subject, SessionID: s.principal.SessionID})
	default:
		h.next.ServeHTTP(w, r)
	}
}

package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
)

const maxToken = 16 << 10

// RequireBearer returns middleware that lets a request pass only with a bearer token (RFC
// 6750, section 2.1) that v accepts and that has every scope. Prefer [Auth.RequireBearer],
// which knows all scopes; this RequireBearer is for a service that only consumes tokens.
//
// The answers are 401 without credentials or for an invalid token, 400 for more than one
// Authorization header, 403 for a missing scope, and 503 for a failure of v. Only the
// header is read, never the URL or the body.
//
// Middleware may be nested: the scopes add up, and the same verifier is called once per
// request. RequireBearer panics, at wiring, on a nil verifier, on a nil handler, and on a
// string that is not a scope.
func RequireBearer(v TokenVerifier, scopes ...string) func(http.Handler) http.Handler {
	return newBearer(v, scopes).wrap
}

// OptionalBearer is [RequireBearer] for a handler that also serves requests without a
// token: such a request passes, and [PrincipalFrom] returns false. A request with an
// invalid token is still refused.
func OptionalBearer(v TokenVerifier) func(http.Handler) http.Handler {
	b := newBearer(v, nil)
	b.optional = true
	return b.wrap
}

// RequireBearer is the package's [RequireBearer] with a as the verifier, and with the
// realm, the events and the client address of its [Config]. RequireBearer panics, at
// wiring, on a scope that Config.Scopes does not name, as http.ServeMux does on an invalid
// pattern.
//
// The handlers of the middleware describe themselves to package openapi: RequiredScopes()
// []string returns these scopes, Optional() bool is true for OptionalBearer, and Unwrap()
// http.Handler returns the next handler.
func (a *Auth) RequireBearer(scopes ...string) func(http.Handler) http.Handler {
	return RequireBearer(a, scopes...)
}

// OptionalBearer is the package's [OptionalBearer] with a as the verifier, like
// [Auth.RequireBearer].
func (a *Auth) OptionalBearer() func(http.Handler) http.Handler { return OptionalBearer(a) }

// CheckBearer decides as [Auth.RequireBearer] does, but writes no answer: it is for routers
// whose handlers are not http.Handlers. The result is the request for the handler, or nil
// and the error for [Auth.WriteError]: the caller must stop the chain of handlers then. A
// refusal is an event. A scope that Config.Scopes does not name is a server_error.
func (a *Auth) CheckBearer(r *http.Request, scopes ...string) (*http.Request, error) {
	event := Event{Kind: EventTokenRefused}
	ctx := a.proxies.withAddress(r)
	err := a.answers.told(ctx, &event, func() error {
		for _, s := range scopes {
			if !a.scopes.knows(s) {
				return wiringError("CheckBearer: Config.Scopes does not name %q", s)
			}
		}
		b := bearer{verifier: a, mark: a, answers: a.answers, proxies: a.proxies, scopes: addScopes(nil, scopes...)}
		var err error
		ctx, err = b.admit(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.WithContext(ctx), nil
}

// PasswordBearer is FastAPI's OAuth2PasswordBearer: it protects handlers by the app's own
// check of the token, or by a verifier of package tokens in a service that only consumes
// tokens, and describes itself to OpenAPI (package openapi). The zero value requires a token.
type PasswordBearer struct {
	TokenURL    string            // the URL of the token endpoint, may be relative; for OpenAPI
	RefreshURL  string            // for OpenAPI; empty: no URL
	Scopes      map[string]string // every scope with its description; for OpenAPI
	Description string            // for OpenAPI
	Optional    bool              // a request without a bearer token passes, as with OptionalBearer

	Realm     string                                  // as Config.Realm; empty: "api"
	OnEvent   func(ctx context.Context, e Event)      // as Config.OnEvent; nil: failures go to slog.Default
	ErrorBody func(ctx context.Context, e *Error) any // as Config.ErrorBody; nil: the standard body
}

// PasswordBearer describes the login of a for package openapi: the scopes of the [Config], and
// tokenURL. Prefer a relative URL, such as "token". The RefreshURL is tokenURL, too, if the
// endpoint has refresh tokens. With Config.DisablePasswordGrant there is no login to describe:
// the TokenURL is empty. Handlers are protected by [Auth.RequireBearer].
func (a *Auth) PasswordBearer(tokenURL string) PasswordBearer {
	b := PasswordBearer{Scopes: maps.Clone(a.scopes.all), Realm: a.answers.realm, OnEvent: a.answers.events.hook, ErrorBody: a.answers.body}
	if slices.Contains(a.supported.grants, grantPassword) {
		b.TokenURL = tokenURL
		if slices.Contains(a.supported.grants, grantRefresh) {
			b.RefreshURL = tokenURL
		}
	}
	return b
}

// Require returns middleware that lets a request pass only with a bearer token that check
// accepts. [TokenVerifier] lists the duties of check. Require panics, at wiring, on a nil
// check, on a string that is not a scope, and on a scope that a non-nil Scopes does not
// name.
func (b PasswordBearer) Require(check func(ctx context.Context, token string) (Principal, error), scopes ...string) func(http.Handler) http.Handler {
	if check == nil {
		panic("oauth2pw: PasswordBearer.Require: the check is nil")
	}
	m := newBearer(verifierFunc(check), scopes)
	for _, s := range scopes {
		if _, known := b.Scopes[s]; b.Scopes != nil && !known {
			panic(fmt.Sprintf("oauth2pw: PasswordBearer.Scopes does not name %q", s))
		}
	}
	m.optional, m.answers = b.Optional, newAnswerer(b.Realm, b.ErrorBody, b.OnEvent)
	return m.wrap
}

type verifierFunc func(ctx context.Context, token string) (Principal, error)

func (f verifierFunc) Verify(ctx context.Context, token string) (Principal, error) {
	return f(ctx, token)
}

// bearer is the middleware of RequireBearer and its variants.
type bearer struct {
	verifier TokenVerifier
	mark     any // identifies the verifier: equal marks, equal answers
	answers  answerer
	proxies  *proxies // nil: the client address is unknown
	scopes   []string
	optional bool
}

func newBearer(v TokenVerifier, scopes []string) *bearer {
	if isNil(v) {
		panic("oauth2pw: RequireBearer: the verifier is nil")
	}
	if err := checkPlug("RequireBearer", v); err != nil {
		panic(err.Error())
	}
	b := &bearer{
		verifier: v,
		mark:     new(byte),
		answers:  defaultAnswerer,
		scopes:   addScopes(nil, scopes...),
	}
	if reflect.ValueOf(v).Comparable() {
		b.mark = v
	}
	for _, s := range scopes {
		if !validScopeToken(s) {
			panic(fmt.Sprintf("oauth2pw: RequireBearer: %q is no scope", s))
		}
	}
	if a, ok := v.(*Auth); ok {
		for _, s := range scopes {
			if !a.scopes.knows(s) {
				panic(fmt.Sprintf("oauth2pw: RequireBearer: Config.Scopes does not name %q", s))
			}
		}
		b.answers, b.proxies = a.answers, a.proxies
	}
	return b
}

func (b *bearer) wrap(next http.Handler) http.Handler {
	if isNil(next) {
		panic("oauth2pw: RequireBearer: the handler is nil")
	}
	return &bearerHandler{b, next}
}

type bearerHandler struct {
	*bearer
	next http.Handler
}

// RequiredScopes returns the scopes of this middleware, without those of outer middleware.
func (h *bearerHandler) RequiredScopes() []string { return slices.Clone(h.scopes) }

// Optional reports whether a request without a token passes.
func (h *bearerHandler) Optional() bool { return h.optional }

// Unwrap returns the next handler.
func (h *bearerHandler) Unwrap() http.Handler { return h.next }

func (h *bearerHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, err := h.admit(r)
	if err != nil {
		h.answers.refuse(ctx, w, err, Event{Kind: EventTokenRefused})
		return
	}
	h.next.ServeHTTP(w, r.WithContext(ctx))
}

// admit decides about a request. The result is the context for the handler, or the refusal.
func (b *bearer) admit(r *http.Request) (ctx context.Context, refusal error) {
	s := newState(r.Context())
	s.request = r
	s.address, s.shared = b.proxies.clientAddress(r)
	if s.required == nil {
		s.required = b.scopes // shared, never written
	} else {
		s.required = addScopes(slices.Clip(s.required), b.scopes...)
	}

	token, err := bearerToken(r.Header["Authorization"])
	if err != nil {
		return s, err
	}
	if token == "" {
		if !b.optional {
			return s, errUnauthorized
		}
		s.principal, s.present, s.verifier, s.token = Principal{}, false, nil, ""
		return s, nil
	}
	if !s.present || s.verifier != b.mark || s.token != token {
		p, err := b.verify(s, token)
		if err != nil {
			return s, err
		}
		s.principal, s.present, s.verifier, s.token = p, true, b.mark, token
	}
	for _, scope := range b.scopes {
		if !s.principal.HasScope(scope) {
			lacks := fmt.Errorf("oauth2pw: the token of %q has the scope %q, and not %q", s.principal.Subject, s.principal.Scope, scope)
			return s, (&Error{Code: "insufficient_scope", scope: strings.Join(s.required, " ")}).because("", "", lacks)
		}
	}
	return s, nil
}

var (
	errUnauthorized = &Error{Code: "unauthorized"}
	errTwoHeaders   = &Error{Code: "invalid_request", Description: "The request has more than one Authorization header.", scheme: "Bearer"}
)

// bearerToken reads the Authorization header (RFC 6750, section 2.1). "" means no
// credentials: no header, another scheme, or a scheme without a token.
func bearerToken(values []string) (string, error) {
	if len(values) > 1 {
		return "", errTwoHeaders
	}
	if len(values) == 0 {
		return "", nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !equalFold(scheme, "Bearer") {
		return "", nil
	}
	token = strings.TrimLeft(token, " ")
	if token == "" {
		return "", nil
	}
	if len(token) > maxToken || !isB64Token(token) {
		return "", (&Error{Code: "invalid_token"}).because("", ReasonMalformed, nil)
	}
	return token, nil
}

// isB64Token reports whether s is a b64token: 1*( ALPHA / DIGIT / "-" / "." / "_"
// / "~" / "+" / "/" ) *"=" (RFC 6750, section 2.1).
func isB64Token(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := range len(s) {
		if !b64TokenChars[s[i]] {
			return false
		}
	}
	return s != ""
}

var b64TokenChars = func() (chars [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/") {
		chars[c] = true
	}
	return chars
}()

// verify calls the verifier. A panic of the verifier is a refusal.
func (b *bearer) verify(ctx context.Context, token string) (p Principal, refusal error) {
	defer recoverPlug(&refusal)
	p, err := b.verifier.Verify(ctx, token)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, ErrInvalidToken):
		return p, (&Error{Code: "invalid_token"}).because("", ReasonInvalid, err)
	default:
		return p, plugError("TokenVerifier.Verify", err)
	}
}

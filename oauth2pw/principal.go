package oauth2pw

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"
)

// TokenIssuer makes access tokens. Package tokens has one. It is called
// concurrently; any error means that it failed (503).
type TokenIssuer interface {
	// Issue makes an access token that says what p says, and returns the token
	// and the principal that a verifier will see. Issuer, Audience, IssuedAt and
	// TokenID are the issuer's to set. A non-zero p.ExpiresAt is the latest
	// expiry allowed. p.User is the user's record, for claims of the app's own.
	Issue(ctx context.Context, p Principal) (token string, issued Principal, err error)
}

// TokenVerifier checks access tokens. Package tokens has some, and so is an
// [*Auth]. It is called concurrently, with a token that is a b64token of RFC 6750
// and at most 16 KiB. An error that wraps [ErrInvalidToken] says that the token
// is not good; any other, that it could not be checked (503).
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (Principal, error)
}

// Principal is what a verified access token says (RFC 9068, section 2.2). It is a
// value, with no slice or map that handlers could share. A user is the pair of
// Issuer and Subject, never the subject alone.
type Principal struct {
	Issuer    string // iss
	Subject   string // sub: User.ID
	ClientID  string // client_id; "" where no client was named
	Audience  string // aud, the one that was accepted
	Scope     string // scope: scopes between single spaces
	SessionID string // sid: the login that the token descends from; "" without sessions
	TokenID   string // jti

	IssuedAt  time.Time // iat
	ExpiresAt time.Time // exp
	AuthTime  time.Time // auth_time: when the user proved who he is; zero if the token does not say

	// Payload is the token's claims as JSON, for Claims; "" if the verifier has
	// none.
	Payload string
	// User is the user's record, read at this request, with Config.LoadUser; nil
	// without, and for tokens of other issuers. Do not write to it.
	User *User
}

// HasScope reports whether the principal has a scope.
func (p Principal) HasScope(s string) bool { return hasScope(p.Scope, s) }

// Claims decodes the token's claims into v, like json.Unmarshal.
func (p Principal) Claims(v any) error {
	if p.Payload == "" {
		return json.Unmarshal([]byte("{}"), v)
	}
	return json.Unmarshal([]byte(p.Payload), v)
}

// requestState is a request's context together with what this package keeps in it:
// one allocation for both.
type requestState struct {
	context.Context
	address   netip.Addr
	doubt     error // why the address may be that of many; nil: it is one client's own
	principal Principal
	present   bool     // whether there is a principal
	verifier  any      // the mark of what verified it; nil for WithPrincipal's
	token     string   // what was verified
	required  []string // scopes required so far, outermost first
}

// String and GoString keep the token out of what fmt prints of a context.
func (s *requestState) String() string   { return fmt.Sprint(s.Context) + ".WithValue(oauth2pw)" }
func (s *requestState) GoString() string { return s.String() }

type stateKey struct{}

// Value returns the state itself for its own key.
func (s *requestState) Value(key any) any {
	if key == (stateKey{}) {
		return s
	}
	return s.Context.Value(key)
}

var noState requestState

// stateFrom returns the innermost state of a context. It is not written to.
func stateFrom(ctx context.Context) *requestState {
	if s, ok := ctx.Value(stateKey{}).(*requestState); ok {
		return s
	}
	return &noState
}

// newState returns a context with a state of its own, which begins as a copy of
// that of ctx.
func newState(ctx context.Context) *requestState {
	s := *stateFrom(ctx)
	s.Context = ctx
	return &s
}

// withAddress returns the context of a request with the address of its client in
// it.
func (c *config) withAddress(r *http.Request) context.Context {
	s := newState(r.Context())
	s.address, s.doubt = c.transport.clientAddress(r)
	return s
}

// PrincipalFrom returns the principal that the middleware around a handler has
// verified; false behind optional middleware if the request carries no token.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	s := stateFrom(ctx)
	return s.principal, s.present
}

// WithPrincipal puts a principal into a context, for tests of handlers. Middleware
// never takes it for verified, and replaces it.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	s := newState(ctx)
	s.principal, s.present, s.verifier, s.token = p, true, nil, ""
	return s
}

// RequiredScopes returns the scopes that the middleware around a handler
// requires, outermost first, without duplicates (FastAPI's SecurityScopes).
func RequiredScopes(ctx context.Context) []string {
	return slices.Clone(stateFrom(ctx).required)
}

// ClientAddress returns the address of the client of a request. It is set by the
// endpoints and the middleware of an [Auth], for plugs and handlers; the zero
// Addr elsewhere.
func ClientAddress(ctx context.Context) netip.Addr { return stateFrom(ctx).address }

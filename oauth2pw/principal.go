package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Principal is the content of a verified access token (RFC 9068, section 2.2). A Principal
// is a value without slices and maps, so that handlers share nothing. The pair of Issuer
// and Subject identifies a user, never only Subject.
type Principal struct {
	Issuer    string // iss
	Subject   string // sub: User.ID
	ClientID  string // client_id; "": no client was named
	Audience  string // aud: the accepted audience
	Scope     string // scope: scopes between single spaces
	SessionID string // sid: the session of the token; "": no session
	TokenID   string // jti

	IssuedAt  time.Time // iat; zero if the token does not say
	ExpiresAt time.Time // exp
	AuthTime  time.Time // auth_time: the user's last proof of identity; zero: not in the token

	// Payload is the token's claims as JSON, for Claims; "": the verifier returns no
	// claims.
	Payload string
	// User is the user's record, read at this request. Nil: Config.LoadUser is not set, or
	// the token is of another issuer. Do not write to User.
	User *User
}

// HasScope reports whether the principal has a scope.
func (p Principal) HasScope(s string) bool { return hasScope(p.Scope, s) }

// Claims decodes the token's claims into v, like json.Unmarshal. An empty Payload is an
// error; a test can set Payload with WithPrincipal.
func (p Principal) Claims(v any) error {
	if p.Payload == "" {
		return errors.New("oauth2pw: the principal has no claims: Principal.Payload is empty")
	}
	return json.Unmarshal([]byte(p.Payload), v)
}

// PrincipalFrom returns the principal that the middleware around a handler has verified.
// False: the middleware is optional and the request has no token; or the context is not that
// of a request behind the middleware.
func PrincipalFrom(ctx context.Context) (Principal, bool) {
	s := stateFrom(ctx)
	return s.principal, s.present
}

// WithPrincipal puts a principal into a context, for tests of handlers. Middleware never
// accepts this principal as verified, and replaces it.
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

// ClientAddress returns the client address of a request. The endpoints and the middleware
// of an [Auth] set the address, for plugs and handlers. Elsewhere the result is the zero
// Addr; see [Auth.ClientAddress].
func ClientAddress(ctx context.Context) netip.Addr { return stateFrom(ctx).address }

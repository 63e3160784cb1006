package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"time"
)

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

	IssuedAt  time.Time // iat; zero if the token does not say
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

// Claims decodes the token's claims into v, like json.Unmarshal. Without a Payload it is
// an error: a test sets it, with WithPrincipal.
func (p Principal) Claims(v any) error {
	if p.Payload == "" {
		return errors.New("oauth2pw: the principal has no claims: Principal.Payload is empty")
	}
	return json.Unmarshal([]byte(p.Payload), v)
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

// ClientAddress returns the address of the client of a request. The endpoints and the
// middleware of an [Auth] set it, for plugs and handlers. Elsewhere it is the zero Addr;
// see [Auth.ClientAddress].
func ClientAddress(ctx context.Context) netip.Addr { return stateFrom(ctx).address }

package oauth2pw

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// TokenIssuer makes access tokens. Package tokens has an implementation. Issue is called
// concurrently; any error is a failure (503).
type TokenIssuer interface {
	// Issue makes an access token with the content of p, and returns the token and the
	// principal that a verifier will return. The issuer sets Issuer, Audience, IssuedAt and
	// TokenID. A non-zero p.ExpiresAt is the latest allowed expiry. p.User is the user's
	// record, for claims of the app's own.
	Issue(ctx context.Context, p Principal) (token string, issued Principal, err error)
}

// NamedIssuer is the optional side of a [TokenIssuer] whose tokens all have one iss.
type NamedIssuer interface {
	TokenIssuer
	Issuer() string
}

// issuerOf returns the iss of a NamedIssuer, or "" for any other issuer.
func issuerOf(i TokenIssuer) string {
	if named, ok := i.(NamedIssuer); ok {
		return named.Issuer()
	}
	return ""
}

// TokenVerifier checks access tokens. Package tokens has implementations, and an [*Auth] is
// a TokenVerifier. Verify is called concurrently, with a b64token of RFC 6750 of at most 16
// KiB. An error that wraps [ErrInvalidToken] means: the token is invalid. Any other error
// is a failure of the check (503).
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (Principal, error)
}

// Tokens is the successful answer of a token endpoint (RFC 6749, section 5.1).
type Tokens struct {
	AccessToken  Secret
	ExpiresIn    time.Duration // the lifetime of the access token, in whole seconds; 0: omitted
	RefreshToken Secret        // "": no refresh token
	Scope        string        // the granted scopes, between single spaces
	SessionID    string        // "" without Config.Sessions

	expires time.Time // the expiry of the access token
}

// Write answers a request with the tokens, as the token endpoint does: in JSON and with
// headers against caching.
func (t *Tokens) Write(w http.ResponseWriter) {
	body, _ := json.Marshal(t.response()) // no error: strings and a number
	writeJSON(w, http.StatusOK, body)
}

// tokenResponse is the body of a successful answer.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in,omitempty"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

func (t *Tokens) response() tokenResponse {
	return tokenResponse{string(t.AccessToken), "bearer", int64(t.ExpiresIn / time.Second), string(t.RefreshToken), t.Scope}
}

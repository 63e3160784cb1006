package oauth2pw

import (
	"context"
	"encoding/json"
	"net/http"
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

// NamedIssuer is the optional side of a [TokenIssuer] whose tokens all have one iss.
type NamedIssuer interface {
	TokenIssuer
	Issuer() string
}

// issuerOf returns the iss of the tokens of a NamedIssuer, "" for another.
func issuerOf(i TokenIssuer) string {
	if named, ok := i.(NamedIssuer); ok {
		return named.Issuer()
	}
	return ""
}

// TokenVerifier checks access tokens. Package tokens has some, and so is an
// [*Auth]. It is called concurrently, with a token that is a b64token of RFC 6750
// and at most 16 KiB. An error that wraps [ErrInvalidToken] says that the token
// is not good; any other, that it could not be checked (503).
type TokenVerifier interface {
	Verify(ctx context.Context, token string) (Principal, error)
}

// Tokens is the successful answer of a token endpoint (RFC 6749, section 5.1).
type Tokens struct {
	AccessToken  Secret
	ExpiresIn    time.Duration // the life of the access token, in whole seconds; 0: not said
	RefreshToken Secret        // "": there is none
	Scope        string        // what was granted: scopes between single spaces
	SessionID    string        // "" without Config.Sessions

	expires time.Time // the access token
}

// Write answers a request with the tokens, as the token endpoint does: as JSON
// that no cache stores.
func (t *Tokens) Write(w http.ResponseWriter) {
	body, _ := json.Marshal(t.response()) // strings and a number
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

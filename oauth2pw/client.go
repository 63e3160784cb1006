package oauth2pw

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// Client is a program that asks for tokens (RFC 6749, section 2). Most apps name
// none and need no clients at all.
type Client struct {
	ID string // printable ASCII (RFC 6749, appendix A.1); not empty
	// SecretSHA256 is the SHA-256 of the client's secret, which must be random,
	// at least 128 bits of it. Nil: a public client, which has no secret. Any other
	// length than 32 bytes is an error (503).
	SecretSHA256 []byte
	Grants       []string // the grant types it may use; nil: none
	Scopes       []string // the scopes it may have; nil: every scope
	Introspect   bool     // may introspect tokens
}

// ClientStore finds clients. It is called concurrently. A miss is an error that
// wraps [ErrNotFound]; any other error means that the store failed. A returned
// Client belongs to the caller, who does not write to it.
type ClientStore interface {
	ClientByID(ctx context.Context, id string) (*Client, error)
}

// credentials are the id and the secret of a client in one reading.
type credentials struct{ id, secret string }

// mayUse reports whether a client, nil for none, may use a grant type.
func (c *Client) mayUse(grantType string) bool {
	return c == nil || slices.Contains(c.Grants, grantType)
}

// id is the id of a client, "" for none.
func (c *Client) id() string {
	if c == nil {
		return ""
	}
	return c.ID
}

// mayHave reports whether a client, nil for none, may have a scope.
func (c *Client) mayHave(scope string) bool {
	return c == nil || c.Scopes == nil || slices.Contains(c.Scopes, scope)
}

// proves reports whether a reading that names the client carries its secret.
func (c *Client) proves(named []credentials) bool {
	ok := 0
	for _, cred := range named {
		if cred.id != c.ID {
			continue
		}
		if c.SecretSHA256 == nil {
			// A public client has no secret: one that sends any is somebody else.
			if cred.secret == "" {
				ok = 1
			}
			continue
		}
		sum := sha256.Sum256([]byte(cred.secret))
		ok |= subtle.ConstantTimeCompare(sum[:], c.SecretSHA256)
	}
	return ok == 1
}

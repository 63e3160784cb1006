package oauth2pw

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
)

// Client is a program that requests tokens (RFC 6749, section 2). Most apps name no client
// and need none.
type Client struct {
	ID string // printable ASCII (RFC 6749, appendix A.1); not empty
	// SecretSHA256 is the SHA-256 of the client's secret, which must have at least 128
	// random bits. Nil: a public client, which has no secret. Any other length than 32
	// bytes is an error (503).
	SecretSHA256 []byte
	Grants       []string // the grant types that the client may use; nil: none
	Scopes       []string // the scopes that the client may have; nil: every scope
	Introspect   bool     // may introspect tokens
}

// ClientStore finds clients.
//
// These are the duties of a store, and package store/storetest tests them:
//
//   - The method is called concurrently.
//   - A miss is an error that wraps [ErrNotFound], and no client. Any other error is a store
//     failure (503).
//   - A call with an ended context returns an error other than a miss.
//   - IDs are compared byte for byte.
//   - A Client has all fields as they are stored. A nil SecretSHA256 and nil Scopes stay nil,
//     and empty Scopes stay empty.
//   - A returned Client does not change later. The caller does not write to it either.
type ClientStore interface {
	ClientByID(ctx context.Context, id string) (*Client, error)
}

// credentials are the id and the secret of a client, in one decoding.
type credentials struct{ id, secret string }

// mayUse reports whether a client may use a grant type. Nil, no client, may use any.
func (c *Client) mayUse(grantType string) bool {
	return c == nil || slices.Contains(c.Grants, grantType)
}

// id returns the id of a client, or "" for nil.
func (c *Client) id() string {
	if c == nil {
		return ""
	}
	return c.ID
}

// mayHave reports whether a client may have a scope. Nil, no client, may have any.
func (c *Client) mayHave(scope string) bool {
	return c == nil || c.Scopes == nil || slices.Contains(c.Scopes, scope)
}

// proves reports whether a decoding with the client's id has the client's secret.
func (c *Client) proves(named []credentials) bool {
	ok := 0
	for _, cred := range named {
		if cred.id != c.ID {
			continue
		}
		if c.SecretSHA256 == nil {
			// A public client has no secret: a request with a secret is from another
			// program.
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

package oauth2pw

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
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

// ClientStore finds clients. These are its duties, and package store/storetest tests them:
//
//   - The method is called concurrently.
//   - A miss is an error that wraps [ErrNotFound], and no client. Any other error is a
//     failure of the store (503).
//   - A call with a context that has ended returns an error, and not that of a miss.
//   - IDs are compared byte for byte.
//   - A Client has all fields as they are stored. A nil SecretSHA256 and nil Scopes stay nil,
//     and empty Scopes stay empty.
//   - A returned Client does not change any more. The caller does not change it either.
type ClientStore interface {
	ClientByID(ctx context.Context, id string) (*Client, error)
}

// errInvalidClient is for a client that stood in the header; errInvalidBodyClient for one
// in the body, or for none: a Basic challenge would make a browser ask for a password of its
// own, over the app's page (RFC 6749, section 5.2, wants it for the header alone).
var (
	errInvalidClient     = &Error{Code: "invalid_client"}
	errInvalidBodyClient = &Error{Code: "invalid_client", status: http.StatusBadRequest, scheme: noChallenge}
)

// credentials are the id and the secret of a client in one reading.
type credentials struct{ id, secret string }

// authenticateClient returns the client that a request names and proves to be. Nil: none
// was named, and none is needed. (RFC 6749, section 2.3.1)
func (c *config) authenticateClient(ctx context.Context, r *http.Request, f form) (*Client, error) {
	named, inHeader, err := requestCredentials(r, f)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return c.unnamedClient(ctx)
	}
	refused := errInvalidBodyClient
	if inHeader {
		refused = errInvalidClient
	}
	var client *Client
	for i, cred := range named {
		if client != nil || i > 0 && cred.id == named[0].id {
			break
		}
		if client, err = c.findClient(ctx, cred.id); err != nil {
			return nil, err
		}
	}
	proven := client != nil && client.proves(named)
	// A request with a secret may be a guess. The comparison costs next to nothing, so
	// that it comes first: a right secret never counts, and is refused only while this
	// client is blocked at this address.
	if secret := named[len(named)-1].secret; secret != "" {
		a := Attempt{Kind: AttemptClient, Name: named[0].id}
		if client != nil {
			a.ClientID, a.Name, a.Right = client.ID, "", proven
		}
		if _, err := c.begin(ctx, c.attempt(ctx, a, secret)); err != nil {
			return nil, err
		}
	}
	switch {
	case proven:
		return client, nil
	case client != nil:
		return nil, refused.because(EventClientFailed, "wrong_secret", nil)
	}
	return nil, refused.because(EventClientFailed, "unknown_client", nil)
}

// unnamedClient is the client of a request that names none: Config.DefaultClientID, or
// nil where no client is needed.
func (c *config) unnamedClient(ctx context.Context) (*Client, error) {
	switch {
	case c.DefaultClientID != "":
		client, err := c.findClient(ctx, c.DefaultClientID)
		if err == nil && client == nil {
			err = plugError("Config.DefaultClientID", errors.New("there is no such client"))
		}
		if err == nil && client.SecretSHA256 != nil {
			err = plugError("Config.DefaultClientID", errors.New("the client has a secret; it must be a public one"))
		}
		return client, err
	case c.Clients != nil && !c.AllowNoClient:
		return nil, errInvalidBodyClient.because(EventClientFailed, "no_client",
			errors.New("oauth2pw: the request names no client, and neither Config.AllowNoClient nor Config.DefaultClientID is set"))
	}
	return nil, nil
}

// owner returns the client that a session or a token of the client id belongs to: those of
// no client are the default client's.
func (c *config) owner(id string) string { return withDefault(id, c.DefaultClientID) }

// findClient returns a client, nil if there is none.
func (c *config) findClient(ctx context.Context, id string) (*Client, error) {
	// RFC 6749, appendix A.1: other characters name no client, and a database may
	// refuse to be asked for them.
	if id == "" || !onlyVSChar(id) {
		return nil, nil
	}
	if c.Clients == nil {
		if id == c.DefaultClientID { // all there is
			return &Client{ID: id, Grants: c.grantTypes()}, nil
		}
		return nil, nil
	}
	client, err := c.Clients.ClientByID(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, plugError("ClientStore.ClientByID", err)
	case client == nil || client.ID != id:
		return nil, plugError("ClientStore.ClientByID", errors.New("the store returned another client than it was asked for"))
	case client.SecretSHA256 != nil && len(client.SecretSHA256) != sha256.Size:
		return nil, plugError("ClientStore.ClientByID", errors.New("the SecretSHA256 of the client has not 32 bytes; nil is for a public client"))
	}
	return client, nil
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

// requestCredentials collects the readings of the one client that a request
// names: none, one from the body, or two from a Basic header, whose id and secret
// should be form-encoded (RFC 6749, section 2.3.1) and often are not.
func requestCredentials(r *http.Request, f form) (named []credentials, inHeader bool, err error) {
	bodyID, bodySecret := f.get("client_id"), f.get("client_secret")
	header, err := basicCredentials(r.Header["Authorization"])
	if err != nil {
		return nil, true, err
	}
	if header == nil {
		if bodyID == "" && bodySecret == "" {
			return nil, false, nil
		}
		return []credentials{{bodyID, bodySecret}}, false, nil
	}
	// RFC 6749, section 2.3: one method per request.
	if bodySecret != "" {
		return nil, true, badRequest("The client authenticates both in the header and in the body.")
	}
	if bodyID != "" && !slices.ContainsFunc(header, func(c credentials) bool { return c.id == bodyID }) {
		return nil, true, badRequest("The client_id in the body is not that of the Authorization header.")
	}
	return header, true, nil
}

// basicCredentials reads an Authorization header as client credentials. Nil: it
// names no client, as it does with an empty id and an empty secret, which
// golang.org/x/oauth2 and Swagger UI send for "none"; and so does a Bearer token, which
// authenticates no client: interceptors of browser apps put the old one on every request.
func basicCredentials(values []string) ([]credentials, error) {
	if len(values) > 1 {
		return nil, badRequest("The request has more than one Authorization header.")
	}
	if len(values) == 0 || values[0] == "" {
		return nil, nil
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	if equalFold(scheme, "Bearer") {
		return nil, nil
	}
	if !equalFold(scheme, "Basic") {
		return nil, errInvalidClient.because(EventClientFailed, "unknown_scheme", nil)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(rest, " "))
	if err != nil {
		return nil, errInvalidClient.because(EventClientFailed, "malformed_basic", nil)
	}
	id, secret, found := strings.Cut(string(raw), ":")
	if !found {
		return nil, errInvalidClient.because(EventClientFailed, "malformed_basic", nil)
	}
	if id == "" && secret == "" {
		return nil, nil
	}
	asIs := credentials{id, secret}
	decodedID, err1 := url.QueryUnescape(id)
	decodedSecret, err2 := url.QueryUnescape(secret)
	decoded := credentials{decodedID, decodedSecret}
	if err1 != nil || err2 != nil || decoded == asIs {
		return []credentials{asIs}, nil
	}
	return []credentials{decoded, asIs}, nil
}

// namesScheme reports whether an Authorization header is of a scheme.
func namesScheme(values []string, want string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		scheme, _, _ := strings.Cut(v, " ")
		return equalFold(scheme, want)
	})
}

// onlyVSChar reports whether s is *VSCHAR (RFC 6749, appendix A).
func onlyVSChar(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

package oauth2pw

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// errInvalidClient is for a client in the header. errInvalidBodyClient is for a client in
// the body and for a missing client, and has no challenge: a Basic challenge would make a
// browser show its own password dialog over the app's page. RFC 6749, section 5.2, requires
// the challenge only for the header.
var (
	errInvalidClient     = &Error{Code: "invalid_client"}
	errInvalidBodyClient = &Error{Code: "invalid_client", Status: http.StatusBadRequest, scheme: noChallenge}
)

// clients finds and authenticates the clients of requests and sessions.
type clients struct {
	plugs     *plugs
	guard     *guard
	defaultID string   // Config.DefaultClientID
	allowNone bool     // a request needs no client
	grants    []string // all grant types
}

func newClients(c *Config, plugs *plugs, guard *guard) (*clients, error) {
	if c.DefaultClientID != "" && (c.AllowNoClient || !onlyVSChar(c.DefaultClientID)) {
		return nil, errors.New("oauth2pw: Config.DefaultClientID must be printable ASCII, and excludes Config.AllowNoClient")
	}
	return &clients{
		plugs: plugs, guard: guard, defaultID: c.DefaultClientID,
		allowNone: c.AllowNoClient || c.Clients == nil, grants: grantTypes(c),
	}, nil
}

// authenticate returns the client of a request, authenticated. Nil: the request names no
// client, and needs no client. (RFC 6749, section 2.3.1)
func (c *clients) authenticate(ctx context.Context, r *http.Request, f form) (*Client, error) {
	named, inHeader, err := requestCredentials(r, f)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		return c.unnamed(ctx)
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
		if client, err = c.find(ctx, cred.id); err != nil {
			return nil, err
		}
	}
	proven := client != nil && client.proves(named)
	// A request with a secret may be a guess. The comparison is cheap and therefore comes
	// first: a correct secret is never counted, and is refused only while this client is
	// blocked at this address.
	if secret := named[len(named)-1].secret; secret != "" {
		a := Attempt{Kind: AttemptClient, Name: named[0].id}
		if client != nil {
			a.ClientID, a.Name, a.Right = client.ID, "", proven
		}
		if _, err := c.guard.begin(ctx, c.guard.attempt(ctx, a, secret)); err != nil {
			return nil, err
		}
	}
	switch {
	case proven:
		return client, nil
	case client != nil:
		return nil, refused.because(EventClientFailed, ReasonWrongSecret, nil)
	}
	return nil, refused.because(EventClientFailed, ReasonUnknownClient, nil)
}

// unnamed returns the client of a request that names no client: Config.DefaultClientID, or
// nil if no client is needed.
func (c *clients) unnamed(ctx context.Context) (*Client, error) {
	switch {
	case c.defaultID != "":
		client, err := c.find(ctx, c.defaultID)
		if err == nil && client == nil {
			err = plugError("Config.DefaultClientID", errors.New("there is no such client"))
		}
		if err == nil && client.SecretSHA256 != nil {
			err = plugError("Config.DefaultClientID", errors.New("the client has a secret; it must be a public one"))
		}
		return client, err
	case !c.allowNone:
		return nil, errInvalidBodyClient.because(EventClientFailed, ReasonNoClient,
			errors.New("oauth2pw: the request names no client, and neither Config.AllowNoClient nor Config.DefaultClientID is set"))
	}
	return nil, nil
}

// owner returns the client of a session or of a token. Without a client, the owner is the
// default client.
func (c *clients) owner(id string) string { return withDefault(id, c.defaultID) }

// find returns a client, or nil.
func (c *clients) find(ctx context.Context, id string) (*Client, error) {
	// RFC 6749, appendix A.1: no client has other characters in its id, and a database may
	// fail on them.
	if id == "" || !onlyVSChar(id) {
		return nil, nil
	}
	if c.plugs.clients == nil {
		if id == c.defaultID { // the only client
			return &Client{ID: id, Grants: c.grants}, nil
		}
		return nil, nil
	}
	return c.plugs.clientByID(ctx, id)
}

// requestCredentials returns the decodings of the client in a request: none, one from the
// body, or up to two from a Basic header. The id and the secret in a Basic header should be
// form-encoded (RFC 6749, section 2.3.1), and often are not.
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

// basicCredentials reads an Authorization header as client credentials. Nil: the header
// names no client. An empty id with an empty secret names no client: golang.org/x/oauth2
// and Swagger UI send both for "none". A Bearer token names no client: interceptors of
// browser apps add the old token to every request.
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
		return nil, errInvalidClient.because(EventClientFailed, ReasonUnknownScheme, nil)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(rest, " "))
	if err != nil {
		return nil, errInvalidClient.because(EventClientFailed, ReasonMalformedBasic, nil)
	}
	id, secret, found := strings.Cut(string(raw), ":")
	if !found {
		return nil, errInvalidClient.because(EventClientFailed, ReasonMalformedBasic, nil)
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

// namesScheme reports whether an Authorization header has a scheme.
func namesScheme(values []string, want string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		scheme, _, _ := strings.Cut(v, " ")
		return equalFold(scheme, want)
	})
}

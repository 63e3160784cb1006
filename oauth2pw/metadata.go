package oauth2pw

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
)

// Metadata has the URLs of an authorization server's metadata document (RFC 8414). All URLs
// are absolute: https, or http with a loopback host.
type Metadata struct {
	Issuer                string // the iss of the tokens; empty: that of Config.Issuer. No query and no fragment
	TokenEndpoint         string // required
	RevocationEndpoint    string // the URL of RevokeHandler; empty: not mounted
	IntrospectionEndpoint string // the URL of IntrospectHandler; empty: not mounted
	JWKSURI               string // the URL of the public keys; empty: no public keys, as with HMAC
}

// metadata is the document (RFC 8414, section 2). The list of response types is required,
// and empty, because a server with only token grants has no response types.
type metadata struct {
	Issuer                   string   `json:"issuer"`
	TokenEndpoint            string   `json:"token_endpoint"`
	JWKSURI                  string   `json:"jwks_uri,omitempty"`
	ScopesSupported          []string `json:"scopes_supported,omitempty"`
	ResponseTypesSupported   []string `json:"response_types_supported"`
	GrantTypesSupported      []string `json:"grant_types_supported"`
	TokenAuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	RevocationEndpoint       string   `json:"revocation_endpoint,omitempty"`
	RevocationAuthMethods    []string `json:"revocation_endpoint_auth_methods_supported,omitempty"`
	IntrospectionEndpoint    string   `json:"introspection_endpoint,omitempty"`
	IntrospectionAuthMethods []string `json:"introspection_endpoint_auth_methods_supported,omitempty"`
}

// supported has the features of a server for its metadata.
type supported struct {
	issuer  string // of the tokens; "": unknown
	scopes  []string
	grants  []string
	clients bool // Config.Clients is set
}

// MetadataHandler returns a handler of GET for the metadata document of this server: the
// enabled features of the Config, at the URLs of m. Mount the handler at
// /.well-known/oauth-authorization-server, followed by the path of the issuer, if any (RFC
// 8414, section 3). MetadataHandler panics, at wiring, on an invalid URL, and on an issuer
// other than that of Config.Issuer.
func (a *Auth) MetadataHandler(m Metadata) http.Handler {
	doc, err := a.supported.document(m)
	if err != nil {
		panic("oauth2pw: MetadataHandler: " + err.Error())
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic("oauth2pw: MetadataHandler: " + err.Error())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			a.answers.refuse(a.proxies.withAddress(r), w, &Error{
				Code: "invalid_request", Description: "The method must be GET.",
				Status: http.StatusMethodNotAllowed, allow: "GET, HEAD",
			}, Event{Kind: EventRequestRefused})
			return
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // an error means: the client has disconnected
	})
}

func (s supported) document(m Metadata) (*metadata, error) {
	m.Issuer = withDefault(m.Issuer, s.issuer)
	if s.issuer != "" && m.Issuer != s.issuer {
		return nil, fmt.Errorf("the Issuer %q is not that of the tokens, %q", m.Issuer, s.issuer)
	}
	for _, field := range []struct {
		name, url          string
		required, isIssuer bool
	}{
		{"Issuer", m.Issuer, true, true},
		{"TokenEndpoint", m.TokenEndpoint, true, false},
		{"RevocationEndpoint", m.RevocationEndpoint, false, false},
		{"IntrospectionEndpoint", m.IntrospectionEndpoint, false, false},
		{"JWKSURI", m.JWKSURI, false, false},
	} {
		if field.url == "" && !field.required {
			continue
		}
		if err := checkURL(field.url, field.isIssuer); err != nil {
			return nil, fmt.Errorf("the %s: %w", field.name, err)
		}
	}
	confidential := []string{"client_secret_basic", "client_secret_post"}
	methods := []string{"none"}
	if s.clients {
		methods = append(confidential, methods...)
	}
	doc := &metadata{
		Issuer: m.Issuer, TokenEndpoint: m.TokenEndpoint, JWKSURI: m.JWKSURI,
		RevocationEndpoint: m.RevocationEndpoint, IntrospectionEndpoint: m.IntrospectionEndpoint,
		ScopesSupported:        s.scopes,
		ResponseTypesSupported: []string{},
		GrantTypesSupported:    s.grants,
		TokenAuthMethods:       methods,
	}
	if m.RevocationEndpoint != "" {
		doc.RevocationAuthMethods = methods
	}
	if m.IntrospectionEndpoint != "" {
		doc.IntrospectionAuthMethods = confidential
	}
	return doc, nil
}

// checkURL refuses a URL that a metadata document must not have (RFC 8414, section 2): an
// issuer is https without query and fragment.
func checkURL(s string, isIssuer bool) error {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return errors.New("it is empty")
	case err != nil || u.Host == "" || u.User != nil || u.Opaque != "":
		return fmt.Errorf("%q is no absolute URL", s)
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return fmt.Errorf("%q must be https, or http on a loopback host", s)
	case u.Fragment != "" || u.RawFragment != "":
		return fmt.Errorf("%q has a fragment", s)
	case isIssuer && (u.RawQuery != "" || u.ForceQuery):
		return fmt.Errorf("%q has a query", s)
	}
	return nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

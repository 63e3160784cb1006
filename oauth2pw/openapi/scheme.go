package openapi

import (
	"maps"
	"net/http"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// SchemeName is the name of the security scheme in a document, as in FastAPI.
const SchemeName = "OAuth2PasswordBearer"

// SecurityScheme is the Security Scheme Object of a bearer token, the same in OpenAPI 3.0 and
// 3.1.
type SecurityScheme struct {
	Type        string `json:"type"` // "oauth2", or "http" without a token endpoint
	Description string `json:"description,omitempty"`
	Flows       *Flows `json:"flows,omitempty"`  // of type oauth2
	Scheme      string `json:"scheme,omitempty"` // of type http: "bearer"
}

// Flows is the OAuth Flows Object of the password grant.
type Flows struct {
	Password *Flow `json:"password"`
}

// Flow is the OAuth Flow Object of the password grant.
type Flow struct {
	TokenURL   string            `json:"tokenUrl"`
	RefreshURL string            `json:"refreshUrl,omitempty"`
	Scopes     map[string]string `json:"scopes"` // every scope with its description, never nil
}

// SchemeOf returns the security scheme of a [oauth2pw.PasswordBearer]; that of an Auth is
// SchemeOf(auth.PasswordBearer("token")). Without a TokenURL the scheme has the type http: the
// reader gets a token elsewhere.
//
// A relative TokenURL is the better choice: a document stays valid under any prefix and host.
func SchemeOf(b oauth2pw.PasswordBearer) SecurityScheme {
	if b.TokenURL == "" {
		return SecurityScheme{Type: "http", Description: b.Description, Scheme: "bearer"}
	}
	scopes := maps.Clone(b.Scopes)
	if scopes == nil {
		scopes = make(map[string]string)
	}
	return SecurityScheme{
		Type: "oauth2", Description: b.Description,
		Flows: &Flows{Password: &Flow{TokenURL: b.TokenURL, RefreshURL: b.RefreshURL, Scopes: scopes}},
	}
}

// Requirement is a Security Requirement Object: the scopes of each named scheme, all of which
// an operation needs. The empty Requirement needs nothing.
type Requirement = map[string][]string

// Requirements returns the security of an operation that needs a token with these scopes. The
// result only describes: RequireBearer enforces.
func Requirements(scopes ...string) []Requirement {
	if scopes == nil {
		scopes = []string{} // null would be no list
	}
	return []Requirement{{SchemeName: scopes}}
}

// RequirementsOf returns the security of a handler, read from the middleware around it:
// nested middleware adds up, outermost first. OptionalBearer makes two requirements, the
// first of which is empty. Nil: no middleware of package oauth2pw is visible.
//
// Other middleware around or between them must have a method Unwrap() http.Handler that
// returns the next handler; without the method it hides the middleware inside.
func RequirementsOf(h http.Handler) []Requirement {
	var p protection
	p.add(h)
	return p.requirements()
}

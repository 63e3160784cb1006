package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Document is an app's OpenAPI document with the login in it, made by [Parse]. A Document is
// an http.Handler that serves its JSON. Its other methods must not run while it serves.
type Document struct {
	root   object
	paths  object
	scheme SecurityScheme
	old    bool // OpenAPI 3.0
	body   []byte
}

// Parse reads an app's document, and adds the security scheme of b to its components, under
// [SchemeName]: a scheme of that name is replaced, all others stay. doc is JSON of OpenAPI 3.0
// or 3.1; Parse keeps a copy.
func Parse(doc []byte, b oauth2pw.PasswordBearer) (*Document, error) {
	d := &Document{scheme: SchemeOf(b)}
	if err := json.Unmarshal(doc, &d.root); err != nil {
		return nil, fmt.Errorf("openapi: the document is no JSON object: %w", err)
	}
	var version string
	if err := d.root.read("openapi", &version); err != nil {
		return nil, err
	}
	d.old = strings.HasPrefix(version, "3.0.")
	if !d.old && !strings.HasPrefix(version, "3.1.") {
		return nil, fmt.Errorf("openapi: the document has the version %q of OpenAPI: want 3.0 or 3.1", version)
	}
	if err := d.root.read("paths", &d.paths); err != nil {
		return nil, err
	}
	return d, d.encode()
}

// Routes sets the security of every operation of the document from the handlers that serve
// the operations: each of routes is a ServeMux, or middleware of package oauth2pw around a
// ServeMux. A path of the document is a path of the ServeMux, without the URL of a server.
// Other middleware around a ServeMux, or around a handler of a ServeMux, hides the middleware
// inside, unless it has a method Unwrap() http.Handler.
//
// An operation without middleware of package oauth2pw stays as it is. A security that the
// document already requires of an operation is required in addition. The error names the
// operations that none of routes serves; the others have their security then.
func (d *Document) Routes(routes ...http.Handler) error {
	var missing []string
	err := d.paths.each(func(path string, item *object) error {
		return item.each(func(name string, operation *object) error {
			if !slices.Contains(methods, name) {
				return nil // of a path item: parameters, summary
			}
			method := strings.ToUpper(name)
			for _, h := range routes {
				var p protection
				if p.route(h, requestOf(method, path)) {
					return d.protect(operation, p.requirements())
				}
			}
			missing = append(missing, method+" "+path)
			return nil
		})
	})
	if err == nil && missing != nil {
		err = fmt.Errorf("openapi: no ServeMux of the routes serves %s", strings.Join(missing, ", "))
	}
	return errors.Join(err, d.encode())
}

// Operation sets the security of one operation from its handler, for routers whose middleware
// wraps http.Handlers. See [RequirementsOf]. The error says that the document has no such
// operation.
func (d *Document) Operation(method, path string, h http.Handler) error {
	return d.set(method, path, RequirementsOf(h))
}

// Require sets the security of one operation to a token with these scopes, for handlers
// behind [oauth2pw.Auth.CheckBearer]. The error says that the document has no such operation.
func (d *Document) Require(method, path string, scopes ...string) error {
	return d.set(method, path, Require(scopes...))
}

func (d *Document) set(method, path string, security []Requirement) error {
	found := false
	err := d.paths.each(func(p string, item *object) error {
		if p != path {
			return nil
		}
		return item.each(func(m string, operation *object) error {
			if m != strings.ToLower(method) {
				return nil
			}
			found = true
			return d.protect(operation, security)
		})
	})
	if err == nil && !found {
		err = fmt.Errorf("openapi: the document has no operation %s %s", method, path)
	}
	return errors.Join(err, d.encode())
}

var methods = []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"}

// protect adds requirements to the security of an operation: each alternative of the document
// with each alternative of the middleware.
func (d *Document) protect(operation *object, security []Requirement) error {
	if security == nil {
		return nil
	}
	present := []Requirement{}
	from := operation
	if !operation.has("security") {
		from = &d.root // has the security of operations without their own
	}
	if err := from.read("security", &present); err != nil {
		return err
	}
	if len(present) == 0 {
		present = []Requirement{{}}
	}
	var sum []Requirement
	for _, p := range present {
		delete(p, SchemeName)
		for _, s := range security {
			both := maps.Clone(p)
			for name, scopes := range s {
				both[name] = d.declare(scopes)
			}
			if !slices.ContainsFunc(sum, func(r Requirement) bool { return maps.EqualFunc(r, both, slices.Equal) }) {
				sum = append(sum, both)
			}
		}
	}
	return operation.set("security", sum)
}

// declare adds scopes to those of the scheme, and returns them as a requirement lists them.
func (d *Document) declare(scopes []string) []string {
	if d.scheme.Flows == nil {
		if d.old {
			return []string{} // OpenAPI 3.0 forbids scopes there
		}
		return scopes
	}
	all := d.scheme.Flows.Password.Scopes
	for _, s := range scopes {
		if _, known := all[s]; !known {
			all[s] = ""
		}
	}
	return scopes
}

// encode writes the scheme and the paths into the document.
func (d *Document) encode() error {
	var components, schemes object
	if err := d.root.read("components", &components); err != nil {
		return err
	}
	if err := components.read("securitySchemes", &schemes); err != nil {
		return err
	}
	err := errors.Join(schemes.set(SchemeName, d.scheme), components.set("securitySchemes", schemes), d.root.set("components", components))
	if d.paths != nil {
		err = errors.Join(err, d.root.set("paths", d.paths))
	}
	if err != nil {
		return err
	}
	d.body, err = marshal(d.root)
	return err
}

// MarshalJSON returns the document as JSON.
func (d *Document) MarshalJSON() ([]byte, error) { return slices.Clone(d.body), nil }

// ServeHTTP answers with the document as JSON.
func (d *Document) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(d.body) // an error means that the client has disconnected
}

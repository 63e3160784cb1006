package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Document is an app's OpenAPI document with the login in it, made by [Parse]. The methods of a
// Document are not safe for concurrent use; the handler of [Document.Handler] is.
type Document struct {
	root    object
	paths   object
	scheme  SecurityScheme
	scopes  bool            // the scheme has a list of scopes
	bearers map[string]bool // the schemes of the document whose credentials are in the header Authorization as a bearer token
	old     bool            // OpenAPI 3.0
	decided map[operation]bool
}

// operation is a method, in capitals, and a path of the document.
type operation struct{ method, path string }

func (o operation) String() string { return o.method + " " + o.path }

// Parse reads an app's document, and adds the security scheme of b to its components, under
// [SchemeName]: a scheme of that name is replaced, all others stay. doc is JSON of OpenAPI 3.0
// or 3.1; Parse keeps a copy. A path item that is a $ref is an error, because its operations
// are elsewhere.
func Parse(doc []byte, b oauth2pw.PasswordBearer) (*Document, error) {
	d := &Document{scheme: SchemeOf(b), scopes: b.Scopes != nil, bearers: make(map[string]bool), decided: make(map[operation]bool)}
	if err := json.Unmarshal(doc, &d.root); err != nil {
		return nil, fmt.Errorf("openapi: the document is no JSON object (convert YAML to JSON): %w", err)
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
	if err := d.readSchemes(); err != nil {
		return nil, err
	}
	return d, d.each(func(operation, *object) error { return nil })
}

// readSchemes finds the schemes of the document that use the same header.
func (d *Document) readSchemes() error {
	var components, schemes object
	if err := errors.Join(d.root.read("components", &components), components.read("securitySchemes", &schemes)); err != nil {
		return err
	}
	return schemes.each(func(name string, scheme *object) error {
		var kind, of string
		err := errors.Join(scheme.read("type", &kind), scheme.read("scheme", &of))
		d.bearers[name] = kind == "oauth2" || kind == "openIdConnect" || kind == "http" && strings.EqualFold(of, "bearer")
		return err
	})
}

// each calls edit for every operation, and writes the result back.
func (d *Document) each(edit func(o operation, description *object) error) error {
	return d.paths.each(func(path string, item *object) error {
		switch {
		case strings.HasPrefix(path, "x-"):
			return nil
		case !strings.HasPrefix(path, "/"):
			return fmt.Errorf("openapi: the path %q of the document does not begin with a slash", path)
		case item.has("$ref"):
			return fmt.Errorf("openapi: the path item of %s is a $ref: write its operations here", path)
		}
		return item.each(func(name string, description *object) error {
			method := strings.ToUpper(name)
			switch {
			case !slices.Contains(methods, method):
				return nil // a member of the path item
			case name == method:
				return fmt.Errorf("openapi: the document has the method %s in capitals, at %s", method, path)
			}
			return edit(operation{method, path}, description)
		})
	})
}

var methods = []string{"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"}

// Routes sets the security of every operation from the handler that serves it: each of routes
// is a ServeMux, or middleware of package oauth2pw around a ServeMux. Call Routes when the
// ServeMux has all patterns. A path of the document is a path of the ServeMux, without the URL
// of a server; a pattern for one host serves no operation, and the pattern "/" serves only the
// path "/".
//
// The security that an operation has in the document already, or the document for all of its
// operations, is required in addition. Schemes that are bearer tokens too are replaced, because
// a request has one token.
//
// Routes sees the middleware of package oauth2pw around a handler or a ServeMux. All other
// middleware hides the handlers inside, unless it has a method Unwrap() http.Handler: put
// RequireBearer outside of it. An operation without visible middleware must have a security of
// its own in the document: an empty list, if it needs no token. The error names each operation
// that has none, or whose own security is a token, and each operation that no ServeMux serves.
func (d *Document) Routes(routes ...http.Handler) error {
	for _, h := range routes {
		if v := reflect.ValueOf(h); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
			return errors.New("openapi: Routes: a handler is nil")
		}
	}
	var problems []error
	err := d.each(func(o operation, description *object) error {
		for _, h := range routes {
			var p protection
			if last, served := p.route(h, o); served {
				problems = append(problems, d.protect(o, description, p.requirements(), last))
				return nil
			}
		}
		problems = append(problems, fmt.Errorf("openapi: no ServeMux of the routes serves %s", o))
		return nil
	})
	return errors.Join(append(problems, err)...)
}

// Operation sets the security of one operation from its handler and the middleware around it,
// for a router whose middleware wraps http.Handlers: chi.Walk(r, doc.Operation). Middleware of
// other packages is ignored, and so is an operation that the document does not have. The path
// may be that of a chi route, with regular expressions in it and a slash at the end. The errors
// are those of Routes.
func (d *Document) Operation(method, path string, h http.Handler, middlewares ...func(http.Handler) http.Handler) error {
	var p protection
	for _, m := range middlewares {
		p.add(m(http.NotFoundHandler()))
	}
	last := p.add(h)
	_, err := d.set(method, path, func(o operation, description *object) error {
		return d.protect(o, description, p.requirements(), last)
	})
	return err
}

// Require sets the security of one operation to a token with these scopes, for handlers
// behind [oauth2pw.Auth.CheckBearer]. An operation that the document does not have, and a scope
// that the scheme does not have, are errors.
func (d *Document) Require(method, path string, scopes ...string) error {
	found, err := d.set(method, path, func(o operation, description *object) error {
		return d.protect(o, description, Require(scopes...), nil)
	})
	if err == nil && !found {
		err = fmt.Errorf("openapi: the document has no operation %s %s", method, path)
	}
	return err
}

// regexps are the regular expressions in the parameters of a chi route.
var regexps = regexp.MustCompile(`(\{[^{}:]*):[^{}]*(\{[^{}]*\}[^{}]*)*\}`)

// set calls edit for the operation of a method and the path of a route.
func (d *Document) set(method, path string, edit func(o operation, description *object) error) (found bool, err error) {
	path = regexps.ReplaceAllString(path, "$1}")
	err = d.each(func(o operation, description *object) error {
		if o.method != strings.ToUpper(method) || o.path != path && o.path+"/" != path {
			return nil
		}
		found = true
		return edit(o, description)
	})
	return found, err
}

// protect adds requirements to the security of an operation: each alternative of the document
// with each alternative of the middleware. last is the handler behind the visible middleware.
func (d *Document) protect(o operation, description *object, security []Requirement, last http.Handler) error {
	present := []Requirement{}
	from := description
	if !description.has("security") {
		from = &d.root // has the security of operations without their own
	}
	if err := from.read("security", &present); err != nil {
		return err
	}
	if security == nil {
		return d.checkOpen(o, from == description, present, last)
	}
	if len(present) == 0 {
		present = []Requirement{{}}
	}
	var sum []Requirement
	for _, p := range present {
		maps.DeleteFunc(p, func(name string, _ []string) bool { return name == SchemeName || d.bearers[name] })
		for _, s := range security {
			both := maps.Clone(p)
			for name, scopes := range s {
				declared, err := d.declare(scopes)
				if err != nil {
					return fmt.Errorf("openapi: %s: %w", o, err)
				}
				both[name] = declared
			}
			if !slices.ContainsFunc(sum, func(r Requirement) bool { return maps.EqualFunc(r, both, slices.Equal) }) {
				sum = append(sum, both)
			}
		}
	}
	d.decided[o] = true
	return description.set("security", sum)
}

// checkOpen accepts an operation without visible middleware if its own security in the document
// is not a token.
func (d *Document) checkOpen(o operation, own bool, present []Requirement, last http.Handler) error {
	const mend = "if the middleware is inside of another handler, put RequireBearer outside, give that handler a method Unwrap() http.Handler, or call Require"
	switch {
	case !own:
		return fmt.Errorf(`openapi: %s: no middleware of oauth2pw is visible around %T: write "security": [] into the operation if it needs no token; %s`, o, last, mend)
	case slices.ContainsFunc(present, func(r Requirement) bool { _, named := r[SchemeName]; return named }):
		return fmt.Errorf("openapi: %s: the document requires a token, but no middleware of oauth2pw is visible around %T; %s", o, last, mend)
	}
	d.decided[o] = true
	return nil
}

// declare returns scopes as a requirement lists them. A scheme without a list of scopes gets
// each scope.
func (d *Document) declare(scopes []string) ([]string, error) {
	if d.scheme.Flows == nil {
		if d.old {
			return []string{}, nil // OpenAPI 3.0 forbids scopes there
		}
		return scopes, nil
	}
	all := d.scheme.Flows.Password.Scopes
	for _, s := range scopes {
		if _, known := all[s]; !known && d.scopes {
			return nil, fmt.Errorf("the scheme has no scope %q", s)
		} else if !known {
			all[s] = ""
		}
	}
	return scopes, nil
}

// Handler returns a handler that serves the document as JSON. The error is that of
// MarshalJSON.
func (d *Document) Handler() (http.Handler, error) {
	body, err := d.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body) // an error means that the client has disconnected
	}), nil
}

// MarshalJSON returns the document as JSON. The error names the operations whose security
// is not decided: call Routes, Operation or Require.
func (d *Document) MarshalJSON() ([]byte, error) {
	var open []string
	err := d.each(func(o operation, _ *object) error {
		if !d.decided[o] {
			open = append(open, o.String())
		}
		return nil
	})
	if err == nil && open != nil {
		err = fmt.Errorf("openapi: the security of %s is open: call Routes, Operation or Require", strings.Join(open, ", "))
	}
	var components, schemes object
	err = errors.Join(err, d.root.read("components", &components), components.read("securitySchemes", &schemes),
		schemes.set(SchemeName, d.scheme), components.set("securitySchemes", schemes), d.root.set("components", components))
	if d.paths != nil {
		err = errors.Join(err, d.root.set("paths", d.paths))
	}
	if err != nil {
		return nil, err
	}
	return marshal(d.root)
}

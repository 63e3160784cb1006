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
//
// A Document describes one login: middleware with another verifier is described as the same.
type Document struct {
	root       object
	items      []*pathItem
	operations []*operation
	scheme     SecurityScheme
	scopes     bool            // the scheme has a list of scopes
	bearers    map[string]bool // the schemes of the document whose credentials are a bearer token, too
	old        bool            // OpenAPI 3.0
}

type pathItem struct {
	path    string
	members object
}

// operation is an operation of the document.
type operation struct {
	item         *pathItem
	method, name string // the method in capitals, and as the document has it
	description  object
	decided      bool // the security is that of a handler, or the app has confirmed it
}

func (o *operation) String() string { return o.method + " " + o.item.path }

// Parse reads an app's document, and adds the security scheme of b to its components, under
// [SchemeName]: a scheme of that name is replaced, all others stay. doc is JSON of OpenAPI 3.0
// or 3.1; Parse keeps a copy. A path item that is a $ref is an error, because its operations
// are elsewhere.
func Parse(doc []byte, b oauth2pw.PasswordBearer) (*Document, error) {
	d := &Document{scheme: SchemeOf(b), scopes: b.Scopes != nil, bearers: make(map[string]bool)}
	if err := json.Unmarshal(doc, &d.root); err != nil {
		return nil, fmt.Errorf("openapi: the document is no JSON object (convert YAML to JSON): %w", err)
	}
	var version string
	if err := d.root.read("openapi", &version); err != nil {
		return nil, err
	}
	d.old = strings.HasPrefix(version, "3.0.")
	if !d.old && !strings.HasPrefix(version, "3.1.") {
		return nil, fmt.Errorf("openapi: the document has the version %q of OpenAPI: want 3.0.x or 3.1.x", version)
	}
	if err := errors.Join(d.readSchemes(), d.readPaths()); err != nil {
		return nil, err
	}
	return d, nil
}

// readSchemes finds the schemes of the document that use the same header.
func (d *Document) readSchemes() error {
	var components, schemes object
	if err := errors.Join(d.root.read("components", &components), components.read("securitySchemes", &schemes)); err != nil {
		return err
	}
	for _, m := range schemes {
		var scheme object
		var kind, of string
		if err := errors.Join(schemes.read(m.name, &scheme), scheme.read("type", &kind), scheme.read("scheme", &of)); err != nil {
			return err
		}
		d.bearers[m.name] = kind == "oauth2" || kind == "openIdConnect" || kind == "http" && strings.EqualFold(of, "bearer")
	}
	return nil
}

var methods = []string{"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"}

// readPaths finds the operations.
func (d *Document) readPaths() error {
	var paths object
	if err := d.root.read("paths", &paths); err != nil {
		return err
	}
	for _, m := range paths {
		if strings.HasPrefix(m.name, "x-") {
			continue
		}
		item := &pathItem{path: m.name}
		if err := paths.read(m.name, &item.members); err != nil {
			return err
		}
		switch {
		case !strings.HasPrefix(m.name, "/"):
			return fmt.Errorf("openapi: the path %q of the document does not begin with a slash", m.name)
		case item.members.has("$ref"):
			return fmt.Errorf("openapi: the path item of %s is a $ref: write its operations here", m.name)
		}
		d.items = append(d.items, item)
		for _, member := range item.members {
			o := &operation{item: item, name: member.name, method: strings.ToUpper(member.name)}
			switch {
			case !slices.Contains(methods, o.method):
				continue // a member of the path item
			case o.name == o.method:
				return fmt.Errorf("openapi: the document has the method %s in capitals, at %s", o.method, m.name)
			}
			if err := item.members.read(o.name, &o.description); err != nil {
				return fmt.Errorf("%w (at %s)", err, m.name)
			}
			d.operations = append(d.operations, o)
		}
	}
	return nil
}

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
	for _, o := range d.operations {
		problem := fmt.Errorf("openapi: no ServeMux of the routes serves %s", o)
		for _, h := range routes {
			var p protection
			if last, served := p.route(h, o); served {
				problem = d.protect(o, p.requirements(), last)
				break
			}
		}
		problems = append(problems, problem)
	}
	return errors.Join(problems...)
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
	for _, o := range d.find(method, path) {
		if err := d.protect(o, p.requirements(), last); err != nil {
			return err
		}
	}
	return nil
}

// SetScopes sets the security of one operation to a token with these scopes, for handlers
// behind [oauth2pw.Auth.CheckBearer]. An operation that the document does not have, and a scope
// that the scheme does not have, are errors. SetScopes only describes: the handler enforces.
func (d *Document) SetScopes(method, path string, scopes ...string) error {
	found := d.find(method, path)
	if found == nil {
		return fmt.Errorf("openapi: the document has no operation %s %s", method, path)
	}
	for _, o := range found {
		if err := d.protect(o, Requirements(scopes...), nil); err != nil {
			return err
		}
	}
	return nil
}

// regexps are the regular expressions in the parameters of a chi route.
var regexps = regexp.MustCompile(`(\{[^{}:]*):[^{}]*(\{[^{}]*\}[^{}]*)*\}`)

// find returns the operations of a method and the path of a route.
func (d *Document) find(method, path string) (found []*operation) {
	path = regexps.ReplaceAllString(path, "$1}")
	for _, o := range d.operations {
		if o.method == strings.ToUpper(method) && (o.item.path == path || o.item.path+"/" == path) {
			found = append(found, o)
		}
	}
	return found
}

// protect adds requirements to the security of an operation: each alternative of the document
// with each alternative of the middleware. last is the handler behind the visible middleware.
func (d *Document) protect(o *operation, security []Requirement, last http.Handler) error {
	present := []Requirement{}
	from := &o.description
	if !o.description.has("security") {
		from = &d.root // has the security of operations without their own
	}
	if err := from.read("security", &present); err != nil {
		return err
	}
	if slices.ContainsFunc(present, func(r Requirement) bool { return r == nil }) {
		return fmt.Errorf("openapi: %s: a security requirement is null", o)
	}
	if security == nil {
		return d.checkOpen(o, from == &o.description, present, last)
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
	o.decided = true
	return o.description.set("security", sum)
}

// checkOpen accepts an operation without visible middleware if its own security in the document
// is not a token.
func (d *Document) checkOpen(o *operation, own bool, present []Requirement, last http.Handler) error {
	const mend = "if the middleware is inside of another handler, put RequireBearer outside, give that handler a method Unwrap() http.Handler, or call SetScopes"
	switch {
	case !own:
		return fmt.Errorf(`openapi: %s: no middleware of oauth2pw is visible around %T: write "security": [] into the operation if it needs no token; %s`, o, last, mend)
	case slices.ContainsFunc(present, func(r Requirement) bool { _, named := r[SchemeName]; return named }):
		return fmt.Errorf("openapi: %s: the document requires a token, but no middleware of oauth2pw is visible around %T; %s", o, last, mend)
	}
	o.decided = true
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
// is not decided: call Routes, Operation or SetScopes.
func (d *Document) MarshalJSON() ([]byte, error) {
	var open []string
	for _, o := range d.operations {
		if !o.decided {
			open = append(open, o.String())
		}
	}
	if open != nil {
		return nil, fmt.Errorf("openapi: the security of %s is open: call Routes, Operation or SetScopes", strings.Join(open, ", "))
	}
	root := slices.Clone(d.root)
	var components, schemes, paths object
	err := errors.Join(root.read("components", &components), components.read("securitySchemes", &schemes), root.read("paths", &paths),
		schemes.set(SchemeName, d.scheme), components.set("securitySchemes", schemes), root.set("components", components))
	for _, o := range d.operations {
		err = errors.Join(err, o.item.members.set(o.name, o.description))
	}
	for _, item := range d.items {
		err = errors.Join(err, paths.set(item.path, item.members))
	}
	if paths != nil {
		err = errors.Join(err, root.set("paths", paths))
	}
	if err != nil {
		return nil, err
	}
	return marshal(root)
}

package openapi

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
)

// protection is the sum of the middleware around a handler.
type protection struct {
	found    bool // of package oauth2pw
	required bool // a token is required
	scopes   []string
}

// add walks from a handler inwards through middleware, and returns the first handler that is
// no middleware of a known form.
func (p *protection) add(h http.Handler) http.Handler {
	for range maxNesting {
		if b, ok := h.(interface{ RequiredScopes() []string }); ok {
			p.found = true
			o, ok := h.(interface{ Optional() bool })
			p.required = p.required || !ok || !o.Optional()
			for _, s := range b.RequiredScopes() {
				if !slices.Contains(p.scopes, s) {
					p.scopes = append(p.scopes, s)
				}
			}
		}
		u, ok := h.(interface{ Unwrap() http.Handler })
		if !ok {
			return h
		}
		h = u.Unwrap()
	}
	return h
}

// maxNesting bounds the walk: a handler inside of itself has no end.
const maxNesting = 100

// route walks from a handler through its ServeMuxes to the handler of an operation, the last
// handler of a known form. False: no ServeMux has the operation.
func (p *protection) route(h http.Handler, o *operation) (last http.Handler, served bool) {
	// A parameter in the path, such as {id}, is a segment like any other: the wildcard of a
	// pattern matches it.
	path, err := url.PathUnescape(o.item.path)
	if err != nil {
		path = o.item.path
	}
	r := &http.Request{Method: o.method, URL: &url.URL{Path: path}, Header: http.Header{}}
	loose := false // the last pattern serves every path
	for range maxNesting {
		h = p.add(h)
		mux, ok := h.(interface {
			Handler(*http.Request) (http.Handler, string)
		})
		if !ok {
			return h, served && !loose
		}
		next, pattern := mux.Handler(r)
		if pattern == "" {
			return nil, false
		}
		h, served, loose = next, true, catchAll.MatchString(pattern) && o.item.path != "/"
	}
	return nil, false
}

// catchAll are the patterns that serve every path: the pages of an app, often.
var catchAll = regexp.MustCompile(`^([A-Z]+ +)?/(\{[^{}]*\.\.\.\})?$`)

func (p *protection) requirements() []Requirement {
	switch {
	case !p.found:
		return nil
	case !p.required:
		return append([]Requirement{{}}, Requirements(p.scopes...)...)
	default:
		return Requirements(p.scopes...)
	}
}

package main

import (
	"bytes"
	_ "embed"
	"net/http"
	"time"

	"github.com/swaggest/swgui/v5/static"
	"github.com/vearutop/statigz"

	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
)

var (
	//go:embed openapi.json
	document []byte // without the security scheme, which package openapi adds
	//go:embed docs.html
	docsPage []byte
	//go:embed docs.js
	docsScript []byte
)

// describe adds the OpenAPI document of the routes of a ServeMux, and Swagger UI. Both are
// files of the program: the page loads nothing from other hosts.
func (a *app) describe(mux *http.ServeMux) error {
	doc, err := openapi.Parse(document, a.auth.PasswordBearer("token"))
	if err != nil {
		return err
	}
	if err := doc.Routes(mux); err != nil {
		return err
	}
	handler, err := doc.Handler()
	if err != nil {
		return err
	}
	mux.Handle("GET /openapi.json", handler)
	mux.Handle("GET /docs", strict(file("docs.html", docsPage)))
	mux.HandleFunc("GET /docs/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", "../docs") // relative, for a prefix
		w.WriteHeader(http.StatusPermanentRedirect)
	})
	mux.Handle("GET /docs/start.js", strict(file("start.js", docsScript)))
	mux.Handle("GET /docs/", strict(http.StripPrefix("/docs", statigz.FileServer(static.FS))))
	return nil
}

func file(name string, content []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	})
}

// strict allows a page only the scripts of this origin, none inside of the page, and no frame
// around it: the page handles passwords. Swagger UI has images in data: URLs.
func strict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

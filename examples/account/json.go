package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First readStrings reads the body of a request. Next the handler works. Last the answer is
// accepted, writeJSON, or an error by Auth.WriteError, which has the form of the library's
// own errors.

// readStrings returns members of a JSON object, all of which are strings. Otherwise
// readStrings answers 400.
func (a *app) readStrings(w http.ResponseWriter, r *http.Request, names ...string) ([]string, bool) {
	var body map[string]any
	err := readJSON(w, r, &body)
	values := make([]string, len(names))
	for i, name := range names {
		ok := false
		if values[i], ok = body[name].(string); !ok || err != nil {
			a.badRequest(w, r, "The body must be JSON with "+strings.Join(names, " and ")+".")
			return nil, false
		}
	}
	return values, true
}

// readJSON reads a body of one JSON value.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one value")
	}
	return nil
}

func (a *app) badRequest(w http.ResponseWriter, r *http.Request, description string) {
	a.auth.WriteError(w, r, &oauth2pw.Error{Code: "invalid_request", Description: description})
}

// accepted answers 202 with the same bytes for every request.
func accepted(w http.ResponseWriter) {
	writeJSON(w, http.StatusAccepted, struct{}{})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store") // POST /totp answers with a secret
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // the uri of TOTP has &
	_ = encoder.Encode(v)        // an error means that the client has disconnected
}

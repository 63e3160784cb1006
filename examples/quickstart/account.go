package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// listSessions answers with the caller's sessions, the newest login first.
func (a *app) listSessions(w http.ResponseWriter, r *http.Request) {
	type session struct {
		ID         string    `json:"id"`
		ClientID   *string   `json:"client_id"`
		CreatedAt  time.Time `json:"created_at"`
		LastUsedAt time.Time `json:"last_used_at"`
		ExpiresAt  time.Time `json:"expires_at"`
		Current    bool      `json:"current"`
	}
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	list, err := a.auth.Sessions(r.Context(), p.Subject)
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	sessions := make([]session, 0, len(list))
	for _, s := range list {
		expires := s.ExpiresAt
		if s.IdleExpiresAt.Before(expires) {
			expires = s.IdleExpiresAt
		}
		var client *string
		if s.ClientID != "" {
			client = &s.ClientID
		}
		sessions = append(sessions, session{s.ID, client, s.CreatedAt, s.RefreshedAt, expires, s.ID == p.SessionID})
	}
	writeJSON(w, sessions)
}

// endSessions ends all sessions of the caller.
func (a *app) endSessions(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	_, err := a.auth.EndAllSessions(r.Context(), p.Subject, "ended_by_user")
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// endSession ends the caller's session that the path names.
func (a *app) endSession(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	ended, err := a.auth.EndSession(r.Context(), p.Subject, r.PathValue("id"), "ended_by_user")
	switch {
	case err != nil:
		a.auth.WriteError(w, r, err)
	case !ended:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not_found","error_description":"You have no such session."}`+"\n")
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// changePassword changes the caller's password, and ends the other sessions. The answer has
// new tokens: every older token is refused, the caller's too.
func (a *app) changePassword(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Old *string `json:"old_password"`
		New *string `json:"new_password"`
	}
	if p, _ := oauth2pw.PrincipalFrom(r.Context()); p.SessionID == "" {
		a.auth.WriteError(w, r, &oauth2pw.Error{Code: "access_denied", Description: "The token has no session."})
		return
	}
	if readJSON(w, r, &body) != nil || body.Old == nil || body.New == nil {
		a.auth.WriteError(w, r, &oauth2pw.Error{Code: "invalid_request", Description: "The body must be JSON with old_password and new_password."})
		return
	}
	tokens, err := a.auth.ChangePassword(r, *body.Old, *body.New)
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	tokens.Write(w)
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

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
	list, err := a.sessions.List(r.Context(), p.Subject, time.Now())
	if err != nil {
		oauth2pw.WriteError(w, r, err)
		return
	}
	sessions := make([]session, 0, len(list))
	for _, s := range list {
		if s.AuthenticatedAt.Before(p.User.SessionsFrom) {
			continue // dead by a change of the password, and not ended yet
		}
		expires := s.ExpiresAt
		if s.IdleExpiresAt.Before(expires) {
			expires = s.IdleExpiresAt
		}
		var client *string
		if s.ClientID != "" {
			client = &s.ClientID
		}
		sessions = append(sessions, session{s.ID, client, s.CreatedAt, s.AdvancedAt, expires, s.ID == p.SessionID})
	}
	writeJSON(w, sessions)
}

// endSessions ends the session that the path names, or all of the caller's.
func (a *app) endSessions(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	id := r.PathValue("id")
	n, err := a.auth.EndSessions(r.Context(), oauth2pw.SessionFilter{UserID: p.Subject, ID: id}, "ended_by_user")
	switch {
	case err != nil:
		oauth2pw.WriteError(w, r, err)
	case id != "" && n == 0:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"not_found","error_description":"You have no such session."}`+"\n")
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// changePassword changes the caller's password and ends the other sessions.
func (a *app) changePassword(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	var body struct {
		Old *string `json:"old_password"`
		New *string `json:"new_password"`
	}
	var err error
	switch {
	case p.SessionID == "":
		err = &oauth2pw.Error{Code: "access_denied", Description: "The token has no session."}
	case readJSON(w, r, &body) != nil || body.Old == nil || body.New == nil:
		err = &oauth2pw.Error{Code: "invalid_request", Description: "The body must be JSON with old_password and new_password."}
	default:
		err = a.auth.ChangePassword(r.Context(), p.Subject, *body.Old, *body.New, p.SessionID)
	}
	if err != nil {
		oauth2pw.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
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

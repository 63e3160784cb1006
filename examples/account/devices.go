package main

import (
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First listSessions shows the devices of the caller, the newest login first. Next
// endSession logs one device out. Last endSessions logs out everywhere, here too.

func (a *app) listSessions(w http.ResponseWriter, r *http.Request) {
	type session struct {
		ID         string    `json:"id"`
		ClientID   *string   `json:"client_id"`
		CreatedAt  time.Time `json:"created_at"`
		LastUsedAt time.Time `json:"last_used_at"`
		ExpiresAt  time.Time `json:"expires_at"`
		Current    bool      `json:"current"`
		UserAgent  string    `json:"user_agent"`
		Address    *string   `json:"address"`
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
		row := session{
			ID: s.ID, CreatedAt: s.CreatedAt, LastUsedAt: s.RefreshedAt, ExpiresAt: expires, Current: s.ID == p.SessionID,
			UserAgent: s.UserAgent,
		}
		if s.ClientID != "" {
			row.ClientID = &s.ClientID
		}
		if address := s.Address.String(); s.Address.IsValid() {
			row.Address = &address
		}
		sessions = append(sessions, row)
	}
	writeJSON(w, http.StatusOK, sessions)
}

func (a *app) endSession(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	ended, err := a.auth.EndSession(r.Context(), p.Subject, r.PathValue("id"), "ended_by_user")
	if err == nil && !ended { // a session of another user, too
		err = &oauth2pw.Error{Code: "not_found", Description: "You have no such session.", Status: http.StatusNotFound}
	}
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (a *app) endSessions(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	if _, err := a.auth.EndAllSessions(r.Context(), p.Subject, "ended_by_user"); err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

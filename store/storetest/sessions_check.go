package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// sessions is a store under test.
type sessions struct {
	t *testing.T
	oauth2pw.SessionStore
	reason string // of End
}

func (s sessions) create(list ...oauth2pw.Session) {
	s.t.Helper()
	for _, n := range list {
		if err := s.Create(context.Background(), &n); err != nil {
			s.t.Fatalf("Create of a session with the new ID %q returned the error %v.", n.ID, err)
		}
	}
}

// get returns nil after it has reported that there is no such session.
func (s sessions) get(id string) *oauth2pw.Session {
	s.t.Helper()
	n, err := s.Get(context.Background(), id)
	if err != nil || n == nil {
		s.t.Errorf("%s returned no session and the error %v: the session is there.", quoted("Get", id), err)
		return nil
	}
	return n
}

func (s sessions) advance(from uint64, n oauth2pw.Session, at time.Time) bool {
	s.t.Helper()
	ok, err := s.Advance(context.Background(), from, &n, at)
	if err != nil {
		s.t.Errorf("Advance of the session %q returned the error %q: where it does not write it must return false and no error.", n.ID, err)
	}
	return ok
}

func (s sessions) list(userID string, at time.Time) []*oauth2pw.Session {
	s.t.Helper()
	list, err := s.List(context.Background(), userID, at)
	if err != nil {
		s.t.Errorf("%s returned the error %v.", quoted("List", userID), err)
	}
	if slices.Contains(list, nil) {
		s.t.Fatalf("%s returned a nil session.", quoted("List", userID))
	}
	return list
}

// listed checks which sessions List returns, in any order.
func (s sessions) listed(what, userID string, at time.Time, want ...string) {
	s.t.Helper()
	var got []string
	for _, n := range s.list(userID, at) {
		got = append(got, n.ID)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.t.Errorf("%s returned the sessions %q, and not %q (%s).", quoted("List", userID), got, want, what)
	}
}

// ended checks which sessions End ends.
func (s sessions) ended(what string, f oauth2pw.SessionFilter, at time.Time, want ...string) {
	s.t.Helper()
	reason := s.reason
	if reason == "" {
		reason = "because"
	}
	got, err := s.End(context.Background(), f, reason, at)
	if err != nil {
		s.t.Errorf("End returned the error %v: where there is nothing to end it must return no IDs and no error.", err)
	}
	got = slices.Sorted(slices.Values(got))
	if !slices.Equal(got, want) {
		s.t.Errorf("End returned the IDs %q, and not %q, for %s (%s).", got, want, describe(f), what)
	}
}

// describe writes the fields of a filter that are set.
func describe(f oauth2pw.SessionFilter) string {
	text := fmt.Sprintf("SessionFilter{UserID: %q", f.UserID)
	if f.ID != "" {
		text += fmt.Sprintf(", ID: %q", f.ID)
	}
	if f.Except != "" {
		text += fmt.Sprintf(", Except: %q", f.Except)
	}
	if !f.AuthenticatedBefore.IsZero() {
		text += ", AuthenticatedBefore: " + stamp(f.AuthenticatedBefore)
	}
	return text + "}"
}

// check checks the result of Get.
func (s sessions) check(want oauth2pw.Session) {
	s.t.Helper()
	s.checkAfter("", want)
}

// checkAfter checks the result of Get after another call. why is the duty of that call.
func (s sessions) checkAfter(why string, want oauth2pw.Session) {
	s.t.Helper()
	if why == "" {
		why = "Get returned the session, but not as it is stored"
	}
	if got := s.get(want.ID); got != nil {
		s.checkFields(why, *got, want)
	}
}

func (s sessions) checkFields(thing string, got, want oauth2pw.Session) {
	s.t.Helper()
	checkField(s.t, thing, "ID", got.ID, want.ID)
	checkField(s.t, thing, "UserID", got.UserID, want.UserID)
	checkField(s.t, thing, "ClientID", got.ClientID, want.ClientID)
	checkField(s.t, thing, "Scope", got.Scope, want.Scope)
	checkField(s.t, thing, "Salt", got.Salt, want.Salt)
	checkField(s.t, thing, "KeyID", got.KeyID, want.KeyID)
	checkField(s.t, thing, "Generation", got.Generation, want.Generation)
	checkField(s.t, thing, "Forgiven", got.Forgiven, want.Forgiven)
	checkTime(s.t, thing, "CreatedAt", got.CreatedAt, want.CreatedAt)
	checkTime(s.t, thing, "AuthenticatedAt", got.AuthenticatedAt, want.AuthenticatedAt)
	checkTime(s.t, thing, "RefreshedAt", got.RefreshedAt, want.RefreshedAt)
	checkTime(s.t, thing, "IdleExpiresAt", got.IdleExpiresAt, want.IdleExpiresAt)
	checkTime(s.t, thing, "ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	checkTime(s.t, thing, "EndedAt", got.EndedAt, want.EndedAt)
	checkField(s.t, thing, "EndReason", got.EndReason, want.EndReason)
	checkField(s.t, thing, "Address", got.Address, want.Address)
	checkField(s.t, thing, "UserAgent", got.UserAgent, want.UserAgent)
	checkField(s.t, thing, "Idle", got.Idle, want.Idle)
	checkField(s.t, thing, "Label", got.Label, want.Label)
}

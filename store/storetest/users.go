package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Users tests a UserStore and, if it is one, PasswordUpdater. open returns a new
// store that holds these users and nothing else.
//
// A store may have no place for User.SessionsValidFrom. Then the field must be zero for every
// user, also after UpdatePasswordHash. The suite reports two rules as skipped.
func Users(t *testing.T, open func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore) {
	openUsers := func(t *testing.T) oauth2pw.UserStore { return open(t, testUsers()) }
	run(t, userRules, openUsers)
	if _, ok := openUsers(t).(oauth2pw.PasswordUpdater); ok {
		run(t, updaterRules, func(t *testing.T) updater { return openUsers(t).(updater) })
	}
}

type updater interface {
	oauth2pw.UserStore
	oauth2pw.PasswordUpdater
}

func testUsers() []oauth2pw.User {
	return []oauth2pw.User{
		{ID: "1", Username: "johndoe", PasswordHash: "h1", Scopes: []string{"me", "items"}},
		{ID: "2", Username: "alice", PasswordHash: "h2", Disabled: true, SessionsValidFrom: now},
		{ID: "3", Username: "José 😀 'quoted\" %_", PasswordHash: "h3", Scopes: []string{}},
		{ID: "4", Username: "invited"},
	}
}

// storedUsers returns the users as a store has them: without SessionsValidFrom, if the store
// has no place for it.
func storedUsers(t *testing.T, s oauth2pw.UserStore) []oauth2pw.User {
	t.Helper()
	list := testUsers()
	if !keepsTime(t, s) {
		for i := range list {
			list[i].SessionsValidFrom = time.Time{}
		}
	}
	return list
}

// skipWithoutTime ends a rule that has not tested SessionsValidFrom. A rule that has failed
// stays failed.
func skipWithoutTime(t *testing.T, s oauth2pw.UserStore) {
	t.Helper()
	if !keepsTime(t, s) {
		t.Skip("No user has a SessionsValidFrom, but open got one for user 2. If the store has a place for it, UserByName and UserByID must return it.")
	}
}

// keepsTime reports whether a store has a place for SessionsValidFrom: whether any user has
// one.
func keepsTime(t *testing.T, s oauth2pw.UserStore) bool {
	t.Helper()
	for _, want := range testUsers() {
		for _, find := range []func() (*oauth2pw.User, error){
			func() (*oauth2pw.User, error) { return s.UserByName(context.Background(), want.Username) },
			func() (*oauth2pw.User, error) { return s.UserByID(context.Background(), want.ID) },
		} {
			if u, err := find(); err == nil && u != nil && !u.SessionsValidFrom.IsZero() {
				return true
			}
		}
	}
	return false
}

var userRules = []rule[oauth2pw.UserStore]{
	{"a user has every field as it is stored", func(t *testing.T, s oauth2pw.UserStore) {
		for _, want := range storedUsers(t, s) {
			checkUser(t, s, want)
		}
		skipWithoutTime(t, s)
	}},

	{"a miss is ErrNotFound", func(t *testing.T, s oauth2pw.UserStore) {
		for _, name := range []string{"", "nobody"} {
			u, err := s.UserByName(context.Background(), name)
			checkMiss(t, quoted("UserByName", name), u != nil, err)
		}
		for _, id := range []string{"", "9", "johndoe"} {
			u, err := s.UserByID(context.Background(), id)
			checkMiss(t, quoted("UserByID", id), u != nil, err)
		}
	}},

	{"names and IDs are compared byte for byte", func(t *testing.T, s oauth2pw.UserStore) {
		for _, name := range []string{"JohnDoe", "johndoe ", " johndoe", "johndoe\t", "%", "joh_doe", "jose 😀 'quoted\" %_", "Jose\u0301 😀 'quoted\" %_", "' OR 1=1 --"} {
			u, err := s.UserByName(context.Background(), name)
			checkMiss(t, quoted("UserByName", name), u != nil, err)
		}
		for _, id := range []string{"01", "1 ", " 1", "1.0", "+1", "%"} {
			u, err := s.UserByID(context.Background(), id)
			checkMiss(t, quoted("UserByID", id), u != nil, err)
		}
	}},

	{"an ended context is a failure", func(t *testing.T, s oauth2pw.UserStore) {
		_, byName := s.UserByName(ended(), "johndoe")
		_, byID := s.UserByID(ended(), "1")
		_, noName := s.UserByName(ended(), "nobody")
		_, noID := s.UserByID(ended(), "9")
		checkEnded(t, map[string]error{"UserByName of a user": byName, "UserByID of a user": byID, "UserByName of nobody": noName, "UserByID of nobody": noID})
	}},

	{"users are found concurrently", func(t *testing.T, s oauth2pw.UserStore) {
		list := storedUsers(t, s)
		parallel(8, func(i int) { checkUser(t, s, list[i%4]) })
	}},
}

var updaterRules = []rule[updater]{
	{"UpdatePasswordHash replaces the hash and nothing else", func(t *testing.T, s updater) {
		list := storedUsers(t, s)
		for i := range list {
			if !update(t, s, list[i].ID, string(list[i].PasswordHash), "new", time.Time{}) {
				if list[i].PasswordHash == "" {
					t.Error("UpdatePasswordHash did not give a hash to a user without one: an empty old must match a user who has none (NULL).")
				} else {
					t.Errorf("UpdatePasswordHash returned false although user %s has the old hash.", list[i].ID)
				}
				continue
			}
			list[i].PasswordHash = "new"
			for _, want := range list {
				checkUser(t, s, want)
			}
		}
	}},

	{"UpdatePasswordHash replaces the old hash alone", func(t *testing.T, s updater) {
		list := storedUsers(t, s)
		for _, call := range []struct{ id, old, why string }{
			{"1", "other", "the user has another hash"},
			{"1", "H1", "the user has another hash: hashes must be compared byte for byte"},
			{"1", "h1 ", "the user has another hash: hashes must be compared byte for byte"},
			{"1", "", "the user has a hash"},
			{"4", "h1", "the user has no hash"},
			{"9", "h1", "there is no such user"},
			{"9", "", "there is no such user"},
			{"01", "h1", "there is no such user: IDs must be compared byte for byte"},
		} {
			for _, changed := range []time.Time{{}, now} {
				if update(t, s, call.id, call.old, "new", changed) {
					t.Errorf("%s returned true, but must return false: %s.", quoted("UpdatePasswordHash", call.id, call.old), call.why)
				}
			}
		}
		for _, want := range list {
			checkUser(t, s, want)
		}
	}},

	// A store without a place for SessionsValidFrom replaces the hash, and nothing else.
	{"UpdatePasswordHash sets SessionsValidFrom with the hash", func(t *testing.T, s updater) {
		list, keeps := storedUsers(t, s), keepsTime(t, s)
		for i := range list {
			old := string(list[i].PasswordHash)
			list[i].PasswordHash = "new"
			if keeps {
				list[i].SessionsValidFrom = now.Add(time.Duration(i) * time.Second)
			}
			if !update(t, s, list[i].ID, old, "new", now.Add(time.Duration(i)*time.Second)) {
				t.Errorf("UpdatePasswordHash with a time returned false although user %s has the old hash: a store without a place for the time must ignore it.", list[i].ID)
			}
			for _, want := range list {
				checkUser(t, s, want)
			}
		}
		list[0].PasswordHash = "again"
		update(t, s, "1", "new", "again", time.Time{})
		for _, want := range list {
			checkUser(t, s, want)
		}
	}},

	{"SessionsValidFrom is rounded up", func(t *testing.T, s updater) {
		skipWithoutTime(t, s)
		for _, fraction := range []time.Duration{1, 499, 999} {
			changed := now.Add(fraction)
			update(t, s, "1", "h1", "h1", changed)
			u, err := s.UserByID(context.Background(), "1")
			if err != nil || u == nil {
				t.Fatalf("UserByID(\"1\") returned %v: the user is there.", err)
			}
			if d := u.SessionsValidFrom.Sub(changed); d < 0 || d >= time.Microsecond {
				t.Errorf("UpdatePasswordHash made %s of SessionsValidFrom %s: it may round up to the next microsecond, and never down, because a session from before the change would stay alive.", stamp(u.SessionsValidFrom), stamp(changed))
			}
		}
	}},

	{"a returned user does not change any more", func(t *testing.T, s updater) {
		byID, err1 := s.UserByID(context.Background(), "1")
		byName, err2 := s.UserByName(context.Background(), "johndoe")
		if err1 != nil || err2 != nil || byID == nil || byName == nil {
			t.Fatalf("UserByID and UserByName returned %v and %v: the user is there.", err1, err2)
		}
		before := map[*oauth2pw.User]oauth2pw.User{byID: *byID, byName: *byName}
		update(t, s, "1", "h1", "new", now)
		for call, u := range map[string]*oauth2pw.User{"UserByID": byID, "UserByName": byName} {
			if u.PasswordHash != before[u].PasswordHash || !u.SessionsValidFrom.Equal(before[u].SessionsValidFrom) {
				t.Errorf("The user that %s had returned was changed by UpdatePasswordHash: a store must not write to a User that it has returned.", call)
			}
		}
	}},

	{"of concurrent UpdatePasswordHash one wins", func(t *testing.T, s updater) {
		var won atomic.Int32
		var winner atomic.Value
		parallel(20, func(i int) {
			hash := fmt.Sprint("new", i)
			if update(t, s, "1", "h1", hash, time.Time{}) {
				won.Add(1)
				winner.Store(hash)
			}
		})
		if won.Load() != 1 {
			t.Fatalf("%d of 20 concurrent UpdatePasswordHash with one old hash returned true: exactly one must, so compare and write in one atomic step.", won.Load())
		}
		want := storedUsers(t, s)[0]
		want.PasswordHash = oauth2pw.Secret(winner.Load().(string))
		checkUser(t, s, want)
	}},

	{"an ended context is a failure of UpdatePasswordHash", func(t *testing.T, s updater) {
		_, update := s.UpdatePasswordHash(ended(), "1", "h1", "new", time.Time{})
		_, missing := s.UpdatePasswordHash(ended(), "9", "h1", "new", now)
		checkEnded(t, map[string]error{"UpdatePasswordHash": update, "UpdatePasswordHash of nobody": missing})
	}},
}

func update(t *testing.T, s updater, id, old, hash string, changed time.Time) bool {
	t.Helper()
	ok, err := s.UpdatePasswordHash(context.Background(), id, old, hash, changed)
	if err != nil {
		t.Errorf("%s returned the error %q: it must return false and no error if the user has another hash or is not there, and true if the hash was replaced.", quoted("UpdatePasswordHash", id, old), err)
	}
	return ok
}

// checkUser checks that the store finds a user by name and by ID.
func checkUser(t *testing.T, s oauth2pw.UserStore, want oauth2pw.User) {
	t.Helper()
	for call, find := range map[string]func() (*oauth2pw.User, error){
		quoted("UserByName", want.Username): func() (*oauth2pw.User, error) { return s.UserByName(context.Background(), want.Username) },
		quoted("UserByID", want.ID):         func() (*oauth2pw.User, error) { return s.UserByID(context.Background(), want.ID) },
	} {
		got, err := find()
		if err != nil || got == nil {
			t.Errorf("%s returned no user and the error %v: the user is there.", call, err)
			continue
		}
		call += " returned the user, but not as it is stored"
		checkField(t, call, "ID", got.ID, want.ID)
		checkField(t, call, "Username", got.Username, want.Username)
		checkField(t, call, "PasswordHash", string(got.PasswordHash), string(want.PasswordHash)) // of the suite: no secret
		checkField(t, call, "Disabled", got.Disabled, want.Disabled)
		checkScopes(t, call, got.Scopes, want.Scopes)
		checkTime(t, call, "SessionsValidFrom", got.SessionsValidFrom, want.SessionsValidFrom)
	}
}

func checkScopes(t *testing.T, thing string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: the Scopes are %q, and not %q.", thing, got, want)
	} else if (got == nil) != (want == nil) {
		t.Errorf("%s: the Scopes are %#v, and not %#v. Nil and empty Scopes differ.", thing, got, want)
	}
}

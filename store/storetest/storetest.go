// Package storetest is the suite that every store must pass. It needs the
// standard library and package oauth2pw only, so that other stores can import it:
//
//	func TestUsers(t *testing.T) {
//		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore { … })
//	}
package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Users tests a UserStore and, if it is one, PasswordUpdater. open returns a new
// store that holds these users and nothing else.
func Users(t *testing.T, open func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore) {
	changed := time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)
	users := []oauth2pw.User{
		{ID: "1", Username: "johndoe", PasswordHash: "h1", Scopes: []string{"me", "items"}},
		{ID: "2", Username: "alice", PasswordHash: "h2", Disabled: true, SessionsFrom: changed},
		{ID: "3", Username: "José 😀 'quoted\" %_", PasswordHash: "h3", Scopes: []string{}},
	}
	ctx := context.Background()

	t.Run("finds every user by name and by id", func(t *testing.T) {
		s := open(t, users)
		for _, want := range users {
			for how, find := range map[string]func() (*oauth2pw.User, error){
				"name": func() (*oauth2pw.User, error) { return s.UserByName(ctx, want.Username) },
				"id":   func() (*oauth2pw.User, error) { return s.UserByID(ctx, want.ID) },
			} {
				got, err := find()
				if err != nil {
					t.Fatalf("user %s by %s: %v", want.ID, how, err)
				}
				sameUser(t, *got, want)
			}
		}
	})

	t.Run("a miss wraps ErrNotFound", func(t *testing.T) {
		s := open(t, users)
		for _, name := range []string{"", "nobody", "JohnDoe", "johndoe ", " johndoe", "johndoe\t", "%", "joh_doe", "' OR 1=1 --"} {
			if u, err := s.UserByName(ctx, name); !errors.Is(err, oauth2pw.ErrNotFound) || u != nil {
				t.Errorf("UserByName(%q) = %v, %v; want nil and ErrNotFound", name, u, err)
			}
		}
		for _, id := range []string{"", "4", "01", "1 ", "1.0", "johndoe"} {
			if u, err := s.UserByID(ctx, id); !errors.Is(err, oauth2pw.ErrNotFound) || u != nil {
				t.Errorf("UserByID(%q) = %v, %v; want nil and ErrNotFound", id, u, err)
			}
		}
	})

	t.Run("what it returns is the caller's", func(t *testing.T) {
		s := open(t, users)
		u, err := s.UserByID(ctx, "1")
		if err != nil {
			t.Fatal(err)
		}
		u.Scopes[0], u.Disabled = "admin", true
		again, err := s.UserByID(ctx, "1")
		if err != nil {
			t.Fatal(err)
		}
		sameUser(t, *again, users[0])
	})

	if _, ok := open(t, users).(oauth2pw.PasswordUpdater); !ok {
		return
	}

	t.Run("UpdatePasswordHash replaces the old hash only", func(t *testing.T) {
		s := open(t, users)
		update := func(id, old, hash string, at time.Time) bool {
			t.Helper()
			ok, err := s.(oauth2pw.PasswordUpdater).UpdatePasswordHash(ctx, id, old, hash, at)
			if err != nil {
				t.Fatalf("UpdatePasswordHash(%s): %v", id, err)
			}
			return ok
		}
		if update("1", "other", "new", time.Time{}) || update("9", "h1", "new", time.Time{}) {
			t.Error("it replaced a hash that was not the old one")
		}
		if !update("1", "h1", "new", time.Time{}) || !update("2", "h2", "new", time.Time{}) {
			t.Error("it did not replace the old hash")
		}
		if !update("3", "h3", "new", changed) {
			t.Error("it did not replace the old hash with a time")
		}
		for i, from := range []time.Time{{}, changed, changed} {
			want := users[i]
			want.PasswordHash, want.SessionsFrom = "new", from
			got, err := s.UserByID(ctx, want.ID)
			if err != nil {
				t.Fatal(err)
			}
			sameUser(t, *got, want)
		}
	})

	t.Run("of concurrent updates one wins", func(t *testing.T) {
		s := open(t, users)
		var won atomic.Int32
		parallel(20, func(i int) {
			ok, err := s.(oauth2pw.PasswordUpdater).UpdatePasswordHash(ctx, "1", "h1", fmt.Sprint("new", i), time.Time{})
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
			}
		})
		if won.Load() != 1 {
			t.Errorf("%d updates won", won.Load())
		}
	})

	t.Run("an ended context is an error, not a miss", func(t *testing.T) {
		s := open(t, users)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.UserByName(ended, "nobody"); err == nil {
			t.Error("a user was found")
		}
	})
}

// Clients tests a ClientStore. open returns a new store that holds these clients
// and nothing else.
func Clients(t *testing.T, open func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore) {
	clients := []oauth2pw.Client{
		{ID: "webapp", Grants: []string{"password", "refresh_token"}},
		{ID: "backend", SecretSHA256: []byte{0, 1, 2, 255}, Grants: []string{"password"}, Scopes: []string{"me"}, Introspect: true},
		{ID: "c id:%+", SecretSHA256: []byte{3}, Grants: []string{}, Scopes: []string{}},
	}
	ctx := context.Background()
	s := open(t, clients)

	t.Run("finds every client", func(t *testing.T) {
		for _, want := range clients {
			got, err := s.ClientByID(ctx, want.ID)
			if err != nil {
				t.Fatalf("%s: %v", want.ID, err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		}
	})

	t.Run("a miss wraps ErrNotFound", func(t *testing.T) {
		for _, id := range []string{"", "nobody", "Webapp", "webapp ", "%"} {
			if c, err := s.ClientByID(ctx, id); !errors.Is(err, oauth2pw.ErrNotFound) || c != nil {
				t.Errorf("ClientByID(%q) = %v, %v; want nil and ErrNotFound", id, c, err)
			}
		}
	})

	t.Run("what it returns is the caller's", func(t *testing.T) {
		parallel(8, func(int) {
			c, err := s.ClientByID(ctx, "backend")
			if err != nil {
				t.Error(err)
				return
			}
			c.SecretSHA256[0], c.Grants[0] = 9, "admin"
		})
		if c, err := s.ClientByID(ctx, "backend"); err != nil || !reflect.DeepEqual(*c, clients[1]) {
			t.Errorf("got %+v, %v", c, err)
		}
	})
}

func sameUser(t *testing.T, got, want oauth2pw.User) {
	t.Helper()
	if got.ID != want.ID || got.Username != want.Username || got.PasswordHash != want.PasswordHash ||
		got.Disabled != want.Disabled || !got.SessionsFrom.Equal(want.SessionsFrom) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(got.Scopes, want.Scopes) || (got.Scopes == nil) != (want.Scopes == nil) {
		t.Errorf("scopes: got %#v, want %#v", got.Scopes, want.Scopes)
	}
}

func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

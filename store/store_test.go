package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

func TestUsers(t *testing.T) {
	storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		s, err := store.NewUsers(users...)
		require.NoError(t, err)
		return s
	})
}

func TestClients(t *testing.T) {
	storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
		s, err := store.NewClients(clients...)
		require.NoError(t, err)
		return s
	})
}

func TestSessions(t *testing.T) {
	storetest.Sessions(t, func(*testing.T) oauth2pw.SessionStore { return new(store.Sessions) })
}

// TestConformance56Refreshes, see storetest.Refreshes.
func TestConformance56Refreshes(t *testing.T) {
	storetest.Refreshes(t, func(*testing.T) oauth2pw.SessionStore { return new(store.Sessions) }, 200)
}

// TestUpdateWithoutLock: the function that Update calls may use the store.
func TestUpdateWithoutLock(t *testing.T) {
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "a"})
	require.NoError(t, err)
	require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error {
		u.Username = "b"
		again, err := users.UserByID(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, "a", again.Username)
		return users.Add(t.Context(), oauth2pw.User{ID: "2", Username: "c"})
	}))
	_, err = users.UserByName(t.Context(), "b")
	require.NoError(t, err)

	clients, err := store.NewClients(oauth2pw.Client{ID: "a"})
	require.NoError(t, err)
	require.NoError(t, clients.Update(t.Context(), "a", func(c *oauth2pw.Client) error {
		c.Introspect = true
		return clients.Add(t.Context(), oauth2pw.Client{ID: "b"})
	}))
}

// TestConstructors: NewUsers and NewClients refuse what Add refuses.
func TestConstructors(t *testing.T) {
	_, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "a"}, oauth2pw.User{ID: "2", Username: "a"})
	require.ErrorIs(t, err, oauth2pw.ErrExists)
	_, err = store.NewUsers(oauth2pw.User{Username: "a"})
	require.Error(t, err)
	_, err = store.NewClients(oauth2pw.Client{})
	require.Error(t, err)
	_, err = store.NewClients(oauth2pw.Client{ID: "a"}, oauth2pw.Client{ID: "a"})
	require.ErrorIs(t, err, oauth2pw.ErrExists)
}

// TestCopies: no slice that goes into a store or comes out of it belongs to the store.
func TestCopies(t *testing.T) {
	scopes := []string{"me", "items"}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "a", Scopes: scopes})
	require.NoError(t, err)
	clients, err := store.NewClients(oauth2pw.Client{ID: "a", Scopes: scopes, Grants: scopes})
	require.NoError(t, err)
	for range 2 {
		scopes[0] = "admin"
		u, err := users.UserByName(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, []string{"me", "items"}, u.Scopes)
		c, err := clients.ClientByID(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, []string{"me", "items"}, c.Scopes)
		require.Equal(t, []string{"me", "items"}, c.Grants)
		u.Scopes[0], c.Scopes[0], c.Grants[0] = "admin", "admin", "admin"
		require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error {
			u.Scopes = []string{"me", "items"}
			scopes = u.Scopes
			return nil
		}))
		require.Error(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error {
			u.Scopes[0] = "admin"
			return errors.New("no")
		}))
		require.Error(t, clients.Update(t.Context(), "a", func(c *oauth2pw.Client) error {
			c.Scopes[0], c.Grants[0] = "admin", "admin"
			return errors.New("no")
		}))
	}
}

// TestSessionsBounded: a store that nobody sweeps does not grow without bound, a full one says so,
// and no live session goes.
//
// Conformance 131.
func TestSessionsBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := new(store.Sessions)
	create := func(id string, life time.Duration) error {
		return s.Create(t.Context(), &oauth2pw.Session{ID: id, UserID: id, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(life), ExpiresAt: now.Add(life)})
	}
	const live, dead = 1000, 50_000
	for i := range live {
		require.NoError(t, create(fmt.Sprint("live", i), 1000*24*time.Hour))
	}
	for i := range dead { // one a minute, each for a minute
		now = now.Add(time.Minute)
		require.NoError(t, create(fmt.Sprint("dead", i), time.Minute))
	}
	left := 0
	for i := range dead {
		if _, err := s.Get(t.Context(), fmt.Sprint("dead", i)); err == nil {
			left++
		}
	}
	t.Logf("%d of %d dead sessions are left", left, dead)
	require.Less(t, left, 24*60+(live+24*60)/2, "those of a day, and some")
	require.GreaterOrEqual(t, left, 24*60, "those of a day stay, for the reuse of their tokens")
	for i := range live {
		_, err := s.Get(t.Context(), fmt.Sprint("live", i))
		require.NoError(t, err)
	}

	s = &store.Sessions{MaxSessions: 3}
	for i := range 3 {
		require.NoError(t, create(fmt.Sprint(i), time.Hour))
	}
	err := create("3", time.Hour)
	require.ErrorContains(t, err, "MaxSessions")
	require.NotErrorIs(t, err, oauth2pw.ErrExists)
	now = now.Add(26 * time.Hour)
	require.NoError(t, create("3", time.Hour))
}

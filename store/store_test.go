package store_test

import (
	"testing"

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

func TestChanges(t *testing.T) {
	s, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "a"}, oauth2pw.User{ID: "2", Username: "b"})
	require.NoError(t, err)
	require.ErrorIs(t, s.Add(oauth2pw.User{ID: "1", Username: "c"}), store.ErrExists)
	require.ErrorIs(t, s.Add(oauth2pw.User{ID: "3", Username: "b"}), store.ErrExists)
	require.Error(t, s.Add(oauth2pw.User{Username: "c"}))
	require.ErrorIs(t, s.Update("1", func(u *oauth2pw.User) { u.Username = "b" }), store.ErrExists)
	require.NoError(t, s.Update("1", func(u *oauth2pw.User) { u.Username, u.ID = "c", "9" }))
	u, err := s.UserByName(t.Context(), "c")
	require.NoError(t, err)
	require.Equal(t, "1", u.ID)
	_, err = s.UserByName(t.Context(), "a")
	require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	require.NoError(t, s.Delete("1"))
	require.ErrorIs(t, s.Delete("1"), oauth2pw.ErrNotFound)
	require.ErrorIs(t, s.Update("1", func(*oauth2pw.User) {}), oauth2pw.ErrNotFound)
	_, err = store.NewClients(oauth2pw.Client{})
	require.Error(t, err)
	_, err = store.NewClients(oauth2pw.Client{ID: "a"}, oauth2pw.Client{ID: "a"})
	require.ErrorIs(t, err, store.ErrExists)
}

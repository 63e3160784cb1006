// Package store keeps users, clients and sessions in memory: for tests, examples, and
// single processes that may forget. Package store/sqlstore keeps them in a
// database.
//
// # How to wire it
//
//	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: hash})
//	clients, err := store.NewClients(oauth2pw.Client{ID: "webapp", Grants: []string{"password", "refresh_token"}})
//	sessions := new(store.Sessions)
//
// # Concurrency
//
// The stores are safe for concurrent use. What they take and give are copies,
// except for User.App.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.UserStore       = (*Users)(nil)
	_ oauth2pw.PasswordUpdater = (*Users)(nil)
	_ oauth2pw.ClientStore     = (*Clients)(nil)
)

// ErrExists is wrapped by the error for a user whose ID or name another one has,
// and for a client whose ID another one has.
var ErrExists = errors.New("exists already")

// Users are users in memory. The zero value is empty and ready.
type Users struct {
	mu     sync.RWMutex
	byID   map[string]oauth2pw.User
	byName map[string]string // the ID of a name, byte for byte
}

// NewUsers returns a store of these users. See [Users.Add].
func NewUsers(users ...oauth2pw.User) (*Users, error) {
	s := new(Users)
	for _, u := range users {
		if err := s.Add(u); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add adds a user, who must have an ID and a name that no other has.
func (s *Users) Add(u oauth2pw.User) error {
	if u.ID == "" || u.Username == "" {
		return errors.New("store: a user needs an ID and a Username")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.byID[u.ID]; taken {
		return fmt.Errorf("store: the user ID %q %w", u.ID, ErrExists)
	}
	if _, taken := s.byName[u.Username]; taken {
		return fmt.Errorf("store: the username %q %w", u.Username, ErrExists)
	}
	if s.byID == nil {
		s.byID, s.byName = make(map[string]oauth2pw.User), make(map[string]string)
	}
	s.byID[u.ID], s.byName[u.Username] = *copyUser(u), u.ID
	return nil
}

// Update changes a user, by ID, in one step: change gets the user as stored and
// edits it, except for the ID. The error wraps oauth2pw.ErrNotFound, or
// [ErrExists] for a new name that another user has.
func (s *Users) Update(id string, change func(u *oauth2pw.User)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.user(id)
	if err != nil {
		return err
	}
	oldName := u.Username
	change(u)
	u.ID = id
	if u.Username != oldName {
		if _, taken := s.byName[u.Username]; taken || u.Username == "" {
			return fmt.Errorf("store: the username %q %w, or is empty", u.Username, ErrExists)
		}
		delete(s.byName, oldName)
		s.byName[u.Username] = id
	}
	s.byID[id] = *copyUser(*u)
	return nil
}

// Delete removes a user, by ID. The error wraps oauth2pw.ErrNotFound.
func (s *Users) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, err := s.user(id)
	if err != nil {
		return err
	}
	delete(s.byID, id)
	delete(s.byName, u.Username)
	return nil
}

// UserByName implements oauth2pw.UserStore. Names are compared byte for byte.
func (s *Users) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	id, found := s.byName[name]
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	if !found {
		return nil, errNoUser
	}
	return s.user(id)
}

// UserByID implements oauth2pw.UserStore.
func (s *Users) UserByID(_ context.Context, id string) (*oauth2pw.User, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.user(id)
}

// UpdatePasswordHash implements oauth2pw.PasswordUpdater.
func (s *Users) UpdatePasswordHash(_ context.Context, id, old, new string, changed time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, found := s.byID[id]
	if !found || string(u.PasswordHash) != old {
		return false, nil
	}
	u.PasswordHash = oauth2pw.Secret(new)
	if !changed.IsZero() {
		u.SessionsValidFrom = changed
	}
	s.byID[id] = u
	return true, nil
}

var errNoUser = fmt.Errorf("store: user: %w", oauth2pw.ErrNotFound)

// user returns a copy of a user. The lock is held.
func (s *Users) user(id string) (*oauth2pw.User, error) {
	u, found := s.byID[id]
	if !found {
		return nil, errNoUser
	}
	return copyUser(u), nil
}

func copyUser(u oauth2pw.User) *oauth2pw.User {
	u.Scopes = slices.Clone(u.Scopes)
	return &u
}

// Clients are clients in memory. It does not change after it is made.
type Clients struct{ byID map[string]oauth2pw.Client }

// NewClients returns a store of these clients.
func NewClients(clients ...oauth2pw.Client) (*Clients, error) {
	s := &Clients{make(map[string]oauth2pw.Client, len(clients))}
	for _, c := range clients {
		if c.ID == "" {
			return nil, errors.New("store: a client needs an ID")
		}
		if c.SecretSHA256 != nil && len(c.SecretSHA256) != sha256.Size {
			return nil, fmt.Errorf("store: the SecretSHA256 of the client %q has %d bytes, not 32; nil is for a public client", c.ID, len(c.SecretSHA256))
		}
		if _, taken := s.byID[c.ID]; taken {
			return nil, fmt.Errorf("store: the client %q %w", c.ID, ErrExists)
		}
		s.byID[c.ID] = *copyClient(c)
	}
	return s, nil
}

// ClientByID implements oauth2pw.ClientStore.
func (s *Clients) ClientByID(_ context.Context, id string) (*oauth2pw.Client, error) {
	c, found := s.byID[id]
	if !found {
		return nil, fmt.Errorf("store: client: %w", oauth2pw.ErrNotFound)
	}
	return copyClient(c), nil
}

func copyClient(c oauth2pw.Client) *oauth2pw.Client {
	c.SecretSHA256 = slices.Clone(c.SecretSHA256)
	c.Grants, c.Scopes = slices.Clone(c.Grants), slices.Clone(c.Scopes)
	return &c
}

package store

import (
	"context"
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
)

// Users are users in memory. The zero value is empty and ready.
type Users struct {
	mu sync.RWMutex
	// A stored user is never written to: each change stores a new one. So an unchanged
	// pointer means an unchanged user.
	byID, byName map[string]*oauth2pw.User
}

// NewUsers returns a store of these users. See [Users.Add].
func NewUsers(users ...oauth2pw.User) (*Users, error) {
	s := new(Users)
	for _, u := range users {
		if err := s.Add(context.Background(), u); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add adds a user, who needs an ID and a Username. The error wraps oauth2pw.ErrExists if
// another user has one of them.
func (s *Users) Add(ctx context.Context, u oauth2pw.User) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if u.ID == "" || u.Username == "" {
		return errIncomplete
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[u.ID] != nil {
		return fmt.Errorf("store: the user ID %q %w", u.ID, oauth2pw.ErrExists)
	}
	if s.byName[u.Username] != nil {
		return nameTaken(u.Username)
	}
	if s.byID == nil {
		s.byID, s.byName = make(map[string]*oauth2pw.User), make(map[string]*oauth2pw.User)
	}
	s.put(copyUser(&u))
	return nil
}

// Update changes a user. change gets a copy and edits it, except for the ID. Update calls
// change without a lock, and again with the newer user if the user changes meanwhile. If
// change returns an error, nothing changes, and Update returns that error. Update's own errors
// wrap oauth2pw.ErrNotFound if there is no such user, and oauth2pw.ErrExists if another user
// has the new name.
//
// A new PasswordHash ends no sessions: set SessionsValidFrom too. For a hash that was made
// before the call use UpdatePasswordHash, which compares: the password may have changed
// since.
func (s *Users) Update(ctx context.Context, id string, change func(u *oauth2pw.User) error) error {
	for range updateTries {
		old, err := s.find(ctx, func() *oauth2pw.User { return s.byID[id] })
		if err != nil {
			return err
		}
		u := copyUser(old)
		if err := change(u); err != nil {
			return err
		}
		switch {
		case u.ID != id:
			return fmt.Errorf("store: the ID of the user %q cannot change", id)
		case u.Username == "":
			return errIncomplete
		}
		if replaced, err := s.replace(ctx, old, copyUser(u)); replaced || err != nil {
			return err
		}
	}
	return fmt.Errorf("store: the user %q changed each time it was read", id)
}

// replace stores u instead of old, and reports false if old is not there any more.
func (s *Users) replace(ctx context.Context, old, u *oauth2pw.User) (bool, error) {
	if err := ended(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[old.ID] != old {
		return false, nil
	}
	if other := s.byName[u.Username]; other != nil && other != old {
		return false, nameTaken(u.Username)
	}
	delete(s.byName, old.Username)
	s.put(u)
	return true, nil
}

// Delete removes a user. The error wraps oauth2pw.ErrNotFound if there is no such user.
//
// The sessions of the user stay: end them afterwards with Auth.EndAllSessions.
func (s *Users) Delete(ctx context.Context, id string) error {
	if err := ended(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byID[id]
	if u == nil {
		return errNoUser
	}
	delete(s.byID, id)
	delete(s.byName, u.Username)
	return nil
}

// UserByName implements oauth2pw.UserStore. Names are compared byte for byte.
func (s *Users) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	u, err := s.find(ctx, func() *oauth2pw.User { return s.byName[name] })
	if err != nil {
		return nil, err
	}
	return copyUser(u), nil
}

// UserByID implements oauth2pw.UserStore.
func (s *Users) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	u, err := s.find(ctx, func() *oauth2pw.User { return s.byID[id] })
	if err != nil {
		return nil, err
	}
	return copyUser(u), nil
}

// UpdatePasswordHash implements oauth2pw.PasswordUpdater.
func (s *Users) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	if err := ended(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.byID[id]
	if u == nil || string(u.PasswordHash) != old {
		return false, nil
	}
	u = copyUser(u)
	u.PasswordHash = oauth2pw.Secret(new)
	if !changed.IsZero() {
		u.SessionsValidFrom = changed
	}
	s.put(u)
	return true, nil
}

var (
	errNoUser     = fmt.Errorf("store: user: %w", oauth2pw.ErrNotFound)
	errIncomplete = errors.New("store: a user needs an ID and a Username")
)

func nameTaken(name string) error {
	return fmt.Errorf("store: the username %q %w", name, oauth2pw.ErrExists)
}

// find returns the stored user that get returns, which is called with the lock.
func (s *Users) find(ctx context.Context, get func() *oauth2pw.User) (*oauth2pw.User, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := get()
	if u == nil {
		return nil, errNoUser
	}
	return u, nil
}

// put stores a user. The lock is held.
func (s *Users) put(u *oauth2pw.User) { s.byID[u.ID], s.byName[u.Username] = u, u }

func copyUser(u *oauth2pw.User) *oauth2pw.User {
	c := *u
	c.Scopes = slices.Clone(u.Scopes)
	return &c
}

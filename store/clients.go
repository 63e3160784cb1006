package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.ClientStore = (*Clients)(nil)

// Clients are clients in memory. The zero value is empty and ready.
type Clients struct {
	mu   sync.RWMutex
	byID map[string]*oauth2pw.Client // never written to, as in Users
}

// NewClients returns a store of these clients. See [Clients.Add].
func NewClients(clients ...oauth2pw.Client) (*Clients, error) {
	s := new(Clients)
	for _, c := range clients {
		if err := s.Add(context.Background(), c); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Add adds a client, which needs an ID. Its SecretSHA256 has 32 bytes, or is nil. The error
// wraps oauth2pw.ErrExists if another client has the ID.
func (s *Clients) Add(ctx context.Context, c oauth2pw.Client) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if err := checkClient(&c); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[c.ID] != nil {
		return fmt.Errorf("store: the client %q %w", c.ID, oauth2pw.ErrExists)
	}
	if s.byID == nil {
		s.byID = make(map[string]*oauth2pw.Client)
	}
	s.byID[c.ID] = copyClient(&c)
	return nil
}

// Update changes a client. change gets a copy and edits it, except for the ID. Update calls
// change without a lock, and again with the newer client if the client changes meanwhile. If
// change returns an error, nothing changes, and Update returns that error. Update's own errors
// wrap oauth2pw.ErrNotFound if there is no such client.
func (s *Clients) Update(ctx context.Context, id string, change func(c *oauth2pw.Client) error) error {
	for range updateTries {
		old, err := s.find(ctx, id)
		if err != nil {
			return err
		}
		c := copyClient(old)
		if err := change(c); err != nil {
			return err
		}
		if c.ID != id {
			return fmt.Errorf("store: the ID of the client %q cannot change", id)
		}
		if err := checkClient(c); err != nil {
			return err
		}
		if replaced, err := s.replace(ctx, old, copyClient(c)); replaced || err != nil {
			return err
		}
	}
	return fmt.Errorf("store: the client %q changed each time it was read", id)
}

// replace stores c instead of old, and reports false if old is not there any more.
func (s *Clients) replace(ctx context.Context, old, c *oauth2pw.Client) (bool, error) {
	if err := ended(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[old.ID] != old {
		return false, nil
	}
	s.byID[c.ID] = c
	return true, nil
}

// Delete removes a client. The error wraps oauth2pw.ErrNotFound if there is no such client.
// The sessions of the client stay, and cannot be refreshed any more.
func (s *Clients) Delete(ctx context.Context, id string) error {
	if err := ended(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID[id] == nil {
		return errNoClient
	}
	delete(s.byID, id)
	return nil
}

// ClientByID implements oauth2pw.ClientStore.
func (s *Clients) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	c, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return copyClient(c), nil
}

var errNoClient = fmt.Errorf("store: client: %w", oauth2pw.ErrNotFound)

func (s *Clients) find(ctx context.Context, id string) (*oauth2pw.Client, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.byID[id]
	if c == nil {
		return nil, errNoClient
	}
	return c, nil
}

func checkClient(c *oauth2pw.Client) error {
	if c.ID == "" {
		return errors.New("store: a client needs an ID")
	}
	if c.SecretSHA256 != nil && len(c.SecretSHA256) != sha256.Size {
		return fmt.Errorf("store: the SecretSHA256 of the client %q has %d bytes, not 32; nil is for a public client", c.ID, len(c.SecretSHA256))
	}
	return nil
}

func copyClient(c *oauth2pw.Client) *oauth2pw.Client {
	n := *c
	n.SecretSHA256 = slices.Clone(c.SecretSHA256)
	n.Grants, n.Scopes = slices.Clone(c.Grants), slices.Clone(c.Scopes)
	return &n
}

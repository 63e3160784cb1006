package guides

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// people are users that another system writes, and that a login only reads.
type people struct{ byID, byName map[string]oauth2pw.User }

func (p people) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return find(ctx, p.byName, name)
}

func (p people) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return find(ctx, p.byID, id)
}

func find(ctx context.Context, users map[string]oauth2pw.User, key string) (*oauth2pw.User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // a failure, and never a miss
	}
	u, known := users[key]
	if !known {
		return nil, fmt.Errorf("people: %w", oauth2pw.ErrNotFound)
	}
	u.Scopes = slices.Clone(u.Scopes) // the result is a copy, and nil stays nil
	return &u, nil
}

func TestPeople(t *testing.T) {
	storetest.Users(t, func(_ *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		p := people{make(map[string]oauth2pw.User), make(map[string]oauth2pw.User)}
		for _, u := range users {
			p.byID[u.ID], p.byName[u.Username] = u, u
		}
		return p
	})
}

// document is a session in a database of documents. Version changes with every write.
type document struct {
	oauth2pw.Session
	Version int
}

// documents is a collection of a database that compares and sets one document at a time.
type documents interface {
	insert(ctx context.Context, d document) (added bool, err error)
	get(ctx context.Context, id string) (d document, found bool, err error)
	replace(ctx context.Context, d document) (replaced bool, err error) // if the Version is still that of d; it adds 1
	remove(ctx context.Context, d document) (removed bool, err error)   // if the Version is still that of d
	ofUser(ctx context.Context, userID string) ([]document, error)      // needs an index
	over(ctx context.Context, before time.Time, limit int) ([]document, error)
}

// docSessions is an oauth2pw.SessionStore over documents.
type docSessions struct{ docs documents }

func (s docSessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	added, err := s.docs.insert(ctx, document{Session: *n})
	if err == nil && !added {
		err = fmt.Errorf("docSessions: the session %w", oauth2pw.ErrExists)
	}
	return err
}

func (s docSessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	d, found, err := s.docs.get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("docSessions: session: %w", oauth2pw.ErrNotFound)
	}
	return &d.Session, nil
}

func (s docSessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	for {
		d, found, err := s.docs.get(ctx, n.ID)
		if err != nil || !found || d.Generation != from || !live(d, now) {
			return false, err
		}
		d.Generation, d.Forgiven = n.Generation, n.Forgiven
		d.AuthenticatedAt, d.RefreshedAt, d.IdleExpiresAt = n.AuthenticatedAt, n.RefreshedAt, n.IdleExpiresAt
		if replaced, err := s.docs.replace(ctx, d); replaced || err != nil {
			return replaced, err
		}
		// Somebody else has written, perhaps the end of the session: compare again.
	}
}

func live(d document, now time.Time) bool {
	return d.EndedAt.IsZero() && now.Before(d.IdleExpiresAt) && now.Before(d.ExpiresAt)
}

func (s docSessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	all, err := s.docs.ofUser(ctx, userID)
	if err != nil {
		return nil, err
	}
	var list []*oauth2pw.Session
	for _, d := range all {
		if live(d, now) {
			list = append(list, &d.Session)
		}
	}
	slices.SortFunc(list, func(a, b *oauth2pw.Session) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, nil
}

func (s docSessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	all, err := s.docs.ofUser(ctx, f.UserID)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range all {
		for found := true; found && d.EndedAt.IsZero(); {
			if f.ID != "" && d.ID != f.ID || f.Except != "" && d.ID == f.Except ||
				!f.AuthenticatedBefore.IsZero() && !d.AuthenticatedAt.Before(f.AuthenticatedBefore) {
				break
			}
			d.EndedAt, d.EndReason = now, reason
			replaced, err := s.docs.replace(ctx, d)
			if err != nil {
				return nil, err
			}
			if replaced {
				ids = append(ids, d.ID)
				break
			}
			if d, found, err = s.docs.get(ctx, d.ID); err != nil { // a refresh beside it
				return nil, err
			}
		}
	}
	return ids, nil
}

func (s docSessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	old, err := s.docs.over(ctx, before, limit)
	for _, d := range old {
		if _, err := s.docs.remove(ctx, d); err != nil {
			return 0, err
		}
	}
	return len(old), err
}

func TestDocSessions(t *testing.T) {
	open := func(*testing.T) oauth2pw.SessionStore {
		return docSessions{&inMemory{docs: make(map[string]document)}}
	}
	storetest.Sessions(t, open)
	storetest.Refreshes(t, open, 20)
}

// inMemory is documents in memory.
type inMemory struct {
	mu   sync.Mutex
	docs map[string]document
}

func (m *inMemory) insert(ctx context.Context, d document) (added bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, exists := m.docs[d.ID]; exists || ctx.Err() != nil {
		return false, ctx.Err()
	}
	m.docs[d.ID] = d
	return true, nil
}

func (m *inMemory) get(ctx context.Context, id string) (d document, found bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, found = m.docs[id]
	return d, found, ctx.Err()
}

func (m *inMemory) replace(ctx context.Context, d document) (replaced bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stored, exists := m.docs[d.ID]; !exists || stored.Version != d.Version || ctx.Err() != nil {
		return false, ctx.Err()
	}
	d.Version++
	m.docs[d.ID] = d
	return true, nil
}

func (m *inMemory) remove(ctx context.Context, d document) (removed bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if stored, exists := m.docs[d.ID]; !exists || stored.Version != d.Version || ctx.Err() != nil {
		return false, ctx.Err()
	}
	delete(m.docs, d.ID)
	return true, nil
}

func (m *inMemory) ofUser(ctx context.Context, userID string) (list []document, err error) {
	return m.all(ctx, func(d document) bool { return d.UserID == userID })
}

func (m *inMemory) over(ctx context.Context, before time.Time, limit int) ([]document, error) {
	list, err := m.all(ctx, func(d document) bool {
		return d.IdleExpiresAt.Before(before) || d.ExpiresAt.Before(before) || !d.EndedAt.IsZero() && d.EndedAt.Before(before)
	})
	return list[:min(len(list), limit)], err
}

func (m *inMemory) all(ctx context.Context, where func(d document) bool) (list []document, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.docs {
		if where(d) {
			list = append(list, d)
		}
	}
	return list, ctx.Err()
}

package storetest_test

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

// table is a store of an app's own: an oauth2pw.UserStore and an oauth2pw.PasswordUpdater.
type table struct {
	mu   sync.RWMutex
	rows []oauth2pw.User
}

var (
	_ oauth2pw.UserStore       = (*table)(nil)
	_ oauth2pw.PasswordUpdater = (*table)(nil)
)

func (t *table) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return t.find(ctx, func(u oauth2pw.User) bool { return u.Username == name })
}

func (t *table) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return t.find(ctx, func(u oauth2pw.User) bool { return u.ID == id })
}

func (t *table) find(ctx context.Context, match func(oauth2pw.User) bool) (*oauth2pw.User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := slices.IndexFunc(t.rows, match)
	if i < 0 {
		return nil, fmt.Errorf("table: %w", oauth2pw.ErrNotFound)
	}
	u := t.rows[i] // a copy
	return &u, nil
}

func (t *table) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.IndexFunc(t.rows, func(u oauth2pw.User) bool { return u.ID == id && u.PasswordHash == oauth2pw.Secret(old) })
	if i < 0 {
		return false, nil
	}
	t.rows[i].PasswordHash = oauth2pw.Secret(new)
	if !changed.IsZero() {
		t.rows[i].SessionsValidFrom = changed.UTC()
	}
	return true, nil
}

// The test of a store that an app writes.
func ExampleUsers() {
	test = func(t *testing.T) { // func TestUsers(t *testing.T) {
		storetest.Users(t, func(_ *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
			return &table{rows: users} // a new store with these users and no others
		})
	}
}

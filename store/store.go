// Package store keeps users, clients and sessions in memory: for tests, examples, and
// single processes that may forget. Package store/sqlstore keeps them in a
// database.
//
// # How to wire it
//
//	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
//	clients, err := store.NewClients(oauth2pw.Client{ID: "webapp", Grants: []string{"password", "refresh_token"}})
//	sessions := new(store.Sessions)
//
// The zero value of each store is empty and ready.
//
// # Concurrency
//
// The stores are safe for concurrent use. Arguments and results are copies, except for
// User.App.
package store

import (
	"context"
	"fmt"
)

// updateTries is the highest number of tries of an Update whose row others change.
const updateTries = 10

// ended returns an error if ctx has ended.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

package storetest_test

import (
	"testing"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// The test of a store of clients. An app writes its own store in place of package store.
func ExampleClients() {
	test = func(t *testing.T) { // func TestClients(t *testing.T) {
		storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
			s, err := store.NewClients(clients...) // a new store with these clients and no others
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	}
}

// The test of a store of sessions. A SessionStore passes Refreshes too.
func ExampleSessions() {
	test = func(t *testing.T) { // func TestSessions(t *testing.T) {
		storetest.Sessions(t, func(*testing.T) oauth2pw.SessionStore {
			return new(store.Sessions) // new and empty
		})
	}
}

// The test of a store of sessions under parallel requests. With a database a few rounds are
// enough; run them with -race too.
func ExampleRefreshes() {
	test = func(t *testing.T) { // func TestRefreshes(t *testing.T) {
		storetest.Refreshes(t, func(*testing.T) oauth2pw.SessionStore {
			return new(store.Sessions) // new and empty
		}, 10)
	}
}

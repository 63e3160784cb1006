package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The users of a small app, and one more at run time.
func ExampleNewUsers() {
	hash, err := hasher.Default().Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	users, err := store.NewUsers(
		oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)},
		oauth2pw.User{ID: "2", Username: "alice", Disabled: true},
	)
	if err != nil {
		log.Fatal(err)
	}
	err = users.Add(context.Background(), oauth2pw.User{ID: "3", Username: "johndoe"})
	fmt.Println(err, errors.Is(err, oauth2pw.ErrExists))

	u, err := users.UserByName(context.Background(), "johndoe") // as oauth2pw.Auth does
	fmt.Println(u.ID, err)
	_, err = users.UserByName(context.Background(), "JohnDoe")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// store: the username "johndoe" exists already true
	// 1 <nil>
	// true
}

// A sign-up adds a user. The password hash comes from oauth2pw.Auth.HashNewPassword.
func ExampleUsers_Add() {
	users := new(store.Users)
	ctx := context.Background()
	fmt.Println(users.Add(ctx, oauth2pw.User{ID: "1", Username: "johndoe"}))
	fmt.Println(users.Add(ctx, oauth2pw.User{ID: "2"}) != nil) // a user needs a name
	u, err := users.UserByID(ctx, "1")
	fmt.Println(u.Username, err)
	// Output:
	// <nil>
	// true
	// johndoe <nil>
}

// An administrator disables a user and takes a scope away.
func ExampleUsers_Update() {
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", Scopes: []string{"me", "admin"}})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()

	err = users.Update(ctx, "1", func(u *oauth2pw.User) error {
		u.Disabled = true
		u.Scopes = []string{"me"}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	u, err := users.UserByID(ctx, "1")
	fmt.Println(u.Disabled, u.Scopes, err)

	refused := errors.New("the last administrator")
	err = users.Update(ctx, "1", func(u *oauth2pw.User) error { // changes nothing
		u.Disabled = false
		return refused
	})
	fmt.Println(errors.Is(err, refused))
	// Output:
	// true [me] <nil>
	// true
}

// An app that changes a hash by a program of its own: only if the hash is still the old one.
func ExampleUsers_UpdatePasswordHash() {
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: "old"})
	if err != nil {
		log.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC) // refuses every login that is older
	for range 2 {
		written, err := users.UpdatePasswordHash(context.Background(), "1", "old", "new", now)
		fmt.Println(written, err)
	}
	u, err := users.UserByID(context.Background(), "1")
	fmt.Println(u.SessionsValidFrom.Equal(now), err)
	// Output:
	// true <nil>
	// false <nil>
	// true <nil>
}

// The end of an account. The sessions end by oauth2pw.Auth.EndAllSessions.
func ExampleUsers_Delete() {
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(users.Delete(context.Background(), "1"))
	err = users.Delete(context.Background(), "1")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// <nil>
	// true
}

// Two programs that log users in: one in the browser, which can keep no secret, and one on a
// server.
func ExampleNewClients() {
	secret, sum := oauth2pw.NewClientSecret()
	clients, err := store.NewClients(
		oauth2pw.Client{ID: "webapp", Grants: []string{"password", "refresh_token"}},
		oauth2pw.Client{ID: "website", Grants: []string{"password", "refresh_token"}, SecretSHA256: sum},
	)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(secret) // give string(secret) to the server
	c, err := clients.ClientByID(context.Background(), "webapp")
	fmt.Println(c.SecretSHA256 == nil, err)
	// Output:
	// [redacted]
	// true <nil>
}

// A client gets a new secret, and a client is removed.
func ExampleClients_Update() {
	clients := new(store.Clients)
	ctx := context.Background()
	_, sum := oauth2pw.NewClientSecret()
	if err := clients.Add(ctx, oauth2pw.Client{ID: "website", Grants: []string{"password"}, SecretSHA256: sum}); err != nil {
		log.Fatal(err)
	}

	_, next := oauth2pw.NewClientSecret()
	err := clients.Update(ctx, "website", func(c *oauth2pw.Client) error {
		c.SecretSHA256 = next
		c.Scopes = []string{"me"}
		return nil
	})
	fmt.Println(err)
	fmt.Println(clients.Delete(ctx, "website"))
	_, err = clients.ClientByID(ctx, "website")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// <nil>
	// <nil>
	// true
}

// The zero value of Sessions is ready. An Auth is the only caller of its methods: an app calls
// Auth.Sessions, Auth.EndSession and Auth.SweepSessions.
func ExampleSessions() {
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe"})
	if err != nil {
		log.Fatal(err)
	}
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: hasher.Default(), Issuer: jwt,
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()},
	})
	if err != nil {
		log.Fatal(err)
	}

	login, err := auth.Login(httptest.NewRequest("POST", "/signup", nil), "1", "")
	if err != nil {
		log.Fatal(err)
	}
	sessions, err := auth.Sessions(context.Background(), "1")
	fmt.Println(len(sessions), sessions[0].ID == login.SessionID, err)
	// Output: 1 true <nil>
}

// Tenants serves several customers from one process: each host has its own users, and an Auth
// of its own.
//
//	blue.example.com    the users and tokens of blue
//	green.example.com   the users and tokens of green
//
// Each tenant needs its own:
//
//   - issuer and signing key: a token of one tenant is refused at every other tenant
//   - users, sessions and secrets: with shared sessions and secrets, the refresh token of user 1
//     of blue would get the tokens of user 1 of green
//   - Config.Realm, which also separates the counts of a Config.Throttle that all tenants share
//
// All tenants share one hasher, because its memory is that of the machine.
//
// First ServeMux chooses the tenant by the host, next the Auth of the tenant checks the
// password or the token, and last the handler runs. A request for an unknown host gets 404.
//
// The built-in throttle counts for one Auth: wrong passwords at one tenant block no user of
// another tenant. An address may try the limit at each tenant.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// tenant is a customer. The files of a tenant are in a folder with its name.
type tenant struct {
	name, host string
	users      oauth2pw.UserStore
}

func main() {
	passwords := hasher.Default()
	blue, err := demoUsers(passwords, "blue secret")
	if err != nil {
		log.Fatal(err)
	}
	green, err := demoUsers(passwords, "green secret")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := routes(passwords, tenant{"blue", "blue.example.com", blue}, tenant{"green", "green.example.com", green})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler))
}

// routes returns the handlers of all tenants.
func routes(passwords *hasher.Hasher, tenants ...tenant) (http.Handler, error) {
	mux := http.NewServeMux()
	for _, t := range tenants {
		app, err := t.routes(passwords)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", t.name, err)
		}
		mux.Handle(t.host+"/", app)
	}
	return mux, nil
}

func (t tenant) routes(passwords *hasher.Hasher) (http.Handler, error) {
	if err := os.MkdirAll(t.name, 0o700); err != nil {
		return nil, err
	}
	jwt, err := tokens.Open(t.name+"/signing.jwk", "https://"+t.host, "https://"+t.host)
	if err != nil {
		return nil, err
	}
	secrets, err := oauth2pw.OpenSecrets(t.name + "/refresh.secret")
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: t.users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: secrets, Realm: t.name,
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("GET /hello", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintf(w, "hello, user %s of %s\n", p.Subject, t.name)
	})))
	return mux, nil
}

// demoUsers returns a store with one user, as in the table of a tenant.
func demoUsers(passwords *hasher.Hasher, password string) (*store.Users, error) {
	hash, err := passwords.Hash(context.Background(), password)
	if err != nil {
		return nil, err
	}
	return store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
}

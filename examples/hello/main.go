// Hello is the program of the README: a handler that only a logged-in user reaches.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

func main() {
	handler, err := routes()
	if err != nil {
		log.Fatal(err)
	}
	log.Println("listening on http://127.0.0.1:8000")
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler))
}

func routes() (http.Handler, error) {
	passwords := hasher.Default()
	hash, err := passwords.Hash(context.Background(), "secret") // as in your table of users
	if err != nil {
		return nil, err
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		return nil, err
	}
	jwt, err := tokens.Open("signing.jwk", "http://127.0.0.1:8000", "hello") // makes the key, mode 0600
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler()) // for every method: the handler answers preflights and wrong methods
	mux.Handle("GET /hello", auth.RequireBearer("me")(http.HandlerFunc(hello)))
	return mux, nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "hello, user %s\n", p.Subject)
}

// Addtoapp adds a login to an app that already has a table of users and a handler.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"net/http"

	_ "modernc.org/sqlite"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

func main() {
	db, err := sql.Open("sqlite", "file:app.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := routes(db)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler))
}

func routes(db *sql.DB) (http.Handler, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
		Table: "accounts", ID: "id", Username: "email", PasswordHash: "password", Disabled: "blocked",
	})
	if err != nil {
		return nil, err
	}
	passwords := hasher.Default()
	// A column of another type, and a hash that nobody reads, are found now, not at a login.
	found, err := users.Inspect(context.Background(), passwords.Reads, 1000)
	if err != nil {
		return nil, err
	}
	if found.Unreadable > 0 || found.FoldsNames {
		log.Printf("the table of users: %+v", found)
	}
	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /hello", auth.RequireBearer("me")(http.HandlerFunc(hello)))
	return mux, nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "hello, user %s\n", p.Subject)
}

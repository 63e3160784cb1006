// Shop is a small app: a greeting and a list of items.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
	_ "modernc.org/sqlite"
)

func main() {
	db := must(sql.Open("sqlite", "file:shop.db"))
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", newApp(db)))
}

// newApp reads the tables accounts (id, email, password) and items (name).
func newApp(db *sql.DB) http.Handler {
	users := must(sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
		Table: "accounts", ID: "id", Username: "email", PasswordHash: "password",
	}))
	jwt := must(tokens.Open("signing.jwk", "http://127.0.0.1:8000", "shop"))
	auth := must(oauth2pw.New(oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: jwt, DefaultScopes: []string{"me"}}))
	r := chi.NewRouter()
	r.Handle("/token", auth.TokenHandler())
	r.Get("/hello", hello)
	r.With(auth.RequireBearer("me")).Get("/items", items(db))
	return r
}

func hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "hello")
}

func items(db *sql.DB) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var list string // in JSON
		err := db.QueryRowContext(r.Context(), "SELECT json_group_array(name) FROM items").Scan(&list)
		if err != nil {
			http.Error(w, "The items cannot be read.", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, list)
	}
}

// must ends the program at an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// Shop is a small app: a greeting and a list of items.
package main

import (
	"database/sql"
	"fmt"
	"log"
	"net/http"

	"github.com/go-chi/chi/v5"
	_ "modernc.org/sqlite"
)

func main() {
	db := must(sql.Open("sqlite", "file:shop.db"))
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", newApp(db)))
}

// newApp reads the tables accounts (id, email, password) and items (name).
func newApp(db *sql.DB) http.Handler {
	r := chi.NewRouter()
	r.Get("/hello", hello)
	r.Get("/items", items(db))
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

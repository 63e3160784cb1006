// Shop is a small app: a greeting and a list of items.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
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
	bearer := func(c huma.Context, next func(huma.Context)) {
		in, w := humago.Unwrap(c)
		r, err := auth.CheckBearer(in, "me")
		if err != nil {
			auth.WriteError(w, in, err)
			return
		}
		next(huma.WithContext(c, r.Context()))
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	api := humago.New(mux, huma.DefaultConfig("shop", "1.0.0"))
	huma.Get(api, "/hello", hello)
	huma.Get(api, "/items", items(db), func(o *huma.Operation) { o.Middlewares = huma.Middlewares{bearer} })
	return mux
}

type output[T any] struct{ Body T }

func hello(context.Context, *struct{}) (*output[string], error) {
	return &output[string]{"hello"}, nil
}

func items(db *sql.DB) func(context.Context, *struct{}) (*output[json.RawMessage], error) {
	return func(ctx context.Context, _ *struct{}) (*output[json.RawMessage], error) {
		var list string // in JSON
		err := db.QueryRowContext(ctx, "SELECT json_group_array(name) FROM items").Scan(&list)
		if err != nil {
			return nil, huma.Error500InternalServerError("The items cannot be read.")
		}
		return &output[json.RawMessage]{json.RawMessage(list)}, nil
	}
}

// must ends the program at an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// Shop is a small app: a greeting and a list of items.
package main

import (
	"database/sql"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"
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
	bearer := func(c *gin.Context) {
		r, err := auth.CheckBearer(c.Request, "me")
		if err != nil {
			auth.WriteError(c.Writer, c.Request, err)
			c.Abort()
			return
		}
		c.Request = r
	}
	r := gin.New()
	r.Any("/token", gin.WrapH(auth.TokenHandler()))
	r.GET("/hello", hello)
	r.GET("/items", bearer, items(db))
	return r
}

func hello(c *gin.Context) {
	c.String(http.StatusOK, "hello\n")
}

func items(db *sql.DB) gin.HandlerFunc {
	return func(c *gin.Context) {
		var list string // in JSON
		err := db.QueryRowContext(c.Request.Context(), "SELECT json_group_array(name) FROM items").Scan(&list)
		if err != nil {
			c.String(http.StatusInternalServerError, "The items cannot be read.\n")
			return
		}
		c.Data(http.StatusOK, "application/json", []byte(list))
	}
}

// must ends the program at an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

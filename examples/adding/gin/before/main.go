// Shop is a small app: a greeting and a list of items.
package main

import (
	"database/sql"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"
	_ "modernc.org/sqlite"
)

func main() {
	db := must(sql.Open("sqlite", "file:shop.db"))
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", newApp(db)))
}

// newApp reads the tables accounts (id, email, password) and items (name).
func newApp(db *sql.DB) http.Handler {
	r := gin.New()
	r.GET("/hello", hello)
	r.GET("/items", items(db))
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

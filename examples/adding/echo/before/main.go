// Shop is a small app: a greeting and a list of items.
package main

import (
	"database/sql"
	"log"
	"net/http"

	"github.com/labstack/echo/v4"
	_ "modernc.org/sqlite"
)

func main() {
	db := must(sql.Open("sqlite", "file:shop.db"))
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", newApp(db)))
}

// newApp reads the tables accounts (id, email, password) and items (name).
func newApp(db *sql.DB) http.Handler {
	e := echo.New()
	e.GET("/hello", hello)
	e.GET("/items", items(db))
	return e
}

func hello(c echo.Context) error {
	return c.String(http.StatusOK, "hello\n")
}

func items(db *sql.DB) echo.HandlerFunc {
	return func(c echo.Context) error {
		var list string // in JSON
		err := db.QueryRowContext(c.Request().Context(), "SELECT json_group_array(name) FROM items").Scan(&list)
		if err != nil {
			return err
		}
		return c.JSONBlob(http.StatusOK, []byte(list))
	}
}

// must ends the program at an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

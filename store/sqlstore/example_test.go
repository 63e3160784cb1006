package sqlstore_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The wiring of an app with SQLite. The Examples of internal/integration run with a driver.
func ExampleNew() {
	// First the app opens the database. The driver needs an import: _ "modernc.org/sqlite".
	db, err := sql.Open("sqlite", "file:app.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	// Next, at every start, Migrate makes the tables or brings them up to date.
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}

	// Last the stores are plugs of the Config.
	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
	if err != nil {
		log.Fatal(err)
	}
	secrets, err := oauth2pw.OpenSecrets("refresh.secret")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: st.Users, Sessions: st.Sessions, Secrets: secrets,
		Hasher: hasher.Default(), Issuer: jwt, DefaultScopes: []string{"me"},
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = auth // auth.TokenHandler and auth.RequireBearer
}

// A table that the app has already. The first query names a column that the table does not have.
func ExampleNewUsers() {
	db, err := sql.Open("sqlite", "file:app.db?_pragma=busy_timeout(5000)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
		Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw_hash", Active: "active",
	})
	if err != nil {
		log.Fatal(err)
	}
	_ = oauth2pw.Config{Users: users}
}

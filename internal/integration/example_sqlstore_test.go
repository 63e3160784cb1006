package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The Examples of package sqlstore are here, because they need a driver, and the module of the
// library has none.

// The users are in a table that the app has already.
func Example_sqlstoreNewUsers() {
	db, stop := exampleDB()
	defer stop()
	ctx := context.Background()
	_, err := db.ExecContext(ctx, `
		CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, pw_hash TEXT, active BOOLEAN NOT NULL, roles TEXT);
		INSERT INTO accounts VALUES (7, 'john@example.com', '$2b$04$…', TRUE, 'me admin');`)
	if err != nil {
		log.Fatal(err)
	}

	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
		Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw_hash", Active: "active", Scopes: "roles",
	})
	if err != nil {
		log.Fatal(err)
	}
	u, err := users.UserByName(ctx, "john@example.com") // as oauth2pw.Auth does
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(u.ID, u.Scopes, u.Disabled, u.PasswordHash)
	_, err = users.UserByName(ctx, "alice@example.com")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// 7 [me admin] false [redacted]
	// true
}

// A table that another program has filled is inspected at the start, and not at the first login.
func Example_sqlstoreInspect() {
	db, stop := exampleDB()
	defer stop()
	ctx := context.Background()
	_, err := db.ExecContext(ctx, `
		CREATE TABLE accounts (id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE COLLATE NOCASE, pw_hash TEXT);
		INSERT INTO accounts VALUES (7, 'john@example.com', 'md5:5ebe2294ecd0e0f0'), (8, 'jane@example.com', NULL);`)
	if err != nil {
		log.Fatal(err)
	}
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw_hash"})
	if err != nil {
		log.Fatal(err)
	}
	found, err := users.Inspect(ctx, hasher.Default().Reads, 1000)
	fmt.Printf("%+v %v\n", found, err)
	// Output: {Users:2 NoPassword:1 Unreadable:1 Scopes:[] FoldsNames:true} <nil>
}

// The users and sessions are in the tables of the package, and a login survives a restart.
func Example_sqlstoreNew() {
	db, stop := exampleDB()
	defer stop()
	ctx := context.Background()

	// First, at every start of the app, Migrate makes the tables or brings them up to date.
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	if err := st.Users.Add(ctx, oauth2pw.User{ID: "1", Username: "johndoe"}); err != nil {
		log.Fatal(err)
	}

	// Next the stores are plugs of the Config, and a user logs in.
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	c := oauth2pw.Config{
		Users: st.Users, Clients: st.Clients, AllowNoClient: true, Sessions: st.Sessions,
		Hasher: hasher.Default(), Issuer: jwt, Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()},
	}
	auth, err := oauth2pw.New(c)
	if err != nil {
		log.Fatal(err)
	}
	login, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "")
	if err != nil {
		log.Fatal(err)
	}

	// Last the app starts again, with the same key, secret and database.
	if auth, err = oauth2pw.New(c); err != nil {
		log.Fatal(err)
	}
	p, err := auth.Verify(ctx, string(login.AccessToken))
	fmt.Println(p.Subject, err)
	// Output: 1 <nil>
}

// An app whose own tool changes the database takes the statements, and only checks them.
func Example_sqlstoreSchema() {
	db, stop := exampleDB()
	defer stop()
	ctx := context.Background()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite, Prefix: "login_"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.CheckSchema(ctx) == nil) // no tables yet

	statements := st.Schema(0) // of a new database; Schema(2) is for tables of version 2
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, statements); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.CheckSchema(ctx) == nil, st.Schema(sqlstore.SchemaVersion) == "")
	// Output:
	// false
	// true true
}

// An app manages its users: it disables a user, replaces a hash, and deletes the user.
func Example_sqlstoreUsersUpdate() {
	st, stop := exampleStore()
	defer stop()
	ctx := context.Background()
	if err := st.Users.Add(ctx, oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: "old"}); err != nil {
		log.Fatal(err)
	}
	err := st.Users.Add(ctx, oauth2pw.User{ID: "2", Username: "johndoe"})
	fmt.Println("exists:", errors.Is(err, oauth2pw.ErrExists))

	err = st.Users.Update(ctx, "1", func(u *oauth2pw.User) error {
		u.Disabled = true
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	u, err := st.Users.UserByID(ctx, "1")
	fmt.Println("disabled:", u.Disabled, err)

	written, err := st.Users.UpdatePasswordHash(ctx, "1", "old", "new", time.Now())
	fmt.Println("new hash:", written, err)
	fmt.Println("deleted:", st.Users.Delete(ctx, "1")) // and oauth2pw.Auth.EndAllSessions afterwards
	_, err = st.Users.UserByID(ctx, "1")
	fmt.Println("missing:", errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// exists: true
	// disabled: true <nil>
	// new hash: true <nil>
	// deleted: <nil>
	// missing: true
}

// An app manages its clients: it adds a client, gives it a new secret, and deletes it.
func Example_sqlstoreClientsUpdate() {
	st, stop := exampleStore()
	defer stop()
	ctx := context.Background()
	_, sum := oauth2pw.NewClientSecret()
	if err := st.Clients.Add(ctx, oauth2pw.Client{ID: "website", Grants: []string{"password"}, SecretSHA256: sum}); err != nil {
		log.Fatal(err)
	}

	_, next := oauth2pw.NewClientSecret()
	err := st.Clients.Update(ctx, "website", func(c *oauth2pw.Client) error {
		c.SecretSHA256 = next
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	c, err := st.Clients.ClientByID(ctx, "website")
	fmt.Println(bytes.Equal(c.SecretSHA256, next), err)
	fmt.Println(st.Clients.Delete(ctx, "website"))
	_, err = st.Clients.ClientByID(ctx, "website")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// true <nil>
	// <nil>
	// true
}

// exampleDB opens a new database.
func exampleDB() (db *sql.DB, stop func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	db, err = sql.Open("sqlite", sqliteDSN(filepath.Join(dir, "app.db")))
	if err != nil {
		log.Fatal(err)
	}
	return db, func() {
		db.Close()
		os.RemoveAll(dir)
	}
}

// exampleStore opens a new database with the tables of package sqlstore.
func exampleStore() (st *sqlstore.Store, stop func()) {
	db, stop := exampleDB()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		log.Fatal(err)
	}
	if err := st.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	return st, stop
}

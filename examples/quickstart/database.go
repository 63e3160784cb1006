package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// usersTable is the app's own table, with further columns that the library does not use. An
// id is never used twice. Names compare byte for byte.
const usersTable = `CREATE TABLE IF NOT EXISTS users (
	id            %s,
	username      %s NOT NULL UNIQUE,
	full_name     TEXT NOT NULL,
	email         TEXT NOT NULL,
	password_hash TEXT NOT NULL,
	disabled      BOOLEAN NOT NULL DEFAULT FALSE,
	scopes        TEXT,
	sessions_from BIGINT
)`

// types are the types of the columns id and username.
var types = map[sqlstore.Dialect][]any{
	sqlstore.SQLite:     {"INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT"},
	sqlstore.PostgreSQL: {"BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", `TEXT COLLATE "C"`},
	sqlstore.MySQL:      {"BIGINT AUTO_INCREMENT PRIMARY KEY", "VARBINARY(255)"},
}

// userTable names the columns that the library uses.
var userTable = sqlstore.UserTable{
	Table: "users", ID: "id", Username: "username", PasswordHash: "password_hash",
	Disabled: "disabled", Scopes: "scopes", SessionsValidFrom: "sessions_from",
}

// seed makes the tables and, in an empty database, the demo users and clients.
func seed(ctx context.Context, db *program.DB, h *hasher.Hasher) error {
	if err := migrate(ctx, db); err != nil {
		return err
	}
	makeUsers := fmt.Sprintf(usersTable, types[db.Dialect]...)
	if db.Dialect == sqlstore.MySQL { // which would commit the transaction
		if _, err := db.ExecContext(ctx, makeUsers); err != nil {
			return err
		}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()                    // does nothing after Commit
	if db.Dialect == sqlstore.PostgreSQL { // which makes a table once only if one process tries
		if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('quickstart'))"); err != nil {
			return err
		}
	}
	if db.Dialect != sqlstore.MySQL {
		if _, err := tx.ExecContext(ctx, makeUsers); err != nil {
			return err
		}
	}
	st, err := sqlstore.New(tx, sqlstore.Config{Dialect: db.Dialect})
	if err != nil {
		return err
	}
	// The client is the mark of a database with the demo users. Another process that adds it
	// waits for the end of this transaction.
	grants, scopes := []string{"password", "refresh_token"}, []string{"me", "items"}
	err = st.Clients.Add(ctx, oauth2pw.Client{ID: "webapp", Grants: grants, Scopes: scopes})
	if errors.Is(err, oauth2pw.ErrExists) {
		return tx.Commit()
	}
	if err != nil {
		return err
	}

	for _, u := range demo {
		hash, err := h.Hash(ctx, u.password)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			db.SQL("INSERT INTO users (username, full_name, email, password_hash, disabled, scopes) VALUES (?, ?, ?, ?, ?, ?)"),
			u.name, u.fullName, u.name+"@example.com", hash, u.disabled, "me items")
		if err != nil {
			return err
		}
	}
	for _, c := range []oauth2pw.Client{
		{ID: "backend", SecretSHA256: sum("backend-secret"), Grants: grants, Scopes: scopes, Introspect: true},
		{ID: "reports", SecretSHA256: sum("reports-secret"), Scopes: scopes, Introspect: true},
	} {
		if err := st.Clients.Add(ctx, c); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// migrate makes the tables of the library.
func migrate(ctx context.Context, db *program.DB) error {
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: db.Dialect})
	if err != nil {
		return err
	}
	return st.Migrate(ctx)
}

// demo are the users of FastAPI's tutorial.
var demo = []struct {
	name, fullName, password string
	disabled                 bool
}{
	{"johndoe", "John Doe", "secret", false},
	{"alice", "Alice Wonderson", "secret2", true},
}

// demoUsers returns lines with the passwords of the demo users that still exist.
func demoUsers(ctx context.Context, db *program.DB) string {
	text, label := "", "users: "
	for _, u := range demo {
		var disabled, changed bool
		err := db.QueryRowContext(ctx, db.SQL("SELECT disabled, sessions_from IS NOT NULL FROM users WHERE username = ?"), u.name).Scan(&disabled, &changed)
		if err != nil {
			continue // deleted
		}
		text += label + u.name + " / " + u.password
		if changed {
			text += " at first; the password has been changed: write the new one into the lines below"
		}
		if disabled {
			text += " (disabled)"
		}
		text, label = text+"\n", "       "
	}
	return text
}

// sum is for the public secrets of the demo. A real secret is random, from
// oauth2pw.NewClientSecret.
func sum(secret string) []byte {
	s := sha256.Sum256([]byte(secret))
	return s[:]
}

// administer changes a user. A server may run on the same database.
func administer(ctx context.Context, o *options, stdout io.Writer) error {
	if !strings.Contains(o.DB, "://") {
		if _, err := os.Stat(o.DB); err != nil { // Open would make the file
			return fmt.Errorf("the database: %w", err)
		}
	}
	db, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	id, err := change(ctx, db, o.admin)
	if err != nil {
		return err
	}
	if o.redis != "" && o.admin.verb != "enable" {
		shared, err := openShared(ctx, o, db)
		if err != nil {
			return err
		}
		defer shared.close()
		if _, err := shared.sessions.End(ctx, oauth2pw.SessionFilter{UserID: id}, "user_"+o.admin.verb+"d", time.Now()); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "%sd %s\n", o.admin.verb, o.admin.username)
	return nil
}

// change changes the user and ends the sessions of the database in one transaction, without an
// Auth: a session ends in the store, and this needs no key. id is that of the user.
func change(ctx context.Context, db *program.DB, c *adminCommand) (id string, err error) {
	failed := func(err error) (string, error) { return "", fmt.Errorf("the database %s: %w", db.Name, err) }
	if err := migrate(ctx, db); err != nil {
		return failed(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return failed(err)
	}
	defer tx.Rollback() // does nothing after Commit
	err = tx.QueryRowContext(ctx, db.SQL("SELECT id FROM users WHERE username = ?"), c.username).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("no user %q in %s", c.username, db.Name)
	}
	if err != nil {
		return failed(err)
	}
	statement := map[string]string{
		"disable": "UPDATE users SET disabled = TRUE WHERE id = ?",
		"enable":  "UPDATE users SET disabled = FALSE WHERE id = ?",
		"delete":  "DELETE FROM users WHERE id = ?",
	}[c.verb]
	if _, err := tx.ExecContext(ctx, db.SQL(statement), id); err != nil {
		return failed(err)
	}
	if c.verb != "enable" {
		st, err := sqlstore.New(tx, sqlstore.Config{Dialect: db.Dialect})
		if err != nil {
			return failed(err)
		}
		if _, err := st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: id}, "user_"+c.verb+"d", time.Now()); err != nil {
			return failed(err)
		}
	}
	if err := tx.Commit(); err != nil {
		return failed(err)
	}
	return id, nil
}

// profile has the columns of a user that belong to the app.
type profile struct {
	Username string `json:"username"`
	FullName string `json:"full_name"`
	Email    string `json:"email"`
	Disabled bool   `json:"disabled"`
}

func readProfile(ctx context.Context, db *program.DB, id string) (p profile, err error) {
	err = db.QueryRowContext(ctx, db.SQL("SELECT username, full_name, email, disabled FROM users WHERE id = ?"), id).
		Scan(&p.Username, &p.FullName, &p.Email, &p.Disabled)
	return p, err
}

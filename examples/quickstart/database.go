package main

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// usersTable is the app's own table, with further columns that the library does not use. An
// id is never used twice.
const usersTable = `CREATE TABLE IF NOT EXISTS users (
	id            INTEGER PRIMARY KEY AUTOINCREMENT,
	username      TEXT NOT NULL UNIQUE,
	full_name     TEXT NOT NULL,
	email         TEXT NOT NULL,
	password_hash TEXT NOT NULL,
	disabled      BOOLEAN NOT NULL DEFAULT 0,
	scopes        TEXT,
	sessions_from INTEGER
)`

// userTable names the columns that the library uses.
var userTable = sqlstore.UserTable{
	Table: "users", ID: "id", Username: "username", PasswordHash: "password_hash",
	Disabled: "disabled", Scopes: "scopes", SessionsValidFrom: "sessions_from",
}

// seed makes the tables and, in an empty database, the demo users and clients.
func seed(ctx context.Context, db *sql.DB, h *hasher.Hasher) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	st, err := sqlstore.New(tx, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, usersTable); err != nil {
		return err
	}
	switch _, err := st.Clients.ClientByID(ctx, "webapp"); {
	case err == nil:
		return tx.Commit()
	case !errors.Is(err, oauth2pw.ErrNotFound):
		return err
	}

	for _, u := range demo {
		hash, err := h.Hash(ctx, u.password)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx,
			"INSERT INTO users (username, full_name, email, password_hash, disabled, scopes) VALUES (?, ?, ?, ?, ?, ?)",
			u.name, u.fullName, u.name+"@example.com", hash, u.disabled, "me items")
		if err != nil {
			return err
		}
	}
	grants, scopes := []string{"password", "refresh_token"}, []string{"me", "items"}
	for _, c := range []oauth2pw.Client{
		{ID: "webapp", Grants: grants, Scopes: scopes},
		{ID: "backend", SecretSHA256: sum("backend-secret"), Grants: grants, Scopes: scopes, Introspect: true},
		{ID: "reports", SecretSHA256: sum("reports-secret"), Scopes: scopes, Introspect: true},
	} {
		if err := st.Clients.Add(ctx, c); err != nil {
			return err
		}
	}
	return tx.Commit()
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
func demoUsers(ctx context.Context, db *sql.DB) string {
	text, label := "", "users: "
	for _, u := range demo {
		var disabled, changed bool
		err := db.QueryRowContext(ctx, "SELECT disabled, sessions_from IS NOT NULL FROM users WHERE username = ?", u.name).Scan(&disabled, &changed)
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
	if _, err := os.Stat(o.DB); err != nil { // OpenDB would make the file
		return fmt.Errorf("the database: %w", err)
	}
	db, err := program.OpenDB(ctx, o.DB)
	if err != nil {
		return err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("the database %s: %w", o.DB, err)
	}
	defer tx.Rollback() // does nothing after Commit
	statement := map[string]string{
		"disable": "UPDATE users SET disabled = 1 WHERE username = ? RETURNING id",
		"enable":  "UPDATE users SET disabled = 0 WHERE username = ? RETURNING id",
		"delete":  "DELETE FROM users WHERE username = ? RETURNING id",
	}[o.admin.verb]
	var id string
	err = tx.QueryRowContext(ctx, statement, o.admin.username).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("no user %q in %s", o.admin.username, o.DB)
	}
	if err == nil && o.admin.verb != "enable" {
		err = endSessions(ctx, tx, id, "user_"+o.admin.verb+"d")
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return fmt.Errorf("the database %s: %w", o.DB, err)
	}
	fmt.Fprintf(stdout, "%sd %s\n", o.admin.verb, o.admin.username)
	return nil
}

// endSessions ends a user's sessions without an Auth: a session ends in the store, and this
// needs no key.
func endSessions(ctx context.Context, db sqlstore.DB, userID, reason string) error {
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	_, err = st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: userID}, reason, time.Now())
	return err
}

// profile has the columns of a user that belong to the app.
type profile struct {
	Username string `json:"username"`
	FullName string `json:"full_name"`
	Email    string `json:"email"`
	Disabled bool   `json:"disabled"`
}

func readProfile(ctx context.Context, db *sql.DB, id string) (p profile, err error) {
	err = db.QueryRowContext(ctx, "SELECT username, full_name, email, disabled FROM users WHERE id = ?", id).
		Scan(&p.Username, &p.FullName, &p.Email, &p.Disabled)
	return p, err
}

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// First openDB opens the file and makes the tables. Next userTable names the columns that
// the library reads; the other columns belong to the app. Last readUser reads the columns
// of the app, and write changes them.

// usersTable is the app's own table. An id is never used twice. Times are Unix microseconds.
//
// An app must encrypt totp_secret with a key that is not in the database: unlike a password,
// a secret of TOTP cannot be stored as a hash.
const usersTable = `CREATE TABLE IF NOT EXISTS users (
	id              INTEGER PRIMARY KEY AUTOINCREMENT,
	email           TEXT NOT NULL UNIQUE,         -- as foldEmail returns it
	email_verified  BOOLEAN NOT NULL DEFAULT 0,
	email_version   INTEGER NOT NULL DEFAULT 0,   -- grows with every verified address
	password_hash   TEXT NOT NULL,
	disabled        BOOLEAN NOT NULL DEFAULT 0,
	totp_secret     TEXT,                         -- base32; NULL: none
	totp_on         BOOLEAN NOT NULL DEFAULT 0,   -- 0: the secret is not confirmed
	totp_step       INTEGER NOT NULL DEFAULT 0,   -- the time step of the last used code
	sessions_from   INTEGER,                      -- the last change of the password
	reset_mailed_at INTEGER NOT NULL DEFAULT 0,
	signups         INTEGER NOT NULL DEFAULT 1,   -- how often somebody signed up with the address
	created_at      INTEGER NOT NULL
)`

// userTable names the columns that the library uses.
var userTable = sqlstore.UserTable{
	Table: "users", ID: "id", Username: "email", PasswordHash: "password_hash",
	Disabled: "disabled", SessionsValidFrom: "sessions_from",
}

// openDB opens a SQLite file, or a database in memory, and makes the tables.
func openDB(ctx context.Context, file string) (*sql.DB, error) {
	db, err := program.OpenDB(ctx, file)
	if err != nil {
		return nil, err
	}
	if err := makeTables(ctx, db); err != nil {
		db.Close()
		return nil, fmt.Errorf("the database %s: %w", file, err)
	}
	return db, nil
}

func makeTables(ctx context.Context, db *sql.DB) error {
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
	return tx.Commit()
}

// user has the columns that the library does not read.
type user struct {
	email      string
	verified   bool
	version    int64  // email_version
	totpSecret string // "": none
	totpOn     bool
	validFrom  int64 // sessions_from; 0: the password was never changed
}

// readUser returns a user by ID. The error is sql.ErrNoRows for a user who was deleted.
func (a *app) readUser(ctx context.Context, id string) (u user, err error) {
	err = a.db.QueryRowContext(ctx, `SELECT email, email_verified, email_version, COALESCE(totp_secret, ''), totp_on, COALESCE(sessions_from, 0)
		FROM users WHERE id = ?`, id).Scan(&u.email, &u.verified, &u.version, &u.totpSecret, &u.totpOn, &u.validFrom)
	return u, err
}

// caller returns the user of a request with a token. A user who was deleted after the check
// of the token is answered as an invalid token.
func (a *app) caller(r *http.Request) (id string, u user, err error) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	u, err = a.readUser(r.Context(), p.Subject)
	if errors.Is(err, sql.ErrNoRows) {
		err = &oauth2pw.Error{Code: "invalid_token"}
	}
	return p.Subject, u, err
}

// write runs a statement and reports whether a row has changed.
func (a *app) write(ctx context.Context, statement string, args ...any) (bool, error) {
	result, err := a.db.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

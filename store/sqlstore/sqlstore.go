// Package sqlstore keeps users, clients and sessions in a database that the app has
// opened through database/sql, or reads the users from a table that the app has
// already. The app brings the driver.
//
// # How to wire it
//
// With a table of the app's own:
//
//	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{
//		Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw_hash", Disabled: "disabled",
//	})
//
// With the tables of this package, made by Migrate:
//
//	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
//	err = st.Migrate(ctx)
//	auth, err := oauth2pw.New(oauth2pw.Config{Users: st.Users, Clients: st.Clients, Sessions: st.Sessions, …})
//
// # SQLite
//
// Open the database with a busy time-out, in WAL mode and with synchronous=NORMAL. The driver
// decides the form (modernc.org/sqlite:
// "file:app.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)").
// A wait for another process does not end with the context: the busy time-out is at most the
// oauth2pw.Config.StoreTimeout, 5 seconds.
// SQLite has one writer at a time: the writes of a Store wait for each other here,
// in the order of their calls, and for the writes of others by the busy time-out.
//
// # PostgreSQL and MySQL
//
// Reads and writes go through the pool of the *sql.DB. The drivers jackc/pgx (stdlib) and
// lib/pq are tested with PostgreSQL, and go-sql-driver/mysql with MariaDB. The DSN of MySQL
// needs clientFoundRows=true&innodb_lock_wait_timeout=2&lock_wait_timeout=2, which Migrate checks;
// with interpolateParams=true a statement is one round trip and not three.
//
// # Concurrency
//
// The stores are safe for concurrent use if their DB is: a *sql.DB is, a *sql.Tx is not.
// Every statement has an index and a context.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"reflect"
	"strings"
)

// DB has the methods of a *sql.DB, *sql.Conn or *sql.Tx that the stores need.
type DB interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// updateTries is the highest number of tries of an Update whose row others change.
const updateTries = 10

// Config has the settings of a Store. Dialect is required.
type Config struct {
	Dialect Dialect
	// Prefix begins the names of the tables: letters, digits and "_". Empty:
	// "oauth2pw_".
	Prefix string
}

// Store is the stores over the tables of this package.
type Store struct {
	Users    *Users
	Clients  *Clients
	Sessions *Sessions

	db     database
	schema schema
}

// New returns the stores over a database. New does not use the database. The error names the
// setting that is wrong.
func New(db DB, c Config) (*Store, error) {
	d, err := newDatabase(db, c.Dialect)
	if err != nil {
		return nil, err
	}
	if c.Prefix == "" {
		c.Prefix = "oauth2pw_"
	}
	if strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return nil, errors.New("sqlstore: Config.Prefix may hold letters, digits and _")
	}
	if len(c.Prefix) > 40 {
		return nil, errors.New("sqlstore: Config.Prefix is longer than 40 characters: databases cut the names of tables and indexes")
	}
	users, err := newUsers(d, UserTable{
		Table: c.Prefix + "users", ID: "id", Username: "username", PasswordHash: "password_hash",
		Disabled: "disabled", Scopes: "scopes", SessionsValidFrom: "sessions_from",
	})
	if err != nil {
		return nil, err
	}
	migrating := d
	migrating.prepared = nil // the statements of a schema are run once
	return &Store{
		Users:    users,
		Clients:  newClients(d, c.Prefix+"clients"),
		Sessions: newSessions(d, c.Prefix+"sessions"),
		db:       d,
		schema:   schema{migrating, c.Prefix},
	}, nil
}

// scanError is an error of a Scan without the value that it could not convert, which may be
// a password hash: database/sql quotes it.
func scanError(err error) error {
	const mark = "sql: Scan error on column index "
	text := err.Error()
	if !strings.HasPrefix(text, mark) {
		return err
	}
	index, _, _ := strings.Cut(strings.TrimPrefix(text, mark), ",")
	return errors.New("column " + index + " of the query, counted from 0, has a value of another type than it should")
}

// usable reports an error for a database that is nil, or a nil *sql.DB and the like.
func usable(db DB) error {
	if v := reflect.ValueOf(db); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("sqlstore: the DB is nil")
	}
	return nil
}

var errZeroStore = errors.New("sqlstore: a zero store: it is made by New or NewUsers")

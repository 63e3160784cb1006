// Importusers reads users with the password hashes of another system into the tables of
// sqlstore:
//
//	go run ./examples/importusers users.db <users.csv
//
// No user has to reset a password: a login replaces each old hash by a new hash.
//
// The CSV has a line for each user: id, username, hash, and optionally the scopes with
// spaces between. A bad line is reported on stderr, and the other lines are imported; the
// exit status is then 1. The program may run again: the line of an existing user is bad.
package main

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	_ "modernc.org/sqlite"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: importusers DATABASE <USERS.csv")
		os.Exit(2)
	}
	db, err := sql.Open("sqlite", "file:"+os.Args[1]+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err == nil {
		defer db.Close()
		err = importUsers(context.Background(), db, os.Stdin, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "importusers:", err)
		os.Exit(1)
	}
}

const (
	batch    = 1000 // users in a transaction
	patience = 2 * time.Second
)

// importUsers imports all valid lines. Each bad line is written to log, and from time to time
// the number of imported users.
func importUsers(ctx context.Context, db *sql.DB, from io.Reader, log io.Writer) error {
	h := hasher.Default()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	in := csv.NewReader(from)
	in.FieldsPerRecord = -1
	imported, bad, told := 0, 0, time.Now()
	for done := false; !done; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		inTx, err := sqlstore.New(tx, sqlstore.Config{Dialect: sqlstore.SQLite})
		if err != nil {
			return err
		}
		good := 0
		for good < batch {
			fields, err := in.Read()
			if errors.Is(err, io.EOF) {
				done = true
				break
			}
			line := 0
			if parse := (*csv.ParseError)(nil); errors.As(err, &parse) {
				line = parse.StartLine
			} else if err != nil {
				return errors.Join(err, tx.Rollback())
			} else {
				line, _ = in.FieldPos(0)
				err = importUser(ctx, inTx, h, fields)
			}
			if err != nil {
				fmt.Fprintf(log, "line %d: %v\n", line, err)
				bad++
				continue
			}
			good++
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("after %d users: %w", imported, err)
		}
		imported += good
		if now := time.Now(); now.Sub(told) > patience {
			fmt.Fprintf(log, "%d users so far\n", imported)
			told = now
		}
	}
	fmt.Fprintf(log, "%d users imported, %d lines not\n", imported, bad)
	if bad > 0 {
		return errors.New("some lines could not be imported")
	}
	return nil
}

func importUser(ctx context.Context, st *sqlstore.Store, h *hasher.Hasher, fields []string) error {
	if len(fields) < 3 || len(fields) > 4 {
		return fmt.Errorf("%d fields; want id, username, hash and perhaps scopes", len(fields))
	}
	u := oauth2pw.User{ID: fields[0], Username: fields[1], PasswordHash: oauth2pw.Secret(fields[2])}
	if len(fields) == 4 {
		u.Scopes = strings.Fields(fields[3])
	}
	if !h.Reads(fields[2]) {
		return fmt.Errorf("the hash of user %q is of no format that can be verified, or costs too much", u.ID)
	}
	return st.Users.Add(ctx, u)
}

// Importusers reads users with the password hashes of another system into the tables of
// sqlstore:
//
//	go run ./examples/importusers users.db <users.csv
//
// No user has to reset a password: a login replaces each old hash by a new hash.
//
// The CSV has a line for each user: id, username, hash, and optionally the scopes with
// spaces between. First each hash is read, and mended if the change is safe (diagnose.go); next
// the users are added, a thousand in a transaction; last stderr has the sum. A bad line is
// reported on stderr with its number and the reason, and the other lines are imported; the exit
// status is then 1. With -rejected FILE the bad lines are written to a CSV, to be mended by
// hand and imported later.
//
// The program may be interrupted and may run again: a user of the same ID and name is left as
// it is.
package main

import (
	"context"
	"database/sql"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	_ "modernc.org/sqlite"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

func main() {
	rejected := flag.String("rejected", "", "a new `file` for the bad lines")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: importusers [-rejected FILE] DATABASE <USERS.csv")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Arg(0), *rejected); err != nil {
		fmt.Fprintln(os.Stderr, "importusers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file, rejected string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	if err != nil {
		return err
	}
	defer db.Close()
	out := io.Discard
	if rejected != "" {
		// Never over an older file, which may have lines that are not mended yet.
		f, err := os.OpenFile(rejected, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	return importUsers(ctx, db, os.Stdin, os.Stderr, out)
}

const (
	batch    = 1000 // lines in a transaction
	patience = 2 * time.Second
)

// importer reads lines and counts them.
type importer struct {
	in       *csv.Reader
	log      io.Writer
	rejected *csv.Writer
	hasher   *hasher.Hasher

	imported, mended, present, bad int
}

// importUsers imports all valid lines. Each bad line is written to log, and from time to time
// the number of imported users; its fields are written to rejected.
func importUsers(ctx context.Context, db *sql.DB, from io.Reader, log, rejected io.Writer) error {
	h, err := hasher.New(hasher.Config{Schemes: schemes()})
	if err != nil {
		return err
	}
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	if err := st.Migrate(ctx); err != nil {
		return err
	}
	m := &importer{in: csv.NewReader(from), log: log, rejected: csv.NewWriter(rejected), hasher: h}
	m.in.FieldsPerRecord = -1
	for reported, done := time.Now(), false; !done; {
		stored := m.imported
		if done, err = m.batch(ctx, db); err != nil {
			if ctx.Err() != nil { // the error is one of its consequences
				err = ctx.Err()
			}
			return fmt.Errorf("after %d users, which are stored: %w", stored, err)
		}
		if now := time.Now(); now.Sub(reported) > patience {
			fmt.Fprintf(log, "%d users so far\n", m.imported)
			reported = now
		}
	}
	fmt.Fprintf(log, "%d users imported, %d of them mended; %d were there already; %d lines not imported\n", m.imported, m.mended, m.present, m.bad)
	if m.bad > 0 {
		return errors.New("some lines could not be imported")
	}
	return nil
}

// batch imports some lines in one transaction.
func (m *importer) batch(ctx context.Context, db *sql.DB) (done bool, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	st, err := sqlstore.New(tx, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return false, err
	}
	for range batch {
		fields, err := m.in.Read()
		var broken *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			done = true
		case errors.As(err, &broken):
			m.reject(broken.StartLine, fields, err)
		case err != nil:
			return false, err
		default:
			line, _ := m.in.FieldPos(0)
			if err := m.user(ctx, st, line, fields); err != nil {
				return false, fmt.Errorf("line %d: %w", line, err)
			}
		}
		if done {
			break
		}
	}
	m.rejected.Flush()
	return done, errors.Join(tx.Commit(), m.rejected.Error())
}

// user imports the user of a line. The error means that the database failed.
func (m *importer) user(ctx context.Context, st *sqlstore.Store, line int, fields []string) error {
	if len(fields) < 3 || len(fields) > 4 {
		m.reject(line, fields, fmt.Errorf("%d fields; want id, username, hash and perhaps scopes", len(fields)))
		return nil
	}
	u := oauth2pw.User{ID: fields[0], Username: fields[1]}
	if u.ID == "" || u.Username == "" {
		m.reject(line, fields, errors.New("the id or the username is empty"))
		return nil
	}
	if len(fields) == 4 {
		u.Scopes = strings.Fields(fields[3])
	}
	hash, note, err := mend(fields[2], m.hasher.Reads)
	if err != nil {
		m.reject(line, fields, fmt.Errorf("user %q: %w", u.ID, err))
		return nil
	}
	u.PasswordHash = oauth2pw.Secret(hash)
	err = st.Users.Add(ctx, u)
	switch {
	case err == nil:
		m.imported++
		if note != "" {
			m.mended++
			fmt.Fprintf(m.log, "line %d: user %q: mended: %s\n", line, u.ID, note)
		}
	case errors.Is(err, oauth2pw.ErrExists):
		same, err := st.Users.UserByID(ctx, u.ID)
		if err != nil && !errors.Is(err, oauth2pw.ErrNotFound) {
			return err
		}
		if err == nil && same.Username == u.Username {
			m.present++
		} else {
			m.reject(line, fields, fmt.Errorf("user %q: another user has this ID or this name", u.ID))
		}
	default:
		return err
	}
	return nil
}

// reject reports a line without its hash, and keeps the line.
func (m *importer) reject(line int, fields []string, reason error) {
	m.bad++
	fmt.Fprintf(m.log, "line %d: %v\n", line, reason)
	if len(fields) > 0 {
		_ = m.rejected.Write(fields) // Flush and Error report a failure
	}
}

package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Dialect is a kind of database. The zero Dialect is an error of New and NewUsers.
type Dialect int

// The dialects. MySQL is MySQL and MariaDB: MySQL 9.7 and MariaDB 10.11 and 11.8 are tested,
// PostgreSQL 15 and 17, and SQLite from 3.35.
const (
	SQLite Dialect = iota + 1
	PostgreSQL
	MySQL
)

// dialect has the differences between the databases. A statement is written once, with "?" for
// an argument and with the parts of the dialect in it.
type dialect struct {
	quoted  string // the quote of an identifier
	numbers bool   // an argument is $1, not ?
	turns   bool   // one writer at a time: the writes of a store wait for each other
	// prepares: a statement is prepared once, because the driver prepares it at each call. The
	// drivers of servers have a setting for it.
	prepares bool

	onConflict string // after an INSERT: a row that is there already is no error
	same       string // the operator that compares NULL, too
	textOf     string // the bytes of a column as text, without a collation; %s is the column
	idOf       string // the same for an id, whose type may have a text of its own; "": textOf
	returning  bool   // UPDATE … RETURNING
	joins      bool   // UPDATE … JOIN and DELETE … LIMIT, and none by a list of ids that another query reads
	rereads    bool   // the WHERE of an UPDATE may read its own table
	locks      string // after a SELECT of a sweep: locks the rows in its order, so that two sweeps have the same; "": one writer at a time

	// code returns the code of an error of the server: its SQLSTATE, or the number of MySQL.
	code       func(err error) string
	exists     []string // codes: a row with this key is there already
	conflicts  []string // codes: the statement has changed nothing, and may run again
	impossible []string // codes: no row can have this key, such as a word for an integer

	noNUL      bool     // a text has no NUL, and is UTF-8: the error is that of an impossible key
	rowNumbers []string // names, in lower case, that every table has for the number of a row
	textTimes  error    // the error for a time that the driver returns as a text; nil: a text is converted
	padded     string   // the type of texts that the database fills with spaces; "": none
	zoneless   string   // the type of times that the database shifts by the zone of a session; "": none

	steps        []step
	before       func(ctx context.Context, s schema, db DB, version int) (statements string, err error) // statements that old tables need before a step; nil: none
	versionTable string                                                                                 // a statement that makes the table of the version
	hasVersion   string                                                                                 // a query: is the table of the version there?
	// check returns an error for a connection with a setting that breaks a store; nil: none does.
	check func(ctx context.Context, s schema) error
	// locked calls work while no other process migrates, in a transaction if the database can
	// roll back the changes of tables.
	locked func(ctx context.Context, s schema, work func(DB) error) error
}

// step brings the tables from one version to another.
type step struct {
	from, to   int
	statements string
	hasRun     string // a query: have the statements run before a crash? "": they can run again, or are undone
}

func (d Dialect) parts() (*dialect, error) {
	switch d {
	case SQLite:
		return &sqlite, nil
	case PostgreSQL:
		return &postgreSQL, nil
	case MySQL:
		return &mySQL, nil
	default:
		return nil, errors.New("sqlstore: the Dialect is missing: SQLite, PostgreSQL or MySQL")
	}
}

// quote makes an identifier of a name.
func (d *dialect) quote(name string) string {
	return d.quoted + strings.ReplaceAll(name, d.quoted, d.quoted+d.quoted) + d.quoted
}

// quoteTable makes an identifier of a table, which may have its schema before it: auth.users.
func (d *dialect) quoteTable(name string) string {
	schema, table, found := strings.Cut(name, ".")
	if !found {
		return d.quote(name)
	}
	return d.quote(schema) + "." + d.quote(table)
}

func (d *dialect) text(column string) string { return fmt.Sprintf(d.textOf, column) }

func (d *dialect) idText(column string) string {
	return fmt.Sprintf(cmp.Or(d.idOf, d.textOf), column)
}

// sql writes a statement as the database reads it. No statement of this package has a question
// mark that is not an argument, except in identifiers, which are quoted.
func (d *dialect) sql(statement string) string {
	if !d.numbers {
		return statement
	}
	var b strings.Builder
	n, quoted := 0, false
	for _, r := range statement {
		switch {
		case r == '"':
			quoted = !quoted
		case r == '?' && !quoted:
			n++
			fmt.Fprintf(&b, "$%d", n)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func (d *dialect) isExists(err error) bool {
	return err != nil && slices.Contains(d.exists, d.code(err))
}

// isImpossible reports whether a key cannot be that of a row.
func (d *dialect) isImpossible(err error) bool {
	return err != nil && slices.Contains(d.impossible, d.code(err))
}

// storable returns an error for a value that no text can be. Without it the error of the database
// would be that of a key, which is a miss.
func (d *dialect) storable(values ...string) error {
	for _, v := range values {
		if d.noNUL && (strings.Contains(v, "\x00") || !utf8.ValidString(v)) {
			return errors.New("a text has a NUL, or is not UTF-8")
		}
	}
	return nil
}

// database is a DB with its dialect. If the dialect has one writer at a time, the writes take
// turns.
type database struct {
	DB
	*dialect
	turn     chan struct{} // holds one while somebody writes
	prepared *prepared     // nil: no statement is prepared
}

// prepared has the statements of a *sql.DB that are prepared. A *sql.Stmt prepares itself again
// on each new connection of the pool.
type prepared struct {
	db     *sql.DB
	mu     sync.RWMutex
	byText map[string]*sql.Stmt
}

// statement returns a prepared statement, or nil if the statement cannot be prepared.
func (d database) statement(ctx context.Context, query string) *sql.Stmt {
	p := d.prepared
	if p == nil {
		return nil
	}
	p.mu.RLock()
	s := p.byText[query]
	p.mu.RUnlock()
	if s != nil {
		return s
	}
	s, err := p.db.PrepareContext(ctx, query) // without the lock, which knows no context
	if err != nil {
		return nil // the statement itself has the error
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if other := p.byText[query]; other != nil || len(p.byText) == maxPrepared {
		s.Close()
		return other
	}
	p.byText[query] = s
	return s
}

// maxPrepared is above the number of statements of a store, those of every set of changed fields
// included.
const maxPrepared = 256

// QueryRowContext, QueryContext and ExecContext are those of the DB, with a prepared statement.

func (d database) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := d.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return d.DB.QueryRowContext(ctx, query, args...)
}

func (d database) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := d.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return d.DB.QueryContext(ctx, query, args...)
}

func (d database) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := d.statement(ctx, query); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return d.DB.ExecContext(ctx, query, args...)
}

func newDatabase(db DB, d Dialect) (database, error) {
	if err := usable(db); err != nil {
		return database{}, err
	}
	parts, err := d.parts()
	if err != nil {
		return database{}, err
	}
	var turn chan struct{}
	if parts.turns {
		turn = make(chan struct{}, 1)
	}
	var p *prepared
	if pool, ok := db.(*sql.DB); ok && parts.prepares {
		p = &prepared{db: pool, byText: make(map[string]*sql.Stmt)}
	}
	return database{db, parts, turn, p}, nil
}

// inTurn runs write when it is its turn.
func (d database) inTurn(ctx context.Context, write func() error) error {
	if d.turn == nil {
		return write()
	}
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.turn }()
	return write()
}

// conflictTries is the highest number of tries of a statement that conflicts with others.
const conflictTries = 10

// retry runs a statement again that a deadlock or another transaction has undone. Every
// statement of this package is complete in itself. In a transaction of the app nothing runs
// again, because the whole transaction is undone.
func (d database) retry(ctx context.Context, work func() error) error {
	for try := 1; ; try++ {
		err := work()
		if err == nil || !d.pool() || try == conflictTries || ctx.Err() != nil || !slices.Contains(d.conflicts, d.code(err)) {
			return err
		}
		// Without a pause the same statements meet again.
		pause := time.NewTimer(rand.N(min(1<<try*time.Millisecond, 64*time.Millisecond)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// pool reports whether the DB is a pool, and no transaction.
func (d database) pool() bool {
	_, ok := d.DB.(beginner)
	return ok
}

type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// exec runs a statement in its turn, and returns how many rows it changed.
func (d database) exec(ctx context.Context, query string, args ...any) (changed int64, err error) {
	err = d.inTurn(ctx, func() error {
		return d.retry(ctx, func() error {
			result, err := d.ExecContext(ctx, query, args...)
			if err != nil {
				return err
			}
			changed, err = result.RowsAffected()
			return err
		})
	})
	return changed, err
}

// change is exec for an UPDATE or DELETE. No row has a key that the columns cannot hold.
func (d database) change(ctx context.Context, query string, args ...any) (changed int64, err error) {
	changed, err = d.exec(ctx, query, args...)
	if d.isImpossible(err) {
		return 0, nil
	}
	return changed, err
}

// insert runs an INSERT, and reports whether the row is new.
func (d database) insert(ctx context.Context, query string, args ...any) (added bool, err error) {
	n, err := d.exec(ctx, query, args...)
	if d.isExists(err) {
		return false, nil
	}
	return n > 0, err
}

// each calls f for each row of a query.
func (d database) each(ctx context.Context, f func(row *sql.Rows) error, query string, args ...any) error {
	rows, err := d.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close() // rows.Err has the error
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// sqlState returns the SQLSTATE of an error; the drivers of PostgreSQL have a method for it.
func sqlState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// inTransaction calls work in a transaction. A DB that begins none is one itself.
func inTransaction(ctx context.Context, db DB, opts *sql.TxOptions, work func(DB) error) error {
	pool, ok := db.(beginner)
	if !ok {
		return work(db)
	}
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after Commit
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.UserStore       = (*Users)(nil)
	_ oauth2pw.PasswordUpdater = (*Users)(nil)
)

// UserTable names a table of users and its columns. Table, ID, Username and
// PasswordHash are required; both ID and Username need a unique index. A name that the
// table does not have is an error at the first query, which says which.
type UserTable struct {
	Table        string
	ID           string // text, integer, UUID, or bytes in an IDFormat
	IDFormat     IDFormat
	Username     string // text; NULL: no name, and only UserByID finds the user
	PasswordHash string // text, in a BLOB too; NULL: no password opens the user

	// Disabled is a column of any type that means yes or no: a boolean, a number (all but 0
	// disables), or a text (t, true, y, yes, on; f, false, n, no, off; or a number). NULL and an
	// empty text disable. Any other text is an error. Update writes the value in the manner of
	// the old one: true for false, 1 for 0, Y for N. Add writes a boolean. Empty: nobody is
	// disabled.
	Disabled string
	Active   string // the same, the other way round; not both
	// DeletedAt is a column of any type: any value other than NULL disables. Users.Update does
	// not show and not change it. Empty: nobody is deleted in this way.
	DeletedAt string
	Scopes    string // a list in the ScopesFormat; NULL: nil. Empty: nil for everybody
	// ScopesFormat is the format of the lists. Zero: with spaces between the scopes.
	ScopesFormat ListFormat
	// SessionsValidFrom is a column of times in the SessionsValidFromFormat; NULL: never. Empty:
	// User.SessionsValidFrom is always zero, and UpdatePasswordHash ignores the time of a
	// change, so that a user loses sessions only by SessionStore.End. See
	// oauth2pw.PasswordUpdater.
	SessionsValidFrom string
	// SessionsValidFromFormat is the format of the times. Zero: UnixMicro.
	SessionsValidFromFormat TimeFormat

	// FoldNames accepts the row that the database finds for a name, by the collation of the
	// column. By default the name in the row must also equal the name that UserByName got, byte
	// for byte.
	FoldNames bool
}

// Users is an oauth2pw.UserStore and oauth2pw.PasswordUpdater over a table.
type Users struct {
	db                   database
	table                UserTable
	byName, byID, delete string // statements
	some                 string // reads the first users, for Inspect
	updateHash           string
	updateHashAndChanged string // empty: the table has no column for the time

	selectUser, fromByID, whereID, nameTaken string // parts of statements, with "?"
}

// NewUsers returns a store over a table of users, which may be the app's own. NewUsers does not
// use the database. The error names the field that is wrong.
func NewUsers(db DB, d Dialect, t UserTable) (*Users, error) {
	database, err := newDatabase(db, d)
	if err != nil {
		return nil, err
	}
	return newUsers(database, t)
}

func newUsers(db database, t UserTable) (*Users, error) {
	if t.Table == "" || t.ID == "" || t.Username == "" || t.PasswordHash == "" {
		return nil, errors.New("sqlstore: UserTable needs Table, ID, Username and PasswordHash")
	}
	for _, name := range []string{t.ID, t.Username, t.PasswordHash, t.Disabled, t.Active, t.DeletedAt, t.Scopes, t.SessionsValidFrom} {
		if slices.Contains(db.rowNumbers, strings.ToLower(name)) {
			return nil, fmt.Errorf("sqlstore: UserTable: %q is SQLite's own name for the number of a row; name a declared column, or read it through a view", name)
		}
	}
	if !t.SessionsValidFromFormat.valid() {
		return nil, errors.New("sqlstore: UserTable.SessionsValidFromFormat is none of the constants")
	}
	if !t.IDFormat.valid() || !t.ScopesFormat.valid() {
		return nil, errors.New("sqlstore: UserTable.IDFormat or UserTable.ScopesFormat is none of the constants")
	}
	if t.Disabled != "" && t.Active != "" {
		return nil, errors.New("sqlstore: UserTable has both Disabled and Active")
	}
	// Every column has its table as a prefix: without a prefix SQLite reads a "uid" that is no
	// column as the text uid, which would be the ID of every user.
	table := db.quoteTable(t.Table)
	column := func(name, otherwise string) string {
		if name == "" {
			return otherwise
		}
		return table + "." + db.quote(name)
	}
	id, name, hash := column(t.ID, ""), column(t.Username, ""), column(t.PasswordHash, "")
	disabled := column(t.Disabled, "0")
	if t.Active != "" {
		disabled = column(t.Active, "")
	}
	deleted := "0"
	if t.DeletedAt != "" {
		deleted = column(t.DeletedAt, "") + " IS NOT NULL"
	}
	whereID := " WHERE " + id + " = ? AND " + db.idText(id) + " = ?" // "1.0" finds the integer 1
	if t.IDFormat != PlainID {
		whereID = " WHERE " + id + " = ? AND " + id + " = ?" // bytes have no other spelling
	}
	// A hash in a BLOB equals no text, and a NULL is no hash.
	whereHash := whereID + " AND COALESCE(" + db.text(hash) + ", '') = ?"
	selectUser := "SELECT " + strings.Join([]string{id, name, hash, disabled, deleted, column(t.Scopes, "NULL"), column(t.SessionsValidFrom, "NULL")}, ", ")
	s := &Users{
		db:         db,
		table:      t,
		selectUser: selectUser,
		fromByID:   " FROM " + table + " WHERE " + id + " = ?",
		whereID:    whereID,
		nameTaken:  "EXISTS (SELECT 1 FROM " + table + " WHERE " + name + " = ? AND " + id + " <> ?)",
		byName:     db.sql(selectUser + " FROM " + table + " WHERE " + name + " = ?"),
		delete:     db.sql("DELETE FROM " + table + whereID),
		updateHash: db.sql("UPDATE " + table + " SET " + db.quote(t.PasswordHash) + " = ?" + whereHash),
	}
	s.byID = db.sql(selectUser + s.fromByID)
	s.some = db.sql(selectUser + " FROM " + table + " LIMIT ?")
	if t.SessionsValidFrom != "" {
		s.updateHashAndChanged = db.sql("UPDATE " + table + " SET " + db.quote(t.PasswordHash) + " = ?, " + db.quote(t.SessionsValidFrom) + " = ?" + whereHash)
	}
	return s, nil
}

// Check reports that a Users was not made by New or NewUsers; see oauth2pw.Checker.
func (s *Users) Check() error {
	if s.byName == "" {
		return errZeroStore
	}
	return nil
}

// UserByName implements oauth2pw.UserStore.
func (s *Users) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	u, err := s.user(ctx, s.byName, name)
	if err == nil && u.Username != name && !s.table.FoldNames {
		return nil, errNoUser
	}
	return u, err
}

// UserByID implements oauth2pw.UserStore.
func (s *Users) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	key, err := s.key(id)
	if err != nil {
		return nil, err
	}
	u, err := s.user(ctx, s.byID, key)
	if err == nil && u.ID != id { // "1.0" finds the integer 1
		return nil, errNoUser
	}
	return u, err
}

var errNoUser = fmt.Errorf("sqlstore: user: %w", oauth2pw.ErrNotFound)

// key returns the value of an ID in its column. An ID that the column cannot have is a miss.
func (s *Users) key(id string) (any, error) {
	key, possible := s.table.IDFormat.write(id)
	if !possible {
		return nil, errNoUser
	}
	return key, nil
}

// user reads the user of a query.
func (s *Users) user(ctx context.Context, query string, key any) (*oauth2pw.User, error) {
	u, deleted, err := s.row(ctx, query, key)
	if err != nil {
		return nil, err
	}
	u.Disabled = u.Disabled || deleted
	return u, nil
}

// row reads a user as scan does. Further columns of the query go to more.
func (s *Users) row(ctx context.Context, query string, key any, more ...any) (u *oauth2pw.User, isDeleted bool, err error) {
	u, isDeleted, err = s.scan(s.db.QueryRowContext(ctx, query, key), more...)
	if errors.Is(err, sql.ErrNoRows) || s.db.isImpossible(err) {
		return nil, false, errNoUser
	}
	if err != nil {
		return nil, false, fmt.Errorf("sqlstore: reading a user: %w", err)
	}
	return u, isDeleted, nil
}

// scan reads the columns of a row. Disabled is that of its column, without DeletedAt.
func (s *Users) scan(row interface{ Scan(dest ...any) error }, more ...any) (user *oauth2pw.User, isDeleted bool, err error) {
	var (
		u            oauth2pw.User
		id           string
		name         sql.NullString
		hash, scopes sql.NullString
		off, deleted flag
		changed      any
	)
	if err := row.Scan(append([]any{&id, &name, &hash, &off, &deleted, &scopes, &changed}, more...)...); err != nil {
		return nil, false, scanError(err)
	}
	u.Username, u.PasswordHash = name.String, oauth2pw.Secret(hash.String)
	u.Disabled = off.null || off.set == (s.table.Active == "")
	if u.ID, err = s.table.IDFormat.read(id); err != nil {
		return nil, false, fmt.Errorf("the column %q: %w", s.table.ID, err)
	}
	if u.Scopes, err = s.table.ScopesFormat.read(scopes); err != nil {
		return nil, false, fmt.Errorf("the column %q: %w", s.table.Scopes, err)
	}
	if u.SessionsValidFrom, err = s.table.SessionsValidFromFormat.read(changed, s.db.textTimes); err != nil {
		return nil, false, fmt.Errorf("the column %q: %w", s.table.SessionsValidFrom, err)
	}
	return &u, deleted.set, nil
}

// UpdatePasswordHash implements oauth2pw.PasswordUpdater.
func (s *Users) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	key, err := s.key(id)
	if err != nil {
		return false, nil // a miss
	}
	if err := s.db.storable(new); err != nil {
		return false, fmt.Errorf("sqlstore: updating a password hash: %w", err)
	}
	query, args := s.updateHash, []any{new, key, key, old}
	if !changed.IsZero() && s.updateHashAndChanged != "" {
		query, args = s.updateHashAndChanged, []any{new, s.table.SessionsValidFromFormat.write(changed), key, key, old}
	}
	n, err := s.db.change(ctx, query, args...)
	if err != nil {
		return false, fmt.Errorf("sqlstore: updating a password hash: %w", err)
	}
	return n == 1, nil
}

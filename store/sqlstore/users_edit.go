package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Add inserts a user, who needs an ID and a Username. The error wraps oauth2pw.ErrExists if
// another user has one of them. A field that is set needs a column in the table;
// oauth2pw.User.App has none.
func (s *Users) Add(ctx context.Context, u oauth2pw.User) error {
	if u.ID == "" || u.Username == "" {
		return errIncomplete
	}
	key, err := s.key(u.ID)
	if err != nil {
		return fmt.Errorf("sqlstore: the user ID %q is not in the IDFormat of the table", u.ID)
	}
	if err := s.table.ScopesFormat.check(u.Scopes); err != nil {
		return fmt.Errorf("sqlstore: adding a user: %w", err)
	}
	columns, args := []string{s.db.quote(s.table.ID)}, []any{key}
	zero := s.columns(&oauth2pw.User{})
	for i, c := range s.columns(&u) {
		switch {
		case c.name != "":
			columns, args = append(columns, s.db.quote(c.name)), append(args, c.value)
		case c.value != zero[i].value:
			return c.missing()
		}
	}
	insert := "INSERT INTO " + s.db.quoteTable(s.table.Table) + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(args)-1) + ")" + s.db.onConflict
	added, err := s.db.insert(ctx, s.db.sql(insert), args...)
	if err != nil {
		return fmt.Errorf("sqlstore: adding a user: %w", err)
	}
	if !added {
		return fmt.Errorf("sqlstore: the user ID %q or the username %q %w", u.ID, u.Username, oauth2pw.ErrExists)
	}
	return nil
}

// Update changes a user. change gets the user and edits it, except for the ID. Update calls
// change again with the newer user if the row changes meanwhile. If change returns an error,
// nothing changes, and Update returns that error. Update's own errors wrap
// oauth2pw.ErrNotFound if there is no such user, and oauth2pw.ErrExists if another user has the
// new name. Update writes only the columns of changed fields.
//
// A new PasswordHash ends no sessions: set SessionsValidFrom too. For a hash that was made
// before the call use UpdatePasswordHash, which compares: the password may have changed
// since.
func (s *Users) Update(ctx context.Context, id string, change func(u *oauth2pw.User) error) error {
	for range updateTries {
		old, stored, err := s.stored(ctx, id)
		if err != nil {
			return err
		}
		u := *old
		u.Scopes = slices.Clone(old.Scopes)
		if err := change(&u); err != nil {
			return err
		}
		switch {
		case u.ID != id:
			return fmt.Errorf("sqlstore: the ID of the user %q cannot change", id)
		case u.Username == "":
			return errIncomplete
		}
		if err := s.table.ScopesFormat.check(u.Scopes); err != nil {
			return fmt.Errorf("sqlstore: updating a user: %w", err)
		}
		if updated, err := s.replace(ctx, old, &u, stored); updated || err != nil {
			return err
		}
	}
	return fmt.Errorf("sqlstore: the user %q changed each time it was read", id)
}

// Delete deletes a user. The error wraps oauth2pw.ErrNotFound if there is no such user.
//
// The sessions of the user stay: end them afterwards with Auth.EndAllSessions.
func (s *Users) Delete(ctx context.Context, id string) error {
	key, err := s.key(id)
	if err != nil {
		return err
	}
	deleted, err := s.db.change(ctx, s.delete, key, key)
	if err != nil {
		return fmt.Errorf("sqlstore: deleting a user: %w", err)
	}
	if deleted == 0 {
		return errNoUser
	}
	return nil
}

var errIncomplete = errors.New("sqlstore: a user needs an ID and a Username")

// userColumn is a field of a user other than the ID, and its value as it is written.
type userColumn struct {
	field, name string // name is empty where the table has no such column
	value       any    // comparable
}

func (c userColumn) missing() error {
	return fmt.Errorf("sqlstore: the UserTable names no column for the %s of a user", c.field)
}

func (s *Users) columns(u *oauth2pw.User) []userColumn {
	disabled := userColumn{"Disabled", s.table.Disabled, u.Disabled}
	if s.table.Active != "" {
		disabled.name, disabled.value = s.table.Active, !u.Disabled
	}
	return []userColumn{
		{"Username", s.table.Username, u.Username},
		{"PasswordHash", s.table.PasswordHash, string(u.PasswordHash)},
		disabled,
		{"Scopes", s.table.Scopes, s.table.ScopesFormat.write(u.Scopes)},
		{"SessionsValidFrom", s.table.SessionsValidFrom, s.table.SessionsValidFromFormat.write(u.SessionsValidFrom)},
	}
}

// asText reads a column as it is stored, without a collation.
func (s *Users) asText(column string) string {
	return s.db.text(s.db.quoteTable(s.table.Table) + "." + s.db.quote(column))
}

// stored returns a user, without DeletedAt, which Update does not write, and the columns of the
// row as they are stored.
func (s *Users) stored(ctx context.Context, id string) (*oauth2pw.User, []storedColumn, error) {
	var (
		row  []storedColumn
		dest []any
	)
	query := s.selectUser
	for _, c := range s.columns(&oauth2pw.User{}) {
		if c.name != "" {
			row = append(row, storedColumn{name: c.name})
			query += ", " + s.asText(c.name)
		}
	}
	for i := range row {
		dest = append(dest, &row[i].value)
	}
	key, err := s.key(id)
	if err != nil {
		return nil, nil, err
	}
	u, _, err := s.row(ctx, s.db.sql(query+s.fromByID), key, dest...)
	if err == nil && u.ID != id {
		err = errNoUser
	}
	return u, row, err
}

type storedColumn struct {
	name  string
	value sql.NullString
}

func storedValue(row []storedColumn, name string) string {
	for _, c := range row {
		if c.name == name {
			return c.value.String
		}
	}
	return ""
}

// replace writes u instead of old, and reports false if the row is not as it was stored.
func (s *Users) replace(ctx context.Context, old, u *oauth2pw.User, stored []storedColumn) (bool, error) {
	var (
		set  []string
		args []any
	)
	before := s.columns(old)
	for i, c := range s.columns(u) {
		if c.value == before[i].value {
			continue
		}
		if c.name == "" {
			return false, c.missing()
		}
		if set, is := c.value.(bool); is {
			c.value = flagLike(storedValue(stored, c.name), set, s.db.numbers)
		}
		set, args = append(set, s.db.quote(c.name)+" = ?"), append(args, c.value)
	}
	if len(set) == 0 {
		return true, nil
	}
	query := "UPDATE " + s.db.quoteTable(s.table.Table) + " SET " + strings.Join(set, ", ") + s.whereID
	key, err := s.key(u.ID)
	if err != nil {
		return false, err
	}
	args = append(args, key, key)
	for _, c := range stored {
		query += " AND " + s.asText(c.name) + " " + s.db.same + " ?"
		args = append(args, c.value)
	}
	renamed := u.Username != old.Username
	if renamed && s.db.rereads {
		query += " AND NOT " + s.nameTaken
		args = append(args, u.Username, key)
	}
	updated, err := s.db.exec(ctx, s.db.sql(query), args...)
	taken := s.db.isExists(err)
	if err != nil && !taken {
		return false, fmt.Errorf("sqlstore: updating a user: %w", err)
	}
	if updated == 0 && renamed && !taken {
		if err := s.db.QueryRowContext(ctx, s.db.sql("SELECT "+s.nameTaken), u.Username, key).Scan(&taken); err != nil {
			return false, fmt.Errorf("sqlstore: updating a user: %w", err)
		}
	}
	if taken {
		return false, fmt.Errorf("sqlstore: the username %q %w", u.Username, oauth2pw.ErrExists)
	}
	return updated == 1, nil
}

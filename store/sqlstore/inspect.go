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

// Inspection is the result of [Users.Inspect].
type Inspection struct {
	Users      int // the users that were read
	NoPassword int // of them, those without a hash: no password opens them
	Unreadable int // of them, those whose hash has no known format: no password opens them
	// Scopes are the scopes of these users, sorted: a scope that oauth2pw.Config.Scopes does not
	// name is never granted.
	Scopes []string
	// FoldsNames says that the database finds a user by a name in other letters. With
	// UserTable.FoldNames set oauth2pw.Config.FoldName, too.
	FoldsNames bool
}

// Inspect reads the first users of the table, at the start of a program: a table that does not
// fit is found then, and not at the first login. The error names the column. reads reports
// whether a hash can be verified: Reads of a hasher.Hasher. limit is the number of users; 1,000
// take some milliseconds.
func (s *Users) Inspect(ctx context.Context, reads func(hash string) bool, limit int) (Inspection, error) {
	var (
		found Inspection
		names []string
	)
	seen := make(map[string]bool)
	err := s.db.each(ctx, func(row *sql.Rows) error {
		if found.Users == 0 {
			if err := s.checkTypes(row); err != nil {
				return err
			}
		}
		u, _, err := s.scan(row)
		if err != nil {
			return fmt.Errorf("user %d of the table: %w", found.Users+1, err)
		}
		found.Users++
		if u.Username != "" && seen[u.Username] {
			return errors.New("two users have the same name: a login would find any of them; read the table through a view with unique names")
		}
		seen[u.Username] = true
		names = append(names, u.Username)
		for _, scope := range u.Scopes {
			if i, known := slices.BinarySearch(found.Scopes, scope); !known {
				found.Scopes = slices.Insert(found.Scopes, i, scope)
			}
		}
		switch {
		case u.PasswordHash == "":
			found.NoPassword++
		case !reads(string(u.PasswordHash)):
			found.Unreadable++
		}
		return nil
	}, s.some, limit)
	if err != nil {
		return Inspection{}, fmt.Errorf("sqlstore: inspecting the users: %w", err)
	}
	for _, name := range names {
		other := strings.ToUpper(name)
		if other == name {
			other = strings.ToLower(name)
		}
		if other == name {
			continue // a name without letters
		}
		u, err := s.user(ctx, s.byName, other)
		if err != nil && !errors.Is(err, oauth2pw.ErrNotFound) {
			return Inspection{}, err
		}
		found.FoldsNames = err == nil && u.Username == name
		break
	}
	return found, nil
}

// checkTypes refuses a name whose type adds spaces, and a SessionsValidFrom whose type has no
// zone.
func (s *Users) checkTypes(rows *sql.Rows) error {
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	if s.db.padded != "" && types[1].DatabaseTypeName() == s.db.padded { // see selectUser
		return fmt.Errorf("the column %q adds spaces to a name, as CHAR(n) does, so that no login finds it: use TEXT, or a view with rtrim", s.table.Username)
	}
	if s.db.zoneless == "" || s.table.SessionsValidFrom == "" {
		return nil
	}
	if types[6].DatabaseTypeName() == s.db.zoneless { // the last column of selectUser
		return fmt.Errorf("the column %q has times without a zone, which the database shifts by the zone of a session: use TIMESTAMPTZ", s.table.SessionsValidFrom)
	}
	return nil
}

package oauth2pw

import (
	"context"
	"time"
)

// User is a user as the app's own table knows it.
type User struct {
	ID           string // stable and never reused; becomes the token's sub. Not empty
	Username     string
	PasswordHash Secret // as Config.Hasher encodes it; empty: no password opens it
	Disabled     bool   // may not log in; answered as a wrong password
	// Scopes are those that the user may have, out of Config.Scopes. Nil:
	// Config.DefaultScopes.
	Scopes []string
	// SessionsValidFrom ends what is older: a login authenticated before it is dead.
	// The time of the last change of the password; zero: never.
	SessionsValidFrom time.Time
	// App is the app's own record, handed back in Principal.User. Optional.
	App any
}

// UserStore finds users. It is the one plug that every app writes, or takes from
// package store/sqlstore. It is called concurrently.
//
// A miss is an error that wraps [ErrNotFound] (map sql.ErrNoRows to it, or every
// typo becomes a 503). Any other error means that the store failed. A returned
// User belongs to the caller, who does not write to it.
type UserStore interface {
	// UserByName finds a user by the name that was typed, as Config.FoldName writes
	// it; without that, exactly as it was sent. A store that takes several names for
	// one user needs a Config.FoldName that makes one of them.
	UserByName(ctx context.Context, name string) (*User, error)
	// UserByID finds a user by User.ID: the same record, PasswordHash included. A
	// login reads the user once more by it, and compares.
	UserByID(ctx context.Context, id string) (*User, error)
}

// PasswordUpdater is the optional side of a [UserStore] that can write: with it,
// a login replaces a hash that the hasher calls outdated.
type PasswordUpdater interface {
	// UpdatePasswordHash replaces the hash old by new in one step, only if the
	// row still holds old, and reports whether it did. A non-zero changed also
	// sets SessionsValidFrom, in the same statement: the password itself is another.
	UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error)
}

// PasswordHasher hashes and verifies passwords. Package hasher has one. It is
// called concurrently, and an error that wraps [ErrBusy] says that it has no
// room left, one that wraps [ErrPasswordTooLong] that the password cannot be that of the
// hash. Any other error means that it failed (503).
type PasswordHasher interface {
	// Hash returns the encoded hash of a password, with all that Verify needs.
	Hash(ctx context.Context, password string) (string, error)
	// Verify reports whether the password is that of hash, and whether hash
	// should be replaced. The hash "" costs what a mismatch costs and never
	// matches; a hash that it cannot read does the same, and is outdated. One that
	// it can read is outdated only where the password matches.
	Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error)
}

// dead says why something that a user has authenticated at a time does not hold any more,
// "" if it does. A nil user is one that the store does not have.
func (u *User) dead(authenticated time.Time) EventReason {
	switch {
	case u == nil:
		return ReasonUserDeleted
	case u.Disabled:
		return ReasonUserDisabled
	case authenticated.Before(u.SessionsValidFrom):
		return ReasonPasswordChanged
	}
	return ""
}

// closed says why no password opens a user, "" if one does.
func (u *User) closed() EventReason {
	if reason := u.dead(maxTime); reason != "" {
		return reason
	}
	if u.PasswordHash == "" {
		return ReasonNoPassword
	}
	return ""
}

package oauth2pw

import (
	"context"
	"time"
)

// User is a user of the app's own table.
type User struct {
	ID           string // stable and never reused; the sub of the user's tokens. Not empty
	Username     string
	PasswordHash Secret // as Config.Hasher encodes it; empty: no password is correct
	Disabled     bool   // cannot log in; answered as a wrong password
	// Scopes are the scopes that the user may have, out of Config.Scopes. Nil:
	// Config.DefaultScopes.
	Scopes []string
	// SessionsValidFrom invalidates every login that was authenticated earlier.
	// SessionsValidFrom is the time of the last change of the password; zero: never
	// changed.
	SessionsValidFrom time.Time
	// App is the app's own record, returned in Principal.User. Optional.
	App any
}

// UserStore finds users. UserStore is the plug that every app writes, or takes from package
// store/sqlstore. Every method is called concurrently.
//
// A miss is an error that wraps [ErrNotFound] (map sql.ErrNoRows to it, otherwise every
// typo becomes a 503). Any other error is a store failure. A returned User belongs to the
// caller, and the caller does not write to it.
type UserStore interface {
	// UserByName finds a user by the name that Config.FoldName returns; without FoldName,
	// by the name exactly as sent. A store that accepts several names for one user needs a
	// Config.FoldName that makes one name of them.
	UserByName(ctx context.Context, name string) (*User, error)
	// UserByID finds a user by User.ID: the same record, PasswordHash included. A login
	// reads the user again by ID, and compares.
	UserByID(ctx context.Context, id string) (*User, error)
}

// PasswordUpdater is the optional side of a [UserStore] that can write: with it, a login
// replaces a hash that the hasher calls outdated.
type PasswordUpdater interface {
	// UpdatePasswordHash replaces the hash old by new in one step, only if the row still
	// has old, and reports whether the row was written. A non-zero changed also sets
	// SessionsValidFrom, in the same statement: the password itself has changed.
	UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error)
}

// PasswordHasher hashes and verifies passwords. Package hasher has an implementation. Every
// method is called concurrently. An error that wraps [ErrBusy] means: no free capacity. An
// error that wraps [ErrPasswordTooLong] means: the password is too long for the format of
// the hash. Any other error is a failure (503).
type PasswordHasher interface {
	// Hash returns the encoded hash of a password, with everything that Verify needs.
	Hash(ctx context.Context, password string) (string, error)
	// Verify reports whether the password matches hash, and whether hash should be
	// replaced. The hash "" never matches and takes as long as a mismatch. An unreadable
	// hash does the same, and is outdated. A readable hash is outdated only if the password
	// matches.
	Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error)
}

// dead returns the reason why an authentication of a user at a time is no longer valid, or
// "". A nil user is a user that the store does not have.
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

// closed returns the reason why no password of a user is correct, or "".
func (u *User) closed() EventReason {
	if reason := u.dead(maxTime); reason != "" {
		return reason
	}
	if u.PasswordHash == "" {
		return ReasonNoPassword
	}
	return ""
}

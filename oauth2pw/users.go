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
// package store/sqlstore. These are its duties, and package store/storetest tests them:
//
//   - The methods are called concurrently.
//   - A miss is an error that wraps [ErrNotFound], and no user. Map sql.ErrNoRows to it, or
//     every typo becomes a 503. Any other error is a failure of the store.
//   - A call with a context that has ended returns an error, and not that of a miss.
//   - A User has all fields as they are stored; App is optional. Nil Scopes stay nil, and
//     empty ones stay empty. SessionsValidFrom is kept to the microsecond.
//   - A returned User does not change any more, not even with the stored user. The caller
//     does not change it either, so that a store may return one User to several callers.
type UserStore interface {
	// UserByName finds a user by the name that was typed, as Config.FoldName writes it;
	// without FoldName, exactly as it was sent. Names are compared byte for byte. A store that
	// takes several names for one user needs a Config.FoldName that makes one of them, and
	// fails this rule of storetest.
	UserByName(ctx context.Context, name string) (*User, error)
	// UserByID finds a user by User.ID, byte for byte: the same record, PasswordHash
	// included. A login reads the user once more by it, and compares.
	UserByID(ctx context.Context, id string) (*User, error)
}

// PasswordUpdater is the optional side of a [UserStore] that can write: with it,
// a login replaces a hash that the hasher calls outdated. The duties of a UserStore are
// its duties too.
type PasswordUpdater interface {
	// UpdatePasswordHash replaces the hash old by new in one atomic step, only if the user
	// still has old, and reports whether it did. It returns false and no error if the user
	// has another hash or if there is no such user. An empty old is a user without a hash.
	//
	// A non-zero changed marks a new password, not only a new hash of the same one:
	// SessionsValidFrom becomes changed in the same step, rounded up to the microsecond at
	// most, never down. A zero changed leaves SessionsValidFrom as it is. No other field
	// changes.
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

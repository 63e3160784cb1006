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
	// Config.DefaultScopes. If both are nil, the user may have no scope.
	Scopes []string
	// SessionsValidFrom invalidates every login that was authenticated earlier.
	// SessionsValidFrom is the time of the last change of the password; zero: never
	// changed. An app that sets SessionsValidFrom itself sets it to a second after now,
	// because a change or a Reauthenticate is dated to the next whole second.
	SessionsValidFrom time.Time
	// App is the app's own record, returned in Principal.User. Optional.
	App any
}

// UserStore finds users. UserStore is the plug that every app writes, or takes from package
// store/sqlstore.
//
// These are the duties of a store, and package store/storetest tests them:
//
//   - Every method is called concurrently.
//   - A miss is an error that wraps [ErrNotFound], and no user. Map sql.ErrNoRows to it,
//     otherwise every typo becomes a 503. Any other error is a store failure.
//   - A call with an ended context returns an error other than a miss.
//   - A User has all fields as they are stored; App is optional. Nil Scopes stay nil, and
//     empty Scopes stay empty. SessionsValidFrom is kept to the microsecond.
//   - A returned User does not change later, even if the stored user does. The caller does
//     not write to it, so that a store may return one User to several callers.
type UserStore interface {
	// UserByName finds a user by the name that Config.FoldName returns; without FoldName,
	// by the name exactly as sent. Names are compared byte for byte. A store that accepts
	// several names for one user needs a Config.FoldName that makes one name of them, and
	// fails this rule of storetest.
	UserByName(ctx context.Context, name string) (*User, error)
	// UserByID finds a user by User.ID, byte for byte: the same record, PasswordHash
	// included. A login reads the user again by ID, and compares.
	UserByID(ctx context.Context, id string) (*User, error)
}

// PasswordUpdater is the optional side of a [UserStore] that can write: with it, a login
// replaces a hash that the hasher calls outdated. Its duties are those of a UserStore too.
type PasswordUpdater interface {
	// UpdatePasswordHash replaces the hash old by new in one atomic step, only if the user
	// still has old, and reports whether it has written: false and no error for another hash
	// and for a missing user. An empty old is a user without a hash.
	//
	// A non-zero changed marks a new password, not only a new hash of the same password:
	// SessionsValidFrom becomes changed in the same step, rounded up to the microsecond at
	// most, never down. A store without a place for SessionsValidFrom ignores changed: its
	// users lose their sessions only by SessionStore.End. A zero changed leaves
	// SessionsValidFrom as it is. No other field changes.
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

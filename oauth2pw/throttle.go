package oauth2pw

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// AttemptKind is the kind of the secret of an [Attempt]. Each kind is counted separately,
// except that codes are counted together with passwords.
type AttemptKind string

// The kinds of [Attempt].
const (
	// AttemptPassword is a password: of a login, or the old password in ChangePassword.
	AttemptPassword AttemptKind = "password"
	// AttemptCode is another secret that can be guessed, such as a code by SMS; see
	// [TokenRequest.Guess]. Codes are counted together with the passwords of the user.
	AttemptCode AttemptKind = "code"
	// AttemptGrant is a request for a grant of Config.Grants, counted only for the client
	// address.
	AttemptGrant AttemptKind = "grant"
	// AttemptClient is the secret of a client, counted for the client at the address.
	AttemptClient AttemptKind = "client"
)

// Attempt is a try with a secret, as a [Throttle] counts it. An Attempt does not contain
// the secret.
type Attempt struct {
	Kind AttemptKind
	// Realm is Config.Realm, because several Auths may share a throttle.
	Realm string
	// UserID is the User.ID of the user that the correct secret would open, for passwords
	// and codes. For a grant, UserID is set only in Succeed: the user who logs in.
	UserID string
	// Name is set instead of UserID if no user has the name, and if Config.Authenticate is
	// set: the name as Config.FoldName writes it. For a client that does not exist, Name is
	// the id in the request. A UserID and an equal Name are two accounts.
	Name string
	// ClientID is the id of a client that exists, for AttemptClient.
	ClientID string
	// Address is the client address. Invalid: no address, as on a Unix socket or in a call
	// by the app itself; nothing is counted for an invalid address. An IPv6 is counted by
	// its /64.
	Address netip.Addr
	// Shared is set if many clients may share Address, because its forwarding header is
	// from an untrusted peer, unreadable, or not Config.ProxyHeader. A shared address never
	// becomes a known address of a user.
	Shared bool
	// Tag is a keyed digest of the secret as sent, too short for a search for the secret.
	// Equal tags of one account are the same guess.
	Tag uint32
	// HasTag is set if the attempt has a Tag. An attempt without a Tag is never a repeat.
	HasTag bool
	// Right is set if the secret was compared already and is correct, only for
	// AttemptClient. Begin then counts nothing and returns only the wait; Succeed and
	// Cancel do not follow.
	Right bool
}

// Throttle counts and blocks attempts. A Throttle counts first and uncounts later: parallel
// requests get no more tries than sequential requests. Every method is called concurrently. Of
// equal attempts, Succeed and Cancel settle the latest.
// An error means a failure of the throttle: 503 if Begin returns the error, otherwise only
// an event.
//
// Config.ThrottleLimit lists the limits of the built-in throttle.
type Throttle interface {
	// Begin counts an attempt as failed, before the secret is checked, and returns zero. If
	// the attempt is blocked, Begin counts nothing and returns the time until the next
	// attempt may pass.
	Begin(ctx context.Context, a Attempt) (wait time.Duration, err error)
	// Succeed uncounts an attempt that Begin has counted, because the secret was correct.
	// Succeed also uncounts the earlier failures of this account from this address, and
	// makes the address a known address of the user.
	Succeed(ctx context.Context, a Attempt) error
	// Cancel uncounts an attempt that Begin has counted and that was no guess: nothing was
	// checked, or the answer was not "wrong".
	Cancel(ctx context.Context, a Attempt) error
	// Forget uncounts everything for the account of a, and for the account at the address
	// of a, if a has an address. ResetPassword and SetPassword call Forget,
	// so that the user can log in at once.
	Forget(ctx context.Context, a Attempt) error
}

// throttle is the [Throttle] inside the core: begin returns the counted attempt, and the
// result of the attempt goes to its methods.
type throttle interface {
	// begin is Throttle.Begin. open is nil if the attempt is blocked, and if its result
	// changes nothing.
	begin(ctx context.Context, a Attempt) (open openAttempt, wait time.Duration, err error)
	// forget is Throttle.Forget.
	forget(ctx context.Context, a Attempt) error
}

// openAttempt is a counted attempt whose result is not known yet. A failed attempt needs no
// call, because it stays counted.
type openAttempt interface {
	// succeed is Throttle.Succeed. userID is the user, for an attempt without a UserID.
	succeed(ctx context.Context, userID string) error
	cancel(ctx context.Context) error
}

const (
	defaultThrottleLimit  = 10
	defaultThrottleWindow = 15 * time.Minute
	maxThrottleLimit      = 100_000
	maxThrottleWindow     = 7 * 24 * time.Hour
)

// newAttemptTag returns the function that makes the tags of attempts. Processes with the
// same first refresh secret make the same tags.
func newAttemptTag(secrets []Secret) func(a Attempt, secret string) uint32 {
	key := randomKey()
	if len(secrets) > 0 {
		if k, err := hkdf.Key(sha256.New, []byte(secrets[0]), nil, "passwordflow throttle tag", len(key)); err == nil {
			key = k
		}
	}
	mac := newMAC(key)
	return func(a Attempt, secret string) uint32 {
		sum := mac(func(b []byte) []byte {
			for _, s := range [...]string{string(a.Kind), a.UserID, a.Name, a.ClientID} {
				b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
				b = append(b, s...)
			}
			return append(b, secret...)
		})
		return binary.BigEndian.Uint32(sum[:])
	}
}

package oauth2pw

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// AttemptKind says what an [Attempt] tries to prove, and so what counts apart.
type AttemptKind string

// The kinds of [Attempt].
const (
	// AttemptPassword is a password: of a login, or the old one of a change.
	AttemptPassword AttemptKind = "password"
	// AttemptCode is another secret that can be guessed, such as a code by SMS:
	// [TokenRequest.Guess]. It counts together with the user's passwords.
	AttemptCode AttemptKind = "code"
	// AttemptGrant is a request for a grant of Config.Grants. It counts for the
	// address alone.
	AttemptGrant AttemptKind = "grant"
	// AttemptClient is the secret of a client. It counts for client and address.
	AttemptClient AttemptKind = "client"
)

// Attempt is a try to prove an identity, as a [Throttle] counts it. It holds no
// secret.
type Attempt struct {
	Kind AttemptKind
	// Realm is Config.Realm: several Auths may share a throttle.
	Realm string
	// UserID is the user whom the right secret would open: User.ID, of passwords
	// and codes. Of a grant it is set for Succeed alone, to the user who logs in.
	UserID string
	// Name is set instead of UserID where there is no such user, and where
	// Config.Authenticate decides: the name, as Config.FoldName writes it. Of a
	// client that does not exist it is the id that was sent. A UserID and an equal
	// Name are two accounts.
	Name string
	// ClientID is a client that exists, of the kind AttemptClient.
	ClientID string
	// Address is the client's, invalid where it has none: on a Unix socket, or in a
	// call of the app's own. Nothing is counted for an invalid address. An IPv6
	// counts by its /64.
	Address netip.Addr
	// Shared: the address came with a forwarding header that no trusted proxy
	// vouches for. Many clients may share it; it is never remembered as a user's
	// own address.
	Shared bool
	// Tag is a keyed digest of the secret as sent, cut so short that the secret
	// cannot be searched for. Equal tags of one account are the same guess.
	Tag uint32
	// HasTag says that there is a Tag. An attempt without one is never a repeat.
	HasTag bool
	// Right: the secret was compared already, and is right. Begin then counts
	// nothing and only tells whether the attempt is blocked; neither Succeed nor
	// Cancel follows. Of the kind AttemptClient alone.
	Right bool
}

// Throttle bounds guessing. It counts first and uncounts later: parallel requests get
// no more tries than sequential ones. Every method is called concurrently. An error
// means that the throttle failed: 503 where Begin returns it, else an event.
//
// Config.ThrottleLimit lists the limits of the built-in one.
type Throttle interface {
	// Begin counts an attempt as failed, before anything is checked, and returns
	// zero. If there were too many, it counts nothing and returns how long it takes
	// until the next one may pass.
	Begin(ctx context.Context, a Attempt) (wait time.Duration, err error)
	// Succeed uncounts an attempt that Begin has counted, because it was right. It
	// also uncounts what failed before for this account from this address, and
	// remembers the address as the user's own.
	Succeed(ctx context.Context, a Attempt) error
	// Cancel uncounts an attempt that Begin has counted and that was no guess:
	// nothing was checked, or the answer was another than "wrong".
	Cancel(ctx context.Context, a Attempt) error
	// Forget uncounts all that was counted for the account of a, and for the
	// account from the address of a, if it has one.
	Forget(ctx context.Context, a Attempt) error
}

// throttle is a [Throttle] as the core asks it: an attempt that was counted is settled
// through what begin returns.
type throttle interface {
	// begin is Throttle.Begin. open is nil if the attempt is blocked, or if there is
	// nothing to settle.
	begin(ctx context.Context, a Attempt) (open openAttempt, wait time.Duration, err error)
}

// openAttempt is an attempt that was counted and is not settled yet. One that failed
// is left as it is.
type openAttempt interface {
	// succeed is Throttle.Succeed. userID is the user of an attempt that did not
	// know it.
	succeed(ctx context.Context, userID string) error
	cancel(ctx context.Context) error
}

const (
	defaultThrottleLimit  = 10
	defaultThrottleWindow = 15 * time.Minute
	maxThrottleLimit      = 100_000
	maxThrottleWindow     = 7 * 24 * time.Hour
)

// newAttemptTag returns what makes the tags of attempts. Processes that share a
// first refresh secret make the same.
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

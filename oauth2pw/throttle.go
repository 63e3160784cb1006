package oauth2pw

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Attempt is a try to prove who one is, as a [Throttle] counts it. It holds no
// secret.
type Attempt struct {
	// Kind keeps apart what is counted apart: "password", "client" for client
	// secrets, or "refresh_token".
	Kind string
	// Realm is Config.Realm: several Auths may share a throttle.
	Realm string
	// Account is what is guessed at: the name as sent, ASCII-lower-cased, whether
	// there is such a user or not; the id of a client; "" where the address alone
	// counts.
	Account string
	// Address is the client's; invalid: unknown. An IPv6 counts by its /64.
	Address netip.Addr
	// Shared: the address came with a forwarding header that no trusted proxy
	// vouches for, so that it may be that of many. It becomes nobody's known
	// address.
	Shared bool
	// Tag is a keyed digest of the secret as sent, cut so short that the secret
	// cannot be searched for. Equal tags of one account are the same guess.
	Tag uint32
	// Right: what was sent is right, as was cheap to see. Begin only asks then
	// whether the attempt is blocked, and neither Succeed nor Cancel follows.
	Right bool
}

// Throttle bounds guessing. It counts first and takes back after, so that a burst
// in parallel passes no more than one after the other. It is called concurrently.
type Throttle interface {
	// Begin counts an attempt as failed, before anything is checked, and returns
	// zero; or, if there were too many, counts nothing and returns how long it
	// takes until the next one may pass. A failure to tell is an error: 503.
	Begin(ctx context.Context, a Attempt) (wait time.Duration, err error)
	// Succeed takes an attempt back that was right, and with it all failures of
	// this account from this address.
	Succeed(ctx context.Context, a Attempt) error
	// Cancel takes an attempt back that was never checked.
	Cancel(ctx context.Context, a Attempt) error
}

const (
	attemptPassword = "password"
	attemptClient   = "client"
	attemptRefresh  = "refresh_token"
)

func (c *config) setThrottle() error {
	switch {
	case c.ThrottleLimit < 0 || c.ThrottleWindow < 0:
		return errors.New("oauth2pw: Config.ThrottleLimit and Config.ThrottleWindow must not be negative")
	case c.ThrottleLimit > maxThrottleLimit || c.ThrottleWindow > maxThrottleWindow:
		return errors.New("oauth2pw: Config.ThrottleLimit is at most 100000, and Config.ThrottleWindow at most a week")
	case c.Throttle != nil && isNil(c.Throttle):
		return errors.New("oauth2pw: Config.Throttle is a nil pointer")
	case c.InsecureNoThrottle && c.Throttle != nil:
		return errors.New("oauth2pw: set one of Config.Throttle and Config.InsecureNoThrottle")
	case c.Throttle != nil && (c.ThrottleLimit != 0 || c.ThrottleWindow != 0):
		return errors.New("oauth2pw: Config.ThrottleLimit and Config.ThrottleWindow are those of the built-in throttle; Config.Throttle has its own")
	case c.Throttle == nil && !c.InsecureNoThrottle:
		limit, window := c.ThrottleLimit, c.ThrottleWindow
		if limit == 0 {
			limit = 10
		}
		if window == 0 {
			window = 15 * time.Minute
		}
		c.Throttle = newMemoryThrottle(limit, window, c.now)
	}
	c.tag = newAttemptTag(c.RefreshSecrets)
	return nil
}

const (
	maxThrottleLimit  = 100_000
	maxThrottleWindow = 7 * 24 * time.Hour
)

// newAttemptTag returns what makes the tags of attempts. Processes that share a
// first refresh secret make the same.
func newAttemptTag(secrets []Secret) func(account, secret string) uint32 {
	key := randomKey()
	if len(secrets) > 0 {
		if k, err := hkdf.Key(sha256.New, []byte(secrets[0]), nil, "passwordflow throttle tag", len(key)); err == nil {
			key = k
		}
	}
	mac := newMAC(key)
	return func(account, secret string) uint32 {
		sum := mac(func(b []byte) []byte {
			b = binary.BigEndian.AppendUint64(b, uint64(len(account)))
			return append(append(b, account...), secret...)
		})
		return binary.BigEndian.Uint32(sum[:])
	}
}

// attempt describes a try with a secret.
func (c *config) attempt(ctx context.Context, kind, account, secret string) Attempt {
	s := stateFrom(ctx)
	return Attempt{
		Kind: kind, Realm: c.Realm, Account: account, Address: s.address, Shared: s.unvouched, Tag: c.tag(account, secret),
	}
}

// foldName is the account of a name, as an attempt counts for it.
func foldName(name string) string {
	if strings.IndexFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }) < 0 {
		return name
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, name)
}

// begin asks the throttle, and counts.
func (c *config) begin(ctx context.Context, a Attempt) error {
	if c.Throttle == nil {
		return nil
	}
	wait, err := c.Throttle.Begin(ctx, a)
	if err != nil {
		return plugError("Throttle.Begin", err)
	}
	if wait > 0 {
		return (&Error{Code: "slow_down", RetryAfter: wait}).because(EventThrottled, a.Kind, nil)
	}
	return nil
}

// guess counts an attempt as failed, lets check decide about it, and takes it back
// if it was right, or if nothing was decided. While the attempt is blocked, check
// is not asked. decided is whether what was sent has been looked at; a panic says
// that it was.
func (c *config) guess(ctx context.Context, a Attempt, check func() (decided bool, err error)) error {
	if err := c.begin(ctx, a); err != nil {
		return err
	}
	decided, err := check()
	if c.Throttle == nil || err != nil && decided {
		return err
	}
	plug, takeBack := "Throttle.Succeed", c.Throttle.Succeed
	if err != nil {
		plug, takeBack = "Throttle.Cancel", c.Throttle.Cancel
	}
	// That the client hangs up does not stop it; StoreTimeout does.
	if failed := takeBack(context.WithoutCancel(ctx), a); failed != nil { // one attempt too many is counted: an event, and no answer
		c.answers.tell(ctx, plugError(plug, failed), Event{})
	}
	return err
}

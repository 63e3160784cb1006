package oauth2pw

import (
	"context"
	"net/netip"
	"time"
)

// Session is one login, until it ends. All tokens that descend from it carry its
// ID. Times are whole microseconds, in UTC.
//
// A store keeps every field as it is, and needs to understand none but those that
// the methods of [SessionStore] name.
type Session struct {
	ID       string // 22 characters of base64url: 128 random bits
	UserID   string // User.ID
	ClientID string // "" where no client was named
	Scope    string // what the login was granted: scopes between single spaces

	// Of the refresh token. None of them is a secret: without Config.Secrets
	// they make no token.
	Salt       [16]byte
	KeyID      string // which secret makes its tokens
	Generation uint64 // of the token that may be used next: 1 at the login

	CreatedAt time.Time // the login
	// AuthenticatedAt is when the user last proved who he is. At the login it is the
	// time of the request, or User.SessionsValidFrom if that is later. ChangePassword sets
	// it to a whole second after itself, which is later than RefreshedAt then, and at no
	// other time.
	AuthenticatedAt time.Time
	RefreshedAt     time.Time // the last refresh or ChangePassword, or the login
	IdleExpiresAt   time.Time // when it ends if it is not refreshed; never after ExpiresAt
	ExpiresAt       time.Time // when it ends, whatever happens
	EndedAt         time.Time // zero: it was not ended
	EndReason       string    // see EventSessionEnded

	Address   netip.Addr // the client's at the login; invalid: unknown
	UserAgent string     // the same; at most 256 bytes, without control characters
	Data      []byte     // the app's own; at most 1 KiB
}

// dead says why a session does not live, "" if it does.
func (s *Session) dead(now time.Time) EventReason {
	switch {
	case !s.EndedAt.IsZero():
		return ReasonEnded
	case !now.Before(s.ExpiresAt):
		return ReasonAge
	case !now.Before(s.IdleExpiresAt):
		return ReasonIdle
	}
	return ""
}

// end is when a session ends if nothing happens.
func (s *Session) end() time.Time {
	if s.IdleExpiresAt.Before(s.ExpiresAt) {
		return s.IdleExpiresAt
	}
	return s.ExpiresAt
}

// SessionFilter names sessions of one user: all of them, or one, or all but one, or those
// of before a time.
type SessionFilter struct {
	UserID string // always compared; not empty
	ID     string // only this one; "": any
	Except string // not this one; "": none is left out
	// AuthenticatedBefore leaves out those whose AuthenticatedAt is not before it; zero:
	// none.
	AuthenticatedBefore time.Time
}

// SessionStore keeps sessions. It is called concurrently. A session lives as long
// as it is not ended and neither of its expiries has come: at the time of an
// expiry it is over. What is taken and returned are copies.
//
// Any error other than the named ones means that the store failed (503). A store
// reads its own writes: a replica that lags behind must not answer.
type SessionStore interface {
	// Create adds a session, which has an ID of its own.
	Create(ctx context.Context, s *Session) error
	// Get returns a session, over or not. A miss is an error that wraps
	// [ErrNotFound].
	Get(ctx context.Context, id string) (*Session, error)
	// Advance writes Generation, AuthenticatedAt, RefreshedAt and IdleExpiresAt of
	// s in one atomic step, only if the Generation of its row is still from and
	// the row lives at now. It reports whether it did.
	Advance(ctx context.Context, from uint64, s *Session, now time.Time) (bool, error)
	// List returns the sessions of a user that live at now, the newest login
	// first.
	List(ctx context.Context, userID string, now time.Time) ([]*Session, error)
	// End ends the sessions that f names and that are not ended yet: it sets
	// EndedAt to now, and EndReason. It returns the IDs of those it ended.
	End(ctx context.Context, f SessionFilter, reason string, now time.Time) (ids []string, err error)
	// Sweep removes at most limit sessions that were over before a time, and
	// returns how many. Fewer than limit: there are no more.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}

// refreshUse is what a genuine refresh token of a live session is good for.
type refreshUse string

const (
	useNext       refreshUse = "next"       // the next refresh
	useAhead      refreshUse = "ahead"      // the same: the store has gone back in time
	useRepeat     refreshUse = "repeat"     // its successor once more
	useSuperseded refreshUse = "superseded" // nothing: the password has changed since, or was proved again
	useEarly      refreshUse = "early"      // nothing: the clock was set back since it was replaced
	useReuse      refreshUse = "reuse"      // nothing, and the session ends
)

// use decides by the generation of a refresh token. An older one than that of the
// session is genuine but already replaced, so somebody has a copy: that is reuse at any
// age, with two exceptions while a grace period lasts. The token just replaced may come
// again, because its answer may have been lost, or another tab has sent it. And within a
// grace period after a change of the password, which moves the session on by two
// generations, a token from before is only refused, because another tab may have been about
// to refresh.
//
// Two processes may disagree about the time by less than a grace period. A replaced token
// that is younger than that says that a clock was set back.
func (s *Session) use(generation uint64, now time.Time, grace time.Duration) refreshUse {
	switch {
	case generation == s.Generation:
		return useNext
	case generation > s.Generation:
		return useAhead
	case grace <= 0:
		return useReuse
	}
	within := func(since time.Time, yes refreshUse) refreshUse {
		switch age := now.Sub(since); {
		case age >= grace:
			return useReuse
		case age < -max(grace, leastSkew):
			return useEarly
		}
		return yes
	}
	switch {
	case s.AuthenticatedAt.After(s.RefreshedAt): // the last step was a change
		return within(s.RefreshedAt, useSuperseded)
	case generation == s.Generation-1:
		return within(s.RefreshedAt, useRepeat)
	case s.AuthenticatedAt.After(s.CreatedAt) && s.AuthenticatedAt.Equal(s.AuthenticatedAt.Truncate(time.Second)):
		// There was a change, and there were refreshes since. Which token is from
		// before it is not known: none of them is worth anything.
		if within(s.AuthenticatedAt, useSuperseded) == useSuperseded {
			return useSuperseded
		}
	}
	return useReuse
}

// leastSkew: a refresh in the second after a change is noted at its end.
const leastSkew = 2 * time.Second

package oauth2pw

import (
	"context"
	"net/netip"
	"time"
)

// Session is one login, until it ends. All tokens of the login carry its ID. Times are
// whole microseconds, in UTC.
//
// A store keeps every field unchanged, and needs to understand only the fields that the
// methods of [SessionStore] name.
type Session struct {
	ID       string // 22 characters of base64url: 128 random bits
	UserID   string // User.ID
	ClientID string // "": no client was named
	Scope    string // the granted scopes, between single spaces

	// Of the refresh token. None of these fields is a secret: without Config.Secrets they
	// make no token.
	Salt       [16]byte
	KeyID      string // of the secret that makes its tokens
	Generation uint64 // of the next refresh token: 1 at the login
	Forgiven   uint64 // the generation that the last forgiveness made; 0: none. See Config.RefreshForgive

	CreatedAt time.Time // the login
	// AuthenticatedAt is the time of the user's last proof of identity. At the login
	// AuthenticatedAt is the time of the request, or User.SessionsValidFrom if that is
	// later. ChangePassword and Reauthenticate set AuthenticatedAt to the first whole
	// second after the proof: only then, until the next refresh, is AuthenticatedAt later than RefreshedAt.
	AuthenticatedAt time.Time
	RefreshedAt     time.Time // the last refresh, ChangePassword or Reauthenticate, or the login
	IdleExpiresAt   time.Time // the expiry without a refresh; never after ExpiresAt
	ExpiresAt       time.Time // the expiry in any case
	EndedAt         time.Time // zero: not ended
	EndReason       string    // see EventSessionEnded

	Address   netip.Addr // the client address at the login; invalid: unknown
	UserAgent string     // at the login; at most 256 bytes, without control characters

	// The choices of Config.OpenSession.
	Idle  time.Duration // the time without a refresh until the session expires; zero: Config.RefreshIdle
	Label string        // the app's own, such as a name for a page of devices; at most 256 bytes, without control characters
}

// dead returns the reason why a session is not live, or "" for a live session.
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

// end returns the expiry of a session without a further refresh.
func (s *Session) end() time.Time {
	if s.IdleExpiresAt.Before(s.ExpiresAt) {
		return s.IdleExpiresAt
	}
	return s.ExpiresAt
}

// SessionFilter selects sessions of one user: all, one, all except one, or the sessions
// before a time.
type SessionFilter struct {
	UserID string // always compared: an empty UserID selects no session
	ID     string // only this session; "": any
	Except string // not this session; "": no exception
	// AuthenticatedBefore selects only sessions with an earlier AuthenticatedAt; zero: any.
	AuthenticatedBefore time.Time
}

// SessionStore keeps sessions. A session is live until it is ended or one of its expiries
// has come: at the time of an expiry the session is no longer live.
//
// These are the duties of a store, and package store/storetest tests them:
//
//   - Every method is called concurrently. A call reads the writes of all earlier calls: a
//     replica that lags behind must not answer.
//   - Every field of a Session is kept as it is, times to the microsecond.
//   - IDs and UserIDs are compared byte for byte.
//   - Arguments and results are copies: a later write of the caller does not reach the
//     store, and a later write of the store does not reach the caller.
//   - A call with an ended context returns an error other than a miss.
//   - Any error other than a miss is a store failure (503).
type SessionStore interface {
	// Create adds a session. An ID that exists already is an error, and changes nothing.
	Create(ctx context.Context, s *Session) error
	// Get returns a session: live, ended or expired. A miss is an error that wraps
	// [ErrNotFound], and no session.
	Get(ctx context.Context, id string) (*Session, error)
	// Advance writes Generation, Forgiven, AuthenticatedAt, RefreshedAt and IdleExpiresAt of
	// s, and no other field, in one atomic step, only if the Generation of the stored session
	// is still from and the session is live at now. Advance reports whether it has written:
	// false and no error for a missing session too. Of concurrent calls with the same from,
	// one writes. A session that End ends at the same time stays ended.
	Advance(ctx context.Context, from uint64, s *Session, now time.Time) (bool, error)
	// List returns the sessions of a user that are live at now, the latest CreatedAt first.
	List(ctx context.Context, userID string, now time.Time) ([]*Session, error)
	// End ends the sessions that f selects and that are not ended yet, expired sessions
	// included: End sets EndedAt to now, and EndReason, and no other field. End returns the
	// IDs of the sessions that it has ended, in any order. Of concurrent calls, one ends a
	// session.
	End(ctx context.Context, f SessionFilter, reason string, now time.Time) (ids []string, err error)
	// Sweep deletes at most limit sessions that ended or expired before a time, and returns
	// their number. A number below limit means: no such session is left. A session that ended
	// or expired at that time, or later, stays.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}

// refreshUse is the use of a genuine refresh token of a live session.
type refreshUse string

const (
	useNext       refreshUse = "next"       // the next refresh
	useAhead      refreshUse = "ahead"      // the next refresh, after the store has lost writes
	useRepeat     refreshUse = "repeat"     // the same successor again
	useForgive    refreshUse = "forgive"    // another successor, once: the last one is unused, so its answer may be lost
	useSuperseded refreshUse = "superseded" // only refused: the password was changed or proved again since
	useEarly      refreshUse = "early"      // only refused: the token was replaced in the future, because a clock was set back
	useReuse      refreshUse = "reuse"      // refused, and the session ends
)

// use decides by the generation of a genuine refresh token. A token with an older
// generation than the session is replaced, so somebody has a copy: the token is reuse at
// any age, with three exceptions:
//
//   - Within the grace period the last replaced token is a repeat, because its answer may
//     have been lost, or another tab has sent the token.
//   - After the grace period, within forgive, the last replaced token is forgiven once. The
//     successor that nobody has used is replaced, too: of two holders of copies, one has a
//     token whose next use is reuse.
//   - A change of the password adds 2 generations. Within the grace period after the change
//     an older token is only refused, because another tab may have been about to refresh.
//
// The clocks of two processes may differ by the grace period, or by leastSkew if that is
// longer. A token that was replaced further in the future is early: a clock was set back.
func (s *Session) use(generation uint64, now time.Time, grace, forgive time.Duration) refreshUse {
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
	case s.AuthenticatedAt.After(s.RefreshedAt): // the last step was a change of the password
		return within(s.RefreshedAt, useSuperseded)
	case generation == s.lastReplaced():
		if use := within(s.RefreshedAt, useRepeat); use != useReuse {
			return use
		}
		if now.Sub(s.RefreshedAt) < forgive && s.Generation != s.Forgiven {
			return useForgive
		}
		return useReuse
	case s.AuthenticatedAt.After(s.CreatedAt) && s.AuthenticatedAt.Equal(s.AuthenticatedAt.Truncate(time.Second)):
		// Refreshes have followed a change of the password. The generation does not show
		// whether the token is older than the change: every such token is only refused.
		if within(s.AuthenticatedAt, useSuperseded) == useSuperseded {
			return useSuperseded
		}
	}
	return useReuse
}

// lastReplaced returns the generation of the last replaced token that was used. A
// forgiveness skips one generation: that of the unused successor.
func (s *Session) lastReplaced() uint64 {
	if s.Generation == s.Forgiven {
		return s.Generation - 2
	}
	return s.Generation - 1
}

// leastSkew is the least allowed difference of clocks, because RefreshedAt of a refresh in
// the second after a change is the end of that second.
const leastSkew = 2 * time.Second

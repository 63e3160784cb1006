package oauth2pw

import (
	"context"
	"errors"
	"strings"
	"time"
)

// refreshAttempts is how often a refresh decides anew because another one was
// first. Each time it knows more, so that a second time is rare.
const refreshAttempts = 4

// refresher is the refresh_token grant (RFC 6749, section 6), with rotation (RFC
// 9700, section 4.14.2).
type refresher struct {
	plugs    *plugs
	clients  *clients
	scopes   *scopePolicy
	sessions *sessions
	logins   *logins
	events   *reporter
}

var errInvalidRefresh = &Error{Code: "invalid_grant", Description: "The refresh token is invalid, expired or revoked."}

func refreshRefused(reason EventReason) *Error {
	return errInvalidRefresh.because(EventRefreshFailed, reason, nil)
}

func (f *refresher) tokens(ctx context.Context, r *TokenRequest) (*Tokens, error) {
	t, ok := parseRefreshToken(r.Param("refresh_token"))
	if !ok {
		return nil, refreshRefused(ReasonMalformed)
	}
	for range refreshAttempts {
		tokens, err := f.once(ctx, r, t)
		if tokens != nil || err != nil {
			return tokens, err
		}
	}
	return nil, plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

// once reads the session and decides. No tokens and no error say that the session has
// changed since it was read.
func (f *refresher) once(ctx context.Context, r *TokenRequest, t refreshToken) (*Tokens, error) {
	s, use, err := f.use(ctx, r, t)
	if err != nil {
		return nil, err
	}
	u, err := f.user(ctx, s)
	if err != nil {
		return nil, err
	}
	scope, err := f.scope(ctx, s, u, r)
	if err != nil {
		return nil, err
	}
	next := *s
	if use != useRepeat {
		next.Generation = t.generation + 1
		next.RefreshedAt = latest(r.now, s.AuthenticatedAt) // see Session.use
		next.IdleExpiresAt = f.sessions.idleExpiry(s, r.now)
	}
	// A token says whole seconds, and must not say zero of them.
	if next.end().Sub(r.now) < time.Second {
		return nil, refreshRefused(ReasonAge)
	}
	tokens, err := f.logins.tokens(ctx, &next, u, scope)
	if err != nil {
		return nil, err
	}
	if tokens.RefreshToken = f.sessions.keys.token(&next, next.Generation); tokens.RefreshToken == "" {
		return nil, refreshRefused(ReasonUnknownSecret)
	}
	if use != useRepeat {
		// The last step that can fail: until here nothing is spent.
		if advanced, err := f.plugs.advanceSession(ctx, s.Generation, &next, r.now); !advanced || err != nil {
			return nil, err
		}
	}
	f.report(ctx, s, r, use)
	return tokens, nil
}

// use returns the live session of a refresh token of the client, and the use of the token
// there: next, ahead or repeat. It ends a session that has expired, and one whose token
// has been reused.
func (f *refresher) use(ctx context.Context, r *TokenRequest, t refreshToken) (*Session, refreshUse, error) {
	s, reason, err := f.sessions.byToken(ctx, t)
	if err != nil {
		return nil, "", err
	}
	if reason != "" {
		return nil, "", refreshRefused(reason)
	}
	r.event.UserID, r.event.SessionID = s.UserID, s.ID
	if reason := s.dead(r.now); reason == ReasonEnded {
		return nil, "", refreshRefused(reason)
	} else if reason != "" {
		return nil, "", f.end(ctx, s, reason, refreshRefused(reason))
	}
	if f.clients.owner(s.ClientID) != r.Client.id() {
		return nil, "", refreshRefused(ReasonWrongClient) // and nothing is spent
	}
	switch use := s.use(t.generation, r.now, f.sessions.grace); use {
	case useReuse:
		return nil, "", f.end(ctx, s, ReasonReuse, errInvalidRefresh.because(EventRefreshReuse, otherPlace(ctx, s, r), nil))
	case useSuperseded:
		return nil, "", refreshRefused(ReasonSuperseded) // and nothing ends
	case useEarly:
		return nil, "", refreshRefused(ReasonEarly)
	default:
		return s, use, nil
	}
}

// end ends a session, and returns the refusal, or the failure to end it.
func (f *refresher) end(ctx context.Context, s *Session, reason EventReason, refusal error) error {
	if err := f.sessions.endOne(ctx, s, reason); err != nil {
		return err
	}
	return refusal
}

// user returns the user of a session, if the session still holds for the user.
func (f *refresher) user(ctx context.Context, s *Session) (*User, error) {
	u, err := f.plugs.userByID(ctx, s.UserID)
	if err != nil {
		return nil, err
	}
	switch reason := u.dead(s.AuthenticatedAt); reason {
	case "":
		return u, nil
	case ReasonPasswordChanged:
		// The change itself ends the other sessions, and may not have moved its own on yet.
		return nil, refreshRefused(reason)
	default:
		return nil, f.end(ctx, s, reason, refreshRefused(reason))
	}
}

// scope returns the scope of the next access token: as asked, at most that of the login,
// as far as user and client may still have it (RFC 6749, section 6).
func (f *refresher) scope(ctx context.Context, s *Session, u *User, r *TokenRequest) (string, error) {
	for _, scope := range r.Scopes {
		if !hasScope(s.Scope, scope) {
			return "", errScopeNotAllowed
		}
	}
	asked := r.Scopes
	if asked == nil {
		asked = strings.Fields(s.Scope)
	}
	scopes, err := f.scopes.keep(ctx, u, r.Client, asked)
	if err != nil {
		return "", err
	}
	if r.Scopes != nil && len(scopes) < len(r.Scopes) {
		return "", errScopeNotAllowed
	}
	return strings.Join(scopes, " "), nil
}

func (f *refresher) report(ctx context.Context, s *Session, r *TokenRequest, use refreshUse) {
	e := Event{Kind: EventRefresh, Grant: grantRefresh, UserID: s.UserID, ClientID: s.ClientID, SessionID: s.ID}
	switch use {
	case useRepeat:
		e.Kind, e.Reason = EventRefreshRepeat, otherPlace(ctx, s, r)
	case useAhead:
		e.Kind = EventStoreRollback // the store has forgotten an answer of before
	}
	f.events.emit(ctx, e)
}

// otherPlace says how a request differs from the login of its session.
func otherPlace(ctx context.Context, s *Session, r *TokenRequest) EventReason {
	address := s.Address != ClientAddress(ctx)
	agent := s.UserAgent != cleanUserAgent(r.userAgent)
	switch {
	case address && agent:
		return ReasonOtherAddressAndUserAgent
	case address:
		return ReasonOtherAddress
	case agent:
		return ReasonOtherUserAgent
	}
	return ReasonSamePlace
}

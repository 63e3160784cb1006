package oauth2pw

import (
	"context"
	"errors"
	"strings"
	"time"
)

// refreshAttempts is the number of tries if parallel requests change the session first.
// Each try reads the session again, so that a second failure is rare.
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

// once reads the session and decides. No tokens and no error mean: the session has changed
// since the read.
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
		next.Generation = max(t.generation, s.Generation) + 1
		if use == useForgive {
			next.Forgiven = next.Generation
		}
		next.RefreshedAt = latest(r.now, s.AuthenticatedAt) // see Session.use
		next.IdleExpiresAt = f.sessions.idleExpiry(s, r.now)
	}
	// The lifetime of an access token is in whole seconds, and must not be zero.
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
		// The only write, and the last step that can fail: until here the token is not
		// used.
		if advanced, err := f.plugs.advanceSession(ctx, s.Generation, &next, r.now); !advanced || err != nil {
			return nil, err
		}
	}
	f.report(ctx, s, r, use)
	return tokens, nil
}

// use returns the live session of a refresh token of the client, and the use of the token:
// next, ahead or repeat. An expired session ends here, and reuse ends the session.
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
		return nil, "", refreshRefused(ReasonWrongClient) // the token stays unused
	}
	switch use := s.use(t.generation, r.now, f.sessions.grace, f.sessions.forgive); use {
	case useReuse:
		return nil, "", f.end(ctx, s, ReasonReuse, errInvalidRefresh.because(EventRefreshReuse, otherPlace(ctx, s, r), nil))
	case useSuperseded:
		return nil, "", refreshRefused(ReasonSuperseded) // the session stays live
	case useEarly:
		return nil, "", refreshRefused(ReasonEarly)
	default:
		return s, use, nil
	}
}

// end ends a session, and returns the refusal, or the store failure.
func (f *refresher) end(ctx context.Context, s *Session, reason EventReason, refusal error) error {
	if err := f.sessions.endOne(ctx, s, reason); err != nil {
		return err
	}
	return refusal
}

// user returns the user of a session, if the session is still valid for the user.
func (f *refresher) user(ctx context.Context, s *Session) (*User, error) {
	u, err := f.plugs.userByID(ctx, s.UserID)
	if err != nil {
		return nil, err
	}
	switch reason := u.dead(s.AuthenticatedAt); reason {
	case "":
		return u, nil
	case ReasonPasswordChanged:
		// The change itself ends the other sessions, and perhaps has not moved the caller's
		// session on yet.
		return nil, refreshRefused(reason)
	default:
		return nil, f.end(ctx, s, reason, refreshRefused(reason))
	}
}

// scope returns the scope of the next access token: the requested scope, or the scope of
// the login. A request for more than the login has is refused. Only scopes that the user
// and the client may still have are granted (RFC 6749, section 6).
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
	case useForgive:
		e.Kind, e.Reason, e.Late = EventRefreshForgiven, otherPlace(ctx, s, r), r.now.Sub(s.RefreshedAt)
	case useAhead:
		e.Kind = EventStoreRollback // the store has lost an earlier write
	}
	f.events.emit(ctx, e)
}

// otherPlace compares the address and the user agent of a request with those of the login.
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

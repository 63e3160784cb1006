package oauth2pw

import (
	"context"
	"errors"
	"net/http"
)

// revoker ends the sessions of tokens.
type revoker struct {
	clients   *clients
	sessions  *sessions
	verifiers *verifiers
}

// RevokeHandler returns the revocation endpoint (RFC 7009): a POST of a token ends the
// session of the token, and all tokens of the session are refused. Mount the endpoint
// without a method, at any path.
//
// The caller must be the client of the session; a session without a client needs only the
// token. An unknown, expired or already revoked token gets the same answer. A replaced
// refresh token ends the session too. Without Config.Sessions nothing can be revoked: the answer
// is unsupported_token_type for an access token.
func (a *Auth) RevokeHandler() http.Handler {
	return a.endpoints.handler(endpoint{required: "token", decide: a.revoker.revoke})
}

// revoke finds the kind of a token by its form, and ignores token_type_hint.
func (v *revoker) revoke(ctx context.Context, r *TokenRequest) (any, error) {
	done := struct{}{}
	s, err := v.revocable(ctx, r)
	if s == nil || err != nil {
		return done, err
	}
	r.event.UserID, r.event.SessionID = s.UserID, s.ID
	if s.dead(r.now) != "" {
		return done, nil
	}
	// RFC 7009, section 2.1: the token must have been issued to this client.
	if v.clients.owner(s.ClientID) != r.Client.id() {
		return nil, errNotYourToken
	}
	return done, v.sessions.endOne(ctx, s, ReasonRevoked)
}

var errNotYourToken = (&Error{Code: "invalid_grant", Description: "The token was issued to another client."}).
	because(EventRequestRefused, ReasonWrongClient, nil)

// revocable returns the session of a token, or nil if there is nothing to revoke.
func (v *revoker) revocable(ctx context.Context, r *TokenRequest) (*Session, error) {
	token := r.Param("token")
	if t, ok := parseRefreshToken(token); ok {
		if !v.sessions.on() {
			return nil, nil
		}
		s, _, err := v.sessions.byToken(ctx, t)
		return s, err
	}
	p, known, err := v.verifiers.ownToken(ctx, token)
	if err != nil || !known {
		return nil, err
	}
	if !v.sessions.on() || p.SessionID == "" {
		if v.clients.owner(p.ClientID) != r.Client.id() {
			return nil, errNotYourToken
		}
		return nil, &Error{Code: "unsupported_token_type"} // the token is valid until it expires
	}
	s, err := v.sessions.of(ctx, p)
	if errors.Is(err, ErrInvalidToken) {
		return nil, nil
	}
	return s, err
}

package oauth2pw

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// RevokeHandler returns the revocation endpoint (RFC 7009): a POST of a token ends
// the session that the token is of, so that all its tokens are dead. Mount it
// without a method, at any path.
//
// The caller must be the client that the session belongs to; a session of no
// client is revoked by its token alone. A token that is unknown, or over already,
// is answered as if it had been revoked now. A refresh token that has been used
// does it too.
func (a *Auth) RevokeHandler() http.Handler {
	return a.c.endpoint(endpoint{required: "token", decide: a.c.revoke})
}

// IntrospectHandler returns the introspection endpoint (RFC 7662), for clients
// with Client.Introspect and a secret. Mount it without a method, at any path. A
// refresh token is shown to its own client only; tokens of other issuers are not
// active here.
func (a *Auth) IntrospectHandler() http.Handler {
	return a.c.endpoint(endpoint{required: "token", challenge: true, decide: a.c.introspect})
}

// revoke: the token says itself which kind it is, whatever token_type_hint says.
func (c *config) revoke(ctx context.Context, r *TokenRequest) (any, error) {
	done := struct{}{}
	s, err := c.revocable(ctx, r)
	if s == nil || err != nil {
		return done, err
	}
	r.event.UserID, r.event.SessionID = s.UserID, s.ID
	if s.over(r.now) != "" {
		return done, nil
	}
	// RFC 7009, section 2.1: the token must have been issued to this client.
	if c.owner(s.ClientID) != r.Client.id() {
		return nil, errNotYourToken
	}
	return done, c.endOne(ctx, s, "revoked")
}

var errNotYourToken = (&Error{Code: "invalid_grant", Description: "The token was issued to another client."}).
	because(EventRequestRefused, "wrong_client", nil)

// revocable returns the session of a token, nil if there is nothing to revoke.
func (c *config) revocable(ctx context.Context, r *TokenRequest) (*Session, error) {
	token := r.Param("token")
	if t, ok := parseRefreshToken(token); ok {
		if c.Sessions == nil {
			return nil, nil
		}
		s, _, err := c.ownSession(ctx, t)
		return s, err
	}
	p, known, err := c.ownAccessToken(ctx, token)
	if err != nil || !known {
		return nil, err
	}
	if c.Sessions == nil || p.SessionID == "" {
		if c.owner(p.ClientID) != r.Client.id() {
			return nil, errNotYourToken
		}
		return nil, &Error{Code: "unsupported_token_type"} // it lives until it expires
	}
	s, err := c.sessionOf(ctx, p)
	if errors.Is(err, ErrInvalidToken) {
		return nil, nil
	}
	return s, err
}

// ownAccessToken verifies an access token; false for one that is not good, or not
// ours.
func (c *config) ownAccessToken(ctx context.Context, token string) (Principal, bool, error) {
	if len(token) > maxToken || !isB64Token(token) {
		return Principal{}, false, nil
	}
	p, err := c.Verifier.Verify(ctx, token)
	if errors.Is(err, ErrInvalidToken) {
		return Principal{}, false, nil
	}
	if err != nil {
		return Principal{}, false, plugError("TokenVerifier.Verify", err)
	}
	return p, c.own(p), nil
}

// introspection is the body of an answer (RFC 7662, section 2.2). What does not
// apply is left out, which for a token that is not active is all the rest.
type introspection struct {
	Active    bool   `json:"active"`
	Scope     string `json:"scope,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	ExpiresAt int64  `json:"exp,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Audience  string `json:"aud,omitempty"`
	Issuer    string `json:"iss,omitempty"`
	TokenID   string `json:"jti,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

func (c *config) introspect(ctx context.Context, r *TokenRequest) (any, error) {
	if r.Client == nil || r.Client.SecretSHA256 == nil {
		return nil, errInvalidClient.because(EventClientFailed, "not_confidential", nil)
	}
	if !r.Client.Introspect {
		return nil, &Error{Code: "unauthorized_client", Description: "The client may not introspect tokens."}
	}
	token := r.Param("token")
	t, ok := parseRefreshToken(token)
	if !ok {
		return c.introspectAccess(ctx, token)
	}
	if c.Sessions == nil {
		return introspection{}, nil
	}
	return c.introspectRefresh(ctx, r, t)
}

func (c *config) introspectAccess(ctx context.Context, token string) (any, error) {
	p, known, err := c.ownAccessToken(ctx, token)
	if err != nil || !known {
		return introspection{}, err
	}
	if c.Sessions != nil && p.SessionID != "" {
		if _, err := c.sessionOf(ctx, p); errors.Is(err, ErrInvalidToken) {
			return introspection{}, nil
		} else if err != nil {
			return nil, err
		}
	}
	u, reason, err := c.standing(ctx, p.Subject, p.AuthTime)
	if err != nil || reason != "" {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: p.Scope, ClientID: p.ClientID, Username: u.Username, TokenType: "bearer",
		ExpiresAt: p.ExpiresAt.Unix(), IssuedAt: p.IssuedAt.Unix(),
		Subject: p.Subject, Audience: p.Audience, Issuer: p.Issuer, TokenID: p.TokenID, SessionID: p.SessionID,
	}, nil
}

// introspectRefresh looks at a refresh token and changes nothing: one that has
// been used is not active, and that is all.
func (c *config) introspectRefresh(ctx context.Context, r *TokenRequest, t refreshToken) (any, error) {
	s, _, err := c.ownSession(ctx, t)
	if err != nil || s == nil || s.over(r.now) != "" || c.owner(s.ClientID) != r.Client.ID || t.generation < s.Generation ||
		!c.refreshes || !r.Client.mayUse(grantRefresh) {
		return introspection{}, err
	}
	u, reason, err := c.standing(ctx, s.UserID, s.AuthenticatedAt)
	if err != nil || reason != "" {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: s.Scope, ClientID: c.owner(s.ClientID), Username: u.Username,
		ExpiresAt: s.end().Truncate(time.Second).Unix(), IssuedAt: s.RefreshedAt.Unix(),
		Subject: s.UserID, SessionID: s.ID,
	}, nil
}

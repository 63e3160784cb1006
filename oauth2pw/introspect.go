package oauth2pw

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// introspector describes tokens.
type introspector struct {
	plugs     *plugs
	clients   *clients
	sessions  *sessions
	verifiers *verifiers
}

// IntrospectHandler returns the introspection endpoint (RFC 7662), for clients with a
// secret and Client.Introspect. Mount the endpoint without a method, at any path. A refresh
// token is active only for its own client; a token of another issuer is not active.
func (a *Auth) IntrospectHandler() http.Handler {
	return a.endpoints.handler(endpoint{required: "token", challenge: true, decide: a.introspector.introspect})
}

// introspection is the body of an answer (RFC 7662, section 2.2). Empty members are
// omitted: a token that is not active has only the member active.
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

func (v *introspector) introspect(ctx context.Context, r *TokenRequest) (any, error) {
	if r.Client == nil || r.Client.SecretSHA256 == nil {
		return nil, errInvalidClient.because(EventClientFailed, ReasonNotConfidential, nil)
	}
	if !r.Client.Introspect {
		return nil, &Error{Code: "unauthorized_client", Description: "The client may not introspect tokens."}
	}
	token := r.Param("token")
	t, ok := parseRefreshToken(token)
	if !ok {
		return v.access(ctx, token)
	}
	if !v.sessions.on() {
		return introspection{}, nil
	}
	return v.refresh(ctx, r, t)
}

func (v *introspector) access(ctx context.Context, token string) (any, error) {
	p, known, err := v.verifiers.ownToken(ctx, token)
	if err != nil || !known {
		return introspection{}, err
	}
	if v.sessions.on() && p.SessionID != "" {
		if _, err := v.sessions.of(ctx, p); errors.Is(err, ErrInvalidToken) {
			return introspection{}, nil
		} else if err != nil {
			return nil, err
		}
	}
	u, err := v.plugs.userByID(ctx, p.Subject)
	if err != nil || u.dead(p.AuthTime) != "" {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: p.Scope, ClientID: p.ClientID, Username: u.Username, TokenType: "bearer",
		ExpiresAt: p.ExpiresAt.Unix(), IssuedAt: p.IssuedAt.Unix(),
		Subject: p.Subject, Audience: p.Audience, Issuer: p.Issuer, TokenID: p.TokenID, SessionID: p.SessionID,
	}, nil
}

// refresh describes a refresh token and changes nothing: a replaced token is not active,
// and its session stays live.
func (v *introspector) refresh(ctx context.Context, r *TokenRequest, t refreshToken) (any, error) {
	s, _, err := v.sessions.byToken(ctx, t)
	if err != nil || s == nil || s.dead(r.now) != "" || v.clients.owner(s.ClientID) != r.Client.ID || t.generation < s.Generation ||
		!v.sessions.mayRefresh(r.Client) {
		return introspection{}, err
	}
	u, err := v.plugs.userByID(ctx, s.UserID)
	if err != nil || u.dead(s.AuthenticatedAt) != "" {
		return introspection{}, err
	}
	return introspection{
		Active: true, Scope: s.Scope, ClientID: v.clients.owner(s.ClientID), Username: u.Username,
		ExpiresAt: s.end().Truncate(time.Second).Unix(), IssuedAt: s.RefreshedAt.Unix(),
		Subject: s.UserID, SessionID: s.ID,
	}, nil
}

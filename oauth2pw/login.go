package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Tokens is the successful answer of a token endpoint (RFC 6749, section 5.1).
type Tokens struct {
	AccessToken  Secret
	ExpiresIn    time.Duration // the life of the access token, in whole seconds; 0: not said
	RefreshToken Secret        // "": there is none
	Scope        string        // what was granted: scopes between single spaces
	SessionID    string        // "" without Config.Sessions

	expires time.Time // the access token
}

// Write answers a request with the tokens, as the token endpoint does: as JSON
// that no cache stores.
func (t *Tokens) Write(w http.ResponseWriter) {
	body, _ := json.Marshal(t.response()) // strings and a number
	writeJSON(w, http.StatusOK, body)
}

// tokenResponse is the body of a successful answer.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in,omitempty"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
}

func (t *Tokens) response() tokenResponse {
	return tokenResponse{string(t.AccessToken), "bearer", int64(t.ExpiresIn / time.Second), string(t.RefreshToken), t.Scope}
}

// Login logs a user in whom the app has identified in its own way: right after a
// sign-up, say. It returns the tokens that a login at the token endpoint would
// give; r is the request that the user made, for its address and user agent, and
// clientID the client that it came through; "" stands for a request that names none.
// Without scopes the default ones are granted. The throttle is not asked, and the address
// does not become known to the user by it.
//
// The error is an [*Error], for [WriteError]: invalid_grant if there is no such
// user or it is disabled, invalid_client if there is no such client,
// invalid_scope, or a failure.
func (a *Auth) Login(r *http.Request, userID, clientID string, scopes ...string) (tokens *Tokens, err error) {
	c := a.c
	ctx := c.withAddress(r)
	event := Event{Kind: EventLoginFailed, UserID: userID}
	err = c.told(ctx, &event, func() error {
		tokens, err = c.login(ctx, c.newRequest(r, &event), userID, clientID, scopes)
		return err
	})
	return tokens, err
}

func (c *config) login(ctx context.Context, r *TokenRequest, userID, clientID string, scopes []string) (_ *Tokens, err error) {
	if clientID == "" {
		r.Client, err = c.unnamedClient(ctx)
	} else if r.Client, err = c.findClient(ctx, clientID); err == nil && r.Client == nil {
		err = errInvalidBodyClient.because(EventClientFailed, "unknown_client", nil)
	}
	if err != nil {
		return nil, err
	}
	r.event.ClientID = r.Client.id()
	for _, s := range scopes {
		if !validScopeToken(s) {
			return nil, &Error{Code: "invalid_scope", Description: "The scope is malformed."}
		}
		r.Scopes = addScopes(r.Scopes, s)
	}
	u, reason, err := c.standing(ctx, userID, maxTime)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, errInvalidGrant.because(EventLoginFailed, reason, nil)
	}
	return c.openLogin(ctx, r, &proof{user: u, at: latest(r.now, u.SessionsValidFrom)})
}

// loginAttempts is how often a login begins anew because the user has changed.
const loginAttempts = 3

// openLogin is the last step of every login: it grants scopes, stores the session and
// makes the tokens.
func (c *config) openLogin(ctx context.Context, r *TokenRequest, p *proof) (*Tokens, error) {
	for range loginAttempts {
		tokens, err := c.openLoginOnce(ctx, r, p)
		if tokens != nil || err != nil {
			return tokens, err
		}
	}
	return nil, plugError("UserStore.UserByID", errors.New("the user changed each time it was read"))
}

// openLoginOnce returns no tokens and no error if the login holds and the user has
// changed since p.user was read: p is of now then.
func (c *config) openLoginOnce(ctx context.Context, r *TokenRequest, p *proof) (*Tokens, error) {
	u := p.user
	r.event.UserID = u.ID
	if u.ID == r.Client.id() {
		// RFC 9068, section 5: a user's sub must not be taken for a client's.
		return nil, plugError("UserStore", errors.New("a user whose ID is that of the client"))
	}
	granted, err := c.grantScopes(ctx, u, r.Client, r.Scopes)
	if err != nil {
		return nil, err
	}
	scope := strings.Join(granted, " ")
	s := &Session{UserID: u.ID, ClientID: r.Client.id(), AuthenticatedAt: p.at}
	if c.Sessions != nil {
		s = c.newSession(ctx, r, p, scope)
	}
	tokens, err := c.makeTokens(ctx, s, u, scope)
	if err != nil {
		return nil, err
	}
	if c.Sessions == nil {
		if p.stands != nil {
			if moved, refusal, err := c.recheck(ctx, p); moved || refusal != "" || err != nil {
				return nil, loginRefused(refusal, err)
			}
		}
	} else {
		if c.refreshes && r.Client.mayUse(grantRefresh) {
			tokens.RefreshToken = c.refreshTokenOf(s, s.Generation)
		} else { // nothing can refresh it: it ends with its access token
			s.ExpiresAt, s.IdleExpiresAt = tokens.expires, tokens.expires
		}
		if open, err := c.openSession(ctx, s, p); !open || err != nil {
			return nil, err
		}
	}
	c.emit(ctx, Event{Kind: EventLogin, Grant: r.GrantType, UserID: u.ID, ClientID: s.ClientID, SessionID: s.ID})
	return tokens, nil
}

// recheck reads the user once more, after everything that the login has read and
// written: a change of the user from now on finds the session. It returns why the login
// is refused, "" if it is not. moved says that User.SessionsValidFrom is later than p.at: the
// login holds, and must say so from a later time.
func (c *config) recheck(ctx context.Context, p *proof) (moved bool, refusal string, err error) {
	u, refusal, err := c.standing(ctx, p.user.ID, maxTime)
	if refusal != "" || err != nil {
		return false, refusal, err
	}
	moved = p.at.Before(u.SessionsValidFrom)
	switch {
	case p.stands == nil && moved:
		return false, "password_changed", nil
	case p.stands == nil:
		return false, "", nil
	}
	ok, err := p.stands(ctx, u)
	switch {
	case err != nil:
		return false, "", err
	case !ok:
		return false, "password_changed", nil
	case moved:
		p.user, p.at = u, u.SessionsValidFrom
	}
	return moved, "", nil
}

func loginRefused(reason string, err error) error {
	if reason != "" {
		return errInvalidGrant.because(EventLoginFailed, "stale", nil)
	}
	return err
}

// makeTokens makes an access token of a session, whose ID is "" without
// Config.Sessions.
func (c *config) makeTokens(ctx context.Context, s *Session, u *User, scope string) (*Tokens, error) {
	p := Principal{
		Subject: s.UserID, ClientID: c.owner(s.ClientID), Scope: scope, SessionID: s.ID,
		AuthTime: authTime(s.AuthenticatedAt, u.SessionsValidFrom), User: u,
	}
	if s.ID != "" {
		p.ExpiresAt = s.end()
	}
	token, issued, err := c.Issuer.Issue(ctx, p)
	if err != nil {
		return nil, plugError("TokenIssuer.Issue", err)
	}
	return &Tokens{
		AccessToken: Secret(token),
		ExpiresIn:   issued.ExpiresAt.Sub(issued.IssuedAt).Truncate(time.Second),
		Scope:       scope,
		SessionID:   s.ID,
		expires:     issued.ExpiresAt,
	}, nil
}

// authTime cuts the time of a login to the second that a token can say, but never
// to before sessionsFrom, which would make the token dead at birth.
func authTime(at, sessionsFrom time.Time) time.Time {
	t := at.Truncate(time.Second)
	if t.Before(sessionsFrom) {
		t = t.Add(time.Second)
	}
	return t
}

// mayUse reports whether a client, nil for none, may use a grant type.
func (c *Client) mayUse(grantType string) bool {
	return c == nil || slices.Contains(c.Grants, grantType)
}

// id is the id of a client, "" for none.
func (c *Client) id() string {
	if c == nil {
		return ""
	}
	return c.ID
}

package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const grantPassword = "password"

// TokenRequest is a token request whose form is well formed and whose client is
// who it says. The form itself stands behind Param, so that printing a request
// shows no password.
type TokenRequest struct {
	GrantType string
	Client    *Client  // nil: none was named
	Scopes    []string // as asked, without duplicates; nil: none

	event *Event // what is known about the request, for the event hook
	now   time.Time
	param func(name string) string // the form
}

// Param returns a parameter of the form, "" if it is absent, empty, or sent more
// than once.
func (r *TokenRequest) Param(name string) string { return r.param(name) }

// grant is an entry in the table of grants.
type grant struct {
	check func(r *TokenRequest) error // its parameters; nil: none are required
	user  func(ctx context.Context, r *TokenRequest) (*User, error)
}

// setGrants fills the table: the built-in ones and the app's own.
func (c *config) setGrants() error {
	c.grants = map[string]grant{
		grantPassword: {
			check: func(r *TokenRequest) error { return requirePassword(r.param) },
			user:  c.passwordUser,
		},
	}
	for name, user := range c.Grants {
		_, builtIn := c.grants[name]
		if name == "" || !onlyVSChar(name) || builtIn || name == "refresh_token" || user == nil {
			return fmt.Errorf("oauth2pw: Config.Grants: %q is nil, built in, or no grant type (RFC 6749, appendix A.10)", name)
		}
		c.grants[name] = grant{user: func(ctx context.Context, r *TokenRequest) (*User, error) {
			u, err := user(ctx, r)
			if errors.Is(err, ErrNotFound) || err == nil && u == nil {
				return nil, errInvalidGrant.because(EventLoginFailed, "refused", err)
			}
			if err != nil {
				return nil, plugError("Config.Grants: "+name, err)
			}
			return u, nil
		}}
	}
	return nil
}

// TokenHandler returns the token endpoint (RFC 6749, section 3.2). Mount it
// without a method, at any path.
//
// It answers a POST of application/x-www-form-urlencoded with tokens (section
// 5.1) or an error (section 5.2), as JSON that no cache stores.
func (a *Auth) TokenHandler() http.Handler {
	return a.c.endpoint("grant_type", a.c.token)
}

// endpoint is the part that the token endpoint shares with its siblings:
// transport, form, client, and the answer. decide gets a request whose client is
// authenticated, and returns what to encode.
func (c *config) endpoint(required string, decide func(ctx context.Context, r *TokenRequest) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		state := stateFrom(r.Context())
		state.address = c.transport.clientAddress(r)
		ctx := withState(r.Context(), state)
		event := Event{Kind: EventRequestRefused}
		body, err := c.answer(ctx, r, &event, required, decide)
		if err != nil {
			c.answers.refuse(ctx, w, err, event)
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

func (c *config) answer(ctx context.Context, r *http.Request, event *Event, required string,
	decide func(ctx context.Context, r *TokenRequest) (any, error),
) (body []byte, refusal error) {
	defer recoverPlug(&refusal)
	if err := requirePost(r); err != nil {
		return nil, err
	}
	if err := c.transport.requireHTTPS(r); err != nil {
		return nil, err
	}
	f, err := readForm(r)
	if err != nil {
		return nil, err
	}
	if f.get(required) == "" {
		return nil, badRequest("The parameter " + required + " is missing.")
	}
	client, err := c.authenticateClient(ctx, r, f)
	if err != nil {
		return nil, err
	}
	if client != nil {
		event.ClientID = client.ID
	}
	answer, err := decide(ctx, &TokenRequest{
		GrantType: f.get("grant_type"), Client: client,
		param: f.get, event: event, now: c.now(),
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// tokenResponse is the body of a successful answer (RFC 6749, section 5.1).
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	Scope       string `json:"scope,omitempty"`
}

// token decides about a token request: grant, scope syntax, user, scope policy,
// tokens.
func (c *config) token(ctx context.Context, r *TokenRequest) (any, error) {
	grant, known := c.grants[r.GrantType]
	if !known {
		return nil, errUnsupportedGrantType
	}
	r.event.Grant = r.GrantType
	if !r.Client.mayUse(r.GrantType) {
		return nil, &Error{Code: "unauthorized_client"}
	}
	if grant.check != nil {
		if err := grant.check(r); err != nil {
			return nil, err
		}
	}
	var err error
	if r.Scopes, err = parseScope(r.Param("scope")); err != nil {
		return nil, err
	}
	u, err := c.login(ctx, r, grant)
	if err != nil {
		return nil, err
	}
	r.event.UserID, r.event.NameTag = u.ID, ""
	scopes, err := c.grantScopes(ctx, u, r.Client, r.Scopes)
	if err != nil {
		return nil, err
	}
	return c.issue(ctx, r, u, strings.Join(scopes, " "))
}

// login returns the user that the grant proves, if that user may log in.
func (c *config) login(ctx context.Context, r *TokenRequest, g grant) (*User, error) {
	u, err := g.user(ctx, r)
	if err != nil {
		return nil, err
	}
	r.event.UserID, r.event.NameTag = u.ID, ""
	switch {
	case u.ID == "":
		return nil, plugError("UserStore", errors.New("a user without an ID"))
	case u.Disabled:
		return nil, errInvalidGrant.because(EventLoginFailed, "disabled", nil)
	case r.now.Before(u.SessionsFrom): // the password has changed since the request came in
		return nil, errInvalidGrant.because(EventLoginFailed, "stale", nil)
	}
	return u, nil
}

// issue makes the access token and the answer.
func (c *config) issue(ctx context.Context, r *TokenRequest, u *User, scope string) (any, error) {
	p := Principal{Subject: u.ID, Scope: scope, AuthTime: authTime(r.now, u.SessionsFrom), User: u}
	if r.Client != nil {
		p.ClientID = r.Client.ID
	}
	token, issued, err := c.Issuer.Issue(ctx, p)
	if err != nil {
		return nil, plugError("TokenIssuer.Issue", err)
	}
	c.emit(ctx, Event{Kind: EventLogin, Grant: r.GrantType, UserID: u.ID, ClientID: p.ClientID})
	return tokenResponse{
		AccessToken: token,
		TokenType:   "bearer",
		ExpiresIn:   int64(issued.ExpiresAt.Sub(issued.IssuedAt) / time.Second),
		Scope:       scope,
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

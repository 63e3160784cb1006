package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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

	now       time.Time // when it came in, before anything was read
	userAgent string
	event     *Event                   // what is known about the request, for the event hook
	param     func(name string) string // the form
}

func (c *config) newRequest(r *http.Request, event *Event) *TokenRequest {
	return &TokenRequest{now: c.time(), userAgent: r.UserAgent(), event: event}
}

// Param returns a parameter of the form, "" if it is absent, empty, or sent more
// than once.
func (r *TokenRequest) Param(name string) string { return r.param(name) }

// grant is an entry in the table of grants.
type grant struct {
	check  func(r *TokenRequest) error // its parameters; nil: none are required
	tokens func(ctx context.Context, r *TokenRequest) (*Tokens, error)
}

// setGrants fills the table: the built-in ones and the app's own.
func (c *config) setGrants() error {
	c.grants = make(map[string]grant)
	if !c.DisablePasswordGrant {
		c.grants[grantPassword] = grant{
			check:  func(r *TokenRequest) error { return requirePassword(r.param) },
			tokens: c.loginBy(c.passwordUser),
		}
	}
	if c.refreshes {
		c.grants[grantRefresh] = grant{
			check:  func(r *TokenRequest) error { return requireParam(r.param, grantRefresh) },
			tokens: c.refresh,
		}
	}
	for name, user := range c.Grants {
		if name == "" || !onlyVSChar(name) || name == grantPassword || name == grantRefresh || user == nil {
			return fmt.Errorf("oauth2pw: Config.Grants: %q is nil, built in, or no grant type (RFC 6749, appendix A.10)", name)
		}
		c.grants[name] = grant{tokens: c.loginBy(func(ctx context.Context, r *TokenRequest) (*User, error) {
			u, err := user(ctx, r)
			if errors.Is(err, ErrNotFound) || err == nil && u == nil {
				return nil, errInvalidGrant.because(EventLoginFailed, "refused", err)
			}
			if err != nil {
				return nil, plugError("Config.Grants: "+name, err)
			}
			return u, nil
		})}
	}
	return nil
}

// loginBy makes a grant of a function that proves who the user is: one that may
// log in gets tokens.
func (c *config) loginBy(user func(context.Context, *TokenRequest) (*User, error)) func(context.Context, *TokenRequest) (*Tokens, error) {
	return func(ctx context.Context, r *TokenRequest) (*Tokens, error) {
		u, err := user(ctx, r)
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
		return c.openLogin(ctx, r, u)
	}
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
		ctx := c.withAddress(r)
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
	if err := requireParam(f.get, required); err != nil {
		return nil, err
	}
	client, err := c.authenticateClient(ctx, r, f)
	if err != nil {
		return nil, err
	}
	event.ClientID = client.id()
	request := c.newRequest(r, event)
	request.GrantType, request.Client, request.param = f.get("grant_type"), client, f.get
	answer, err := decide(ctx, request)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// token decides about a token request: grant, its parameters, scope syntax, and
// what the grant says.
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
	tokens, err := grant.tokens(ctx, r)
	if err != nil {
		return nil, err
	}
	return tokens.response(), nil
}

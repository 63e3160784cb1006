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

	rest      func() string // the form without the client's credentials
	now       time.Time     // when it came in, before anything was read
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
			tokens: c.loginBy(func(r *TokenRequest) string { return r.Param("password") }, c.passwordUser),
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
		c.grants[name] = grant{tokens: c.loginBy(func(r *TokenRequest) string { return r.rest() },
			func(ctx context.Context, r *TokenRequest) (*User, bool, error) {
				u, err := user(ctx, r)
				return judged(ctx, "Config.Grants: "+name, u, err)
			})}
	}
	return nil
}

// loginBy makes a grant of a function that proves who the user is by a secret: one
// that may log in gets tokens. decided is whether the secret was looked at.
func (c *config) loginBy(secret func(*TokenRequest) string,
	user func(context.Context, *TokenRequest) (u *User, decided bool, err error),
) func(context.Context, *TokenRequest) (*Tokens, error) {
	return func(ctx context.Context, r *TokenRequest) (*Tokens, error) {
		name := r.Param("username")
		var u *User
		err := c.guess(ctx, c.attempt(ctx, attemptPassword, foldName(name), secret(r)), func() (decided bool, err error) {
			if u, decided, err = user(ctx, r); err != nil {
				return decided, err
			}
			r.event.UserID = u.ID
			return true, mayLogIn(u, r)
		})
		if err != nil {
			if name != "" && r.event.UserID == "" {
				r.event.NameTag = c.nameTag(name)
			}
			return nil, err
		}
		return c.openLogin(ctx, r, u)
	}
}

// mayLogIn refuses a user who has proved who he is, and may not log in all the
// same.
func mayLogIn(u *User, r *TokenRequest) error {
	switch {
	case u.ID == "":
		return plugError("UserStore", errors.New("a user without an ID"))
	case u.Disabled:
		return errInvalidGrant.because(EventLoginFailed, "disabled", nil)
	case r.now.Before(u.SessionsFrom): // the password has changed since the request came in
		return errInvalidGrant.because(EventLoginFailed, "stale", nil)
	}
	return nil
}

// judged reads what a plug says about somebody's secret. A plug that fails has
// decided nothing, unless the client has made it fail by hanging up.
func judged(ctx context.Context, plug string, u *User, err error) (_ *User, decided bool, _ error) {
	if errors.Is(err, ErrNotFound) || err == nil && u == nil {
		return nil, true, errInvalidGrant.because(EventLoginFailed, "refused", err)
	}
	if err != nil {
		e := plugError(plug, err)
		return nil, ctx.Err() != nil || e.complete().status < http.StatusInternalServerError, e
	}
	return u, true, nil
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
	c.noteProxy(ctx)
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
	request.GrantType, request.Client = f.get("grant_type"), client
	request.param, request.rest = f.get, f.withoutClient
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

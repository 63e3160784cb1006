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
	guess     func(ctx context.Context, userID string) error
}

func (c *config) newRequest(r *http.Request, event *Event) *TokenRequest {
	return &TokenRequest{now: c.time(), userAgent: r.UserAgent(), event: event}
}

// Param returns a parameter of the form, "" if it is absent, empty, or sent more
// than once.
func (r *TokenRequest) Param(name string) string { return r.param(name) }

// Guess says that a grant of Config.Grants is about to check something that can be
// guessed, such as a code by SMS, which would open a user: User.ID. It counts an attempt
// at the user, together with the user's passwords. The error says that there were too
// many (slow_down), or that the throttle failed: the grant returns it as it is, and checks
// nothing.
//
// The attempt stays counted if the grant returns an error that wraps [ErrNotFound], or an
// *Error with the code invalid_grant, or another user, or if a later Guess is refused. If it returns the user, what failed
// before from this address is forgotten. The user must be found by whom the code would
// open, never by a parameter that only says so. An empty userID counts nothing: it is for
// a code that opens nobody, which counts for the address as every request does.
//
// It is called from the goroutine of the grant, and outside of a grant it does nothing. With
// Config.Authenticate passwords count by name, and codes apart from them by user.
func (r *TokenRequest) Guess(ctx context.Context, userID string) error {
	if r.guess == nil || userID == "" {
		return nil
	}
	return r.guess(ctx, userID)
}

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
			tokens: c.loginBy(c.passwordLogin),
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
		c.grants[name] = grant{tokens: c.loginBy(c.grantLogin(name, user))}
	}
	return nil
}

// proof is what a login has proved.
type proof struct {
	user *User
	at   time.Time // since when: a change of the password after it ends the login
	// stands decides, by the user's record of now, whether it still holds; nil: the
	// time alone does.
	stands func(ctx context.Context, u *User) (bool, error)
}

// loginBy makes a grant of what proves who the user is.
func (c *config) loginBy(prove func(context.Context, *TokenRequest) (*proof, error)) func(context.Context, *TokenRequest) (*Tokens, error) {
	return func(ctx context.Context, r *TokenRequest) (*Tokens, error) {
		p, err := prove(ctx, r)
		if err != nil {
			if name := r.Param("username"); name != "" && r.event.UserID == "" {
				r.event.NameTag = c.nameTag(name)
			}
			return nil, err
		}
		return c.openLogin(ctx, r, p)
	}
}

// grantLogin makes a login of a function of Config.Grants. The request counts for the
// address alone: none of its parameters is believed to say whose secret it holds. What
// the function knows to be a guess at a user, it tells by TokenRequest.Guess.
func (c *config) grantLogin(name string, user func(context.Context, *TokenRequest) (*User, error)) func(context.Context, *TokenRequest) (*proof, error) {
	type code struct {
		userID string
		open   openAttempt
	}
	return func(ctx context.Context, r *TokenRequest) (*proof, error) {
		requestContext := ctx
		var u *User
		err := c.guess(ctx, c.attempt(ctx, Attempt{Kind: AttemptGrant}, ""), func() (v verdict, userID string, err error) {
			var codes []code
			var blocked error
			r.guess = func(ctx context.Context, userID string) error {
				// Of the grant's context only the deadline counts: the address is the
				// request's.
				open, err := c.begin(ctx, c.attempt(requestContext, Attempt{Kind: AttemptCode, UserID: userID}, ""))
				if err != nil {
					blocked = err
					return err
				}
				codes = append(codes, code{userID, open})
				return nil
			}
			u, err = user(ctx, r)
			r.guess = nil
			if blocked != nil { // whatever it has checked in spite of it, or before
				v, err = wrong, blocked
				if len(codes) == 0 {
					v = undecided
				}
			} else {
				v, err = judge(ctx, "Config.Grants: "+name, r, u, err)
			}
			if v == right {
				userID = u.ID
			}
			for _, code := range codes {
				if v == right && code.userID != userID {
					continue // it did not open the user at whom it was a guess
				}
				c.settle(ctx, code.open, v, userID)
			}
			return v, userID, err
		})
		if err != nil {
			return nil, err
		}
		return &proof{user: u, at: r.now}, nil
	}
}

// judge reads what a plug says about somebody's secret. Only invalid_grant is a wrong
// guess; any other answer of the plug, and its failure, is none. But a client that
// disconnects must not make its guesses free.
func judge(ctx context.Context, plug string, r *TokenRequest, u *User, err error) (verdict, error) {
	if errors.Is(err, ErrNotFound) || err == nil && u == nil {
		return wrong, errInvalidGrant.because(EventLoginFailed, "refused", err)
	}
	if err != nil {
		e := plugError(plug, err)
		if e.Code == errInvalidGrant.Code || ctx.Err() != nil {
			return wrong, e
		}
		return undecided, e
	}
	r.event.UserID = u.ID
	switch {
	case u.ID == "":
		return undecided, plugError(plug, errNoUserID)
	case u.Disabled:
		return wrong, errInvalidGrant.because(EventLoginFailed, "disabled", nil)
	case r.now.Before(u.SessionsValidFrom): // what it has checked may be older than the change
		return undecided, errInvalidGrant.because(EventLoginFailed, "stale", nil)
	}
	return right, nil
}

// TokenHandler returns the token endpoint (RFC 6749, section 3.2). Mount it
// without a method, at any path.
//
// It answers a POST of application/x-www-form-urlencoded with tokens (section
// 5.1) or an error (section 5.2), as JSON that no cache stores.
func (a *Auth) TokenHandler() http.Handler {
	return a.c.endpoint(endpoint{required: "grant_type", lax: a.c.LaxForm, decide: a.c.token})
}

// endpoint says how one of the endpoints differs from the others.
type endpoint struct {
	required  string // the parameter without which nothing can be decided
	lax       bool   // the form is read as FastAPI does
	challenge bool   // every client that fails is asked for Basic credentials
	// decide gets a request whose client is authenticated, and returns what to
	// encode.
	decide func(ctx context.Context, r *TokenRequest) (any, error)
}

// endpoint is the part that the token endpoint shares with its siblings:
// transport, form, client, and the answer.
func (c *config) endpoint(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := c.withAddress(r)
		event := Event{Kind: EventRequestRefused}
		body, err := c.answer(ctx, r, &event, e)
		if err != nil {
			c.answers.refuse(ctx, w, err, event)
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

func (c *config) answer(ctx context.Context, r *http.Request, event *Event, e endpoint) (body []byte, refusal error) {
	defer recoverPlug(&refusal)
	if err := requirePost(r); err != nil {
		return nil, err
	}
	if err := c.transport.requireHTTPS(r); err != nil {
		return nil, err
	}
	if err := c.transport.requireSameSite(r); err != nil {
		return nil, err
	}
	c.noteProxy(ctx)
	f, err := readForm(r, e.lax)
	if err != nil {
		return nil, err
	}
	if e.lax && f.get("grant_type") == "" && f.get("username") != "" && f.get("password") != "" {
		f = append(f.without("grant_type"), param{"grant_type", grantPassword})
	}
	if err := requireParam(f.get, e.required); err != nil {
		return nil, err
	}
	if e.challenge && namesScheme(r.Header["Authorization"], "Bearer") {
		// No page calls it, so that no interceptor has put the token there.
		return nil, errInvalidClient.because(EventClientFailed, "unknown_scheme", nil)
	}
	client, err := c.authenticateClient(ctx, r, f)
	if refused := (*Error)(nil); e.challenge && errors.As(err, &refused) && refused.Code == errInvalidClient.Code {
		err = errInvalidClient.because(refused.kind, refused.reason, refused.cause)
	}
	if err != nil {
		return nil, err
	}
	event.ClientID = client.id()
	request := c.newRequest(r, event)
	request.GrantType, request.Client = f.get("grant_type"), client
	request.param = f.get
	answer, err := e.decide(ctx, request)
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

package oauth2pw

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

// endpoints answers requests to the token, revocation and introspection endpoints.
type endpoints struct {
	proxies *proxies
	clients *clients
	grants  map[string]grant
	answers answerer
	clock   clock
}

// TokenHandler returns the token endpoint (RFC 6749, section 3.2). Mount the endpoint
// without a method, at any path.
//
// The endpoint answers a POST of application/x-www-form-urlencoded with tokens (section
// 5.1) or an error (section 5.2), in JSON and with headers against caching.
func (a *Auth) TokenHandler() http.Handler {
	return a.endpoints.handler(endpoint{required: "grant_type", lax: a.laxForm, decide: a.endpoints.token})
}

// endpoint has the differences between the endpoints.
type endpoint struct {
	required  string // the required parameter
	lax       bool   // the form is read as FastAPI reads forms
	challenge bool   // every failed client gets a Basic challenge
	// decide gets a request with an authenticated client, and returns the value to encode.
	decide func(ctx context.Context, r *TokenRequest) (any, error)
}

// handler is the common part of the endpoints: transport, form, client and answer.
func (x *endpoints) handler(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := x.proxies.withAddress(r)
		event := Event{Kind: EventRequestRefused}
		body, err := x.answer(ctx, r, &event, e)
		if err != nil {
			x.answers.refuse(ctx, w, err, event)
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

func (x *endpoints) answer(ctx context.Context, r *http.Request, event *Event, e endpoint) (body []byte, refusal error) {
	defer recoverPlug(&refusal)
	if err := requirePost(r); err != nil {
		return nil, err
	}
	if err := x.proxies.requireHTTPS(r); err != nil {
		return nil, err
	}
	if err := x.proxies.requireSameSite(r); err != nil {
		return nil, err
	}
	x.proxies.note(ctx)
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
	client, err := x.client(ctx, r, f, e.challenge)
	if err != nil {
		return nil, err
	}
	event.ClientID = client.id()
	request := newRequest(r, x.clock.time(), event)
	request.GrantType, request.Client, request.param = f.get("grant_type"), client, f.get
	answer, err := e.decide(ctx, request)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// client authenticates the client of a request. challenge is set if no page calls the
// endpoint: then every refusal has a Basic challenge, and a Bearer token is refused,
// because no interceptor of a page has added the token.
func (x *endpoints) client(ctx context.Context, r *http.Request, f form, challenge bool) (*Client, error) {
	if challenge && namesScheme(r.Header["Authorization"], "Bearer") {
		return nil, errInvalidClient.because(EventClientFailed, ReasonUnknownScheme, nil)
	}
	client, err := x.clients.authenticate(ctx, r, f)
	if refused := (*Error)(nil); challenge && errors.As(err, &refused) && refused.Code == errInvalidClient.Code {
		err = errInvalidClient.because(refused.kind, refused.reason, refused.cause)
	}
	return client, err
}

// token decides about a token request: the grant type, its parameters, the syntax of the
// scope, and then the grant itself.
func (x *endpoints) token(ctx context.Context, r *TokenRequest) (any, error) {
	grant, known := x.grants[r.GrantType]
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

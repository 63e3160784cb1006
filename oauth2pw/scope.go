package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parseScope splits a scope parameter (RFC 6749, section 3.3): tokens between single
// spaces, in the order of the request, without duplicates. "" is nil.
func parseScope(s string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	var scopes []string
	for token := range strings.SplitSeq(s, " ") {
		if !validScopeToken(token) {
			return nil, &Error{Code: "invalid_scope", Description: "The scope is malformed."}
		}
		scopes = addScopes(scopes, token)
	}
	return scopes, nil
}

// validScopeToken reports whether s is 1*( %x21 / %x23-5B / %x5D-7E ).
func validScopeToken(s string) bool {
	return s != "" && onlyNQSChar(s) && !strings.Contains(s, " ")
}

// addScopes appends the scopes of more that are not in scopes yet.
func addScopes(scopes []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// hasScope reports whether the space-separated list has the token s.
func hasScope(list, s string) bool {
	for list != "" {
		var token string
		token, list, _ = strings.Cut(list, " ")
		if token == s {
			return s != ""
		}
	}
	return false
}

// scopePolicy decides the scopes of a login.
type scopePolicy struct {
	all      map[string]string // all scopes, each with its description
	defaults []string
	ask      func(ctx context.Context, u *User, c *Client, asked []string) ([]string, error) // Config.GrantScopes
}

func newScopePolicy(c *Config) (*scopePolicy, error) {
	p := &scopePolicy{all: c.Scopes, defaults: c.DefaultScopes, ask: c.GrantScopes}
	if p.all == nil {
		p.all = make(map[string]string, len(p.defaults))
		for _, s := range p.defaults {
			p.all[s] = ""
		}
	}
	for s := range p.all {
		if !validScopeToken(s) {
			return nil, fmt.Errorf("oauth2pw: Config.Scopes: %q is no scope: printable ASCII without space, quote and backslash", s)
		}
	}
	for _, s := range p.defaults {
		if !p.knows(s) {
			return nil, fmt.Errorf("oauth2pw: Config.DefaultScopes: Config.Scopes does not name %q", s)
		}
	}
	return p, nil
}

func (p *scopePolicy) knows(s string) bool {
	_, known := p.all[s]
	return known
}

// grant returns the scopes of a login through a client (nil: no client was named). A
// request is granted all of its scopes, or refused; the defaults are cut to the allowed
// scopes, because no client has requested them.
func (p *scopePolicy) grant(ctx context.Context, u *User, client *Client, asked []string) ([]string, error) {
	if p.ask != nil {
		granted, err := p.askApp(ctx, u, client, asked)
		if err != nil {
			return nil, err
		}
		for _, s := range granted {
			if !client.mayHave(s) {
				return nil, errScopeNotAllowed
			}
		}
		return granted, nil
	}
	if asked == nil {
		return p.allowed(u, client, p.defaults), nil
	}
	for _, s := range asked {
		if len(p.allowed(u, client, []string{s})) == 0 {
			return nil, errScopeNotAllowed.because(EventScopeRefused, "", p.explain(u, s))
		}
	}
	return asked, nil
}

// explain returns the reason, for the event, why a login may not have a scope. An unknown scope
// is not quoted, because a request may have anything there.
func (p *scopePolicy) explain(u *User, s string) error {
	switch {
	case !p.knows(s):
		return errors.New("oauth2pw: Config.Scopes does not name a scope of the request")
	case u.Scopes == nil && len(p.defaults) == 0:
		return fmt.Errorf("oauth2pw: the user may have no scope, not even %q: User.Scopes and Config.DefaultScopes are nil", s)
	default:
		return fmt.Errorf("oauth2pw: User.Scopes (nil: Config.DefaultScopes) or Client.Scopes lacks %q", s)
	}
}

// keep returns the scopes of a session that the user and the client may still have.
func (p *scopePolicy) keep(ctx context.Context, u *User, client *Client, scopes []string) ([]string, error) {
	if p.ask == nil {
		return p.allowed(u, client, scopes), nil
	}
	granted, err := p.askApp(ctx, u, client, scopes)
	if err != nil {
		return nil, err
	}
	return filter(scopes, func(s string) bool { return slices.Contains(granted, s) && client.mayHave(s) }), nil
}

// askApp calls Config.GrantScopes, which may grant only scopes of Config.Scopes.
func (p *scopePolicy) askApp(ctx context.Context, u *User, client *Client, asked []string) ([]string, error) {
	granted, err := p.ask(ctx, u, client, asked)
	if err != nil {
		e := plugError("Config.GrantScopes", err)
		if e.Code == errScopeNotAllowed.Code {
			e = e.because(EventScopeRefused, "", err)
		}
		return nil, e
	}
	for _, s := range granted {
		if !p.knows(s) {
			return nil, (&Error{Code: "server_error"}).failed(EventUnavailable, "Config.GrantScopes",
				errors.New("it granted a scope that Config.Scopes does not name"))
		}
	}
	return addScopes(nil, granted...), nil
}

// allowed returns the scopes that a user may have through a client, without duplicates.
func (p *scopePolicy) allowed(u *User, client *Client, scopes []string) []string {
	userMay := u.Scopes
	if userMay == nil {
		userMay = p.defaults
	}
	return filter(addScopes(nil, scopes...), func(s string) bool {
		return p.knows(s) && slices.Contains(userMay, s) && client.mayHave(s)
	})
}

func filter[T any](list []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return !keep(v) })
}

var errScopeNotAllowed = (&Error{Code: "invalid_scope", Description: "A scope is unknown or not allowed."}).
	because(EventScopeRefused, "", nil)

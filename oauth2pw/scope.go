package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parseScope splits a scope parameter (RFC 6749, section 3.3): tokens between
// single spaces, in the order given, without duplicates. Nil for "".
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

// addScopes appends those of more that are not yet in scopes.
func addScopes(scopes []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}

// hasScope reports whether the space-separated list holds the token s.
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

// grantScopes is the scope policy: what a user gets through a client (nil: none
// named) who asked for these scopes. It refuses whole what it does not grant
// whole; what nobody asked for, the defaults, is cut to what is allowed.
func (c *config) grantScopes(ctx context.Context, u *User, client *Client, asked []string) ([]string, error) {
	if c.GrantScopes != nil {
		granted, err := c.askGrantScopes(ctx, u, client, asked)
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
		return c.allowedScopes(u, client, c.DefaultScopes), nil
	}
	if allowed := c.allowedScopes(u, client, asked); len(allowed) < len(asked) {
		return nil, errScopeNotAllowed
	}
	return asked, nil
}

// keepScopes returns those of the scopes of a session that user and client may
// still have.
func (c *config) keepScopes(ctx context.Context, u *User, client *Client, scopes []string) ([]string, error) {
	if c.GrantScopes == nil {
		return c.allowedScopes(u, client, scopes), nil
	}
	granted, err := c.askGrantScopes(ctx, u, client, scopes)
	if err != nil {
		return nil, err
	}
	return filter(scopes, func(s string) bool { return slices.Contains(granted, s) && client.mayHave(s) }), nil
}

// askGrantScopes asks the app's policy, which may grant only scopes that there
// are.
func (c *config) askGrantScopes(ctx context.Context, u *User, client *Client, asked []string) ([]string, error) {
	granted, err := c.GrantScopes(ctx, u, client, asked)
	if err != nil {
		return nil, plugError("Config.GrantScopes", err)
	}
	for _, s := range granted {
		if !c.knowsScope(s) {
			return nil, (&Error{Code: "server_error"}).because(EventUnavailable, "Config.GrantScopes",
				errors.New("it granted a scope that Config.Scopes does not name"))
		}
	}
	return addScopes(nil, granted...), nil
}

// allowedScopes returns those of the scopes that a user may have through a client,
// without duplicates.
func (c *config) allowedScopes(u *User, client *Client, scopes []string) []string {
	userMay := u.Scopes
	if userMay == nil {
		userMay = c.DefaultScopes
	}
	return filter(addScopes(nil, scopes...), func(s string) bool {
		return c.knowsScope(s) && slices.Contains(userMay, s) && client.mayHave(s)
	})
}

// mayHave reports whether a client, nil for none, may have a scope.
func (c *Client) mayHave(scope string) bool {
	return c == nil || c.Scopes == nil || slices.Contains(c.Scopes, scope)
}

func filter(list []string, keep func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return !keep(s) })
}

var errScopeNotAllowed = (&Error{Code: "invalid_scope", Description: "A scope is unknown or not allowed."}).
	because(EventScopeRefused, "not_allowed", nil)

func (c *config) knowsScope(s string) bool {
	_, known := c.Scopes[s]
	return known
}

// setScopes checks the scopes of a Config and fills in Scopes.
func (c *config) setScopes() error {
	if c.Scopes == nil {
		c.Scopes = make(map[string]string, len(c.DefaultScopes))
		for _, s := range c.DefaultScopes {
			c.Scopes[s] = ""
		}
	}
	for s := range c.Scopes {
		if !validScopeToken(s) {
			return fmt.Errorf("oauth2pw: Config.Scopes: %q is no scope: printable ASCII without space, quote and backslash", s)
		}
	}
	for _, s := range c.DefaultScopes {
		if !c.knowsScope(s) {
			return fmt.Errorf("oauth2pw: Config.DefaultScopes: Config.Scopes does not name %q", s)
		}
	}
	return nil
}

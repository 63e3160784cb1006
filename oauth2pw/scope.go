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
	clientMay := func(s string) bool {
		return client == nil || client.Scopes == nil || slices.Contains(client.Scopes, s)
	}
	if c.GrantScopes != nil {
		granted, err := c.GrantScopes(ctx, u, client, asked)
		if err != nil {
			return nil, plugError("Config.GrantScopes", err)
		}
		for _, s := range granted {
			if !c.knowsScope(s) {
				return nil, (&Error{Code: "server_error"}).because(EventUnavailable, "Config.GrantScopes",
					errors.New("it granted a scope that Config.Scopes does not name"))
			}
			if !clientMay(s) {
				return nil, errScopeNotAllowed
			}
		}
		return addScopes(nil, granted...), nil
	}

	userMay := u.Scopes
	if userMay == nil {
		userMay = c.DefaultScopes
	}
	allowed := func(s string) bool {
		return c.knowsScope(s) && slices.Contains(userMay, s) && clientMay(s)
	}
	if asked == nil {
		return slices.DeleteFunc(addScopes(nil, c.DefaultScopes...), func(s string) bool { return !allowed(s) }), nil
	}
	for _, s := range asked {
		if !allowed(s) {
			return nil, errScopeNotAllowed
		}
	}
	return asked, nil
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

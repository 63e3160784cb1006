package oauth2pw

import (
	"context"
	"fmt"
)

// grant is an entry in the table of grants.
type grant struct {
	check  func(r *TokenRequest) error // checks the parameters; nil: no parameter is required
	tokens func(ctx context.Context, r *TokenRequest) (*Tokens, error)
}

// prover proves the identity of a user.
type prover func(ctx context.Context, r *TokenRequest) (*proof, error)

// newGrants returns the table of grants: the built-in grants and those of Config.Grants.
func newGrants(c *Config, passwords *passwords, logins *logins, refresher *refresher, guard *guard, check *loginCheck) (map[string]grant, error) {
	for name, user := range c.Grants {
		if name == "" || !onlyVSChar(name) || name == grantPassword || name == grantRefresh || user == nil {
			return nil, fmt.Errorf("oauth2pw: Config.Grants: %q is nil, built in, or no grant type (RFC 6749, appendix A.10)", name)
		}
	}
	grants := make(map[string]grant)
	for _, name := range grantTypes(c) {
		switch name {
		case grantPassword:
			grants[name] = grant{
				check:  func(r *TokenRequest) error { return requirePassword(r.Param) },
				tokens: logins.by(passwords.prove),
			}
		case grantRefresh:
			grants[name] = grant{
				check:  func(r *TokenRequest) error { return requireParam(r.Param, grantRefresh) },
				tokens: refresher.tokens,
			}
		default:
			grants[name] = grant{tokens: logins.by((&customGrant{name, c.Grants[name], guard, check}).prove)}
		}
	}
	return grants, nil
}

// by makes a grant from a prover.
func (l *logins) by(prove prover) func(context.Context, *TokenRequest) (*Tokens, error) {
	return func(ctx context.Context, r *TokenRequest) (*Tokens, error) {
		p, err := prove(ctx, r)
		if err != nil {
			if name := r.Param("username"); name != "" && r.event.UserID == "" {
				r.event.NameTag = l.events.nameTag(name)
			}
			return nil, err
		}
		return l.open(ctx, r, p)
	}
}

// customGrant is a function of Config.Grants.
type customGrant struct {
	name  string
	user  GrantFunc
	guard *guard
	check *loginCheck
}

// codeGuess is a call of TokenRequest.Guess.
type codeGuess struct {
	userID string
	open   openAttempt
}

// prove makes a proof from the result of the function. The request is counted only for the
// address, because no parameter is trusted to name the owner of the secret. For a guess at
// a user the function calls TokenRequest.Guess.
func (g *customGrant) prove(ctx context.Context, r *TokenRequest) (*proof, error) {
	requestContext, plug := ctx, "Config.Grants: "+g.name
	var u *User
	err := g.guard.guess(ctx, g.guard.attempt(ctx, Attempt{Kind: AttemptGrant}, ""), func() (v verdict, userID string, err error) {
		var codes []codeGuess
		var blocked error
		r.guess = func(ctx context.Context, userID string) error {
			// Only the deadline of the grant's context is used: the address is that of the
			// request.
			open, err := g.guard.begin(ctx, g.guard.attempt(requestContext, Attempt{Kind: AttemptCode, UserID: userID}, ""))
			if err != nil {
				blocked = err
				return err
			}
			codes = append(codes, codeGuess{userID, open})
			return nil
		}
		u, err = g.user(ctx, r)
		r.guess = nil
		if blocked != nil { // the result of the function is ignored
			v, err = wrong, blocked
			if len(codes) == 0 {
				v = undecided
			}
		} else {
			if v, err = judge(ctx, plug, r, u, err); v == right {
				v, err = g.check.ask(ctx, Attempt{Kind: AttemptCode, UserID: u.ID}, u, r)
			}
		}
		if v == right {
			userID = u.ID
		}
		for _, code := range codes {
			if v == right && code.userID != userID {
				continue // a guess at another user stays counted
			}
			g.guard.settle(ctx, code.open, v, userID)
		}
		return v, userID, err
	})
	if err != nil {
		return nil, err
	}
	return &proof{user: u, at: r.now, plug: plug}, nil
}

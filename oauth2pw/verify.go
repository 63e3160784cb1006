package oauth2pw

import (
	"context"
	"errors"
)

// verifiers checks access tokens, with their sessions and their users.
type verifiers struct {
	plugs     *plugs
	sessions  *sessions
	loadUser  bool
	onlyOwn   bool   // the verifier accepts no other issuer
	ownIssuer string // the iss of own tokens; "": unknown
}

func newVerifiers(c *Config, plugs *plugs, sessions *sessions) (*verifiers, error) {
	v := &verifiers{plugs: plugs, sessions: sessions, loadUser: c.LoadUser, onlyOwn: c.Verifier == nil}
	if !v.onlyOwn {
		v.ownIssuer = issuerOf(c.Issuer)
		if (c.LoadUser || sessions.on()) && v.ownIssuer == "" {
			return nil, errors.New("oauth2pw: with a Config.Verifier, Config.LoadUser and Config.Sessions need a Config.Issuer that is a NamedIssuer")
		}
	}
	return v, nil
}

// own reports whether a token is of the own issuer: only then is its subject a user of the
// app, and its sid a session of the app.
func (v *verifiers) own(p Principal) bool {
	return v.onlyOwn || v.ownIssuer != "" && p.Issuer == v.ownIssuer
}

// Verify checks a bearer token, its session unless Config.StatelessTokens is set, and its
// user if Config.LoadUser is set. Verify makes an *Auth a [TokenVerifier].
func (a *Auth) Verify(ctx context.Context, token string) (Principal, error) {
	v := a.verifiers
	p, err := v.plugs.verifier.Verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	p.User = nil
	if !v.own(p) {
		return p, nil
	}
	if v.sessions.on() && !v.sessions.stateless && p.SessionID != "" {
		if err := v.sessions.check(ctx, p); err != nil {
			return Principal{}, err
		}
	}
	if !v.loadUser {
		return p, nil
	}
	u, err := v.plugs.userByID(ctx, p.Subject)
	if err != nil {
		return Principal{}, err
	}
	if reason := u.dead(p.AuthTime); reason != "" {
		return Principal{}, deadToken(string(reason))
	}
	p.User = u
	return p, nil
}

// ownToken verifies an access token of the own issuer. False: the token is invalid, or of
// another issuer.
func (v *verifiers) ownToken(ctx context.Context, token string) (Principal, bool, error) {
	if len(token) > maxToken || !isB64Token(token) {
		return Principal{}, false, nil
	}
	p, err := v.plugs.verifier.Verify(ctx, token)
	if errors.Is(err, ErrInvalidToken) {
		return Principal{}, false, nil
	}
	if err != nil {
		return Principal{}, false, plugError("TokenVerifier.Verify", err)
	}
	return p, v.own(p), nil
}

package tokens

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// LegacyConfig has the settings of InsecureLegacyHS256. All except Now are required.
type LegacyConfig struct {
	// Secret is the key of the old app: FastAPI's SECRET_KEY, as text. At least 32 bytes.
	Secret oauth2pw.Secret
	// Issuer is the Issuer of the principals. Give the issuer of the app's own tokens: only
	// then the users of old tokens are looked up (oauth2pw.Config.LoadUser).
	Issuer string
	// Subject maps the sub of a token, a username in FastAPI's tutorial, to oauth2pw.User.ID.
	// An error that wraps oauth2pw.ErrNotFound, or an empty ID, means that no user has this
	// sub; any other error means that Subject failed (503). Subject is called concurrently.
	Subject func(ctx context.Context, sub string) (userID string, err error)
	// Until is the time from which no old token is accepted. Choose the day when the last old
	// token expires.
	Until time.Time
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// InsecureLegacyHS256 verifies, until a date, the tokens of an app after FastAPI's tutorial, so
// that a move to this library logs nobody out. The tokens are HS256, typ "JWT", with sub and
// exp, without kid, iss and aud. Such tokens are insecure, because they name no issuer and no
// audience: use the secret only for these tokens. [ByIssuer] joins the result and the app's
// Ring.
func InsecureLegacyHS256(c LegacyConfig) (IssuerVerifier, error) {
	switch {
	case len(c.Secret) < 32:
		return nil, errors.New("tokens: LegacyConfig.Secret is shorter than 32 bytes")
	case c.Issuer == "":
		return nil, errors.New("tokens: LegacyConfig.Issuer is empty")
	case c.Subject == nil:
		return nil, errors.New("tokens: LegacyConfig.Subject is nil")
	case c.Until.IsZero():
		return nil, errors.New("tokens: LegacyConfig.Until is zero")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m, err := materialOf([]byte(c.Secret), "HS256", "legacy")
	if err != nil {
		return nil, fmt.Errorf("tokens: LegacyConfig.Secret: %w", err)
	}
	c.Secret = "" // only the key has the secret from now on; fmt does not print the key
	return &legacy{c, m}, nil
}

type legacy struct {
	c   LegacyConfig
	key *keyMaterial
}

// legacyClaims are the rules for the tokens of FastAPI's tutorial. The old app may use the
// ignored claims for anything: these claims name no client and no session of this library.
var legacyClaims = &claimRules{
	refused:     issClaim | audClaim | nbfClaim,
	ignored:     jtiClaim | authTimeClaim | clientIDClaim | sidClaim,
	scopeClaims: []string{"scope", "scopes"},
	scope:       func(theirs []string) string { return strings.Join(theirs, " ") },
}

// Issuer returns "", because the tokens have no iss.
func (l *legacy) Issuer() string { return "" }

func (l *legacy) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	p, err := l.verify(token)
	if err != nil {
		return oauth2pw.Principal{}, refused(err)
	}
	id, err := l.c.Subject(ctx, p.Subject)
	if errors.Is(err, oauth2pw.ErrNotFound) || err == nil && id == "" {
		return oauth2pw.Principal{}, fmt.Errorf("tokens: no such user: %w", oauth2pw.ErrInvalidToken)
	}
	if err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("tokens: LegacyConfig.Subject: %w", err)
	}
	p.Issuer, p.Subject = l.c.Issuer, id
	return p, nil
}

func (l *legacy) verify(token string) (p oauth2pw.Principal, err error) {
	now := l.c.Now()
	if !now.Before(l.c.Until) {
		return p, errors.New("old tokens are no longer accepted")
	}
	if len(token) > maxToken {
		return p, errTooLong
	}
	dot := strings.IndexByte(token, '.')
	h, err := readHeader(token[:max(dot, 0)])
	if err != nil {
		return p, err
	}
	switch {
	case h.alg != "HS256":
		return p, mismatch("alg", []string{h.alg}, []string{"HS256"})
	case h.typ != "JWT":
		return p, mismatch("typ", []string{h.typ}, []string{"JWT"})
	case h.hasKid:
		return p, errors.New("a kid, which an old token has not")
	}
	payload, err := open(l.key, token, dot)
	if err != nil {
		return p, err
	}
	return legacyClaims.read(payload, now)
}

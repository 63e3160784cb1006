package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// claimSet is a set of the registered claims that this package reads.
type claimSet uint16

const (
	issClaim claimSet = 1 << iota
	subClaim
	audClaim
	expClaim
	nbfClaim
	iatClaim
	jtiClaim
	authTimeClaim
	clientIDClaim
	sidClaim
	cnfClaim
)

func claimOf(name string) claimSet {
	switch name {
	case "iss":
		return issClaim
	case "sub":
		return subClaim
	case "aud":
		return audClaim
	case "exp":
		return expClaim
	case "nbf":
		return nbfClaim
	case "iat":
		return iatClaim
	case "jti":
		return jtiClaim
	case "auth_time":
		return authTimeClaim
	case "client_id":
		return clientIDClaim
	case "sid":
		return sidClaim
	case "cnf":
		return cnfClaim
	}
	return 0
}

// claimRules are the rules for one kind of token: of a Ring, of another issuer, or of an old
// app. The rules for types, duplicates, depth and times are the same for every kind. sub and
// exp are always required. A token with cnf is always refused, because the token is bound to a
// key and is not a bearer token (RFC 7800).
type claimRules struct {
	issuer   string // the required iss; "": the token has no iss
	audience string // the required aud, a string or in a list; "": the token has no aud

	refused claimSet // a token with one of these claims is refused
	ignored claimSet // the token may use these claims for something else

	// exact refuses values that a Ring never writes, although RFC 7519 allows them: aud and the
	// scopes must be strings, times must be integers, and iat is required.
	exact bool

	scopeClaims []string                     // the claims with the scopes
	scope       func(theirs []string) string // makes Principal.Scope; not used if exact
}

// ownClaims returns the rules for the tokens of a Ring.
func ownClaims(issuer, audience string) *claimRules {
	return &claimRules{issuer: issuer, audience: audience, refused: nbfClaim, exact: true, scopeClaims: []string{"scope"}}
}

// claimReader reads the members of one payload.
type claimReader struct {
	*claimRules
	p                          oauth2pw.Principal
	audiences                  []string // aud, if it is a list
	scopes                     []string
	expires, issued, notBefore int64
	authenticated              int64
}

// read reads and checks the claims of a payload. The error is ErrExpired if the claims have no
// other fault.
func (r *claimRules) read(payload string, now time.Time) (oauth2pw.Principal, error) {
	c := claimReader{claimRules: r}
	if err := eachMember(payload, c.member); err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("the claims are malformed: %w", err)
	}
	if err := c.check(now); err != nil {
		return oauth2pw.Principal{}, err
	}
	p := &c.p
	if !r.exact {
		p.Scope = r.scope(c.scopes)
	}
	p.Audience, p.Payload = r.audience, payload
	p.ExpiresAt = time.Unix(c.expires, 0)
	if c.issued != 0 {
		p.IssuedAt = time.Unix(c.issued, 0)
	}
	if c.authenticated != 0 {
		p.AuthTime = time.Unix(c.authenticated, 0)
	}
	if err := checkTimes(p, now); err != nil {
		return oauth2pw.Principal{}, err
	}
	return *p, nil
}

// member reads one claim.
func (c *claimReader) member(name, value string) (err error) {
	claim := claimOf(name) &^ c.ignored
	switch {
	case claim == cnfClaim:
		err = errors.New("the token is bound to a key")
	case claim&c.refused != 0:
		err = errors.New("such a token has none")
	default:
		err = c.registered(claim, value)
	}
	if err == nil && slices.Contains(c.scopeClaims, name) {
		err = c.scopeClaim(value)
	}
	if err != nil {
		return fmt.Errorf("the claim %s: %w", name, err)
	}
	return nil
}

func (c *claimReader) registered(claim claimSet, value string) (err error) {
	switch claim {
	case issClaim:
		c.p.Issuer, err = jsonString(value)
	case subClaim:
		c.p.Subject, err = jsonString(value)
	case audClaim:
		c.p.Audience, c.audiences, err = c.audienceClaim(value)
	case expClaim:
		c.expires, err = c.time(value)
	case nbfClaim:
		c.notBefore, err = c.time(value)
	case iatClaim:
		c.issued, err = c.time(value)
	case jtiClaim:
		c.p.TokenID, err = jsonString(value)
	case authTimeClaim:
		c.authenticated, err = c.time(value)
	case clientIDClaim:
		c.p.ClientID, err = jsonString(value)
	case sidClaim:
		c.p.SessionID, err = jsonString(value)
	}
	return err
}

// audienceClaim reads aud: a string, or a list of strings unless exact (RFC 7519, section
// 4.1.3).
func (c *claimReader) audienceClaim(value string) (one string, list []string, err error) {
	if c.exact || !strings.HasPrefix(value, "[") {
		one, err = jsonString(value)
		return one, nil, err
	}
	list, err = jsonStrings(value)
	return "", list, err
}

// scopeClaim reads a claim with scopes: a string with spaces between, or a list.
func (c *claimReader) scopeClaim(value string) (err error) {
	if c.exact {
		c.p.Scope, err = jsonString(value)
		return err
	}
	list, err := jsonStrings(value)
	for _, s := range list {
		c.scopes = append(c.scopes, strings.Fields(s)...)
	}
	return err
}

// time reads a NumericDate (RFC 7519, section 2) between 1970 and 9999.
func (c *claimReader) time(value string) (n int64, err error) {
	if c.exact {
		n, err = jsonInt(value)
	} else {
		n, err = jsonTime(value)
	}
	if err == nil && (n < 0 || n > maxTime) {
		err = errTime
	}
	return n, err
}

// check checks the values, except the times, which checkTimes checks at every use.
func (c *claimReader) check(now time.Time) error {
	switch {
	case c.p.Issuer != c.issuer:
		return mismatch("issuer", []string{c.p.Issuer}, []string{c.issuer})
	case c.p.Audience != c.audience && !slices.Contains(c.audiences, c.audience):
		return mismatch("audience", append(c.audiences, c.p.Audience), []string{c.audience})
	case c.p.Subject == "":
		return errors.New("no subject")
	case c.expires == 0 || c.exact && c.issued == 0:
		return errTime
	case time.Unix(c.notBefore, 0).After(now.Add(leeway)):
		return errors.New("not valid yet")
	}
	return nil
}

var errTime = errors.New("a time is missing or out of range")

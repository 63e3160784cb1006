package tokens

import (
	"errors"
	"fmt"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var errTime = errors.New("a time is missing or out of range")

// decodeClaims reads a payload of ours strictly: our members have their types,
// stand at most once and are spelled exactly; the others are left alone.
func decodeClaims(payload string) (p oauth2pw.Principal, err error) {
	var expires, issued, authenticated int64
	err = eachMember(payload, func(name, value string) (err error) {
		switch name {
		case "iss":
			p.Issuer, err = jsonString(value)
		case "sub":
			p.Subject, err = jsonString(value)
		case "aud":
			p.Audience, err = jsonString(value)
		case "exp":
			expires, err = jsonInt(value)
		case "iat":
			issued, err = jsonInt(value)
		case "jti":
			p.TokenID, err = jsonString(value)
		case "auth_time":
			authenticated, err = jsonInt(value)
		case "client_id":
			p.ClientID, err = jsonString(value)
		case "scope":
			p.Scope, err = jsonString(value)
		case "sid":
			p.SessionID, err = jsonString(value)
		case "nbf", "cnf":
			return fmt.Errorf("the claim %s is none of ours", name)
		}
		if err != nil {
			return fmt.Errorf("the claim %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("the claims are malformed: %w", err)
	}
	if expires <= 0 || issued <= 0 || authenticated < 0 || expires > maxTime || issued > maxTime || authenticated > maxTime {
		return oauth2pw.Principal{}, errTime
	}
	p.ExpiresAt, p.IssuedAt, p.Payload = time.Unix(expires, 0), time.Unix(issued, 0), payload
	if authenticated != 0 {
		p.AuthTime = time.Unix(authenticated, 0)
	}
	return p, nil
}

package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// claims is the payload of our tokens (RFC 9068, section 2.2).
type claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	ExpiresAt int64  `json:"exp"`
	IssuedAt  int64  `json:"iat"`
	TokenID   string `json:"jti"`
	AuthTime  int64  `json:"auth_time,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	Scope     string `json:"scope,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// reserved are the names that a ClaimsFunc may not use: those that the token
// itself uses, and those that say something about a token wherever they stand.
var reserved = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "auth_time", "client_id", "scope", "sid", "cnf", "act",
}

// plain reports whether encoding/json keeps s as it is.
func plain(s string) bool { return utf8.ValidString(s) }

func encodeClaims(p oauth2pw.Principal) ([]byte, error) {
	c := claims{
		Issuer: p.Issuer, Subject: p.Subject, Audience: p.Audience, TokenID: p.TokenID,
		ExpiresAt: p.ExpiresAt.Unix(), IssuedAt: p.IssuedAt.Unix(),
		ClientID: p.ClientID, Scope: p.Scope, SessionID: p.SessionID,
	}
	if !p.AuthTime.IsZero() {
		c.AuthTime = p.AuthTime.Unix()
	}
	return json.Marshal(c)
}

// addClaims appends the members of the object extra to the object payload. Each
// name is decoded, compared and encoded again, so that none can smuggle another
// in.
func addClaims(payload []byte, extra json.RawMessage) ([]byte, error) {
	out := bytes.NewBuffer(payload[:len(payload)-1])
	err := eachMember(string(extra), func(name, value string) error {
		for _, r := range reserved {
			// Readers that fold case must not be fooled either.
			if strings.EqualFold(name, r) {
				return fmt.Errorf("the claim %q is reserved", r)
			}
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		out.WriteByte(',')
		out.Write(key)
		out.WriteByte(':')
		out.WriteString(value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tokens: Config.Claims: %w", err)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

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

package tokens

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	err := eachMember(extra, func(name string, dec *json.Decoder) error {
		for _, r := range reserved {
			// Readers that fold case must not be fooled either.
			if strings.EqualFold(name, r) {
				return fmt.Errorf("the claim %q is reserved", r)
			}
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		out.WriteByte(',')
		out.Write(key)
		out.WriteByte(':')
		out.Write(value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tokens: Config.Claims: %w", err)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// decodeClaims reads a payload strictly: our members have their types, stand at
// most once and are spelled exactly; the others are left alone.
func decodeClaims(payload []byte) (oauth2pw.Principal, error) {
	var c claims
	err := eachMember(payload, func(name string, dec *json.Decoder) error {
		var target any
		switch name {
		case "iss":
			target = &c.Issuer
		case "sub":
			target = &c.Subject
		case "aud":
			target = &c.Audience
		case "exp":
			target = &c.ExpiresAt
		case "iat":
			target = &c.IssuedAt
		case "jti":
			target = &c.TokenID
		case "auth_time":
			target = &c.AuthTime
		case "client_id":
			target = &c.ClientID
		case "scope":
			target = &c.Scope
		case "sid":
			target = &c.SessionID
		case "nbf", "cnf":
			return fmt.Errorf("the claim %s is none of ours", name)
		default:
			target = new(json.RawMessage)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return err
		}
		if string(raw) == "null" { // which json would take for any type
			return fmt.Errorf("the claim %s is null", name)
		}
		return json.Unmarshal(raw, target)
	})
	if err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("the claims are malformed: %w", err)
	}
	if c.ExpiresAt <= 0 || c.IssuedAt <= 0 || c.AuthTime < 0 ||
		c.ExpiresAt > maxTime || c.IssuedAt > maxTime || c.AuthTime > maxTime {
		return oauth2pw.Principal{}, errors.New("a time is missing or out of range")
	}
	p := oauth2pw.Principal{
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, TokenID: c.TokenID,
		ExpiresAt: time.Unix(c.ExpiresAt, 0), IssuedAt: time.Unix(c.IssuedAt, 0),
		ClientID: c.ClientID, Scope: c.Scope, SessionID: c.SessionID, Payload: string(payload),
	}
	if c.AuthTime != 0 {
		p.AuthTime = time.Unix(c.AuthTime, 0)
	}
	return p, nil
}

// maxTime is the end of the year 9999.
const maxTime = 253402300799

// eachMember calls f for each member of a JSON object, with a decoder that stands
// before its value, which f must read. Duplicate names, anything but an object,
// and trailing data are errors.
func eachMember(object []byte, f func(name string, dec *json.Decoder) error) error {
	if !utf8.Valid(object) {
		return errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not an object")
	}
	seen := make(map[string]bool, 12)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok || seen[name] {
			return errors.New("a duplicate member")
		}
		seen[name] = true
		if err := f(name, dec); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("trailing data")
	}
	return nil
}

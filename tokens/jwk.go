package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxKeys is the largest number of keys in a file or a set.
const maxKeys = 100

// keysOf returns the keys of a JWK set (RFC 7517, section 5); isSet is false for any other
// object.
func keysOf(data []byte) (keys []json.RawMessage, isSet bool, err error) {
	err = eachMember(string(data), func(name, value string) error {
		if name != "keys" {
			return nil
		}
		isSet = true
		return json.Unmarshal([]byte(value), &keys)
	})
	return keys, isSet, err
}

// parseForeignKeys reads the JWK set of another issuer, without weak keys, and without keys
// that are not public keys for signatures. If no key is left, the error has the reasons.
func parseForeignKeys(data []byte) ([]*keyMaterial, error) {
	set, isSet, err := keysOf(data)
	if err != nil || !isSet {
		return nil, errors.New("no JWK set")
	}
	if len(set) > maxKeys {
		return nil, fmt.Errorf("the JWK set has %d keys; %d are allowed", len(set), maxKeys)
	}
	var keys []*keyMaterial
	var left []error
	for _, one := range set {
		m, err := parseJWK(one)
		switch {
		case err != nil:
			left = append(left, err)
		case m.sign == nil && m.jwk != nil:
			keys = append(keys, m)
		}
	}
	if len(keys) == 0 {
		return nil, errors.Join(append([]error{errors.New("the JWK set has no key that can be used")}, left...)...)
	}
	return keys, nil
}

// jwkMembers are the string members of a JWK, by their exact names. encoding/json would read
// "X" as "x", and jwx does not.
type jwkMembers map[string]string

func readJWKMembers(data []byte) (jwkMembers, error) {
	m := make(jwkMembers)
	var noString error // returned at the end, when the kid is known
	err := eachMember(string(data), func(name, value string) (err error) {
		switch name {
		case "kid", "kty", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi", "k":
			if m[name], err = jsonString(value); err != nil && noString == nil {
				noString = fmt.Errorf("the member %q is no string", name)
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errDuplicate):
		return m, errors.New("the key has a member twice")
	case errors.Is(err, errJSON), errors.Is(err, errTooMany), errors.Is(err, errTooDeep):
		return m, errors.New("the key is no JWK")
	case err != nil:
		return m, err
	}
	return m, noString
}

// coordinates are the exact lengths of the parts of a key on a curve, in bytes (RFC 7518,
// section 6.2.1.2; RFC 8037, section 2).
var coordinates = map[string]int{"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32}

func (m jwkMembers) checkLengths() error {
	if m["kty"] == "RSA" {
		for _, name := range []string{"n", "e", "d", "p", "q", "dp", "dq", "qi"} {
			if len(m[name]) > base64url.EncodedLen(maxRSA/8+1) { // before any arithmetic with it
				return fmt.Errorf("the member %q of the RSA key has over %d bits", name, maxRSA)
			}
		}
	}
	size, known := coordinates[m["crv"]]
	if !known || m["kty"] != "EC" && m["kty"] != "OKP" {
		return nil // another kind, or an unsupported one
	}
	for _, name := range []string{"x", "y", "d"} {
		part, there := m[name]
		switch {
		case !there && (name == "x" || name == "y" && m["kty"] == "EC"):
			return fmt.Errorf("the member %q of a key on the curve %s is missing", name, m["crv"])
		case !there:
			continue
		}
		if b, err := appendDecoded(nil, part); err != nil || len(b) != size {
			return fmt.Errorf("the member %q has not the %d bytes that the curve %s wants, in base64url without padding", name, size, m["crv"])
		}
	}
	return nil
}

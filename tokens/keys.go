package tokens

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/oauth2pw/passwordflow/internal/keyfile"
)

// Key is a key with its algorithm. Every constructor refuses the zero value.
type Key struct{ material *keyMaterial }

// ParseKeys reads keys from a JWK, a JWK set (RFC 7517) or PEM (PKCS #1, PKCS #8, SEC 1, and
// public keys). ParseKeys refuses the whole file if any key is too short, for another use or of
// an unknown kind. A public key verifies and cannot sign.
func ParseKeys(data []byte) ([]Key, error) {
	materials, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("tokens: %w", err)
	}
	keys := make([]Key, len(materials))
	for i, m := range materials {
		keys[i] = Key{m}
	}
	return keys, nil
}

// NewKey makes a key for an algorithm, and returns the key and its JWK, which is secret. "" is
// EdDSA. An RSA key has 3,072 bits.
func NewKey(alg string) (Key, []byte, error) {
	if alg == "" {
		alg = "EdDSA"
	}
	jwk, err := newJWK(alg)
	if err != nil {
		return Key{}, nil, fmt.Errorf("tokens: %w", err)
	}
	keys, err := ParseKeys(jwk)
	if err != nil {
		return Key{}, nil, err
	}
	return keys[0], jwk, nil
}

// WithAlgorithm returns the key with another algorithm of its kind. Example: PS256 for an RSA
// key from PEM, because PEM names no algorithm.
func (k Key) WithAlgorithm(alg string) (Key, error) {
	if k.material == nil {
		return Key{}, errors.New("tokens: the zero Key has no algorithm")
	}
	m, err := materialOf(k.material.raw(), alg, k.material.kid)
	if err != nil {
		return Key{}, fmt.Errorf("tokens: %w", err)
	}
	return Key{m}, nil
}

// ID returns the kid of the key.
func (k Key) ID() string {
	if k.material == nil {
		return ""
	}
	return k.material.kid
}

// Algorithm returns the algorithm of the key (RFC 7518, section 3.1), "" for the zero Key.
func (k Key) Algorithm() string {
	if k.material == nil {
		return ""
	}
	return k.material.alg
}

// ReadKeys reads keys from a file; see [ParseKeys].
func ReadKeys(file string) ([]Key, error) { return keyfile.Read("tokens", file, ParseKeys) }

// OpenKeys reads keys from a file. If the file does not exist, OpenKeys first makes the file
// with a new Ed25519 key, mode 0600. Processes that start at the same time read the same key.
func OpenKeys(file string) ([]Key, error) {
	return keyfile.Open("tokens", file, ParseKeys, func() ([]byte, error) {
		_, jwk, err := NewKey("")
		return jwk, err
	})
}

// parseKeys reads a key file: a JWK, a JWK set, or PEM.
func parseKeys(data []byte) ([]*keyMaterial, error) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		return parsePEM(data)
	}
	set, isSet, err := keysOf(data)
	if err != nil {
		return nil, errors.New("no key: neither PEM nor a JSON object") // the cause would quote the key
	}
	if !isSet {
		m, err := parseJWK(data)
		return []*keyMaterial{m}, err
	}
	if len(set) == 0 || len(set) > maxKeys {
		return nil, fmt.Errorf("the JWK set has %d keys; 1 to %d are allowed", len(set), maxKeys)
	}
	var keys []*keyMaterial
	for i, one := range set {
		m, err := parseJWK(one)
		if err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i+1, err)
		}
		keys = append(keys, m)
	}
	return keys, nil
}

package tokens

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// keySet is an immutable set of keys that verify the tokens of one Ring, with the cache of
// these tokens.
type keySet struct {
	keys     []*ringKey
	byHeader map[string]*ringKey
	cache    *cache
}

// ringKey is a key with the encoded header of its tokens.
type ringKey struct {
	*keyMaterial
	header string
}

// newKeySet returns the set of at least one key. The error names the Keys of a config.
func newKeySet(config string, keys []Key, cacheSize int) (*keySet, error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("tokens: %s.Keys is empty", config)
	}
	s := &keySet{byHeader: make(map[string]*ringKey, len(keys)), cache: newCache(cacheSize)}
	for i, key := range keys {
		m := key.material
		switch {
		case m == nil:
			return nil, fmt.Errorf("tokens: %s.Keys[%d] is the zero Key", config, i)
		case s.has(m.kid):
			return nil, fmt.Errorf("tokens: %s.Keys[%d] has the kid %q of another", config, i, m.kid)
		}
		header, err := ownHeader(m)
		if err != nil {
			return nil, fmt.Errorf("tokens: %w", err)
		}
		k := &ringKey{m, header}
		s.keys, s.byHeader[header] = append(s.keys, k), k
	}
	return s, nil
}

// ownHeader returns the encoded header of the tokens that a Ring signs with a key.
func ownHeader(m *keyMaterial) (string, error) {
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{m.alg, m.kid, ownType})
	return encode(header), err
}

func (s *keySet) has(kid string) bool {
	return slices.ContainsFunc(s.keys, func(k *ringKey) bool { return k.kid == kid })
}

// publicJWKs returns the JWK set of the public keys.
func (s *keySet) publicJWKs() ([]byte, error) {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{[]json.RawMessage{}}
	for _, key := range s.keys {
		if key.jwk != nil {
			set.Keys = append(set.Keys, key.jwk)
		}
	}
	return json.Marshal(set)
}

// verify checks a token of the Ring.
func (s *keySet) verify(rules *claimRules, token string, now time.Time) (oauth2pw.Principal, error) {
	p, err := s.check(rules, token, now)
	if err != nil {
		return oauth2pw.Principal{}, refused(err)
	}
	return p, nil
}

func (s *keySet) check(rules *claimRules, token string, now time.Time) (oauth2pw.Principal, error) {
	if len(token) > maxToken {
		return oauth2pw.Principal{}, errTooLong
	}
	if p := s.cache.get(token); p != nil {
		return *p, checkTimes(p, now)
	}

	dot := strings.IndexByte(token, '.')
	header := token[:max(dot, 0)]
	key := s.byHeader[header]
	if key == nil {
		return oauth2pw.Principal{}, s.explain(header)
	}
	payload, err := open(key.keyMaterial, token, dot)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	p, err := rules.read(payload, now)
	if err != nil {
		return oauth2pw.Principal{}, err
	}
	s.cache.put(token, p, now)
	return p, nil
}

// maxExplained is the length of the longest encoded header that explain reads, in bytes.
const maxExplained = 1 << 10

// explain names, for the operator, the fault of an encoded header that no key has. The token
// is refused already, with any result of explain.
func (s *keySet) explain(encoded string) error {
	const text = "not a header of this issuer"
	if len(encoded) > maxExplained {
		return errors.New(text)
	}
	algorithms := make([]string, len(s.keys))
	for i, key := range s.keys {
		algorithms[i] = key.alg
	}
	slices.Sort(algorithms)
	h, err := readHeader(encoded)
	switch {
	case err != nil:
	case h.typ != ownType:
		err = mismatch("typ", []string{h.typ}, []string{ownType})
	case !slices.Contains(algorithms, h.alg):
		err = mismatch("alg", []string{h.alg}, slices.Compact(algorithms))
	case !s.has(h.kid):
		err = errUnknownKey
	default:
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, err)
}

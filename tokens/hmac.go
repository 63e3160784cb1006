package tokens

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"sync"
)

var hmacs = map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}

func hmacAlgorithms(secret []byte) (fits []string, err error) {
	for _, alg := range []string{"HS256", "HS384", "HS512"} {
		if len(secret) >= hmacs[alg]().Size() { // RFC 7518, section 3.2
			fits = append(fits, alg)
		}
	}
	if fits == nil {
		err = fmt.Errorf("the key has %d bytes; HS256 needs 32, HS384 48 and HS512 64", len(secret))
	}
	return fits, err
}

// newHMAC returns the functions of an HMAC key. The functions reuse hashes that have already
// read the key: to read the key is most of the work for a short token.
func newHMAC(alg string, secret []byte) (sign func([]byte) ([]byte, error), verify func(data, signature []byte) error) {
	type state struct {
		hash.Hash
		sum []byte
	}
	states := sync.Pool{New: func() any { return &state{hmac.New(hmacs[alg], secret), make([]byte, 0, sha512.Size)} }}
	digest := func(data []byte, use func(sum []byte)) {
		s := states.Get().(*state)
		s.Reset()
		s.Write(data)
		s.sum = s.Sum(s.sum[:0])
		use(s.sum)
		states.Put(s)
	}
	sign = func(data []byte) (signature []byte, _ error) {
		digest(data, func(sum []byte) { signature = bytes.Clone(sum) })
		return signature, nil
	}
	verify = func(data, signature []byte) error {
		ok := false
		digest(data, func(sum []byte) { ok = hmac.Equal(sum, signature) })
		if !ok {
			return errSignature
		}
		return nil
	}
	return sign, verify
}

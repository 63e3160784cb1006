package tokens

// This is the one file that knows jwx: another major version of it is a change
// of this file alone.

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyMaterial is a key with its algorithm.
type keyMaterial struct {
	alg, kid string
	sign     func(data []byte) ([]byte, error)
	verify   func(data, signature []byte) error
}

// minHS256 is the length of the shortest HS256 key, in bytes (RFC 7518, section
// 3.2).
const minHS256 = 32

func parseJWK(data []byte) (*keyMaterial, error) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		return nil, errors.New("the key is PEM; only a JWK is supported")
	}
	var shape struct {
		Keys json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &shape); err != nil {
		return nil, errors.New("the key is no JWK: not a JSON object") // the cause would quote the key
	}
	if shape.Keys != nil {
		return nil, errors.New("the key is a JWK set; only a single JWK is supported")
	}
	key, err := jwk.ParseKey(data)
	if err != nil {
		return nil, errors.New("the key is no JWK, or of an unknown type")
	}
	if use := key.KeyUsage(); use != "" && use != string(jwk.ForSignature) {
		return nil, errors.New(`the key has a "use" other than "sig"`)
	}
	var alg jwa.SignatureAlgorithm
	var private, public any
	switch key := key.(type) {
	case jwk.SymmetricKey:
		secret := key.Octets()
		if len(secret) < minHS256 {
			return nil, fmt.Errorf("the key has %d bytes; HS256 needs %d", len(secret), minHS256)
		}
		alg, private, public = jwa.HS256, secret, secret
	case jwk.OKPPrivateKey:
		var raw any
		if err := key.Raw(&raw); err != nil {
			return nil, errors.New("the key is no valid OKP key: its halves do not belong together, or have the wrong length")
		}
		edKey, ok := raw.(ed25519.PrivateKey)
		if !ok {
			return nil, errors.New("the key is on another curve than Ed25519")
		}
		alg, private, public = jwa.EdDSA, edKey, edKey.Public()
	case jwk.OKPPublicKey:
		return nil, errors.New("the key is public; signing needs the private one")
	default:
		return nil, fmt.Errorf("a key of type %s is not supported; only Ed25519 and oct are", key.KeyType())
	}
	if named := key.Algorithm().String(); named != "" && named != alg.String() {
		return nil, errors.New(`the key has an "alg" other than ` + alg.String() + ", which is what such a key signs with here")
	}
	kid := key.KeyID()
	if kid == "" {
		thumbprint, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, errors.New("the key has no thumbprint")
		}
		kid = encode(thumbprint)
	}
	if !plain(kid) || len(kid) > 256 {
		return nil, errors.New(`the key has a "kid" of over 256 bytes, or one that is not UTF-8`)
	}
	signer, err := jws.NewSigner(alg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", alg, err)
	}
	verifier, err := jws.NewVerifier(alg)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", alg, err)
	}
	return &keyMaterial{
		alg: alg.String(), kid: kid,
		sign:   func(data []byte) ([]byte, error) { return signer.Sign(data, private) },
		verify: func(data, signature []byte) error { return verifier.Verify(data, signature, public) },
	}, nil
}

func newJWK() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := jwk.FromRaw(private)
	if err != nil {
		return nil, err
	}
	return json.Marshal(key)
}

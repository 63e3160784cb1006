package tokens

// This is the only file that imports jwx: another major version of jwx changes no other file.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyMaterial is a key with its algorithm.
type keyMaterial struct {
	alg, kid string
	sign     func(data []byte) ([]byte, error) // nil: the key is public
	verify   func(data, signature []byte) error
	jwk      json.RawMessage // the public key; nil: the key is an HMAC key
	raw      func() any      // the key itself; fmt cannot print it from a closure
}

// minRSA is the length of the shortest RSA key, in bits (RFC 7518, section 3.3). maxRSA bounds
// the work for a key of another issuer.
const minRSA, maxRSA = 2048, 8192

// parseJWK reads a JWK (RFC 7517). The error names the key by its kid.
func parseJWK(data []byte) (m *keyMaterial, err error) {
	var members jwkMembers
	defer func() {
		if recover() != nil { // jwx may panic for an untried combination of members
			m, err = nil, errors.New("the key is malformed")
		}
		if kid := members["kid"]; err != nil && kid != "" {
			err = fmt.Errorf("the key %.64q: %w", kid, err)
		}
	}()
	if members, err = readJWKMembers(data); err != nil {
		return nil, err
	}
	if err := members.checkLengths(); err != nil {
		return nil, err
	}
	key, err := jwk.ParseKey(data)
	if err != nil {
		return nil, errors.New("the key is no JWK, or of an unknown type")
	}
	if use := key.KeyUsage(); use != "" && use != string(jwk.ForSignature) {
		return nil, errors.New(`the key has a "use" other than "sig"`)
	}
	if ops := key.KeyOps(); len(ops) > 0 && !slices.Contains(ops, jwk.KeyOpSign) && !slices.Contains(ops, jwk.KeyOpVerify) {
		return nil, errors.New(`the key has "key_ops" without "sign" and "verify"`)
	}
	var raw any
	if err := key.Raw(&raw); err != nil {
		return nil, errors.New("the key is malformed: a part is missing or has the wrong length, or its halves do not belong together")
	}
	if err := checkHalves(raw); err != nil {
		return nil, err
	}
	return materialOf(raw, key.Algorithm().String(), key.KeyID())
}

// checkHalves refuses a private key with the public half of another key: jwx does not compare
// the halves.
func checkHalves(raw any) error {
	switch private := raw.(type) {
	case *ecdsa.PrivateKey:
		scalar, err := private.ECDH()
		if err != nil {
			return errors.New("the key is malformed: a half of it is out of range")
		}
		point, err := private.PublicKey.ECDH()
		if err != nil || !scalar.PublicKey().Equal(point) {
			return errors.New("the halves of the EC key do not belong together")
		}
	case ed25519.PrivateKey:
		if len(private) != ed25519.PrivateKeySize || !ed25519.NewKeyFromSeed(private.Seed()).Equal(private) {
			return errors.New("the halves of the Ed25519 key do not belong together")
		}
	}
	return nil
}

// materialOf makes a key from a key of the standard library. alg must fit the key; "" is the
// first algorithm of its kind.
func materialOf(raw any, alg, kid string) (*keyMaterial, error) {
	fits, private, public, err := algorithmsOf(raw)
	if err != nil {
		return nil, err
	}
	if alg == "" {
		alg = fits[0]
	}
	if !slices.Contains(fits, alg) {
		return nil, fmt.Errorf(`the key has the "alg" %q, which such a key cannot have (%s)`, alg, strings.Join(fits, ", "))
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, errors.New("the key is malformed")
	}
	if kid, err = kidOf(key, kid); err != nil {
		return nil, err
	}
	m := &keyMaterial{alg: alg, kid: kid, raw: func() any { return raw }}
	if secret, ok := raw.([]byte); ok {
		m.sign, m.verify = newHMAC(alg, secret)
		return m, nil
	}
	if m.verify, err = newVerify(alg, public); err != nil {
		return nil, err
	}
	if private != nil {
		signer, err := jws.NewSigner(jwa.SignatureAlgorithm(alg))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", alg, err)
		}
		m.sign = func(data []byte) ([]byte, error) { return signer.Sign(data, private) }
	}
	m.jwk, err = publicJWK(key, alg, kid)
	return m, err
}

// kidOf returns the kid of a key: its own, or else its thumbprint (RFC 7638).
func kidOf(key jwk.Key, own string) (string, error) {
	if own == "" {
		thumbprint, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return "", errors.New("the key has no thumbprint")
		}
		return encode(thumbprint), nil
	}
	if !plain(own) || len(own) > 256 {
		return "", errors.New(`the key has a "kid" of over 256 bytes, or one that is not UTF-8`)
	}
	return own, nil
}

func newVerify(alg string, public any) (func(data, signature []byte) error, error) {
	if h, pss := pssHashes[alg]; pss {
		key, ok := public.(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("the key is no RSA key")
		}
		// jwx accepts a salt of any length. RFC 7518, section 3.5, requires the length of the
		// hash.
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		return func(data, signature []byte) error {
			digest := h.New()
			digest.Write(data)
			return rsa.VerifyPSS(key, h, digest.Sum(nil), signature, options)
		}, nil
	}
	verifier, err := jws.NewVerifier(jwa.SignatureAlgorithm(alg))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", alg, err)
	}
	return func(data, signature []byte) error { return verifier.Verify(data, signature, public) }, nil
}

var pssHashes = map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512}

// algorithmsOf returns the algorithms that a key can have, with the usual algorithm first, and
// the halves of the key; private is nil for a public key.
func algorithmsOf(raw any) (fits []string, private, public any, err error) {
	switch key := raw.(type) {
	case []byte:
		fits, err = hmacAlgorithms(key)
		return fits, key, key, err
	case *rsa.PrivateKey:
		if err := key.Validate(); err != nil {
			return nil, nil, nil, errors.New("the RSA key is not consistent")
		}
		fits, err = rsaAlgorithms(&key.PublicKey)
		return fits, key, &key.PublicKey, err
	case *rsa.PublicKey:
		fits, err = rsaAlgorithms(key)
		return fits, nil, key, err
	case *ecdsa.PrivateKey:
		fits, err = ecAlgorithms(&key.PublicKey)
		return fits, key, &key.PublicKey, err
	case *ecdsa.PublicKey:
		fits, err = ecAlgorithms(key)
		return fits, nil, key, err
	case ed25519.PrivateKey:
		if len(key) != ed25519.PrivateKeySize {
			return nil, nil, nil, errors.New("the Ed25519 key has not 64 bytes")
		}
		return []string{"EdDSA"}, key, key.Public(), nil
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return nil, nil, nil, errors.New("the Ed25519 key has not 32 bytes")
		}
		return []string{"EdDSA"}, nil, key, nil
	}
	return nil, nil, nil, errors.New("a key of this type is not supported: only RSA, EC, Ed25519 and oct are")
}

func rsaAlgorithms(key *rsa.PublicKey) ([]string, error) {
	if n := key.N.BitLen(); n < minRSA || n > maxRSA {
		return nil, fmt.Errorf("the RSA key has %d bits; %d to %d are allowed", n, minRSA, maxRSA)
	}
	if key.E < 3 {
		return nil, fmt.Errorf("the RSA key has the exponent %d; 3 is the least", key.E)
	}
	return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil
}

func ecAlgorithms(key *ecdsa.PublicKey) ([]string, error) {
	if _, err := key.ECDH(); err != nil { // ECDH checks that the point is on the curve
		return nil, errors.New("the EC key is no point of its curve, or its curve is not supported")
	}
	alg := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[key.Curve]
	if alg == "" {
		return nil, errors.New("the EC key is on another curve than P-256, P-384 and P-521")
	}
	return []string{alg}, nil
}

// publicJWK returns the JWK of the public half.
func publicJWK(key jwk.Key, alg, kid string) (json.RawMessage, error) {
	public, err := key.PublicKey()
	if err != nil {
		return nil, errors.New("the key has no public half")
	}
	for name, value := range map[string]any{jwk.AlgorithmKey: alg, jwk.KeyIDKey: kid, jwk.KeyUsageKey: jwk.ForSignature} {
		if err := public.Set(name, value); err != nil {
			return nil, fmt.Errorf("the key: %w", err)
		}
	}
	return json.Marshal(public)
}

// newJWK makes a key for an algorithm and returns it as a private JWK.
func newJWK(alg string) ([]byte, error) {
	var raw any
	var err error
	switch alg {
	case "EdDSA":
		_, raw, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		raw, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		raw, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		raw, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		raw, err = rsa.GenerateKey(rand.Reader, 3072)
	case "HS256", "HS384", "HS512":
		secret := make([]byte, hmacs[alg]().Size())
		_, _ = rand.Read(secret) // never fails (crypto/rand)
		raw = secret
	default:
		return nil, fmt.Errorf("%q is no algorithm that is supported", alg)
	}
	if err != nil {
		return nil, err
	}
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return nil, err
	}
	if err := key.Set(jwk.AlgorithmKey, alg); err != nil {
		return nil, err
	}
	return json.Marshal(key)
}

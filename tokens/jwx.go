package tokens

// This is the one file that knows jwx: another major version of it is a change
// of this file alone.

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
)

// keyMaterial is a key with its algorithm.
type keyMaterial struct {
	alg, kid string
	sign     func(data []byte) ([]byte, error) // nil: the key is public
	verify   func(data, signature []byte) error
	jwk      json.RawMessage // the public key; nil: it is an HMAC key
	raw      func() any      // the key itself, which a closure keeps from being printed
}

// minRSA is the length of the shortest RSA key, in bits (RFC 7518, section 3.3);
// maxRSA bounds the work that a foreign key can ask for.
const minRSA, maxRSA = 2048, 8192

// maxKeys is how many keys of a set are looked at.
const maxKeys = 100

// parseKeys reads what a key file may hold: a JWK, a JWK set, or PEM.
func parseKeys(data []byte) ([]*keyMaterial, error) {
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("-----BEGIN")) {
		return parsePEM(data)
	}
	set, isSet, err := keysOf(data)
	if err != nil {
		return nil, errors.New("no key: neither PEM nor a JSON object") // the cause would quote it
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

// keysOf returns the keys of a JWK set (RFC 7517, section 5); false for an object that is
// none.
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

// parseForeignKeys reads the JWK set of another issuer. What is no public key for
// signatures, or is weak, is left out; if nothing is left, the error says why.
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

func parsePEM(data []byte) ([]*keyMaterial, error) {
	var keys []*keyMaterial
	for len(data) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("the PEM is malformed")
		}
		data = bytes.TrimSpace(data)
		if block.Type == "EC PARAMETERS" { // which openssl writes before an EC key
			continue
		}
		raw, err := parseDER(block)
		if err != nil {
			return nil, err
		}
		m, err := materialOf(raw, "", "")
		if err != nil {
			return nil, err
		}
		if keys = append(keys, m); len(keys) > maxKeys {
			return nil, fmt.Errorf("over %d keys", maxKeys)
		}
	}
	if keys == nil {
		return nil, errors.New("the PEM holds no key")
	}
	return keys, nil
}

func parseDER(block *pem.Block) (raw any, err error) {
	switch {
	case block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("the PEM is encrypted; decrypt it first (openssl pkey -in FILE)")
	case block.Type == "PRIVATE KEY":
		raw, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case block.Type == "RSA PRIVATE KEY":
		raw, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "EC PRIVATE KEY":
		raw, err = x509.ParseECPrivateKey(block.Bytes)
	case block.Type == "PUBLIC KEY":
		raw, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		raw, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("the PEM holds a %q, and no key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the PEM block %q holds no key of its kind, or a weak one", block.Type) // the cause may quote it
	}
	return raw, nil
}

// parseJWK reads a JWK (RFC 7517). The error names the key by its kid.
func parseJWK(data []byte) (m *keyMaterial, err error) {
	var members jwkMembers
	defer func() {
		if recover() != nil { // of jwx: nobody has tried all that a key can hold
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
	switch private := raw.(type) { // jwx takes the public half as it stands there
	case *ecdsa.PrivateKey:
		scalar, err := private.ECDH()
		if err != nil {
			return nil, errors.New("the key is malformed: a half of it is out of range")
		}
		point, err := private.PublicKey.ECDH()
		if err != nil || !scalar.PublicKey().Equal(point) {
			return nil, errors.New("the halves of the EC key do not belong together")
		}
	case ed25519.PrivateKey:
		if len(private) != ed25519.PrivateKeySize || !ed25519.NewKeyFromSeed(private.Seed()).Equal(private) {
			return nil, errors.New("the halves of the Ed25519 key do not belong together")
		}
	}
	return materialOf(raw, key.Algorithm().String(), key.KeyID())
}

// jwkMembers are the members of a JWK that are strings, by their exact names: encoding/json
// would take "X" for "x", which jwx does not.
type jwkMembers map[string]string

func readJWKMembers(data []byte) (jwkMembers, error) {
	m := make(jwkMembers)
	var noString error // told at the end, when the kid is known
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

// coordinates are how many bytes the parts of a key on a curve have: no more, no fewer (RFC
// 7518, section 6.2.1.2; RFC 8037, section 2).
var coordinates = map[string]int{"P-256": 32, "P-384": 48, "P-521": 66, "Ed25519": 32}

func (m jwkMembers) checkLengths() error {
	if m["kty"] == "RSA" {
		for _, name := range []string{"n", "e", "d", "p", "q", "dp", "dq", "qi"} {
			if len(m[name]) > base64url.EncodedLen(maxRSA/8+1) { // before anybody computes with it
				return fmt.Errorf("the member %q of the RSA key has over %d bits", name, maxRSA)
			}
		}
	}
	size, known := coordinates[m["crv"]]
	if !known || m["kty"] != "EC" && m["kty"] != "OKP" {
		return nil // of another kind, or of none that is supported
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

// materialOf makes a key of what the standard library calls one. The algorithm is
// alg, which must fit, or the usual one of such a key.
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

func newVerify(alg string, public any) (func(data, signature []byte) error, error) {
	if h, pss := pssHashes[alg]; pss {
		key, ok := public.(*rsa.PublicKey)
		if !ok {
			return nil, errors.New("the key is no RSA key")
		}
		// jwx takes a salt of any length; RFC 7518, section 3.5, wants that of the
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

// algorithmsOf returns the algorithms that a key can have, the usual one first,
// and its halves; private is nil for a public key.
func algorithmsOf(raw any) (fits []string, private, public any, err error) {
	switch key := raw.(type) {
	case []byte:
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			if len(key) >= hmacs[alg]().Size() { // RFC 7518, section 3.2
				fits = append(fits, alg)
			}
		}
		if fits == nil {
			return nil, nil, nil, fmt.Errorf("the key has %d bytes; HS256 needs 32, HS384 48 and HS512 64", len(key))
		}
		return fits, key, key, nil
	case *rsa.PrivateKey:
		if err := key.Validate(); err != nil {
			return nil, nil, nil, errors.New("the RSA key is not consistent")
		}
		fits, _, public, err := algorithmsOf(&key.PublicKey)
		return fits, key, public, err
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA || key.E < 3 {
			return nil, nil, nil, fmt.Errorf("the RSA key has %d bits; %d to %d are allowed", n, minRSA, maxRSA)
		}
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}, nil, key, nil
	case *ecdsa.PrivateKey:
		fits, _, public, err := algorithmsOf(&key.PublicKey)
		return fits, key, public, err
	case *ecdsa.PublicKey:
		if _, err := key.ECDH(); err != nil { // which checks that the point is on the curve
			return nil, nil, nil, errors.New("the EC key is no point of its curve, or its curve is not supported")
		}
		alg := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[key.Curve]
		if alg == "" {
			return nil, nil, nil, errors.New("the EC key is on another curve than P-256, P-384 and P-521")
		}
		return []string{alg}, nil, key, nil
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

var hmacs = map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}

// newHMAC returns the functions of an HMAC key. They keep hashes that have taken
// the key in already: it is most of the work for a short token.
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

var errSignature = errors.New("wrong signature")

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

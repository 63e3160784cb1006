package tokens

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Key is a key with its algorithm. The zero value is none.
type Key struct{ material *keyMaterial }

// maxKeyFile is the size of the largest key file that is read, in bytes.
const maxKeyFile = 64 << 10

// ParseKeys reads keys from a JWK, a JWK set (RFC 7517) or PEM (PKCS #1, PKCS #8,
// SEC 1, and public keys). It refuses a file with any key that is too short, of
// another use or of an unknown kind. A public key verifies and cannot sign.
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

// NewKey makes a key for an algorithm, "EdDSA" if it is empty, and returns it with
// its JWK, which is secret. An RSA key has 3,072 bits.
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

// WithAlgorithm returns the key with another algorithm that such a key can have:
// PS256 for an RSA key from PEM, say, which cannot name one.
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

// Algorithm returns the algorithm that the key signs with (RFC 7518, section 3.1),
// "" for the zero Key.
func (k Key) Algorithm() string {
	if k.material == nil {
		return ""
	}
	return k.material.alg
}

// ReadKeys reads keys from a file; see [ParseKeys].
func ReadKeys(file string) ([]Key, error) { return readFile(file, ParseKeys) }

// OpenKeys reads keys from a file. If there is no such file, it makes an Ed25519
// key there, with mode 0600, and reads that: processes that start at once agree on
// one key.
func OpenKeys(file string) ([]Key, error) {
	return openFile(file, ParseKeys, func() ([]byte, error) {
		_, jwk, err := NewKey("")
		return jwk, err
	})
}

// ReadRefreshSecrets reads the secrets of an oauth2pw.Config.RefreshSecrets from a
// file: one a line, in standard padded base64, 32 bytes each at least. The first
// makes the tokens of new sessions. Empty lines are skipped.
func ReadRefreshSecrets(file string) ([]oauth2pw.Secret, error) {
	return readFile(file, parseRefreshSecrets)
}

// OpenRefreshSecrets is [ReadRefreshSecrets] for a file that is made if there is
// none, with one secret and mode 0600, as [OpenKeys] does.
func OpenRefreshSecrets(file string) ([]oauth2pw.Secret, error) {
	return openFile(file, parseRefreshSecrets, func() ([]byte, error) {
		secret := make([]byte, minRefreshSecret)
		_, _ = rand.Read(secret) // never fails (crypto/rand)
		return append(base64.StdEncoding.AppendEncode(nil, secret), '\n'), nil
	})
}

const minRefreshSecret = 32 // bytes

func parseRefreshSecrets(text []byte) ([]oauth2pw.Secret, error) {
	var secrets []oauth2pw.Secret
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		secret, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(secret) < minRefreshSecret {
			return nil, fmt.Errorf("tokens: line %d is no padded base64 of at least %d bytes", n, minRefreshSecret)
		}
		secrets = append(secrets, oauth2pw.Secret(secret))
	}
	if secrets == nil {
		return nil, errors.New("tokens: there is no secret in it")
	}
	return secrets, nil
}

// readFile reads what is in a key file. The error names the file.
func readFile[T any](file string, parse func([]byte) (T, error)) (T, error) {
	var none T
	f, err := os.Open(file)
	if err != nil {
		return none, fmt.Errorf("tokens: the key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return none, fmt.Errorf("tokens: the key: %w", err)
	}
	if len(data) > maxKeyFile {
		return none, fmt.Errorf("tokens: the key: %s is larger than 64 KiB", file)
	}
	v, err := parse(data)
	if err != nil {
		return none, fmt.Errorf("%w (in %s)", err, file)
	}
	return v, nil
}

// openFile is readFile for a file that is made if there is none: whoever is first
// makes it, and everybody reads it.
func openFile[T any](file string, parse func([]byte) (T, error), content func() ([]byte, error)) (T, error) {
	v, err := readFile(file, parse)
	if !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	data, err := content()
	if err != nil {
		return v, err
	}
	if err := writeExclusive(file, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return v, fmt.Errorf("tokens: making the key: %w", err)
	}
	return readFile(file, parse)
}

// writeExclusive makes a file whole or not at all: it is written under another
// name, and linked to its own only if nothing has it yet.
func writeExclusive(file string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}

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

// Key is a signing key. The zero value is none. It prints nothing of the key.
type Key struct{ material *keyMaterial }

// maxKeyFile is the size of the largest key file that is read, in bytes.
const maxKeyFile = 64 << 10

// ParseKey reads a key from a JWK (RFC 7517): kty "OKP" with crv "Ed25519" and d
// signs with EdDSA, kty "oct" with at least 32 bytes with HS256. The kid is that
// of the JWK or, without one, its thumbprint (RFC 7638).
func ParseKey(jwk []byte) (Key, error) {
	m, err := parseJWK(jwk)
	if err != nil {
		return Key{}, fmt.Errorf("tokens: %w", err)
	}
	return Key{m}, nil
}

// NewKey makes an Ed25519 key and returns it with its JWK, which is secret.
func NewKey() (Key, []byte, error) {
	jwk, err := newJWK()
	if err != nil {
		return Key{}, nil, fmt.Errorf("tokens: %w", err)
	}
	key, err := ParseKey(jwk)
	return key, jwk, err
}

// ReadKey reads a key from a file that holds a JWK.
func ReadKey(file string) (Key, error) { return readFile(file, ParseKey) }

// OpenKey reads a key from a file. If there is no such file, it makes an Ed25519
// key there, with mode 0600, and reads that: processes that start at once agree on
// one key.
func OpenKey(file string) (Key, error) {
	return openFile(file, ParseKey, func() ([]byte, error) {
		_, jwk, err := NewKey()
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
// none, with one secret and mode 0600, as [OpenKey] does.
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

package tokens

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
func ReadKey(file string) (Key, error) {
	f, err := os.Open(file)
	if err != nil {
		return Key{}, fmt.Errorf("tokens: the key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return Key{}, fmt.Errorf("tokens: the key: %w", err)
	}
	if len(data) > maxKeyFile {
		return Key{}, fmt.Errorf("tokens: the key: %s is larger than 64 KiB", file)
	}
	key, err := ParseKey(data)
	if err != nil {
		return Key{}, fmt.Errorf("%w (in %s)", err, file)
	}
	return key, nil
}

// OpenKey reads a key from a file. If there is no such file, it makes an Ed25519
// key there, with mode 0600, and reads that: processes that start at once agree on
// one key.
func OpenKey(file string) (Key, error) {
	key, err := ReadKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, jwk, err := NewKey()
	if err != nil {
		return Key{}, err
	}
	if err := writeExclusive(file, jwk); err != nil && !errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("tokens: making the key: %w", err)
	}
	return ReadKey(file)
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

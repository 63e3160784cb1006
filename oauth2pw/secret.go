package oauth2pw

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/oauth2pw/passwordflow/internal/keyfile"
)

// Secret is a string that never prints: fmt, log/slog, encoding/json and encoding/xml show
// "[redacted]". Convert a Secret to string where its value is needed. A database/sql row
// scans into a Secret as into a string.
type Secret string

const redacted = "[redacted]"

// Format prints "[redacted]" for every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// minSecret is the length of the shortest secret of Config.Secrets, in bytes.
const minSecret = 32

// keyIDLength is the length of the id of a secret, in bytes.
const keyIDLength = 12

// serverSecrets are Config.Secrets by their key ids.
type serverSecrets struct {
	first string // the key id of the secret that makes tokens and tickets; "": no secret
	byID  map[string]Secret
}

func newServerSecrets(secrets []Secret) (serverSecrets, error) {
	s := serverSecrets{byID: make(map[string]Secret, len(secrets))}
	for i, secret := range secrets {
		if len(secret) < minSecret {
			return s, fmt.Errorf("oauth2pw: Config.Secrets[%d] has %d bytes; %d are needed", i, len(secret), minSecret)
		}
		name, err := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh key id", 9)
		if err != nil {
			return s, fmt.Errorf("oauth2pw: Config.Secrets: %w", err)
		}
		id := base64url.EncodeToString(name)
		if _, twice := s.byID[id]; twice {
			return s, fmt.Errorf("oauth2pw: Config.Secrets[%d] is there twice", i)
		}
		s.byID[id] = secret
		if i == 0 {
			s.first = id
		}
	}
	return s, nil
}

// NewSecret returns a random secret of 52 characters, 256 bits, for [Config.Secrets] of a
// server that may lose its sessions, such as a test.
func NewSecret() Secret { return Secret(rand.Text() + rand.Text()) }

// NewClientSecret returns a random secret of 256 bits for a confidential client, and its
// SHA-256 for [Client]. Give the secret to the client: only the SHA-256 is kept.
func NewClientSecret() (secret Secret, sum []byte) {
	secret = NewSecret()
	digest := sha256.Sum256([]byte(secret))
	return secret, digest[:]
}

// ReadSecrets reads the secrets of [Config.Secrets] from a file: one secret per line, in
// standard padded base64, at least 32 bytes each. The first secret makes the tokens of new
// sessions. Empty lines are skipped. The error names the file.
func ReadSecrets(file string) ([]Secret, error) {
	return keyfile.Read("oauth2pw", file, parseSecrets)
}

// OpenSecrets is [ReadSecrets], and makes a missing file, with one secret and mode 0600.
// Processes that start at the same time agree on one secret.
func OpenSecrets(file string) ([]Secret, error) {
	return keyfile.Open("oauth2pw", file, parseSecrets, func() ([]byte, error) {
		secret := make([]byte, minSecret)
		_, _ = rand.Read(secret) // never fails (crypto/rand)
		return append(base64.StdEncoding.AppendEncode(nil, secret), '\n'), nil
	})
}

func parseSecrets(text []byte) ([]Secret, error) {
	var secrets []Secret
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		secret, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(secret) < minSecret {
			return nil, fmt.Errorf("oauth2pw: line %d is no padded base64 of at least %d bytes", n, minSecret)
		}
		secrets = append(secrets, Secret(secret))
	}
	if secrets == nil {
		return nil, errors.New("oauth2pw: there is no secret in it")
	}
	return secrets, nil
}

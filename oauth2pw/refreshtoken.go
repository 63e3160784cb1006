package oauth2pw

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// A refresh token is "rt1." and the base64url of
//
//	session id (16 bytes) ‖ generation (8 bytes) ‖ MAC (32 bytes)
//
// where MAC = HMAC-SHA256(K, "rt1" ‖ salt ‖ id ‖ generation), all of fixed width, and K =
// HKDF-SHA256 of the server secret that the session's key id names. A token needs both the
// store and the secret; neither makes a token without the other. The successor of a token
// is computed from the session, so that a repeated request gets the same successor.
const (
	refreshVersion = "rt1"
	refreshPrefix  = refreshVersion + "."
	refreshLength  = 16 + 8 + sha256.Size // bytes
)

var base64url = base64.RawURLEncoding.Strict()

// refreshToken is a decoded refresh token, not verified yet.
type refreshToken struct {
	sessionID  string
	generation uint64
	mac        []byte
}

func parseRefreshToken(s string) (refreshToken, bool) {
	encoded, ok := strings.CutPrefix(s, refreshPrefix)
	if !ok || len(encoded) != base64url.EncodedLen(refreshLength) || strings.ContainsAny(encoded, "\r\n") {
		return refreshToken{}, false
	}
	raw, err := base64url.DecodeString(encoded)
	if err != nil {
		return refreshToken{}, false
	}
	t := refreshToken{
		sessionID:  base64url.EncodeToString(raw[:16]),
		generation: binary.BigEndian.Uint64(raw[16:24]),
		mac:        raw[24:],
	}
	return t, 0 < t.generation && t.generation < math.MaxInt64 // every database has integers up to this size
}

// refreshKeys makes the MACs of refresh tokens. Only the closure has the keys, so that %+v
// does not print them.
type refreshKeys struct {
	first string // the key id for new sessions; "": no secret
	// mac returns false for an unknown key id, and for a malformed session id.
	mac func(s *Session, generation uint64) ([]byte, bool)
}

func newRefreshKeys(secrets serverSecrets) (refreshKeys, error) {
	keys := make(map[string]func(func([]byte) []byte) [sha256.Size]byte, len(secrets.byID))
	k := refreshKeys{first: secrets.first}
	for id, secret := range secrets.byID {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh token "+refreshVersion, sha256.Size)
		if err != nil {
			return k, fmt.Errorf("oauth2pw: Config.Secrets: %w", err)
		}
		keys[id] = newMAC(key)
	}
	k.mac = func(s *Session, generation uint64) ([]byte, bool) {
		mac, known := keys[s.KeyID]
		if !known {
			return nil, false
		}
		var id [16]byte
		if n, err := base64url.Decode(id[:], []byte(s.ID)); err != nil || n != len(id) {
			return nil, false
		}
		sum := mac(func(b []byte) []byte {
			b = append(b, refreshVersion...)
			b = append(b, s.Salt[:]...)
			b = append(b, id[:]...)
			return binary.BigEndian.AppendUint64(b, generation)
		})
		return sum[:], true
	}
	return k, nil
}

// token returns the refresh token of a generation of a session, or "" if Config.Secrets no
// longer has its secret.
func (k refreshKeys) token(s *Session, generation uint64) Secret {
	mac, known := k.mac(s, generation)
	if !known {
		return ""
	}
	raw := make([]byte, 0, refreshLength)
	raw, err := base64url.AppendDecode(raw, []byte(s.ID))
	if err != nil {
		return ""
	}
	raw = binary.BigEndian.AppendUint64(raw, generation)
	raw = append(raw, mac...)
	return Secret(refreshPrefix + base64url.EncodeToString(raw))
}

// prove returns the reason why a refresh token is not of a session, or "".
func (k refreshKeys) prove(s *Session, t refreshToken) EventReason {
	mac, known := k.mac(s, t.generation)
	switch {
	case !known:
		return ReasonUnknownSecret
	case !hmac.Equal(mac, t.mac):
		return ReasonForged
	}
	return ""
}

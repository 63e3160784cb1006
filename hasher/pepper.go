package hasher

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Pepper is a secret for new hashes, kept apart from the database: without the pepper,
// nobody can search a stolen hash for its password. If a pepper is lost, no password
// matches its hashes any more.
type Pepper struct {
	// ID is part of each hash and names its pepper: 1 to 32 letters, digits, "-" and "_".
	ID string
	// Key is random and has at least 32 bytes.
	Key oauth2pw.Secret
}

// pepperPrefix begins a hash with a pepper: $pepper$id$argon2id$…
const pepperPrefix = "$pepper$"

// peppers applies peppers. Only the closure has the keys, so that %+v does not print them.
type peppers struct {
	first string // the ID of the pepper of new hashes; "": new hashes have no pepper
	apply func(id string, password []byte) (peppered []byte, known bool)
}

func newPeppers(list []Pepper) (peppers, error) {
	keys := make(map[string][]byte, len(list))
	for i, p := range list {
		if p.ID == "" || len(p.ID) > 32 || strings.Trim(p.ID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return peppers{}, fmt.Errorf("hasher: Config.Peppers[%d].ID must be 1 to 32 letters, digits, - and _", i)
		}
		if len(p.Key) < 32 {
			return peppers{}, fmt.Errorf("hasher: Config.Peppers[%d].Key is shorter than 32 bytes", i)
		}
		if _, twice := keys[p.ID]; twice {
			return peppers{}, errors.New("hasher: Config.Peppers has an ID twice")
		}
		keys[p.ID] = []byte(p.Key)
	}
	all := peppers{apply: func(id string, password []byte) ([]byte, bool) {
		key, known := keys[id]
		if !known {
			return nil, false
		}
		h := hmac.New(sha256.New, key)
		h.Write(password)
		return h.Sum(nil), true
	}}
	if len(list) > 0 {
		all.first = list[0].ID
	}
	return all, nil
}

// parsePeppered reads the rest after the prefix. A hash with an unknown pepper is
// unreadable.
func (h *Hasher) parsePeppered(rest string) (stored, bool) {
	id, inner, _ := strings.Cut(rest, "$")
	inner, ok := strings.CutPrefix(inner, phcPrefix[1:])
	if _, known := h.peppers.apply(id, nil); !ok || !known {
		return stored{}, false
	}
	s, ok := h.parsePHC(inner)
	s.outdated = s.outdated || id != h.peppers.first
	matches := s.matches
	s.matches = func(password []byte) bool {
		peppered, _ := h.peppers.apply(id, password)
		return matches(peppered)
	}
	return s, ok
}

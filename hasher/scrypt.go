package hasher

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"math/bits"
	"strings"

	"golang.org/x/crypto/scrypt"
)

// parseScrypt reads passlib's ln=…,r=…,p=…$salt$checksum.
func parseScrypt(_ *Hasher, rest string) (stored, bool) {
	fields := strings.Split(rest, "$")
	if len(fields) != 3 {
		return stored{}, false
	}
	n, ok := parseCosts(fields[0], "ln", "r", "p")
	if !ok || n[1] > 1<<20 || n[2] > 1<<20 {
		return stored{}, false
	}
	salt, ok1 := decode(phcBase64, fields[1], 0, 64)
	tag, ok2 := decode(phcBase64, fields[2], 16, 64)
	if !ok1 || !ok2 || n[0] >= 32 {
		return stored{}, false
	}
	return scryptOf(1<<n[0], n[1], n[2], salt, tag)
}

// parseDjangoScrypt reads n$salt$r$p$hash.
func parseDjangoScrypt(_ *Hasher, rest string) (stored, bool) {
	fields := strings.Split(rest, "$")
	if len(fields) != 5 {
		return stored{}, false
	}
	n, ok1 := number(fields[0], 1<<31)
	r, ok2 := number(fields[2], 1<<20)
	p, ok3 := number(fields[3], 1<<20)
	tag, ok4 := decode(base64.StdEncoding.Strict(), fields[4], 16, 64)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(fields[1]) > 64 {
		return stored{}, false
	}
	return scryptOf(uint64(n), r, p, []byte(fields[1]), tag)
}

// parseWerkzeugScrypt reads n:r:p$salt$hash, with the hash in hex.
func parseWerkzeugScrypt(_ *Hasher, rest string) (stored, bool) {
	costs, rest, _ := strings.Cut(rest, "$")
	fields := strings.Split(costs, ":")
	salt, tag, ok := werkzeugHash(rest)
	if !ok || len(fields) != 3 {
		return stored{}, false
	}
	n, ok1 := number(fields[0], 1<<31)
	r, ok2 := number(fields[1], 1<<20)
	p, ok3 := number(fields[2], 1<<20)
	if !ok1 || !ok2 || !ok3 {
		return stored{}, false
	}
	return scryptOf(uint64(n), r, p, salt, tag)
}

// werkzeugHash reads salt$hash: the salt is text, and the hash is in lower-case hex.
func werkzeugHash(s string) (salt, tag []byte, ok bool) {
	text, digits, _ := strings.Cut(s, "$")
	tag, err := hex.DecodeString(digits)
	return []byte(text), tag, err == nil && digits == strings.ToLower(digits) && text != "" && len(text) <= 64 && 16 <= len(tag) && len(tag) <= 64
}

// scryptOf is a hash whose tag is the derived key.
func scryptOf(n uint64, r, p uint32, salt, tag []byte) (stored, bool) {
	s, key, ok := scryptKey(n, r, p, salt, len(tag))
	s.matches = func(password []byte) bool { return subtle.ConstantTimeCompare(key(password), tag) == 1 }
	return s, ok
}

// scryptKey checks the costs, and returns the function that derives a key.
func scryptKey(n uint64, r, p uint32, salt []byte, length int) (s stored, key func(password []byte) []byte, ok bool) {
	if bits.OnesCount64(n) != 1 || n < 2 || r == 0 || p == 0 || uint64(r)*uint64(p) >= 1<<30 {
		return stored{}, nil, false
	}
	memory := n * uint64(r) / 8 // KiB: N blocks of 128 r bytes
	if memory += uint64(r) * uint64(p) / 8; memory >= 1<<32 {
		return stored{}, nil, false
	}
	key = func(password []byte) []byte {
		k, err := scrypt.Key(password, salt, int(n), int(r), int(p), length)
		if err != nil {
			return nil // matches no tag; the costs were checked
		}
		return k
	}
	return stored{memory: uint32(memory), work: scryptStep * max(memory, 1) * uint64(p), outdated: true}, key, true
}

package hasher

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// maxBcrypt is the length of the longest password that bcrypt reads in full, in bytes. A
// longer password would match by its first 72 bytes.
const maxBcrypt = 72

func parseBcrypt(prefix string) func(*Hasher, string) (stored, bool) {
	return func(_ *Hasher, rest string) (stored, bool) {
		s, encoded, ok := readBcrypt(prefix + rest)
		s.maxPassword = maxBcrypt
		s.matches = func(password []byte) bool { return bcrypt.CompareHashAndPassword(encoded, password) == nil }
		return s, ok
	}
}

// parseBcryptSHA256 reads Django's format: bcrypt of the SHA-256 in hex, which has the same
// length for every password.
func parseBcryptSHA256(_ *Hasher, rest string) (stored, bool) {
	s, encoded, ok := readBcrypt("$2b$" + rest)
	s.matches = func(password []byte) bool {
		sum := sha256.Sum256(password)
		return bcrypt.CompareHashAndPassword(encoded, []byte(hex.EncodeToString(sum[:]))) == nil
	}
	return s, ok
}

// parsePasslibBcryptSHA256 reads the rest of $bcrypt-sha256$: bcrypt of the base64 of a digest,
// the SHA-256 of the password in version 1 (2a,cost$salt$checksum), and its HMAC under the
// text of the salt in version 2 (v=2,t=2b,r=cost$salt$checksum).
func parsePasslibBcryptSHA256(_ *Hasher, rest string) (stored, bool) {
	costs, rest, _ := strings.Cut(rest, "$")
	salt, checksum, ok := strings.Cut(rest, "$")
	if !ok || len(salt) != 22 || len(checksum) != 31 {
		return stored{}, false
	}
	version, digits, _ := strings.Cut(costs, ",")
	digest := func(password []byte) []byte { sum := sha256.Sum256(password); return sum[:] }
	if version == "v=2" {
		version, digits, _ = strings.Cut(digits, ",r=")
		version, ok = strings.CutPrefix(version, "t=")
		digest = func(password []byte) []byte {
			h := hmac.New(sha256.New, []byte(salt))
			h.Write(password)
			return h.Sum(nil)
		}
		ok = ok && version == "2b"
	}
	cost, isNumber := number(digits, 31)
	if !ok || !isNumber || version != "2a" && version != "2b" {
		return stored{}, false
	}
	s, encoded, ok := readBcrypt(fmt.Sprintf("$%s$%02d$%s%s", version, cost, salt, checksum))
	s.matches = func(password []byte) bool {
		return bcrypt.CompareHashAndPassword(encoded, []byte(base64.StdEncoding.EncodeToString(digest(password)))) == nil
	}
	return s, ok
}

// parseWordPressBcrypt reads the rest of $wp$2y$, the format since WordPress 6.8: bcrypt of the
// base64 of an HMAC-SHA384.
func parseWordPressBcrypt(_ *Hasher, rest string) (stored, bool) {
	s, encoded, ok := readBcrypt("$2y$" + rest)
	s.matches = func(password []byte) bool {
		h := hmac.New(sha512.New384, []byte("wp-sha384"))
		h.Write(password)
		return bcrypt.CompareHashAndPassword(encoded, []byte(base64.StdEncoding.EncodeToString(h.Sum(nil)))) == nil
	}
	return s, ok
}

func readBcrypt(hash string) (s stored, encoded []byte, ok bool) {
	encoded = []byte(hash)
	cost, err := bcrypt.Cost(encoded)
	if err != nil || len(encoded) != 60 || strings.Trim(hash[7:], bcryptAlphabet) != "" {
		return stored{}, nil, false
	}
	return stored{memory: 5, work: bcryptStep << cost, outdated: true}, encoded, true
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

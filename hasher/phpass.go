package hasher

import (
	"crypto/md5"
	"crypto/subtle"
	"strings"
)

// phpassAlphabet has the digits of phpass's own base64, which begins with the lowest bits.
const phpassAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// parsePHPass reads the rest of phpass's portable format: a digit with the logarithm of the
// number of iterations, eight characters of salt, and the MD5 in 22 digits.
func parsePHPass(_ *Hasher, rest string) (stored, bool) {
	if len(rest) != 1+8+22 || strings.Trim(rest[9:], phpassAlphabet) != "" {
		return stored{}, false
	}
	log := strings.IndexByte(phpassAlphabet, rest[0])
	if log < 7 || log > 30 {
		return stored{}, false
	}
	salt, tag := rest[1:9], rest[9:]
	return stored{
		memory: 1, work: phpassStep << log, outdated: true,
		matches: func(password []byte) bool {
			sum := md5.Sum(append([]byte(salt), password...))
			input := append(sum[:], password...)
			for range 1 << log {
				sum = md5.Sum(input)
				copy(input, sum[:])
			}
			return subtle.ConstantTimeCompare(phpassEncode(sum[:]), []byte(tag)) == 1
		},
	}, true
}

// phpassEncode encodes 16 bytes in 22 digits.
func phpassEncode(sum []byte) []byte {
	var digits []byte
	bits, n := 0, 0
	for _, b := range sum {
		bits |= int(b) << n
		for n += 8; n >= 6; n -= 6 {
			digits = append(digits, phpassAlphabet[bits&63])
			bits >>= 6
		}
	}
	return append(digits, phpassAlphabet[bits&63])
}

package main

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/oauth2pw/passwordflow/hasher"
)

// schemes are the formats of old tables that the library does not read by itself. The Hasher of
// the app needs the same list: copy the lines that the table needs.
func schemes() []hasher.Scheme {
	return []hasher.Scheme{
		{Prefix: "{bcrypt}", As: "$2"}, // Spring Security
		{Prefix: "{BLF-CRYPT}", As: "$2"},
		{Prefix: "{ARGON2ID}", As: "$argon2id$"},
		{Prefix: "{ARGON2I}", As: "$argon2i$"},
		{Prefix: "{SHA256-CRYPT}", As: "$5$"},
		{Prefix: "{SHA512-CRYPT}", As: "$6$"},
		{Prefix: "{CRYPT}", As: "$"}, // OpenLDAP
		{Prefix: "$5$", Parse: parseSHACrypt("$5$")},
		{Prefix: "$6$", Parse: parseSHACrypt("$6$")},
		{Prefix: "{SSHA}", Parse: parseSSHA},
	}
}

// parseSHACrypt reads the hashes of crypt(3): [rounds=N$]salt$hash. The library computes them;
// the rounds are read here, before.
func parseSHACrypt(prefix string) func(rest string) (hasher.Stored, bool) {
	return func(rest string) (hasher.Stored, bool) {
		rounds := 5000
		if digits, found := strings.CutPrefix(rest, "rounds="); found {
			digits, _, _ = strings.Cut(digits, "$")
			n, err := strconv.Atoi(digits)
			if err != nil || n < 1000 || strconv.Itoa(n) != digits {
				return hasher.Stored{}, false
			}
			rounds = n
		}
		digest, err := shacrypt.Decode(prefix + rest)
		if err != nil {
			return hasher.Stored{}, false
		}
		return hasher.Stored{
			Time:    time.Duration(rounds) * 10 * time.Microsecond, // of the longest password
			Matches: func(password []byte) bool { return digest.MatchBytes(password) },
		}, true
	}
}

// parseSSHA reads the base64 of a SHA-1 and of the salt behind it.
func parseSSHA(rest string) (hasher.Stored, bool) {
	b, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || len(b) <= sha1.Size || len(b) > sha1.Size+64 {
		return hasher.Stored{}, false
	}
	sum, salt := b[:sha1.Size], b[sha1.Size:]
	return hasher.Stored{Matches: func(password []byte) bool {
		got := sha1.Sum(append(append([]byte(nil), password...), salt...))
		return subtle.ConstantTimeCompare(got[:], sum) == 1
	}}, true
}

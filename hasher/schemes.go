package hasher

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"
)

// Scheme is a format of hashes that an app registers: the Hasher verifies such a hash until
// a login has replaced it. The functions of a Scheme are called concurrently.
type Scheme struct {
	// Prefix is the beginning of the hashes of this format, and of no other format.
	Prefix string
	// Parse reads the rest of a hash after the prefix. Parse must compute no hash, and must
	// take no memory that the text asks for. False: the hash is unreadable.
	Parse func(rest string) (Stored, bool)
}

// Stored is a hash that a [Scheme] has read.
type Stored struct {
	Memory      uint32        // memory of Matches, in KiB, for Config.MaxMemory and the slots
	Time        time.Duration // about the time of Matches on one core; over eight times the time of a new hash is refused
	MaxPassword int           // length of the longest password that the format reads in full, in bytes; 0: MaxPassword
	// Matches computes the hash of the password and compares in constant time.
	Matches func(password []byte) bool
}

func (s Scheme) scheme() scheme {
	return scheme{s.Prefix, func(_ *Hasher, rest string) (stored, bool) {
		read, ok := s.Parse(rest)
		if !ok || read.Matches == nil || read.Time < 0 || read.MaxPassword < 0 {
			return stored{}, false
		}
		return stored{
			memory: max(read.Memory, 1), work: uint64(read.Time / time.Microsecond), // one pass over one KiB takes about 1 µs
			maxPassword: min(read.MaxPassword, MaxPassword), outdated: true, matches: read.Matches,
		}, true
	}}
}

// stored is an encoded hash that was read. Nothing is computed yet.
type stored struct {
	memory      uint32 // memory of a verification, in KiB
	work        uint64 // about the time of a verification, in KiB × passes of argon2
	maxPassword int    // bytes; 0: MaxPassword
	outdated    bool   // a new hash would be stronger
	foreign     bool   // another format than that of new hashes
	// matches computes the hash of the password and compares.
	matches func(password []byte) bool
}

// scheme reads the hashes with a prefix. If parse refuses such a hash, the hash is
// unreadable: no other scheme has this prefix.
type scheme struct {
	prefix string
	parse  func(h *Hasher, rest string) (stored, bool)
}

// schemes are the built-in formats. The first two are the formats of new hashes; all other
// hashes are outdated.
var schemes = []scheme{
	{phcPrefix, (*Hasher).parseArgon2id},
	{pepperPrefix, (*Hasher).parsePeppered},
	{"argon2$" + phcPrefix[1:], outdated((*Hasher).parseArgon2id)}, // Django's
	{"$argon2i$v=19$", parseArgon2i},
	{"argon2$argon2i$v=19$", parseArgon2i},
	{"$2a$", parseBcrypt("$2a$")},
	{"$2b$", parseBcrypt("$2b$")},
	{"$2y$", parseBcrypt("$2y$")}, // htpasswd's and PHP's
	{"bcrypt$$2b$", parseBcrypt("$2b$")},
	{"bcrypt_sha256$$2b$", parseBcryptSHA256},
	{"$scrypt$", parseScrypt},
	{"scrypt$", parseDjangoScrypt},
	{"$pbkdf2-sha256$", parsePBKDF2(sha256.New)},
	{"$pbkdf2-sha512$", parsePBKDF2(sha512.New)},
	{"pbkdf2_sha256$", parseDjangoPBKDF2(sha256.New)},
	{"pbkdf2_sha512$", parseDjangoPBKDF2(sha512.New)},
}

// outdated reads hashes that are outdated at any cost, because their format is another.
func outdated(parse func(*Hasher, string) (stored, bool)) func(*Hasher, string) (stored, bool) {
	return func(h *Hasher, rest string) (stored, bool) {
		s, ok := parse(h, rest)
		s.outdated = true
		return s, ok
	}
}

// maxEncoded is the length of the longest encoded hash that is read, in bytes. The programs
// of the built-in formats make shorter hashes.
const maxEncoded = 512

// read reads an encoded hash; false for a hash that is unreadable or over the caps. No
// memory is taken that the hash asks for.
func (h *Hasher) read(encoded string) (stored, bool) {
	if len(encoded) > maxEncoded {
		return stored{}, false
	}
	for _, s := range h.schemes {
		if rest, ok := strings.CutPrefix(encoded, s.prefix); ok {
			read, ok := s.parse(h, rest)
			read.foreign = s.prefix != phcPrefix && s.prefix != pepperPrefix
			return read, ok && read.memory <= h.maxMemory && read.work <= h.maxWork
		}
	}
	return stored{}, false
}

// parseArgon2id reads a hash without a pepper.
func (h *Hasher) parseArgon2id(rest string) (stored, bool) {
	s, ok := h.parsePHC(rest)
	s.outdated = s.outdated || h.peppers.first != ""
	return s, ok
}

func (h *Hasher) parsePHC(rest string) (stored, bool) {
	e, err := parse(rest)
	if err != nil {
		return stored{}, false
	}
	s := argon2Cost(e)
	s.outdated = e.weakerThan(h.params)
	s.matches = func(password []byte) bool {
		return e.matches(h.key(password, e.salt, e.params, uint32(len(e.tag))))
	}
	return s, true
}

func parseArgon2i(_ *Hasher, rest string) (stored, bool) {
	e, err := parse(rest)
	if err != nil {
		return stored{}, false
	}
	s := argon2Cost(e)
	s.outdated = true
	s.matches = func(password []byte) bool {
		return e.matches(argon2.Key(password, e.salt, e.params.Time, e.params.Memory, e.params.Threads, uint32(len(e.tag))))
	}
	return s, true
}

func argon2Cost(e encoded) stored { return stored{memory: e.params.Memory, work: e.params.work()} }

// The time of one step of another scheme, in KiB × passes of argon2. Rough values suffice,
// because they are only used for a bound.
const (
	bcryptStep = 55 // one of 2^cost
	scryptStep = 3  // one KiB
	pbkdf2Step = 1  // two iterations
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

func readBcrypt(hash string) (s stored, encoded []byte, ok bool) {
	encoded = []byte(hash)
	cost, err := bcrypt.Cost(encoded)
	if err != nil || len(encoded) != 60 || strings.Trim(hash[7:], bcryptAlphabet) != "" {
		return stored{}, nil, false
	}
	return stored{memory: 5, work: bcryptStep << cost, outdated: true}, encoded, true
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

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

func scryptOf(n uint64, r, p uint32, salt, tag []byte) (stored, bool) {
	if bits.OnesCount64(n) != 1 || n < 2 || r == 0 || p == 0 || uint64(r)*uint64(p) >= 1<<30 {
		return stored{}, false
	}
	memory := n * uint64(r) / 8 // KiB: N blocks of 128 r bytes
	if memory += uint64(r) * uint64(p) / 8; memory >= 1<<32 {
		return stored{}, false
	}
	return stored{
		memory: uint32(memory), work: scryptStep * max(memory, 1) * uint64(p), outdated: true,
		matches: func(password []byte) bool {
			got, err := scrypt.Key(password, salt, int(n), int(r), int(p), len(tag))
			return err == nil && subtle.ConstantTimeCompare(got, tag) == 1
		},
	}, true
}

// parsePBKDF2 reads passlib's rounds$salt$checksum, whose base64 has "." for "+".
func parsePBKDF2(of func() hash.Hash) func(*Hasher, string) (stored, bool) {
	return func(_ *Hasher, rest string) (stored, bool) {
		fields := strings.Split(rest, "$")
		if len(fields) != 3 {
			return stored{}, false
		}
		salt, ok1 := decode(passlibBase64, fields[1], 0, 1024)
		tag, ok2 := decode(passlibBase64, fields[2], 16, 64)
		if !ok1 || !ok2 {
			return stored{}, false
		}
		return pbkdf2Of(of, fields[0], salt, tag)
	}
}

var passlibBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789./").WithPadding(base64.NoPadding).Strict()

// parseDjangoPBKDF2 reads iterations$salt$hash.
func parseDjangoPBKDF2(of func() hash.Hash) func(*Hasher, string) (stored, bool) {
	return func(_ *Hasher, rest string) (stored, bool) {
		fields := strings.Split(rest, "$")
		if len(fields) != 3 {
			return stored{}, false
		}
		tag, ok := decode(base64.StdEncoding.Strict(), fields[2], 16, 64)
		if !ok {
			return stored{}, false
		}
		return pbkdf2Of(of, fields[0], []byte(fields[1]), tag)
	}
}

func pbkdf2Of(of func() hash.Hash, rounds string, salt, tag []byte) (stored, bool) {
	n, ok := number(rounds, 1<<31-1)
	if !ok || n == 0 {
		return stored{}, false
	}
	blocks := (len(tag) + of().Size() - 1) / of().Size()
	return stored{
		memory: 1, work: pbkdf2Step * uint64(n) / 2 * uint64(blocks), outdated: true,
		matches: func(password []byte) bool {
			got, err := pbkdf2.Key(of, string(password), salt, int(n), len(tag))
			return err == nil && subtle.ConstantTimeCompare(got, tag) == 1
		},
	}, true
}

// number reads a decimal of at most limit, without sign and leading zeros.
func number(digits string, limit uint32) (uint32, bool) {
	v, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || uint32(v) > limit || strconv.FormatUint(v, 10) != digits {
		return 0, false
	}
	return uint32(v), true
}

// decode reads base64 of least to most bytes. Line ends are refused here, because
// encoding/base64 would skip them.
func decode(encoding *base64.Encoding, s string, least, most int) ([]byte, bool) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	b, err := encoding.DecodeString(s)
	return b, err == nil && least <= len(b) && len(b) <= most
}

package hasher

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"
)

// Scheme is a format of hashes that an app registers: the Hasher verifies such a hash until
// a login has replaced it. The functions of a Scheme are called concurrently. Either Parse or
// As is set.
type Scheme struct {
	// Prefix is the beginning of the hashes of this format, and of no other format.
	Prefix string
	// As makes the Scheme an alias: the rest of a hash after the Prefix is a hash of another
	// format, and begins with As. {Prefix: "{bcrypt}", As: "$2"} reads {bcrypt}$2a$…, and
	// {Prefix: "{ARGON2ID}", As: "$argon2id$"} reads {ARGON2ID}$argon2id$….
	As string
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
	if s.As != "" {
		return scheme{prefix: s.Prefix, alias: true, parse: func(h *Hasher, rest string) (stored, bool) {
			if !strings.HasPrefix(rest, s.As) {
				return stored{}, false
			}
			read, ok := h.read(rest)
			read.outdated = true
			return read, ok
		}}
	}
	return scheme{prefix: s.Prefix, parse: func(_ *Hasher, rest string) (stored, bool) {
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
	alias  bool // parse reads the rest as a hash of another scheme
	parse  func(h *Hasher, rest string) (stored, bool)
}

// schemes are the built-in formats. The first two are the formats of new hashes; all other
// hashes are outdated.
var schemes = []scheme{
	{prefix: phcPrefix, parse: (*Hasher).parseArgon2id},
	{prefix: pepperPrefix, parse: (*Hasher).parsePeppered},
	{prefix: "argon2$" + phcPrefix[1:], parse: outdated((*Hasher).parseArgon2id)}, // Django's
	{prefix: "$argon2i$v=19$", parse: parseArgon2i},
	{prefix: "argon2$argon2i$v=19$", parse: parseArgon2i},
	{prefix: "$2a$", parse: parseBcrypt("$2a$")},
	{prefix: "$2b$", parse: parseBcrypt("$2b$")},
	{prefix: "$2y$", parse: parseBcrypt("$2y$")}, // htpasswd's and PHP's
	{prefix: "bcrypt$$2b$", parse: parseBcrypt("$2b$")},
	{prefix: "bcrypt_sha256$$2b$", parse: parseBcryptSHA256},
	{prefix: "$bcrypt-sha256$", parse: parsePasslibBcryptSHA256},
	{prefix: "$wp$2y$", parse: parseWordPressBcrypt},
	{prefix: "$scrypt$", parse: parseScrypt},
	{prefix: "scrypt$", parse: parseDjangoScrypt},
	{prefix: "scrypt:", parse: parseWerkzeugScrypt},
	{prefix: "$fbscrypt$v=1,", parse: parseFirebase},
	{prefix: "$pbkdf2-sha256$", parse: parsePBKDF2(sha256.New)},
	{prefix: "$pbkdf2-sha512$", parse: parsePBKDF2(sha512.New)},
	{prefix: "pbkdf2_sha256$", parse: parseDjangoPBKDF2(sha256.New)},
	{prefix: "pbkdf2_sha512$", parse: parseDjangoPBKDF2(sha512.New)},
	{prefix: "pbkdf2:sha1:", parse: parseWerkzeugPBKDF2(sha1.New)},
	{prefix: "pbkdf2:sha256:", parse: parseWerkzeugPBKDF2(sha256.New)},
	{prefix: "pbkdf2:sha512:", parse: parseWerkzeugPBKDF2(sha512.New)},
	{prefix: aspNetPrefix, parse: parseASPNet},
	{prefix: "$P$", parse: parsePHPass}, // WordPress
	{prefix: "$H$", parse: parsePHPass}, // phpBB
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
			if !s.alias {
				read.foreign = s.prefix != phcPrefix && s.prefix != pepperPrefix
			}
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
	phpassStep = 2  // one iteration, of the longest password
)

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

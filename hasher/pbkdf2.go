package hasher

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"strconv"
	"strings"
)

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

// parseWerkzeugPBKDF2 reads iterations$salt$hash, with the hash in hex.
func parseWerkzeugPBKDF2(of func() hash.Hash) func(*Hasher, string) (stored, bool) {
	return func(_ *Hasher, rest string) (stored, bool) {
		rounds, rest, _ := strings.Cut(rest, "$")
		salt, tag, ok := werkzeugHash(rest)
		if !ok {
			return stored{}, false
		}
		return pbkdf2Of(of, rounds, salt, tag)
	}
}

// aspNetPrefix is the base64 of the bytes 1, 0, 0, 0 and half of the fifth byte, with which
// every hash of version 3 of ASP.NET Core Identity begins.
const aspNetPrefix = "AQAAAA"

// parseASPNet reads the base64 of 1, the hash function, the iterations and the length of the
// salt, the latter three in four bytes, and of the salt and the hash.
func parseASPNet(_ *Hasher, rest string) (stored, bool) {
	const header = 13
	b, ok := decode(base64.StdEncoding.Strict(), aspNetPrefix+rest, header+8+16, header+64+64)
	if !ok {
		return stored{}, false
	}
	functions := []func() hash.Hash{sha1.New, sha256.New, sha512.New}
	function, rounds, length := binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:]), binary.BigEndian.Uint32(b[9:])
	if function >= uint32(len(functions)) || length < 8 || length > 64 || len(b) < header+int(length)+16 {
		return stored{}, false
	}
	salt, tag := b[header:header+length], b[header+length:]
	if len(tag) > 64 {
		return stored{}, false
	}
	return pbkdf2Of(functions[function], strconv.FormatUint(uint64(rounds), 10), salt, tag)
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

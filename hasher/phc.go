package hasher

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// encoded is a hash in PHC form, taken apart.
type encoded struct {
	params    Params
	salt, tag []byte
}

var errUnreadable = errors.New("hasher: not an argon2id hash in PHC form")

const phcPrefix = "$argon2id$v=19$"

var phcBase64 = base64.RawStdEncoding.Strict()

// parse reads what stands behind the prefix: m=…,t=…,p=…$salt$tag.
func parse(rest string) (encoded, error) {
	costs, rest, _ := strings.Cut(rest, "$")
	salt, tag, _ := strings.Cut(rest, "$")
	var e encoded
	var err error
	if e.params, err = parseParams(costs); err != nil {
		return encoded{}, err
	}
	var ok1, ok2 bool
	e.salt, ok1 = decode(phcBase64, salt, 8, 64)
	e.tag, ok2 = decode(phcBase64, tag, 16, 64)
	if !ok1 || !ok2 {
		return encoded{}, errUnreadable
	}
	return e, nil
}

func parseParams(s string) (Params, error) {
	costs := strings.Split(s, ",")
	if len(costs) != 3 {
		return Params{}, errUnreadable
	}
	var values [3]uint64
	for i, limit := range []struct {
		name string
		bits int
	}{{"m=", 32}, {"t=", 32}, {"p=", 8}} {
		digits, ok := strings.CutPrefix(costs[i], limit.name)
		v, err := strconv.ParseUint(digits, 10, limit.bits)
		if !ok || err != nil || digits != strconv.FormatUint(v, 10) {
			return Params{}, errUnreadable
		}
		values[i] = v
	}
	p := Params{Memory: uint32(values[0]), Time: uint32(values[1]), Threads: uint8(values[2])}
	if p.valid() != nil {
		return Params{}, errUnreadable
	}
	return p, nil
}

func (e encoded) String() string {
	return fmt.Sprintf("%sm=%d,t=%d,p=%d$%s$%s", phcPrefix, e.params.Memory, e.params.Time, e.params.Threads,
		phcBase64.EncodeToString(e.salt), phcBase64.EncodeToString(e.tag))
}

func (e encoded) matches(tag []byte) bool { return subtle.ConstantTimeCompare(e.tag, tag) == 1 }

// weakerThan reports whether a new hash would be stronger in anything.
func (e encoded) weakerThan(p Params) bool {
	return e.params.Memory < p.Memory || e.params.Time < p.Time || len(e.salt) < saltLength || len(e.tag) < tagLength
}

func argon2id(password, salt []byte, p Params, length uint32) []byte {
	return argon2.IDKey(password, salt, p.Time, p.Memory, p.Threads, length)
}

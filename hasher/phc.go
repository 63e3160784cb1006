package hasher

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/crypto/argon2"
)

// encoded has the parts of a hash in PHC form.
type encoded struct {
	params    Params
	salt, tag []byte
}

var errUnreadable = errors.New("hasher: not an argon2id hash in PHC form")

const phcPrefix = "$argon2id$v=19$"

var phcBase64 = base64.RawStdEncoding.Strict()

// parse reads the rest after the prefix: m=…,t=…,p=…$salt$tag, with the parameters in any
// order.
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
	v, ok := parseCosts(s, "m", "t", "p")
	if !ok || v[2] > math.MaxUint8 {
		return Params{}, errUnreadable
	}
	p := Params{Memory: v[0], Time: v[1], Threads: uint8(v[2])}
	if p.valid() != nil {
		return Params{}, errUnreadable
	}
	return p, nil
}

// parseCosts reads m=…,t=…,p=… in any order, each of the three exactly once.
func parseCosts(s string, names ...string) (values [3]uint32, ok bool) {
	costs := strings.Split(s, ",")
	if len(costs) != len(values) {
		return values, false
	}
	var seen [3]bool
	for _, cost := range costs {
		name, digits, _ := strings.Cut(cost, "=")
		i := slices.Index(names, name)
		v, ok := number(digits, math.MaxUint32)
		if i < 0 || seen[i] || !ok {
			return values, false
		}
		values[i], seen[i] = v, true
	}
	return values, true
}

func (e encoded) String() string {
	return fmt.Sprintf("%sm=%d,t=%d,p=%d$%s$%s", phcPrefix, e.params.Memory, e.params.Time, e.params.Threads,
		phcBase64.EncodeToString(e.salt), phcBase64.EncodeToString(e.tag))
}

func (e encoded) matches(tag []byte) bool { return subtle.ConstantTimeCompare(e.tag, tag) == 1 }

// weakerThan reports whether a new hash would be stronger in any parameter.
func (e encoded) weakerThan(p Params) bool {
	return e.params.Memory < p.Memory || e.params.Time < p.Time || len(e.salt) < saltLength || len(e.tag) < tagLength
}

func argon2id(password, salt []byte, p Params, length uint32) []byte {
	return argon2.IDKey(password, salt, p.Time, p.Memory, p.Threads, length)
}

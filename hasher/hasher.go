// Package hasher hashes and verifies passwords, in a bounded amount of memory: a burst of
// logins does not take the process down.
//
// # How to wire it
//
//	auth, err := oauth2pw.New(oauth2pw.Config{Hasher: hasher.Default(), …})
//
// The same Hasher makes the hashes of new passwords: h.Hash(ctx, password). Use one Hasher
// for the whole process, because each Hasher has bounds of its own.
//
// # Formats
//
// New hashes are argon2id (RFC 9106) in PHC form. A Hasher also verifies the hashes below.
// All of them are outdated: a login replaces them.
//
//   - argon2i in PHC form
//   - bcrypt: $2a$, $2b$, $2y$. A password over 72 bytes never matches, because bcrypt
//     would ignore the rest.
//   - scrypt ($scrypt$ln=…), PBKDF2 ($pbkdf2-sha256$, $pbkdf2-sha512$) and $bcrypt-sha256$ of
//     passlib
//   - pbkdf2_sha256, pbkdf2_sha512, argon2, scrypt, bcrypt and bcrypt_sha256 of Django
//   - pbkdf2:sha256:, pbkdf2:sha512:, pbkdf2:sha1: and scrypt: of Werkzeug (Flask)
//   - version 3 of ASP.NET Core Identity (base64 that begins with AQAAAA)
//   - $wp$2y$ and $P$ of WordPress, $H$ of phpBB
//   - $fbscrypt$ of Supabase; [FirebaseScrypt] reads the export of Firebase
//
// An app registers further formats, and prefixes before these formats, as a [Scheme]. A [Policy] accepts or refuses new
// passwords. [Breached] looks for a new password in known data breaches. [Calibrate] finds
// the cost that suits a machine. A [Pepper] is a secret that the database does not hold.
//
// # Security
//
// A stored hash names its own cost. The memory is capped before any is taken, and a hash
// that takes more than about eight times the time of a new hash is refused too. An empty or
// unreadable hash never matches, after the work of a mismatch at the configured cost.
//
// A stored hash of another cost or format takes its own time. Until a login has replaced
// the hash, this time reveals that the user exists. Config.EvenOut prevents this for one
// older format.
//
// # Concurrency
//
// A Hasher is safe for concurrent use. At most Config.Slots passwords are hashed at once
// (fewer, if a stored hash takes more memory than a new one). Config.Queue callers wait, in
// the order of their calls. Any further caller gets an error that wraps oauth2pw.ErrBusy. A
// caller whose context ends leaves the queue. A hash that has begun keeps its slot until
// the end.
package hasher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var (
	_ oauth2pw.PasswordHasher = (*Hasher)(nil)
	_ oauth2pw.Checker        = (*Hasher)(nil)
)

// MaxPassword is the length of the longest password that a Hasher accepts, in bytes. The
// shortest password has one byte.
const MaxPassword = 1024

// ErrPassword is wrapped by the error of Hash for an empty password, or one over
// MaxPassword.
var ErrPassword error = &oauth2pw.Error{Code: "invalid_request", Status: http.StatusUnprocessableEntity, Description: "The password must have 1 to 1024 bytes."}

// Params is a cost of argon2id. OWASP's minimum is m=19456, t=2, p=1.
type Params struct {
	Memory  uint32 // KiB, at least 8 a lane
	Time    uint32 // passes over the memory
	Threads uint8  // lanes
}

// defaultParams is the second choice of RFC 9106, section 4.
var defaultParams = Params{Memory: 64 << 10, Time: 3, Threads: 4}

// Config has the settings of a Hasher. The zero value is [Default].
type Config struct {
	// Params is the cost of new hashes. Zero: 64 MiB, 3 passes, 4 lanes. New refuses a cost
	// under each of OWASP's minima (m=47104,t=1; m=19456,t=2; m=12288,t=3; m=9216,t=4;
	// m=7168,t=5), and a cost over the memory of the machine.
	Params Params
	// InsecureParams lets Params be as weak as argon2id allows: for tests.
	InsecureParams bool
	// MaxMemory is the most memory that a stored hash may ask for, in KiB. A hash that
	// takes more than Params.Memory takes several slots, at most all of them. Zero: twice
	// the memory of Params or of the default cost, the greater of the two.
	MaxMemory uint32
	// Slots is the number of passwords that are hashed at once. Zero: a quarter of
	// GOMAXPROCS, at least 2, but no more than a quarter of GOMEMLIMIT has room for (and
	// at least 1).
	Slots int
	// Queue is the number of callers that may wait for a slot. Zero: 16 for each slot;
	// negative: no caller waits. One client address, for IPv6 a /64, may hold a quarter of
	// the queue; a /48 may hold half of it; each at least one place. Loopback may hold all
	// of it.
	Queue int
	// EvenOut is any hash of the older format that most users still have. Every
	// verification then computes two hashes, one at the cost of new hashes and one at the
	// cost of EvenOut: the time no longer reveals whether a user exists, and is the sum of
	// both. Empty: a stored hash of another format takes its own time.
	EvenOut oauth2pw.Secret
	// Schemes are further formats of stored hashes. Nil: only the built-in formats.
	Schemes []Scheme
	// Peppers are secrets for hashes: the first makes new hashes, all verify. A hash with
	// another pepper than the first, or without a pepper, is outdated. Nil: hashes have no
	// pepper.
	Peppers []Pepper
}

// Hasher hashes passwords. [Default] and [New] make a Hasher; oauth2pw.New refuses a zero
// Hasher.
type Hasher struct {
	params    Params
	maxMemory uint32
	maxWork   uint64 // KiB × passes
	gate      *gate
	peppers   peppers
	schemes   []scheme
	evenOut   *stored // nil: without Config.EvenOut
	key       func(password, salt []byte, p Params, length uint32) []byte
}

// Default returns a Hasher with the default of every setting.
func Default() *Hasher {
	h, err := New(Config{})
	if err != nil {
		panic(err) // the defaults are valid
	}
	return h
}

// New returns a Hasher. The error names the invalid setting.
func New(c Config) (*Hasher, error) {
	if c.Params == (Params{}) {
		c.Params = defaultParams
	}
	if err := c.Params.valid(); err != nil {
		return nil, fmt.Errorf("hasher: Config.Params: %w", err)
	}
	if !c.InsecureParams && c.Params.weak() {
		return nil, fmt.Errorf("hasher: Config.Params: m=%d,t=%d is under OWASP's minimum for argon2id, m=19456,t=2 (KiB, passes); Config.InsecureParams is for tests", c.Params.Memory, c.Params.Time)
	}
	if most := machineMemory(); most > 0 && (uint64(c.Params.Memory) > most || uint64(c.MaxMemory) > most) {
		return nil, fmt.Errorf("hasher: Config.Params or Config.MaxMemory asks for more than the %d KiB that this machine has", most)
	}
	if c.Slots < 0 {
		return nil, errors.New("hasher: Config.Slots is negative")
	}
	if c.Slots == 0 {
		c.Slots = defaultSlots(c.Params.Memory)
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = uint32(min(2*uint64(max(c.Params.Memory, defaultParams.Memory)), math.MaxUint32))
	}
	if c.MaxMemory < c.Params.Memory {
		return nil, errors.New("hasher: Config.MaxMemory is less than what Config.Params takes")
	}
	if c.Queue == 0 {
		c.Queue = 16 * c.Slots
	}
	peppers, err := newPeppers(c.Peppers)
	if err != nil {
		return nil, err
	}
	all := slices.Clone(schemes)
	for i, s := range c.Schemes {
		if s.Prefix == "" || (s.Parse == nil) == (s.As == "") {
			return nil, fmt.Errorf("hasher: Config.Schemes[%d] needs a Prefix, and either Parse or As", i)
		}
		if slices.ContainsFunc(all, func(other scheme) bool {
			return strings.HasPrefix(other.prefix, s.Prefix) || strings.HasPrefix(s.Prefix, other.prefix)
		}) {
			return nil, fmt.Errorf("hasher: Config.Schemes[%d].Prefix is that of another format", i)
		}
		all = append(all, s.scheme())
	}
	for i, s := range c.Schemes {
		if s.As != "" && !slices.ContainsFunc(all, func(other scheme) bool {
			return !other.alias && (strings.HasPrefix(other.prefix, s.As) || strings.HasPrefix(s.As, other.prefix))
		}) {
			return nil, fmt.Errorf("hasher: Config.Schemes[%d].As is the beginning of no format", i)
		}
	}
	h := &Hasher{
		schemes:   all,
		peppers:   peppers,
		params:    c.Params,
		maxMemory: c.MaxMemory,
		maxWork:   8 * max(c.Params.work(), defaultParams.work()),
		gate:      newGate(c.Slots, max(c.Queue, 0)),
		key:       argon2id,
	}
	if c.EvenOut != "" {
		older, ok := h.read(string(c.EvenOut))
		if !ok {
			return nil, errors.New("hasher: Config.EvenOut is no hash that can be read")
		}
		h.evenOut = &older
	}
	return h, nil
}

func defaultSlots(memory uint32) int {
	slots := max(runtime.GOMAXPROCS(0)/4, 2)
	quarter := debug.SetMemoryLimit(-1) / 4
	return max(min(slots, int(quarter/(int64(memory)<<10))), 1)
}

func (p Params) valid() error {
	if p.Time < 1 || p.Threads < 1 || p.Memory < 8*uint32(p.Threads) {
		return errors.New("argon2id needs a pass, a lane, and 8 KiB for each lane (RFC 9106, section 3.1)")
	}
	return nil
}

// weak reports whether a cost is under OWASP's minimum.
func (p Params) weak() bool {
	return !slices.ContainsFunc(owaspFloor, func(f floor) bool { return p.Memory >= f.memory && p.Time >= f.time })
}

// machineMemory returns the memory of this process in KiB: the least of GOMEMLIMIT, the
// machine and its control group. 0: none of the three is known.
func machineMemory() uint64 {
	least := uint64(debug.SetMemoryLimit(-1)) >> 10
	for file, scan := range map[string]func(string) (uint64, bool){
		"/proc/meminfo": func(text string) (kib uint64, ok bool) {
			_, rest, found := strings.Cut(text, "MemTotal:")
			_, err := fmt.Sscan(rest, &kib)
			return kib, found && err == nil
		},
		"/sys/fs/cgroup/memory.max": func(text string) (n uint64, ok bool) {
			_, err := fmt.Sscan(text, &n)
			return n >> 10, err == nil // "max" is not a number
		},
	} {
		text, err := os.ReadFile(file)
		if n, ok := scan(string(text)); err == nil && ok {
			least = min(least, n)
		}
	}
	if least >= math.MaxInt64>>10 {
		return 0
	}
	return least
}

func (p Params) work() uint64 { return uint64(p.Memory) * uint64(p.Time) }

const saltLength, tagLength = 16, 32 // bytes; RFC 9106, section 4

// Hash returns the argon2id hash of a password in PHC form,
// $argon2id$v=19$m=…,t=…,p=…$salt$tag, with a fresh salt. The error wraps [ErrPassword],
// oauth2pw.ErrBusy, or the error of a context that ended before the hash began.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if password == "" || len(password) > MaxPassword {
		return "", fmt.Errorf("hasher: %w", ErrPassword)
	}
	e := encoded{params: h.params, salt: make([]byte, saltLength)}
	_, _ = rand.Read(e.salt) // never fails (crypto/rand)
	input, prefix := []byte(password), ""
	if h.peppers.first != "" {
		input, _ = h.peppers.apply(h.peppers.first, input)
		prefix = pepperPrefix + h.peppers.first
	}
	err := h.gate.do(ctx, 1, func() { e.tag = h.key(input, e.salt, e.params, tagLength) })
	if err != nil {
		return "", err
	}
	return prefix + e.String(), nil
}

// Verify reports whether a password matches a hash (ok), and whether the hash is outdated:
// weaker than a new hash, or of another format. The cases without a match take the same
// work as a wrong password:
//
//   - an empty hash: not outdated
//   - a hash that is unreadable or over the caps: outdated
//   - a password that is empty or over MaxPassword
//   - a password that is too long only for the format of the hash: the error wraps
//     oauth2pw.ErrPasswordTooLong
//
// Any other error wraps oauth2pw.ErrBusy, or the error of a context that ended before the
// hash began.
func (h *Hasher) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	s, readable := h.read(hash)
	longest := withDefault(s.maxPassword, MaxPassword)
	usable := readable && password != "" && len(password) <= longest
	tooLong := readable && longest < len(password) && len(password) <= MaxPassword
	isOutdated := s.outdated
	if !usable {
		s = h.dummy()
	}
	password = password[:min(len(password), MaxPassword)]
	memory, even := s.memory, func([]byte) bool { return false }
	if h.evenOut != nil {
		other := *h.evenOut
		if s.foreign {
			other = h.dummy()
		}
		memory, even = max(memory, other.memory), other.matches
	}
	var match bool
	err = h.gate.do(ctx, h.slotsFor(memory), func() {
		match = s.matches([]byte(password))
		even([]byte(password))
	})
	if err != nil {
		return false, false, err
	}
	if tooLong {
		return false, false, fmt.Errorf("hasher: it looks at %d bytes: %w", longest, oauth2pw.ErrPasswordTooLong)
	}
	ok = match && usable
	return ok, ok && isOutdated || hash != "" && !readable, nil
}

// Check reports that a Hasher was not made by New or Default; see oauth2pw.Checker.
func (h *Hasher) Check() error {
	if h.gate == nil {
		return errors.New("hasher: a zero Hasher: it is made by New or Default")
	}
	return nil
}

// dummy returns a hash at the cost of a new hash.
func (h *Hasher) dummy() stored {
	e := encoded{params: h.params, salt: make([]byte, saltLength), tag: make([]byte, tagLength)}
	s := argon2Cost(e)
	s.matches = func(password []byte) bool { return e.matches(h.key(password, e.salt, e.params, tagLength)) }
	return s
}

// slotsFor returns the number of slots of a computation: one for each Params.Memory, and at
// most all slots.
func (h *Hasher) slotsFor(memory uint32) int {
	n := (uint64(memory) + uint64(h.params.Memory) - 1) / uint64(h.params.Memory)
	return int(min(n, uint64(h.gate.size)))
}

func withDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Stats has the load of a Hasher, for gauges.
type Stats struct {
	Slots, Busy    int    // all slots, and the taken slots
	Queue, Waiting int    // the callers that may wait, and the callers that wait
	Refused        uint64 // callers refused since the start: the queue, or the share of a client in it, was full
}

// Stats returns the load of the Hasher at the moment.
func (h *Hasher) Stats() Stats { return h.gate.stats() }

// Reads reports whether the Hasher can verify an encoded hash, and whether the cost is
// under the caps. Call Reads in an import: a user with an unreadable hash could not log in.
func (h *Hasher) Reads(hash string) bool {
	_, ok := h.read(hash)
	return ok
}

// Package hasher hashes and verifies passwords, and keeps a burst of logins from
// taking the process down.
//
// # How to wire it
//
//	auth, err := oauth2pw.New(oauth2pw.Config{Hasher: hasher.Default(), …})
//
// The same Hasher makes the hashes of new passwords: h.Hash(ctx, password). Use
// one Hasher for the whole process, since its bounds are its own.
//
// # Formats
//
// New hashes are argon2id (RFC 9106) in PHC form. These are verified too, and are
// outdated, so that a login replaces them: argon2i in PHC form; bcrypt ($2a$,
// $2b$, $2y$); scrypt ($scrypt$ln=…) and PBKDF2 ($pbkdf2-sha256$,
// $pbkdf2-sha512$) as passlib writes them; and Django's pbkdf2_sha256,
// pbkdf2_sha512, argon2, scrypt, bcrypt and bcrypt_sha256. A password over 72
// bytes never matches a bcrypt hash, which would look at the first 72 alone.
//
// An app registers further formats as a [Scheme]. [Policy] says which new passwords
// are good, [Calibrate] finds the cost that suits a machine, and a [Pepper] is a
// secret that the database does not hold.
//
// # Security
//
// A stored hash names its own cost; it is capped before memory is taken, and what
// takes more than about eight times the time of a new hash is refused too. The
// empty hash, and one that cannot be read, cost what a mismatch at the configured
// cost costs, and never match. A stored hash of another cost or format takes its
// own time: until a login has replaced it, that time tells that there is such a
// user. Config.EvenOut is against that.
//
// # Concurrency
//
// A Hasher is safe for concurrent use. At most Config.Slots passwords are hashed
// at once (fewer, if a stored hash takes more memory than a new one), Config.Queue
// callers wait in the order they came, and any more get an error that wraps
// oauth2pw.ErrBusy. A caller whose context ends leaves the queue; work that has
// begun keeps its slot until it is done.
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

// MaxPassword is the length of the longest password that is hashed, in bytes. The
// shortest is one byte.
const MaxPassword = 1024

// ErrPassword is wrapped by the error of Hash for a password that is empty or too
// long.
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
	// Params is the cost of new hashes. Zero: 64 MiB, 3 passes, 4 lanes. A cost under
	// each of OWASP's minima (m=47104,t=1; m=19456,t=2; m=12288,t=3; m=9216,t=4;
	// m=7168,t=5) is refused, and so is one that the machine has no memory for.
	Params Params
	// InsecureParams lets Params be as weak as argon2id allows: for tests.
	InsecureParams bool
	// MaxMemory, in KiB, is the most that a stored hash may ask for. One that asks
	// for more than Params.Memory takes several slots, or all of them. Zero: twice
	// what Params or the default cost takes, whichever is more.
	MaxMemory uint32
	// Slots is how many passwords are hashed at once. Zero: a quarter of
	// GOMAXPROCS, at least 2, but no more than a quarter of GOMEMLIMIT allows
	// (and at least 1).
	Slots int
	// Queue is how many callers may wait for a slot. Zero: 16 for each slot;
	// negative: none. One client address, which for IPv6 is a /64, may hold a
	// quarter of the queue, and a /48 half of it, and at least one place in it;
	// loopback all of it.
	Queue int
	// EvenOut is a hash of the older format that most of the table still holds,
	// anybody's. With it every verification computes two: one at the cost of new
	// hashes and one at the cost of this, so that the time no longer tells whether
	// there is such a user, and costs the sum of both. Empty: a stored hash of
	// another format takes its own time.
	EvenOut oauth2pw.Secret
	// Schemes are further formats of stored hashes, beside the built-in ones. Nil:
	// none.
	Schemes []Scheme
	// Peppers are secrets that hashes are made with: the first makes new ones, all
	// verify. A hash of another pepper, or of none, is outdated. Nil: there are
	// none.
	Peppers []Pepper
}

// Hasher hashes passwords. It is made by [Default] or [New].
type Hasher struct {
	params    Params
	maxMemory uint32
	maxWork   uint64 // KiB × passes
	gate      *gate
	peppers   peppers
	schemes   []scheme
	evenOut   *stored // nil: nothing is evened out
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

// New returns a Hasher. The error names the setting that is wrong.
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
		if s.Prefix == "" || s.Parse == nil {
			return nil, fmt.Errorf("hasher: Config.Schemes[%d] needs a Prefix and Parse", i)
		}
		if slices.ContainsFunc(all, func(other scheme) bool {
			return strings.HasPrefix(other.prefix, s.Prefix) || strings.HasPrefix(s.Prefix, other.prefix)
		}) {
			return nil, fmt.Errorf("hasher: Config.Schemes[%d].Prefix is that of another format", i)
		}
		all = append(all, s.scheme())
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

// machineMemory returns how many KiB of memory there are for this process, as far as it
// can be told; 0: it cannot.
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
			return n >> 10, err == nil // "max" is no number
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
// $argon2id$v=19$m=…,t=…,p=…$salt$tag, with a fresh salt. The error wraps
// [ErrPassword], oauth2pw.ErrBusy, or that of a context that ended in the queue.
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

// Verify reports whether a password is that of a hash, and, if it is, whether the hash is
// outdated: weaker than a new one, or of another format. A hash that is empty, or that it
// cannot read or may not afford, costs what a mismatch costs and never matches;
// all but the empty one are outdated then. So does a password that is empty or
// too long; the error wraps oauth2pw.ErrPasswordTooLong if only the format of the hash
// makes it too long. Any other error wraps oauth2pw.ErrBusy, or that of a context that
// ended in the queue.
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

// dummy is a hash that costs what a new one costs.
func (h *Hasher) dummy() stored {
	e := encoded{params: h.params, salt: make([]byte, saltLength), tag: make([]byte, tagLength)}
	s := argon2Cost(e)
	s.matches = func(password []byte) bool { return e.matches(h.key(password, e.salt, e.params, tagLength)) }
	return s
}

// slotsFor is how many slots a computation takes: one for each Params.Memory, as
// far as there are.
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

// Stats is what a Hasher is doing, for gauges.
type Stats struct {
	Slots, Busy    int    // how many there are, and how many are taken
	Queue, Waiting int    // how many may wait, and how many do
	Refused        uint64 // callers turned away since the start, because the queue was full
}

// Stats returns what the Hasher is doing at the moment.
func (h *Hasher) Stats() Stats { return h.gate.stats() }

// Reads reports whether the Hasher can verify an encoded hash, and may afford to:
// for an import, which would otherwise lock a user out unseen.
func (h *Hasher) Reads(hash string) bool {
	_, ok := h.read(hash)
	return ok
}

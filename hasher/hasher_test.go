package hasher

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/scrypt"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var cheap = Params{Memory: 64, Time: 1, Threads: 1}

func newCheap(t testing.TB) *Hasher {
	t.Helper()
	h, err := New(Config{InsecureParams: true, Params: cheap})
	require.NoError(t, err)
	return h
}

// TestDefault: the cost and the form of a new hash.
//
// Conformance 113, 115.
func TestDefault(t *testing.T) {
	h := Default()
	require.Equal(t, Params{Memory: 65536, Time: 3, Threads: 4}, h.params)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash)
	ok, outdated, err := h.Verify(t.Context(), hash, "secret")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, outdated)
}

// TestVectors: what the authors of the algorithms have published; testdata/README.md says
// where.
//
// Conformance 115.
func TestVectors(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: Params{Memory: 19456, Time: 2, Threads: 1}, MaxMemory: 64 << 10})
	require.NoError(t, err)
	data, err := os.ReadFile("testdata/vectors.txt")
	require.NoError(t, err)
	seen := map[string]int{}
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		source, verdict, encoded := fields[0], fields[2], fields[4]
		password, _ := hex.DecodeString(fields[3]) // "-" is the empty one
		verify := func(password []byte) bool {
			ok, outdated, err := h.Verify(t.Context(), encoded, string(password))
			if !errors.Is(err, oauth2pw.ErrPasswordTooLong) {
				require.NoError(t, err)
			}
			require.Equal(t, ok || !h.Reads(encoded), outdated, line) // what does not match says nothing
			return ok
		}
		require.Equal(t, verdict == "good", verify(password), line)
		require.Equal(t, verdict != "unread", h.Reads(encoded), line)
		switch verdict {
		case "good":
			require.False(t, verify(append([]byte("x"), password...)), line)
		case "long":
			require.True(t, verify(password[:72]), line)
		}
		seen[source+" "+verdict]++
	}
	require.Equal(t, map[string]int{
		"argon2-reference good": 14, "rfc7914-12 good": 2, "rfc7914-11 good": 2,
		"crypt_blowfish good": 15, "crypt_blowfish own": 2, "crypt_blowfish unread": 8, "crypt_blowfish long": 2, "crypt_blowfish empty": 1,
	}, seen)
}

// TestLengths: a password of 1 to 1,024 bytes, with any bytes in it, is hashed whole.
//
// Conformance 13, 119.
func TestLengths(t *testing.T) {
	h := newCheap(t)
	calls, _ := count(h)
	for _, password := range []string{"x", "a\x00b", " ä😀 ", strings.Repeat("é", 512), strings.Repeat("x", 1024)} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		for _, wrong := range []string{password[:len(password)-1], password[:len(password)-1] + "\x01", password + "x"} {
			*calls = 0
			ok, _, err := h.Verify(t.Context(), hash, wrong)
			require.NoError(t, err)
			require.False(t, ok, "%.20q", wrong)
			require.Equal(t, 1, *calls)
		}
		ok, _, err := h.Verify(t.Context(), hash, password)
		require.NoError(t, err)
		require.True(t, ok)
	}
	for _, password := range []string{"", strings.Repeat("x", 1025)} {
		_, err := h.Hash(t.Context(), password)
		require.ErrorIs(t, err, ErrPassword)
	}
}

func TestVerify(t *testing.T) {
	h := newCheap(t)
	for _, password := range []string{"secret", " secret ", "nul\x00", "🔑", strings.Repeat("x", 1024)} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		for candidate, want := range map[string]bool{password: true, password + "x": false, strings.TrimSpace(password) + " ": false, "": false} {
			ok, outdated, err := h.Verify(t.Context(), hash, candidate)
			require.NoError(t, err)
			require.Equal(t, want, ok, "%q against %q", candidate, password)
			require.False(t, outdated)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", 1025)} {
		_, err := h.Hash(t.Context(), password)
		require.ErrorIs(t, err, ErrPassword)
	}
}

func TestOutdated(t *testing.T) {
	old := newCheap(t)
	hash, err := old.Hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, p := range []Params{{Memory: 128, Time: 1, Threads: 1}, {Memory: 64, Time: 2, Threads: 1}} {
		h, err := New(Config{InsecureParams: true, Params: p})
		require.NoError(t, err)
		ok, outdated, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, outdated)
	}
	h, err := New(Config{InsecureParams: true, Params: Params{Memory: 32, Time: 1, Threads: 4}})
	require.NoError(t, err)
	_, outdated, err := h.Verify(t.Context(), hash, "secret")
	require.NoError(t, err)
	require.False(t, outdated, "stronger")
}

// count makes h count its computations and note the most expensive.
func count(h *Hasher) (calls *int, most *Params) {
	calls, most = new(int), new(Params)
	key := h.key
	h.key = func(password, salt []byte, p Params, length uint32) []byte {
		*calls++
		if p.work() > most.work() {
			*most = p
		}
		return key(password, salt, p, length)
	}
	return calls, most
}

// TestDummyWork: what ends early costs one computation at the configured cost, and
// never matches.
//
// Conformance 27, 118, 119.
func TestDummyWork(t *testing.T) {
	h := newCheap(t)
	good, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	calls, most := count(h)
	salt, tag := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, test := range []struct {
		hash, password string
		outdated       bool
	}{
		{hash: "", password: "secret"},
		{hash: "", password: ""},
		{hash: good, password: strings.Repeat("x", 1025)},
		{hash: good, password: ""},
		{hash: "!", password: "secret", outdated: true},
		{hash: "*", password: "secret", outdated: true},
		{hash: good[:len(good)-2], password: "secret", outdated: true}, // one character less may be a tag of 31 bytes
		{hash: good + "\n", password: "secret", outdated: true},
		{hash: good + "=", password: "secret", outdated: true},
		{hash: good + "$", password: "secret", outdated: true},
		{hash: strings.Replace(good, "v=19", "v=16", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "v=19$", "", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "argon2id", "argon2d", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=4294967295", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=4294967296", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=-64", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=064", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=7", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "t=1", "t=0", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "t=1", "t=4294967295", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "p=1", "p=0", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "p=1", "p=256", 1), password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$$" + tag, password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$", password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1$" + salt + "$" + tag, password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 1<<20), password: "secret", outdated: true},
	} {
		*calls = 0
		ok, outdated, err := h.Verify(t.Context(), test.hash, test.password)
		require.NoError(t, err)
		require.False(t, ok, "%.60q", test.hash)
		require.Equal(t, test.outdated, outdated, "%.60q", test.hash)
		require.Equal(t, 1, *calls, "%.60q", test.hash)
		require.Equal(t, cheap, *most, "%.60q", test.hash)
	}
}

// TestDummyNeverMatches, even if the hash of some password were the dummy's tag.
func TestDummyNeverMatches(t *testing.T) {
	h := newCheap(t)
	h.key = func(_, _ []byte, _ Params, length uint32) []byte { return make([]byte, length) }
	for _, hash := range []string{"", "!"} {
		ok, _, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestSettings(t *testing.T) {
	for names, c := range map[string]Config{
		"Config.Params":    {InsecureParams: true, Params: Params{Memory: 7, Time: 1, Threads: 1}},
		"Config.Slots":     {Slots: -1},
		"Config.MaxMemory": {MaxMemory: 1},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, names)
	}
}

// TestConformance153: costs that protect nothing are refused without
// InsecureParams, and so are those that no machine has the memory for.
func TestConformance153(t *testing.T) {
	for _, p := range []Params{{64, 1, 1}, {1024, 100, 1}, {7167, 5, 1}, {7168, 4, 1}, {9216, 3, 1}, {12288, 2, 1}, {19455, 2, 1}, {47103, 1, 4}, {65536, 0, 4}, {65536, 3, 0}, {0, 3, 4}} {
		_, err := New(Config{Params: p})
		require.ErrorContains(t, err, "Config.Params", p)
	}
	for _, p := range []Params{{7168, 5, 1}, {9216, 4, 1}, {12288, 3, 1}, {19456, 2, 1}, {47104, 1, 1}, {65536, 3, 4}} {
		_, err := New(Config{Params: p})
		require.NoError(t, err, p)
	}
	_, err := New(Config{InsecureParams: true, Params: cheap})
	require.NoError(t, err)
	most := machineMemory()
	require.Greater(t, most, uint64(100<<10))
	require.Less(t, most, uint64(math.MaxUint32), "a machine of 4 TiB cannot run this test")
	for _, c := range []Config{
		{Params: Params{math.MaxUint32, 1, 1}}, {Params: Params{uint32(most + 1), 1, 1}}, {MaxMemory: uint32(most + 1)},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, "more than the")
	}
	require.Error(t, new(Hasher).Check())
	require.NoError(t, Default().Check())
}

// TestOrderOfParameters: the order of the parameters of a hash means nothing, and each
// stands there exactly once. npm's argon2 writes m, p, t since 0.45.
func TestOrderOfParameters(t *testing.T) {
	h := newCheap(t)
	ok, outdated, err := h.Verify(t.Context(), "$argon2id$v=19$m=1024,p=2,t=2$WDsCFJRLvWjdeuEIU7q6XA$KpqMwNGn9yCa7ri16PgwEaFQa65FItWJ7DuJu0bMpBE", "correct horse 7")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, outdated)
	const rest = "$WDsCFJRLvWjdeuEIU7q6XA$KpqMwNGn9yCa7ri16PgwEaFQa65FItWJ7DuJu0bMpBE"
	for _, costs := range []string{"t=2,p=2,m=1024", "p=2,t=2,m=1024", "m=1024,t=2,p=2"} {
		require.True(t, h.Reads("$argon2id$v=19$"+costs+rest), costs)
		ok, _, err := h.Verify(t.Context(), "$argon2id$v=19$"+costs+rest, "correct horse 7")
		require.NoError(t, err)
		require.True(t, ok, costs)
	}
	for _, costs := range []string{
		"m=1024,p=2", "m=1024,p=2,t=2,t=2", "m=1024,m=1024,t=2", "m=1024,p=2,t=2,", ",m=1024,p=2,t=2", "m=1024,p=2,t=", "m=1024,p=2,=2", "m=1024,p=2,T=2",
		"m=1024,p=2,t=02", "m=1024,p=2,t=+2", "m=1024,p=2,keyid=x", "m=1024, p=2,t=2", "m=1024,p=258,t=2", "m=1024,p=2,t=4294967298", "",
	} {
		require.False(t, h.Reads("$argon2id$v=19$"+costs+rest), costs)
	}
	// scrypt, as passlib writes it, the same.
	ok, _, err = h.Verify(t.Context(), "$scrypt$r=8,p=1,ln=4$c2FsdA$"+scryptTag(t, 16, 8, 1), "secret")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, h.Reads("$scrypt$r=8,r=8,ln=4$c2FsdA$"+scryptTag(t, 16, 8, 1)))
}

func scryptTag(t *testing.T, n, r, p int) string {
	t.Helper()
	tag, err := scrypt.Key([]byte("secret"), []byte("salt"), n, r, p, 32)
	require.NoError(t, err)
	return base64.RawStdEncoding.EncodeToString(tag)
}

// TestDjangoArgon2: of another format, and so outdated at any cost.
func TestDjangoArgon2(t *testing.T) {
	h := newCheap(t)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	ok, outdated, err := h.Verify(t.Context(), "argon2"+hash, "secret")
	require.NoError(t, err)
	require.Equal(t, []bool{true, true}, []bool{ok, outdated})
}

// foreignHashes are those of testdata, or fresh ones, which .ci/foreign makes.
func foreignHashes(t testing.TB) string {
	t.Helper()
	file := os.Getenv("FOREIGN_HASHES")
	if file == "" {
		file = "testdata/foreign.txt"
	}
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(data)
}

// TestForeignHashes: hashes of other programs; testdata/make.py names them.
//
// Conformance 114, 115.
func TestForeignHashes(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: Params{Memory: 32 << 10, Time: 1, Threads: 2}, Schemes: []Scheme{firebaseScheme(t)}})
	require.NoError(t, err)
	lines := foreignHashes(t) +
		// of Django's own tests; Debian's Django has no scrypt
		"django\tscrypt\t" + hex.EncodeToString([]byte("lètmein")) + "\tscrypt$16384$seasalt$8$1$Qj3+9PPyRjSJIebHnG81TMjsqtaIGxNQG/aEB/NYafTJ7tibgfYz71m0ldQESkXFRkdVCBhhY8mx7rQwite/Pw==\n"
	seen := make(map[string]bool)
	for line := range strings.Lines(lines) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		program, format, encoded := fields[0], fields[1], fields[3]
		if testing.Short() && seen[format] {
			continue
		}
		password, err := hex.DecodeString(fields[2])
		require.NoError(t, err)
		what := program + " " + format
		ok, outdated, err := h.Verify(t.Context(), encoded, string(password))
		require.NoError(t, err)
		require.True(t, ok, what)
		require.True(t, outdated, what)
		if !seen[format] {
			ok, outdated, err = h.Verify(t.Context(), encoded, string(password)+"x")
			require.NoError(t, err)
			require.False(t, ok, what)
			require.False(t, outdated, "%s: it can be read", what)
		}
		seen[format] = true
	}
	require.Len(t, seen, 21)
}

// TestBcrypt: 71, 72 and 73 bytes, NUL, and $2y$.
//
// Conformance 116.
func TestBcrypt(t *testing.T) {
	h := newCheap(t)
	for n := 71; n <= 73; n++ {
		password := strings.Repeat("é", n)[:n]
		hash, err := bcrypt.GenerateFromPassword([]byte(password[:min(n, 72)]), bcrypt.MinCost)
		require.NoError(t, err)
		calls, _ := count(h)
		ok, _, err := h.Verify(t.Context(), string(hash), password)
		if n > 72 { // an operator can see why, and it costs what a mismatch costs
			require.ErrorIs(t, err, oauth2pw.ErrPasswordTooLong)
			require.Equal(t, 1, *calls)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, n <= 72, ok, "%d bytes; x/crypto/bcrypt itself says %v", n, bcrypt.CompareHashAndPassword(hash, []byte(password)))
	}
	hash, err := bcrypt.GenerateFromPassword([]byte("a\x00b"), bcrypt.MinCost)
	require.NoError(t, err)
	for password, want := range map[string]bool{"a\x00b": true, "a": false, "a\x00c": false, "a\x00": false} {
		ok, _, err := h.Verify(t.Context(), string(hash), password)
		require.NoError(t, err)
		require.Equal(t, want, ok, "%q", password)
	}
	ok, _, err := h.Verify(t.Context(), "$2y$"+string(hash[4:]), "a\x00b")
	require.NoError(t, err)
	require.True(t, ok)
}

// TestAbsurdHashes: a hash of another format that cannot be read, or costs too much, fails,
// without a panic and without its memory.
//
// Conformance 118.
func TestAbsurdHashes(t *testing.T) {
	h := newCheap(t)
	calls, _ := count(h)
	b := strings.Repeat("a", 53)
	absurd := []string{
		"$2a$", "$2a$04$", "$2b$04$" + b[:52], "$2b$04$" + b + "a", "$2b$04$" + b[:52] + "!", "$2b$03$" + b, "$2b$16$" + b, "$2b$31$" + b, "$2b$99$" + b, "$2b$-4$" + b, "$2x$04$" + b, "$2$04$" + b,
		"bcrypt$$2b$", "bcrypt_sha256$$2b$31$" + b, "bcrypt$" + b,
		"$scrypt$", "$scrypt$ln=10,r=8,p=1$$", "$scrypt$ln=10,r=8$AAAA$" + b, "$scrypt$ln=0,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=31,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$scrypt$ln=4294967295,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=10,r=0,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=10,r=8,p=0$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"$scrypt$ln=10,r=1048576,p=1048576$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=10,r=8,p=100000$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=-1,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$scrypt$ln=010,r=8,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"scrypt$", "scrypt$1000$salt$8$1$AAAAAAAAAAAAAAAAAAAAAA==", "scrypt$2147483648$salt$8$1$AAAAAAAAAAAAAAAAAAAAAA==", "scrypt$1024$salt$8$1$", "scrypt$1024$salt$8$1$AAAA", "scrypt$1$salt$8$1$AAAAAAAAAAAAAAAAAAAAAA==",
		"$pbkdf2-sha256$", "$pbkdf2-sha256$0$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-sha256$2147483647$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-sha256$99999999999$AAAA$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-sha256$1000$AAAA$", "$pbkdf2-sha256$1000$AA+A$AAAAAAAAAAAAAAAAAAAAAA", "$pbkdf2-sha256$-1$AAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"pbkdf2_sha256$", "pbkdf2_sha256$1000$salt$", "pbkdf2_sha256$1e3$salt$AAAAAAAAAAAAAAAAAAAAAA==", "pbkdf2_sha512$4000000000$salt$AAAAAAAAAAAAAAAAAAAAAA==", "pbkdf2_sha1$1000$salt$AAAAAAAAAAAAAAAAAAAAAA==",
		"argon2$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2i$v=19$m=64,t=4294967295,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", "$argon2d$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA",
		"md5$salt$x", "{SHA}x", "$1$x", "$6$x", "sha1$x$y", "plaintext", "!", "*", "x", "$2b$04$" + b + "\n",
		"pbkdf2_sha256$1000$" + strings.Repeat("s", 1<<20) + "$AAAAAAAAAAAAAAAAAAAAAA==",
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, hash := range absurd {
		*calls = 0
		ok, outdated, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.False(t, ok, "%.80q", hash)
		require.True(t, outdated, "%.80q: unreadable", hash)
		require.Equal(t, 1, *calls, "%.80q: the dummy's work", hash)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(len(absurd))*(1<<20))
}

// TestWeights: a hash that takes more memory than a new one takes more slots.
func TestWeights(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: Params{Memory: 1 << 10, Time: 1, Threads: 1}, Slots: 3, MaxMemory: 1 << 20})
	require.NoError(t, err)
	for memory, slots := range map[uint32]int{1: 1, 1 << 10: 1, 1<<10 + 1: 2, 3 << 10: 3, 1 << 20: 3} {
		require.Equal(t, slots, h.slotsFor(memory))
	}
}

// FuzzPHC: no stored hash panics or costs more than it may, and what is read is
// written the same.
func FuzzPHC(f *testing.F) {
	h := newCheap(f)
	good, err := h.Hash(context.Background(), "secret")
	require.NoError(f, err)
	for line := range strings.Lines(foreignHashes(f)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		f.Add(fields[3])
	}
	for _, seed := range []string{"", "!", good, good + "$", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAA", "$argon2id$v=19$m=0,t=0,p=0$$"} {
		f.Add(seed)
	}
	h.key = func(_, _ []byte, p Params, length uint32) []byte {
		if p.Memory > h.maxMemory || p.work() > h.maxWork || p.valid() != nil {
			f.Errorf("too costly: %+v", p)
		}
		return make([]byte, length)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		if rest, ok := strings.CutPrefix(hash, phcPrefix); ok {
			if e, err := parse(rest); err == nil && e.String() != hash {
				t.Fatalf("%q is written %q", hash, e)
			}
		}
		read, readable := h.read(hash)
		if readable && (read.memory > h.maxMemory || read.work > h.maxWork) {
			t.Fatalf("%q is too costly: %+v", hash, read)
		}
		if !strings.HasPrefix(hash, phcPrefix) && readable && read.work > 1000 {
			return // it would take its time
		}
		if _, _, err := h.Verify(context.Background(), hash, "secret"); err != nil {
			t.Fatal(err)
		}
	})
}

package hasher

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// firebaseScheme has the parameters of testdata/npm/make.mjs.
func firebaseScheme(t testing.TB) Scheme {
	t.Helper()
	s, err := FirebaseScrypt{
		SignerKey:     "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
		SaltSeparator: "Bw==", Rounds: 8, MemoryCost: 14,
	}.Scheme()
	require.NoError(t, err)
	return s
}

func TestFirebaseErrors(t *testing.T) {
	const key = "jxspr8Ki0RYycVU8zykbdA=="
	for want, f := range map[string]FirebaseScrypt{
		"SignerKey":        {SaltSeparator: "Bw==", Rounds: 8, MemoryCost: 14},
		"SaltSeparator":    {SignerKey: key, SaltSeparator: "!", Rounds: 8, MemoryCost: 14},
		"Rounds is 0":      {SignerKey: key, SaltSeparator: "Bw==", MemoryCost: 14},
		"Rounds is 9":      {SignerKey: key, SaltSeparator: "Bw==", Rounds: 9, MemoryCost: 14},
		"MemoryCost is 0":  {SignerKey: key, SaltSeparator: "Bw==", Rounds: 8},
		"MemoryCost is 15": {SignerKey: key, SaltSeparator: "Bw==", Rounds: 8, MemoryCost: 15},
	} {
		_, err := f.Scheme()
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), key)
	}
}

// TestAliases: a prefix of another system before a hash of a known format.
func TestAliases(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: cheap, Schemes: []Scheme{
		{Prefix: "{bcrypt}", As: "$2"}, {Prefix: "{ARGON2ID}", As: "$argon2id$"}, {Prefix: "{CRYPT}", As: "$"}, {Prefix: "{SHA-1}", As: "{SHA}"}, sha1Scheme,
	}})
	require.NoError(t, err)
	own, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, test := range []struct{ name, hash, want string }{
		{"bcrypt", "{bcrypt}" + bcryptOfSecret(t), "true true"},
		{"the same, by another alias", "{CRYPT}" + bcryptOfSecret(t), "true true"},
		{"the own format is outdated behind a prefix", "{ARGON2ID}" + own, "true true"},
		{"the own format without it is not", own, "true false"},
		{"of a Scheme", "{SHA-1}{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "true true"},
		{"a wrong password", "{bcrypt}" + bcryptOfSecret(t)[:59] + ".", "false false"},
		{"an alias before the wrong format", "{bcrypt}" + own, "false true"},
		{"an alias twice", "{bcrypt}{bcrypt}" + bcryptOfSecret(t), "false true"},
		{"an alias of nothing", "{bcrypt}", "false true"},
		{"the name in other letters", "{BCRYPT}" + bcryptOfSecret(t), "false true"},
	} {
		ok, outdated, err := h.Verify(t.Context(), test.hash, "secret")
		require.NoError(t, err, test.name)
		require.Equal(t, test.want, fmt.Sprint(ok, " ", outdated), test.name)
	}
	for want, s := range map[string]Scheme{
		"either Parse or As":          {Prefix: "{x}", As: "$2", Parse: sha1Scheme.Parse},
		"needs a Prefix":              {As: "$2"},
		"is that of another format":   {Prefix: "$2b$1", As: "$2"},
		"is the beginning of no form": {Prefix: "{x}", As: "{x}"},
	} {
		_, err := New(Config{Schemes: []Scheme{s}})
		require.ErrorContains(t, err, want)
	}
}

// bcryptOfSecret returns the bcrypt hash of "secret" that another program has made.
func bcryptOfSecret(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(foreignHashes(t)) {
		if fields := strings.Split(strings.TrimSpace(line), "\t"); fields[1] == "2b" && fields[2] == "736563726574" {
			return fields[3]
		}
	}
	t.Fatal("no bcrypt hash")
	return ""
}

// TestMalformed: a hash that is almost one of a format is refused before anything is computed,
// and takes no memory.
func TestMalformed(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: cheap, Schemes: []Scheme{{Prefix: "{bcrypt}", As: "$2"}, firebaseScheme(t)}})
	require.NoError(t, err)
	seen := make(map[string]bool)
	tried, read := 0, 0
	try := func(hash, good, how string) {
		tried++
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, ok := h.read(hash)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "%s: %q", how, hash)
		if !ok {
			return
		}
		read++
		require.LessOrEqual(t, s.memory, h.maxMemory, hash)
		require.LessOrEqual(t, s.work, h.maxWork, hash)
		require.NotContains(t, how, "refused", "%q is read, a sibling of %q", hash, good)
	}
	for line := range strings.Lines(foreignHashes(t)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		good := fields[3]
		if seen[fields[1]] {
			continue
		}
		seen[fields[1]] = true
		_, ok := h.read(good)
		require.True(t, ok, good)
		for _, separator := range []string{"$", ",", ":"} {
			parts := strings.Split(good, separator)
			for i := range parts {
				join := func(p ...string) string { return strings.Join(p, separator) }
				if len(parts) > 1 {
					try(join(append(append([]string{}, parts[:i]...), parts[i+1:]...)...), good, "one part is missing")
					try(join(append(append(append([]string{}, parts[:i+1]...), parts[i]), parts[i+1:]...)...), good, "refused: one part is twice")
				}
				for _, absurd := range []string{"0", "-1", "4294967295", "4294967296", "99999999999999999999", "1e9", "0x10", " 1"} {
					for _, number := range numbers(parts[i]) {
						replaced := append([]string{}, parts...)
						replaced[i] = strings.Replace(parts[i], number, absurd, 1)
						if replaced[i] != parts[i] && len(number) < 12 {
							try(join(replaced...), good, "an absurd number")
						}
					}
				}
			}
		}
		for i := range good {
			try(good[:i], good, "cut off")
		}
		for _, suffix := range []string{" ", "\n", "\r\n", "\x00", "=", "$", "$x", "é"} {
			try(good+suffix, good, "refused: something follows")
			try(strings.Trim(suffix, "=")+good, good, "something is before")
		}
		try("b'"+good, good, "refused: an unclosed b'")
		try("b'"+good+"'", good, "refused: Python's bytes")
		try("{bcrypt}"+strings.ToUpper(good), good, "refused: an alias before another format")
	}
	require.Len(t, seen, 21)
	t.Logf("%d siblings, %d of them read", tried, read)
}

// numbers returns the decimal numbers in a text.
func numbers(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r < '0' || '9' < r })
}

// TestCosts: the cost of each format is read before anything is computed, and a hash over the
// cap is refused.
func TestCosts(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: cheap})
	require.NoError(t, err)
	tag := strings.Repeat("0f", 32)
	const salt22, tag31 = "abcdefghijklmnopqrstuO", "abcdefghijklmnopqrstuvwxyz01234"
	for _, test := range []struct{ under, over string }{
		{"$P$H" + strings.Repeat(".", 30), "$P$I" + strings.Repeat(".", 30)},
		{"$H$5" + strings.Repeat(".", 30), "$H$S" + strings.Repeat(".", 30)},
		{"pbkdf2:sha256:3000000$salt$" + tag, "pbkdf2:sha256:4000000$salt$" + tag},
		{"pbkdf2:sha1:1000000$salt$" + tag, "pbkdf2:sha1:2000000$salt$" + tag}, // two blocks
		{"scrypt:65536:8:1$salt$" + tag, "scrypt:262144:8:1$salt$" + tag},      // memory
		{"scrypt:1024:8:64$salt$" + tag, "scrypt:1024:8:1048576$salt$" + tag},  // time
		{"$bcrypt-sha256$v=2,t=2b,r=14$" + salt22 + "$" + tag31, "$bcrypt-sha256$v=2,t=2b,r=15$" + salt22 + "$" + tag31},
		{"$bcrypt-sha256$2a,14$" + salt22 + "$" + tag31, "$bcrypt-sha256$2a,31$" + salt22 + "$" + tag31},
		{"$wp$2y$14$" + salt22 + tag31, "$wp$2y$15$" + salt22 + tag31},
		{"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdA==$AAAA$AAAAAAAAAAAAAAAAAAAAAA==", "$fbscrypt$v=1,n=20,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdA==$AAAA$AAAAAAAAAAAAAAAAAAAAAA=="},
		{aspNetOf(1, 100_000), aspNetOf(1, 4_000_000_000)},
		{aspNetOf(2, 100_000), aspNetOf(3, 100_000)}, // an unknown hash function
	} {
		require.True(t, h.Reads(test.under), test.under)
		require.False(t, h.Reads(test.over), test.over)
	}
}

// aspNetOf is a hash of ASP.NET Core Identity with a salt and a tag of zeros.
func aspNetOf(function, rounds uint32) string {
	b := append([]byte{1}, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, function), rounds), 16)...)
	return base64.StdEncoding.EncodeToString(append(b, make([]byte, 16+32)...))
}

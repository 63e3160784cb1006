package hasher

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// FirebaseScrypt has the parameters of the hashes of a Firebase project, the hash_config of
// its console.
type FirebaseScrypt struct {
	SignerKey     oauth2pw.Secret // base64_signer_key
	SaltSeparator string          // base64_salt_separator
	Rounds        int             // rounds: 8
	MemoryCost    int             // mem_cost: 14
}

// Scheme returns the format of the project's hashes, for Config.Schemes. A hash has the form
// $firebase$salt$hash, with the members salt and passwordHash of the export in base64. The
// error names the invalid parameter.
func (f FirebaseScrypt) Scheme() (Scheme, error) {
	key, ok1 := decode(base64.StdEncoding.Strict(), string(f.SignerKey), 16, 64)
	separator, ok2 := decode(base64.StdEncoding.Strict(), f.SaltSeparator, 0, 64)
	switch {
	case !ok1:
		return Scheme{}, errors.New("hasher: FirebaseScrypt.SignerKey is not the base64 of 16 to 64 bytes")
	case !ok2:
		return Scheme{}, errors.New("hasher: FirebaseScrypt.SaltSeparator is not base64")
	case f.Rounds < 1 || f.Rounds > 8 || f.MemoryCost < 1 || f.MemoryCost > 14:
		return Scheme{}, fmt.Errorf("hasher: FirebaseScrypt.Rounds is %d and MemoryCost is %d: want 1 to 8 and 1 to 14, as in Firebase", f.Rounds, f.MemoryCost)
	}
	return Scheme{Prefix: "$firebase$", Parse: func(rest string) (Stored, bool) {
		salt, hash, _ := strings.Cut(rest, "$")
		s, ok := firebaseOf(1<<f.MemoryCost, uint32(f.Rounds), 1, separator, key, salt, hash)
		return Stored{Memory: s.memory, Time: time.Duration(s.work) * time.Microsecond, Matches: s.matches}, ok
	}}, nil
}

// parseFirebase reads n=…,r=…,p=…,ss=separator,sk=key$salt$hash, the form of Supabase, with the
// logarithm of n, and with the key of the project in each hash.
func parseFirebase(_ *Hasher, rest string) (stored, bool) {
	fields := strings.Split(rest, "$")
	if len(fields) != 3 {
		return stored{}, false
	}
	costs, texts, _ := strings.Cut(fields[0], ",ss=")
	n, ok1 := parseCosts(costs, "n", "r", "p")
	ss, sk, ok2 := strings.Cut(texts, ",sk=")
	separator, ok3 := decode(base64.StdEncoding.Strict(), ss, 0, 64)
	key, ok4 := decode(base64.StdEncoding.Strict(), sk, 16, 64)
	if !ok1 || !ok2 || !ok3 || !ok4 || n[0] >= 32 || n[1] > 1<<20 || n[2] > 1<<20 {
		return stored{}, false
	}
	return firebaseOf(1<<n[0], n[1], n[2], separator, key, fields[1], fields[2])
}

// firebaseOf is a hash whose tag is the signer key, encrypted with the derived key by AES in
// counter mode.
func firebaseOf(n uint64, r, p uint32, separator, signer []byte, salt, hash string) (stored, bool) {
	saltBytes, ok1 := decode(base64.StdEncoding.Strict(), salt, 1, 64)
	tag, ok2 := decode(base64.StdEncoding.Strict(), hash, len(signer), len(signer))
	const keyLength = 32 // AES-256
	s, key, ok3 := scryptKey(n, r, p, slices.Concat(saltBytes, separator), keyLength)
	s.matches = func(password []byte) bool {
		block, err := aes.NewCipher(key(password))
		if err != nil {
			return false
		}
		encrypted := make([]byte, len(signer))
		cipher.NewCTR(block, make([]byte, aes.BlockSize)).XORKeyStream(encrypted, signer)
		return subtle.ConstantTimeCompare(encrypted, tag) == 1
	}
	return s, ok1 && ok2 && ok3
}

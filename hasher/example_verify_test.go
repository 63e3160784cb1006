package hasher_test

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// One Hasher for the whole process, with the default of every setting.
func ExampleDefault() {
	h := hasher.Default() // also oauth2pw.Config.Hasher
	hash, err := h.Hash(context.Background(), "correct horse battery staple")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(hash[:len("$argon2id$v=19$m=65536,t=3,p=4$")])
	ok, outdated, err := h.Verify(context.Background(), hash, "correct horse battery staple")
	fmt.Println(ok, outdated, err)
	// Output:
	// $argon2id$v=19$m=65536,t=3,p=4$
	// true false <nil>
}

// A hash for the table of users.
func ExampleHasher_Hash() {
	h := cheap(hasher.Config{})
	hash, err := h.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	again, err := h.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(hash != again) // each hash has a salt of its own
	_, err = h.Hash(context.Background(), "")
	fmt.Println(errors.Is(err, hasher.ErrPassword))
	// Output:
	// true
	// true
}

// Hashes that other programs have made match, and are outdated: the app then replaces them.
// oauth2pw.Auth does this at a login.
func ExampleHasher_Verify() {
	h := cheap(hasher.Config{})
	fresh, err := h.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	for _, hash := range []string{fresh, bcryptOfSecret, ""} { // "": a user without a password
		for _, password := range []string{"secret", "wrong"} {
			ok, outdated, err := h.Verify(context.Background(), hash, password)
			fmt.Println(ok, outdated, err)
		}
	}
	// Output:
	// true false <nil>
	// false false <nil>
	// true true <nil>
	// false false <nil>
	// false false <nil>
	// false false <nil>
}

// An import of users: a user with an unreadable hash could not log in.
func ExampleHasher_Reads() {
	h := hasher.Default()
	fmt.Println(h.Reads(bcryptOfSecret))
	fmt.Println(h.Reads("5ebe2294ecd0e0f08eab7690d2a6ee69"))                                    // MD5
	fmt.Println(h.Reads("$argon2id$v=19$m=4194304,t=3,p=4$c29tZXNhbHQ$MTIzNDU2Nzg5MDEyMzQ1Ng")) // 4 GiB
	// Output:
	// true
	// false
	// false
}

// The load of the hasher, for gauges.
func ExampleHasher_Stats() {
	h := cheap(hasher.Config{Slots: 2, Queue: 32})
	s := h.Stats()
	fmt.Printf("%d of %d slots, %d of %d in the queue, %d refused\n", s.Busy, s.Slots, s.Waiting, s.Queue, s.Refused)
	// Output: 0 of 2 slots, 0 of 32 in the queue, 0 refused
}

// The rules for a new password, at a sign-up and in oauth2pw.Config.CheckNewPassword.
func ExamplePolicy() {
	policy := hasher.Policy{MinLength: 12}
	c := oauth2pw.Config{CheckNewPassword: policy.Check}
	u := &oauth2pw.User{ID: "1", Username: "john.doe@example.com"}
	for _, password := range []string{"short", "password1234", "John.Doe@example.com", "correct horse battery staple"} {
		fmt.Println(c.CheckNewPassword(context.Background(), u, password))
	}
	// Output:
	// oauth2pw: invalid_request: The password must have 12 characters or more.
	// oauth2pw: invalid_request: The password is one that many people use.
	// oauth2pw: invalid_request: The password is the name of the user.
	// <nil>
}

// A refused password is an error for the user, with the status 422.
func ExamplePolicy_Check() {
	policy := hasher.Policy{Denied: func(lower string) bool {
		return hasher.CommonPassword(lower) || strings.Contains(lower, "acme") // the name of the app
	}}
	err := policy.Check(context.Background(), nil, "Acme-2026")
	var refused *oauth2pw.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.Status, refused.Description)
	}
	// Output: 422 The password is one that many people use.
}

// The built-in list of passwords that many people use.
func ExampleCommonPassword() {
	fmt.Println(hasher.CommonPassword("Password1"), hasher.CommonPassword("correct horse battery staple"))
	// Output: true false
}

// Hashes of an old app: many rounds of SHA-256, in a format of its own. Each hash is replaced
// at the next login of its user.
func ExampleScheme() {
	const rounds = 1000
	sum := func(salt string, password []byte) []byte {
		s := sha256.Sum256(append([]byte(salt), password...))
		for range rounds {
			s = sha256.Sum256(s[:])
		}
		return s[:]
	}
	old := hasher.Scheme{Prefix: "$acme$", Parse: func(rest string) (hasher.Stored, bool) {
		salt, text, _ := strings.Cut(rest, "$")
		want, err := hex.DecodeString(text)
		return hasher.Stored{Time: time.Millisecond, Matches: func(password []byte) bool {
			return subtle.ConstantTimeCompare(sum(salt, password), want) == 1
		}}, err == nil && len(want) == sha256.Size
	}}
	h := cheap(hasher.Config{Schemes: []hasher.Scheme{old}})

	ok, outdated, err := h.Verify(context.Background(), "$acme$salt$"+hex.EncodeToString(sum("salt", []byte("secret"))), "secret")
	fmt.Println(ok, outdated, err)
	// Output: true true <nil>
}

// A pepper that rotates: the first makes new hashes, and the old pepper verifies older hashes
// until a login has replaced them.
func ExamplePepper() {
	old := hasher.Pepper{ID: "2025", Key: oauth2pw.NewSecret()} // from a secret manager
	hash, err := cheap(hasher.Config{Peppers: []hasher.Pepper{old}}).Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}

	next := hasher.Pepper{ID: "2026", Key: oauth2pw.NewSecret()}
	ok, outdated, err := cheap(hasher.Config{Peppers: []hasher.Pepper{next, old}}).Verify(context.Background(), hash, "secret")
	fmt.Println(ok, outdated, err)
	ok, outdated, err = cheap(hasher.Config{Peppers: []hasher.Pepper{next}}).Verify(context.Background(), hash, "secret")
	fmt.Println(ok, outdated, err) // the hash without its pepper is unreadable
	// Output:
	// true true <nil>
	// false true <nil>
}

const bcryptOfSecret = "$2a$04$0k8zZKowkpPFyuO3W7mYkeV5vI5g4pOmhC23WEf.aK9bT64nAuG1O"

// cheap returns a Hasher with a cost for examples.
func cheap(c hasher.Config) *hasher.Hasher {
	c.Params, c.InsecureParams = hasher.Params{Memory: 64, Time: 1, Threads: 1}, true
	h, err := hasher.New(c)
	if err != nil {
		log.Fatal(err)
	}
	return h
}

// The users of a Firebase project. The parameters are those of the console, and each hash has
// the salt and the passwordHash of "firebase auth:export".
func ExampleFirebaseScrypt_Scheme() {
	project, err := hasher.FirebaseScrypt{
		SignerKey:     "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
		SaltSeparator: "Bw==",
		Rounds:        8,
		MemoryCost:    14,
	}.Scheme()
	if err != nil {
		log.Fatal(err)
	}
	h := cheap(hasher.Config{Schemes: []hasher.Scheme{project}})

	salt, passwordHash := "42xEC+ixf3L2lw==", "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
	ok, outdated, err := h.Verify(context.Background(), "$firebase$"+salt+"$"+passwordHash, "user1password")
	fmt.Println(ok, outdated, err)
	// Output: true true <nil>
}

package hasher_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Run it once where the app will run, and write down what it prints.
func ExampleCalibrate() {
	p, err := hasher.Calibrate(250*time.Millisecond, 64<<10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("hasher.Params{Memory: %d, Time: %d, Threads: %d}\n", p.Memory, p.Time, p.Threads)
}

// A table whose hashes are mostly Django's, and a pepper for new ones.
func ExampleNew() {
	h, err := hasher.New(hasher.Config{
		EvenOut: "pbkdf2_sha256$260000$ovKNuhOwk3dXBOxap9D4kf$mPQ4xIKvG9pUeU1G6PaqXiVT9/2wGALVz+ULyMdvG4Y=",
		Peppers: []hasher.Pepper{{ID: "2026", Key: oauth2pw.Secret("32 bytes from a secret manager..")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.Reads("$2y$12$vQsG6fXaZrz2tpinrYB2iuaSPSNrywJD0EYHhzyA2ZzS8CAYnzODq"))
	// Output: true
}

// A new password of at least 15 characters, neither common nor in a known data breach. While
// the service of Have I Been Pwned fails, the answer to a new password is 503.
func ExampleBreached() {
	policy := hasher.Policy{MinLength: 15, Breached: hasher.Breached(nil)}
	c := oauth2pw.Config{CheckNewPassword: policy.Check}
	fmt.Println(c.CheckNewPassword(context.Background(), nil, "short"))
	// Output: oauth2pw: invalid_request: The password must have 15 characters or more.
}

// While the service fails, new passwords are accepted, and the app writes each failure into
// its log.
func ExampleBreachedFailOpen() {
	policy := hasher.Policy{Breached: hasher.BreachedFailOpen(offline, func(_ context.Context, err error) {
		fmt.Println("not compared with breaches:", err)
	})}
	fmt.Println(policy.Check(context.Background(), nil, "correct horse battery staple"))
	// Output:
	// not compared with breaches: hasher: the service of breached passwords: no network
	// <nil>
}

// offline is a client without a network.
var offline = &http.Client{Transport: noNetwork{}}

type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no network")
}

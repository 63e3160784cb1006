package hasher_test

import (
	"fmt"
	"log"
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

// Command ours prints hashes of this library in the format of foreign.txt, for
// make.py --verify.
package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"log"

	"github.com/oauth2pw/passwordflow/hasher"
)

func main() {
	for _, p := range []hasher.Params{{}, {Memory: 19456, Time: 2, Threads: 1}} {
		h, err := hasher.New(hasher.Config{InsecureParams: true, Params: p})
		if err != nil {
			log.Fatal(err)
		}
		for _, password := range []string{"secret", " pässwörd 😀 +%&", "a\tb", "\u00e4"} {
			hash, err := h.Hash(context.Background(), password)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("ours\targon2id\t%s\t%s\n", hex.EncodeToString([]byte(password)), hash)
		}
	}
}

package oauth2pw

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
)

// newMAC returns HMAC-SHA256 with a key, safe for concurrent use. fill appends the message
// to a buffer, which is kept with the hash for the next call. Only the closure has the key,
// so that %+v does not print it.
func newMAC(key []byte) func(fill func(b []byte) []byte) [sha256.Size]byte {
	type work struct {
		hash    hash.Hash
		message []byte
		sum     [sha256.Size]byte
	}
	pool := sync.Pool{New: func() any { return &work{hash: hmac.New(sha256.New, key)} }}
	return func(fill func(b []byte) []byte) [sha256.Size]byte {
		w, _ := pool.Get().(*work)
		w.hash.Reset()
		w.message = fill(w.message[:0])
		w.hash.Write(w.message)
		w.hash.Sum(w.sum[:0])
		sum := w.sum
		clear(w.message) // the message may hold a password
		if cap(w.message) <= 4096 {
			pool.Put(w)
		}
		return sum
	}
}

// randomKey returns 32 random bytes.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

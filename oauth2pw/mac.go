package oauth2pw

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"sync"
)

// newMAC returns HMAC-SHA256 with a key, for concurrent use: it appends the message
// that fill makes to a buffer of its own, and keeps the buffer and the hash for the
// next call. The key stands in the closure alone, where no %+v finds it.
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
		clear(w.message) // it may hold a password
		if cap(w.message) <= 4096 {
			pool.Put(w)
		}
		return sum
	}
}

// randomKey returns a key that nobody else has.
func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

package tokens

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

const (
	defaultCache = 4096 // tokens
	// maxCached is the length of the longest token that a cache remembers, in bytes. An entry
	// holds the token, its payload and the strings of its principal: less than 11 KiB together,
	// or 45 MiB for 4096 entries.
	maxCached = 4 << 10
	// ways is the number of places for one token.
	ways = 4
)

// cache remembers a bounded number of verified tokens. A cache belongs to one set of keys of
// one verifier, and is dropped with this set. A nil cache remembers nothing.
//
// A token has a few places, chosen by its hash. Reading and writing take no lock. The hash
// has a random seed, so that an attacker cannot choose tokens that share their places.
type cache struct {
	seed   maphash.Seed
	places []atomic.Pointer[verified]
}

type verified struct {
	hash      uint64
	token     string
	principal oauth2pw.Principal
}

// newCache returns a cache for size tokens; nil if size is not positive.
func newCache(size int) *cache {
	if size <= 0 {
		return nil
	}
	return &cache{maphash.MakeSeed(), make([]atomic.Pointer[verified], size)}
}

// get returns the principal of a remembered token, or nil. The caller checks the times of the
// principal at every hit.
func (c *cache) get(token string) *oauth2pw.Principal {
	if c == nil || len(token) > maxCached {
		return nil
	}
	return c.find(maphash.String(c.seed, token), token)
}

// put remembers a verified token and its principal.
func (c *cache) put(token string, p oauth2pw.Principal, now time.Time) {
	if c == nil || len(token) > maxCached {
		return
	}
	// The copy keeps nothing else of the request in memory.
	c.store(&verified{maphash.String(c.seed, token), strings.Clone(token), p}, now)
}

// find compares the whole token, because two tokens may have one hash. The comparison does not
// need constant time, because it runs only if the hashes are equal, and the seed is secret. A
// forged token is compared once in 2^64 tries, however similar to a real token: the time
// reveals nothing.
func (c *cache) find(hash uint64, token string) *oauth2pw.Principal {
	for way := range uint64(ways) {
		if v := c.place(hash, way).Load(); v != nil && v.hash == hash && v.token == token {
			return &v.principal
		}
	}
	return nil
}

// store writes v into a place that is free, or has the same token, or an expired token. If
// there is no such place, v replaces another token.
func (c *cache) store(v *verified, now time.Time) {
	for way := range uint64(ways) {
		at := c.place(v.hash, way)
		if old := at.Load(); old == nil || old.hash == v.hash && old.token == v.token || now.After(old.principal.ExpiresAt) {
			at.Store(v)
			return
		}
	}
	c.place(v.hash, v.hash>>32%ways).Store(v)
}

func (c *cache) place(hash, way uint64) *atomic.Pointer[verified] {
	return &c.places[(hash+way)%uint64(len(c.places))]
}

package tokens

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// cache remembers verified tokens by their SHA-256, a bounded number of them. It
// belongs to one set of keys, and is thrown away with it. A token has a few places
// where it may stand, so that neither reading nor writing takes a lock. Nil
// remembers nothing.
type cache struct{ places []atomic.Pointer[verified] }

type verified struct {
	digest    [sha256.Size]byte
	principal oauth2pw.Principal
}

// ways is the number of places of a token.
const ways = 4

func newCache(size int) *cache {
	if size <= 0 {
		return nil
	}
	return &cache{make([]atomic.Pointer[verified], size)}
}

func (c *cache) place(digest *[sha256.Size]byte, way uint64) *atomic.Pointer[verified] {
	return &c.places[(binary.LittleEndian.Uint64(digest[:])+way)%uint64(len(c.places))]
}

// get returns what was verified, nil if it is not there. Its times are the caller's
// to compare, at every hit.
func (c *cache) get(digest *[sha256.Size]byte) *oauth2pw.Principal {
	for way := range uint64(ways) {
		if v := c.place(digest, way).Load(); v != nil && v.digest == *digest {
			return &v.principal
		}
	}
	return nil
}

// put remembers a token: in a place that is free or holds one that has expired, or
// else instead of another.
func (c *cache) put(digest *[sha256.Size]byte, p oauth2pw.Principal, now time.Time) {
	v := &verified{*digest, p}
	for way := range uint64(ways) {
		at := c.place(digest, way)
		if old := at.Load(); old == nil || old.digest == *digest || now.After(old.principal.ExpiresAt) {
			at.Store(v)
			return
		}
	}
	c.place(digest, uint64(digest[8])%ways).Store(v)
}

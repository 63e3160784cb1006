package tokens

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestCache: bounded to the count it is given; expiry is compared at every hit.
func TestCache(t *testing.T) {
	for _, size := range []int{1, 3, 64} {
		r, clock := newRing(t, hmacJWK, func(c *Config) { c.Cache = size })
		var all []string
		for i := range 4 * size {
			token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: fmt.Sprint(i)})
			require.NoError(t, err)
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
			require.NotNil(t, r.state.Load().keys.cache.get(token), "the token just verified")
			all = append(all, token)
		}
		require.Len(t, r.state.Load().keys.cache.places, size)
		for i, token := range all { // remembered and forgotten ones
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
		}
		last := all[len(all)-1]
		clock.now = clock.now.Add(time.Hour)
		require.NotNil(t, r.state.Load().keys.cache.get(last), "a hit, whose times are still compared")
		for _, token := range all {
			_, err := r.Verify(t.Context(), token)
			require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
		}
	}
}

// TestCachePlaces: the cache fills every place, forgets expired tokens first, and never mixes
// up tokens of one hash. The hashes are chosen: nothing here depends on the seed.
func TestCachePlaces(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	entry := func(hash uint64, token string, expires time.Time) *verified {
		return &verified{hash, token, oauth2pw.Principal{Subject: token, ExpiresAt: expires}}
	}
	found := func(c *cache, hash uint64, token string) bool {
		p := c.find(hash, token)
		require.True(t, p == nil || p.Subject == token)
		return p != nil
	}
	c := newCache(16)
	for i := range uint64(16) {
		c.store(entry(i, fmt.Sprint(i), now.Add(time.Hour)), now)
	}
	for i := range uint64(16) {
		require.True(t, found(c, i, fmt.Sprint(i)), "each token has its place: %d", i)
	}
	require.Len(t, c.places, 16)

	// A seventeenth takes the place of one other.
	c.store(entry(5+16, "new", now.Add(time.Hour)), now)
	require.True(t, found(c, 5+16, "new"))
	left := 0
	for i := range uint64(16) {
		if found(c, i, fmt.Sprint(i)) {
			left++
		}
	}
	require.Equal(t, 15, left)

	// The expired one goes first, though another place comes first.
	c = newCache(16)
	c.store(entry(0, "live", now.Add(time.Hour)), now)
	c.store(entry(0, "expired", now.Add(-time.Second)), now)
	c.store(entry(0, "live 2", now.Add(time.Hour)), now)
	c.store(entry(0, "live 3", now.Add(time.Hour)), now)
	c.store(entry(0, "live 4", now.Add(time.Hour)), now)
	for token, want := range map[string]bool{"live": true, "expired": false, "live 2": true, "live 3": true, "live 4": true} {
		require.Equal(t, want, found(c, 0, token), token)
	}
	// The same token again takes no second place.
	c.store(entry(0, "live 2", now.Add(2*time.Hour)), now)
	require.True(t, found(c, 0, "live"))
	require.True(t, found(c, 0, "live 3"))
	require.True(t, found(c, 0, "live 4"))
	require.Equal(t, now.Add(2*time.Hour), c.find(0, "live 2").ExpiresAt)
	// Two tokens of one hash are two tokens.
	require.False(t, found(c, 0, "another"))
	require.False(t, found(c, 1, "live 2"), "tokens are compared under one hash alone")
}

// TestCacheMemory: an entry has a bound in bytes, and keeps no more than the token.
func TestCacheMemory(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	c := newCache(8)
	long := strings.Repeat("x", maxCached+1)
	c.put(long, oauth2pw.Principal{ExpiresAt: now.Add(time.Hour)}, now)
	require.Nil(t, c.get(long))
	for i := range c.places {
		require.Nil(t, c.places[i].Load())
	}
	token := long[:maxCached] // a part of something longer, as of a request's header
	c.put(token, oauth2pw.Principal{ExpiresAt: now.Add(time.Hour)}, now)
	require.NotNil(t, c.get(token))
	for i := range c.places {
		if v := c.places[i].Load(); v != nil {
			require.NotSame(t, unsafe.StringData(token), unsafe.StringData(v.token))
		}
	}
	require.Nil(t, newCache(0))
	newCache(-1).put("x", oauth2pw.Principal{}, now) // remembers nothing
	require.Nil(t, newCache(-1).get("x"))
}

// TestCacheApart: a cache belongs to one verifier and one set of keys.
func TestCacheApart(t *testing.T) {
	r, _ := newRing(t, hmacJWK)
	other, _ := newRing(t, hmacJWK)
	token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	_, err = r.Verify(t.Context(), token)
	require.NoError(t, err)
	require.NotNil(t, r.state.Load().keys.cache.get(token))
	require.Nil(t, other.state.Load().keys.cache.get(token))
	require.NoError(t, r.SetKeys(mustKeys(t, hmacJWK)...))
	require.Nil(t, r.state.Load().keys.cache.get(token))
}

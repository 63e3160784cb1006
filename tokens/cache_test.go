package tokens

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestCache: bounded to the count it is given; expiry is compared at every hit.
func TestCache(t *testing.T) {
	for _, size := range []int{1, 3, 64} {
		r, clock := newRing(t, hmacJWK, func(c *Config) { c.Cache = size })
		var all []string
		for i := range 20 * size { // at 200 one of 64 places stayed empty in one run of 400
			token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: fmt.Sprint(i)})
			require.NoError(t, err)
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
			all = append(all, token)
		}
		remembered := 0
		for i := range r.state.Load().cache.places {
			if r.state.Load().cache.places[i].Load() != nil {
				remembered++
			}
		}
		require.Len(t, r.state.Load().cache.places, size)
		require.Equal(t, size, remembered)
		for i, token := range all {
			p, err := r.Verify(t.Context(), token)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), p.Subject)
		}
		clock.now = clock.now.Add(time.Hour)
		for _, token := range all {
			_, err := r.Verify(t.Context(), token)
			require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
		}
	}
}

package tokens

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestJWKSHandler(t *testing.T) {
	get := func(r *Ring, method, tag string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, "/.well-known/jwks.json", nil)
		req.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		r.JWKSHandler().ServeHTTP(w, req)
		return w
	}
	r, _ := newRing(t, hmacJWK)
	require.Equal(t, `{"keys":[]}`, get(r, "GET", "").Body.String())
	for _, alg := range algorithms[3:] {
		r, _ := newRing(t, string(newKeys()[alg]))
		w := get(r, "GET", "")
		require.Equal(t, 200, w.Code)
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		require.Contains(t, w.Header().Get("Cache-Control"), "max-age")
		var set struct{ Keys []map[string]any }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &set))
		require.Len(t, set.Keys, 1)
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			require.NotContains(t, set.Keys[0], private)
		}
		require.Equal(t, alg, set.Keys[0]["alg"])
		require.Equal(t, "sig", set.Keys[0]["use"])
		require.Equal(t, r.state.Load().signer.kid, set.Keys[0]["kid"])
		require.Equal(t, 304, get(r, "GET", w.Header().Get("ETag")).Code)
		public, err := ParseKeys(w.Body.Bytes())
		require.NoError(t, err)
		require.Nil(t, public[0].material.sign)
		require.NoError(t, r.SetKeys(mustKeys(t, hmacJWK)...))
		require.Equal(t, 200, get(r, "GET", w.Header().Get("ETag")).Code)
		post := get(r, "POST", "")
		require.Equal(t, 405, post.Code)
		require.Equal(t, "GET, HEAD", post.Header().Get("Allow"))
	}
}

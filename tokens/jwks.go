package tokens

import (
	"crypto/sha256"
	"net/http"
	"strconv"
)

// JWKSHandler returns a handler of GET. The answer is the JWK set (RFC 7517, section 5) of the
// public keys of the ring, which is empty for HMAC keys. The usual path is
// /.well-known/jwks.json. Clients may keep the answer for five minutes: publish a key at least
// five minutes before the key signs.
func (r *Ring) JWKSHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			h.Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusMethodNotAllowed)
			_, _ = w.Write([]byte(`{"error":"invalid_request","error_description":"The method must be GET."}`))
			return
		}
		keys := r.state.Load().publicKeys
		digest := sha256.Sum256(keys)
		tag := `"` + encode(digest[:12]) + `"`
		h.Set("Cache-Control", "public, max-age=300")
		h.Set("ETag", tag)
		if req.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Length", strconv.Itoa(len(keys)))
		_, _ = w.Write(keys) // an error means that the client has disconnected
	})
}

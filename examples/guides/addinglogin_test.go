package guides

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestRoot: a pattern "GET /" is a conflict with "/token"; "/" and "GET /{$}" are not.
func TestRoot(t *testing.T) {
	auth := newTestAuth(t, oauth2pw.Config{})
	mux := http.NewServeMux()
	withRoot(mux, auth, http.NotFoundHandler())
	require.Panics(t, func() { mux.Handle("GET /", http.NotFoundHandler()) })
	mux.Handle("/", http.NotFoundHandler())
}

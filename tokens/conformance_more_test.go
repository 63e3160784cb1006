package tokens_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/tokens"
)

// TestConformance101: an HMAC key is at least as long as the hash.
func TestConformance101(t *testing.T) {
	for alg, least := range map[string]int{"HS256": 32, "HS384": 48, "HS512": 64} {
		for size, ok := range map[int]bool{1: false, least - 1: false, least: true, least + 1: true} {
			k := base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, size))
			keys, err := tokens.ParseKeys(fmt.Appendf(nil, `{"kty":"oct","alg":%q,"k":%q}`, alg, k))
			require.Equal(t, ok, err == nil, "%s, %d bytes: %v", alg, size, err)
			if ok {
				_, err := tokens.New(tokens.Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api"})
				require.NoError(t, err)
			}
		}
	}
}

package peerbench

import (
	"crypto"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-oauth2/oauth2/v4"
	jwt4 "github.com/golang-jwt/jwt/v4"
	"github.com/stretchr/testify/require"
)

type jwt4Token = jwt4.Token

var tokenRequest = oauth2.TokenGenerateRequest{ClientID: "c", ClientSecret: "s", UserID: "42", Scope: "me items"}

// rawKey reads a private JWK as keys of the standard library.
func rawKey(tb testing.TB, data []byte) (private crypto.PrivateKey, public crypto.PublicKey) {
	var k jose.JSONWebKey
	require.NoError(tb, k.UnmarshalJSON(data))
	if secret, ok := k.Key.([]byte); ok {
		return secret, secret
	}
	return k.Key, k.Public().Key
}

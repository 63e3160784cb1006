package guides

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestLeaving: the steps of the guide, with a ring in another server as the provider.
func TestLeaving(t *testing.T) {
	_, err := remote()
	require.NoError(t, err)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	open := func(issuer, audience string) *tokens.Ring {
		jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), issuer, audience)
		require.NoError(t, err)
		return jwt
	}
	theirs := open(server.URL, "https://api.example.com")
	mux.Handle("/jwks.json", theirs.JWKSHandler())
	token, _, err := theirs.Issue(t.Context(), oauth2pw.Principal{Subject: "1", Scope: "read:items openid admin"})
	require.NoError(t, err)
	provider, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer: server.URL, JWKSURL: server.URL + "/jwks.json", Audience: "https://api.example.com",
		Scopes: map[string]string{"read:items": "items", "openid": "me"},
	})
	require.NoError(t, err)

	h, jwt := cheap(t), open("https://api.example.com", "api")
	c := oauth2pw.Config{
		Users: fastAPIStore(t, h), Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"}, LoadUser: true,
		Scopes:   map[string]string{"me": "", "items": "", "admin": ""},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{secretKey}, OnEvent: countPasswordLogins,
	}
	auth, err := duringTheMove(c, jwt, provider)
	require.NoError(t, err)
	const password = "grant_type=password&username=johndoe&password=secret"
	own := accessToken(t, auth.TokenHandler())
	require.Equal(t, "1", passwordLogins.Get("").String())
	var issuer, subject string
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { issuer, subject = userOfBoth(r) })
	for _, test := range []struct {
		scope, token, issuer string
		status               int
	}{
		{"me", own, jwt.Issuer(), 200},
		{"items", own, jwt.Issuer(), 403},
		{"me", token, server.URL, 200},
		{"items", token, server.URL, 200},
		{"admin", token, server.URL, 403},
	} {
		require.Equal(t, test.status, do(auth.RequireBearer(test.scope)(handler), bearing("/", test.token)).Code, test)
		if test.status == 200 {
			require.Equal(t, []string{test.issuer, "1"}, []string{issuer, subject})
		}
	}

	c.Verifier, err = tokens.ByIssuer(jwt, provider)
	require.NoError(t, err)
	answer, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "")
	require.NoError(t, err)
	auth, err = afterTheClients(c)
	require.NoError(t, err)
	w := form(password)(t, auth.TokenHandler())
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), `"unsupported_grant_type"`)
	w = form("grant_type=refresh_token&refresh_token="+string(answer.RefreshToken))(t, auth.TokenHandler())
	require.Equal(t, 200, w.Code, w.Body)
	w = do(auth.MetadataHandler(oauth2pw.Metadata{TokenEndpoint: "https://api.example.com/token"}), httptest.NewRequest("GET", "/", nil))
	require.NotContains(t, w.Body.String(), `"password"`)
	require.Equal(t, 200, do(auth.RequireBearer("items")(handler), bearing("/", token)).Code)

	after := http.NewServeMux()
	onlyTheProvider(after, provider, handler)
	require.Equal(t, 200, do(after, bearing("/items", token)).Code)
	require.Equal(t, 401, do(after, bearing("/items", own)).Code)
}

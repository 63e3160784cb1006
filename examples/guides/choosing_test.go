package guides

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestChooseStores: each store of the table makes an Auth, beside the sessions of the table.
func TestChooseStores(t *testing.T) {
	t.Chdir(t.TempDir())
	jwt, err := chooseKey("EdDSA")
	require.NoError(t, err)
	configs, err := chooseUsers(t.Context(), openDatabase(t), oauth2pw.User{ID: "1", Username: "johndoe"})
	require.NoError(t, err)
	for _, c := range configs {
		c.Issuer, c.Secrets = jwt, []oauth2pw.Secret{secretKey}
		if c.Users != nil {
			c.Hasher = cheap(t)
		}
		_, err := oauth2pw.New(c)
		require.NoError(t, err)
	}
}

// TestChooseSettings: New accepts each group of settings.
func TestChooseSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	jwt, err := chooseKey("EdDSA")
	require.NoError(t, err)
	check := func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error { return nil }
	for _, c := range chooseSettings(check) {
		c.Issuer, c.Users, c.Hasher, c.Sessions = jwt, new(store.Users), cheap(t), new(store.Sessions)
		c.Secrets = []oauth2pw.Secret{secretKey}
		_, err := oauth2pw.New(c)
		require.NoError(t, err)
	}
}

// TestChooseKeys: the verifiers read exactly the keys that the table says.
func TestChooseKeys(t *testing.T) {
	text := read(t, "../../docs/choosing.md")
	rows := regexp.MustCompile(`(?m)^\| ((?:EdDSA|[EHPR]S\d+)(?:, [EHPR]S\d+)*) \|.*$`).FindAllStringSubmatch(text, -1)
	seen := 0
	for _, row := range rows {
		cells := strings.Split(row[0], "|")
		for _, alg := range strings.Split(row[1], ", ") {
			t.Run(alg, func(t *testing.T) {
				seen++
				t.Chdir(t.TempDir())
				ring, verifier, remote, remoteWith := readers(t, alg)
				require.True(t, ring)
				require.Equal(t, strings.TrimSpace(cells[3]) == "yes", verifier, "Verifier")
				switch said := strings.TrimSpace(cells[4]); said {
				case "yes", "no":
					require.Equal(t, said == "yes", remote, "Remote")
					require.Equal(t, said == "yes", remoteWith, "Remote with Algorithms")
				default:
					require.Equal(t, "with `RemoteConfig.Algorithms`", said)
					require.False(t, remote)
					require.True(t, remoteWith)
				}
			})
		}
	}
	require.Equal(t, 13, seen, "algorithms")
}

// readers reports which verifiers accept a token of a ring with a key.
func readers(t *testing.T, alg string) (ring, verifier, remote, remoteWith bool) {
	_, err := chooseKey(alg)
	require.NoError(t, err)
	keys, err := tokens.ReadKeys("signing.jwk")
	require.NoError(t, err)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: server.URL, Audience: "api"})
	require.NoError(t, err)
	mux.Handle("/jwks.json", jwt.JWKSHandler())
	token, _, err := jwt.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	accepts := func(v oauth2pw.TokenVerifier) bool {
		_, err := v.Verify(t.Context(), token)
		return err == nil
	}
	ring = accepts(jwt)
	w := httptest.NewRecorder()
	jwt.JWKSHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if public, err := tokens.ParseKeys(w.Body.Bytes()); err == nil {
		v, err := tokens.NewVerifier(tokens.VerifierConfig{Keys: public, Issuer: server.URL, Audience: "api"})
		require.NoError(t, err)
		verifier = accepts(v)
	}
	for _, allowed := range [][]string{nil, {alg}} {
		v, err := tokens.NewRemote(tokens.RemoteConfig{Issuer: server.URL, JWKSURL: server.URL + "/jwks.json", Audience: "api", Algorithms: allowed})
		if err != nil {
			continue
		}
		if allowed == nil {
			remote = accepts(v)
		} else {
			remoteWith = accepts(v)
		}
	}
	return ring, verifier, remote, remoteWith
}

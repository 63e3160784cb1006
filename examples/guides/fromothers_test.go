package guides

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestAfterTheMove: the program of the guide logs in, and protects its handler.
func TestAfterTheMove(t *testing.T) {
	t.Chdir(t.TempDir())
	handler, err := afterTheMove(fastAPIStore(t, cheap(t)), hello)
	require.NoError(t, err)
	require.Equal(t, 401, do(handler, httptest.NewRequest("GET", "/hello", nil)).Code)
	w := do(handler, bearing("/hello", accessToken(t, handler)))
	require.Equal(t, "hello, user 1\n", w.Body.String())
}

// TestTokensOfTheOldApp: the verifier of the guide accepts the tokens that parse accepts,
// beside those of the app, and refuses those of a disabled user.
func TestTokensOfTheOldApp(t *testing.T) {
	h := cheap(t)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	exp := time.Now().Add(time.Hour)
	byToken := map[string]string{
		handMade(t, "k", map[string]any{"sub": "1", "exp": exp.Unix()}): "1",
		handMade(t, "k", map[string]any{"sub": "2", "exp": exp.Unix()}): "2",
	}
	auth, err := withOldTokens(oauth2pw.Config{Users: fastAPIStore(t, h), Hasher: h, DefaultScopes: []string{"me"}}, jwt, func(token string) (string, time.Time, error) {
		if byToken[token] == "" {
			return "", time.Time{}, errors.New("not a token of the old app")
		}
		return byToken[token], exp, nil
	})
	require.NoError(t, err)
	handler := auth.RequireBearer("me")(http.HandlerFunc(hello))
	for token, user := range byToken {
		want := map[string]int{"1": 200, "2": 401}[user] // user 2 is disabled
		require.Equal(t, want, do(handler, bearing("/", token)).Code)
	}
	require.Equal(t, 401, do(handler, bearing("/", handMade(t, "x", map[string]any{"sub": "1", "exp": exp.Unix()}))).Code)
	own, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "")
	require.NoError(t, err)
	require.Equal(t, 200, do(handler, bearing("/", string(own.AccessToken))).Code)
}

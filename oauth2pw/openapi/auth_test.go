package openapi_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

func authOf(t *testing.T, edit func(c *oauth2pw.Config)) *oauth2pw.Auth {
	t.Helper()
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	require.NoError(t, err)
	users, err := store.NewUsers()
	require.NoError(t, err)
	c := oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: jwt, Realm: "app", Scopes: map[string]string{"me": "x", "items": ""}, DefaultScopes: []string{"me"}}
	edit(&c)
	auth, err := oauth2pw.New(c)
	require.NoError(t, err)
	return auth
}

// TestAuth: the description of an Auth follows its Config.
func TestAuth(t *testing.T) {
	withSessions := func(c *oauth2pw.Config) {
		c.Sessions, c.Secrets = new(store.Sessions), []oauth2pw.Secret{oauth2pw.NewSecret()}
	}
	scopes := map[string]string{"me": "x", "items": ""}
	for _, test := range []struct {
		name                 string
		edit                 func(c *oauth2pw.Config)
		tokenURL, refreshURL string
	}{
		{"without sessions", func(*oauth2pw.Config) {}, "token", ""},
		{"with refresh tokens", withSessions, "token", "token"},
		{"with sessions, without refresh tokens", func(c *oauth2pw.Config) { withSessions(c); c.DisableRefresh = true }, "token", ""},
		{"without the password grant", func(c *oauth2pw.Config) { withSessions(c); c.DisablePasswordGrant = true }, "", ""},
	} {
		b := authOf(t, test.edit).PasswordBearer("token")
		require.Equal(t, []any{test.tokenURL, test.refreshURL, scopes, "app"}, []any{b.TokenURL, b.RefreshURL, b.Scopes, b.Realm}, test.name)
		b.Scopes["x"] = ""
	}
}

// TestRequireRecent: a handler that asks for a fresh password needs a token, whatever is
// outside.
func TestRequireRecent(t *testing.T) {
	auth := authOf(t, func(*oauth2pw.Config) {})
	recent := auth.RequireRecent(time.Minute)(auth.RequireBearer("items")(http.NotFoundHandler()))
	require.Equal(t, openapi.Requirements("me", "items"), openapi.RequirementsOf(auth.RequireBearer("me")(recent)))
	require.Equal(t, openapi.Requirements(), openapi.RequirementsOf(auth.OptionalBearer()(auth.RequireRecent(time.Minute)(http.NotFoundHandler()))))
	h := auth.RequireBearer("me")(http.NotFoundHandler())
	h.(interface{ RequiredScopes() []string }).RequiredScopes()[0] = "changed"
	require.Equal(t, openapi.Requirements("me"), openapi.RequirementsOf(h), "the list is a copy")
}

package routers

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestRouters: on every router a login works, a handler opens to its token alone, and does
// not run after a refusal.
func TestRouters(t *testing.T) {
	gin.SetMode(gin.TestMode)
	for name, wire := range map[string]func(*oauth2pw.Auth) (http.Handler, error){
		"chi": withChi, "echo": withEcho, "gin": withGin, "huma": withHuma,
	} {
		t.Run(name, func(t *testing.T) {
			handler, err := wire(newAuth(t))
			require.NoError(t, err)
			server := httptest.NewServer(handler)
			defer server.Close()
			do := func(method, target, token string, form url.Values) (*http.Response, string) {
				r, err := http.NewRequest(method, server.URL+target, strings.NewReader(form.Encode()))
				require.NoError(t, err)
				if form != nil {
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				}
				resp, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				return resp, string(body)
			}
			login := func(scope string) string {
				resp, body := do("POST", "/token", "", url.Values{
					"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}, "scope": {scope},
				})
				require.Equal(t, 200, resp.StatusCode, body)
				var answer struct{ Access_token string }
				require.NoError(t, json.Unmarshal([]byte(body), &answer))
				return answer.Access_token
			}
			for _, test := range []struct {
				name, token   string
				status        int
				body, refused string
			}{
				{"the token", login("me"), 200, "hello, user 1", ""},
				{"no token", "", 401, `"error":"unauthorized"`, `Bearer realm="api"`},
				{"a bad token", "x.y.z", 401, `"error":"invalid_token"`, `error="invalid_token"`},
				{"a token without the scope", login("items"), 403, `"error":"insufficient_scope"`, `scope="me"`},
			} {
				resp, body := do("GET", "/hello", test.token, nil)
				require.Equal(t, test.status, resp.StatusCode, test.name)
				require.Contains(t, body, test.body, test.name)
				require.Contains(t, resp.Header.Get("WWW-Authenticate"), test.refused, test.name)
				require.Equal(t, test.status == 200, strings.Contains(body, "hello"), test.name)
			}
			resp, body := do("GET", "/token", "", nil)
			require.Equal(t, 405, resp.StatusCode)
			require.Contains(t, body, `"error":"invalid_request"`)

			_, body = do("GET", "/openapi.json", "", nil)
			var doc struct {
				Paths      map[string]map[string]struct{ Security json.RawMessage }
				Components struct{ SecuritySchemes map[string]json.RawMessage }
			}
			require.NoError(t, json.Unmarshal([]byte(body), &doc), body)
			require.JSONEq(t, `{"type":"oauth2","flows":{"password":{"tokenUrl":"token","scopes":{"me":"","items":""}}}}`, string(doc.Components.SecuritySchemes["OAuth2PasswordBearer"]))
			require.JSONEq(t, `[{"OAuth2PasswordBearer":["me"]}]`, string(doc.Paths["/hello"]["get"].Security))
		})
	}
}

// TestREADME: the README shows the adapter for gin, to the letter.
func TestREADME(t *testing.T) {
	source, err := os.ReadFile("routers.go")
	require.NoError(t, err)
	for _, block := range readme.Blocks(t, "go") {
		if strings.HasPrefix(block, "func ginBearer") {
			require.Contains(t, string(source), block)
			return
		}
	}
	t.Error("the README has no adapter for gin")
}

func newAuth(t *testing.T) *oauth2pw.Auth {
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 1024, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash), Scopes: []string{"me", "items"}})
	require.NoError(t, err)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, Scopes: map[string]string{"me": "", "items": ""}, DefaultScopes: []string{"me"},
	})
	require.NoError(t, err)
	return auth
}

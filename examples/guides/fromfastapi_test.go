package guides

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

const secretKey = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7"

// cheap returns a hasher for tests.
func cheap(t *testing.T) *hasher.Hasher {
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	return h
}

func fastAPIStore(t *testing.T, h *hasher.Hasher) *store.Users {
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	users, err := store.NewUsers(
		oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)},
		oauth2pw.User{ID: "2", Username: "alice", PasswordHash: oauth2pw.Secret(hash), Disabled: true},
		oauth2pw.User{ID: "3", Username: "bob", PasswordHash: oauth2pw.Secret(hash), Scopes: []string{"me", "items"}},
	)
	require.NoError(t, err)
	return users
}

func fastAPIServer(t *testing.T, until time.Time) http.Handler {
	h := cheap(t)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	auth, err := fromFastAPI(fastAPIStore(t, h), h, jwt, secretKey, until)
	require.NoError(t, err)
	mux := http.NewServeMux()
	fastAPIRoutes(mux, auth, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _ := fastAPIHandler(r)
		fmt.Fprint(w, "hello, "+name)
	}))
	return mux
}

// TestOldTokens: the program of the guide accepts a token of PyJWT until the day, and only
// such a token.
func TestOldTokens(t *testing.T) {
	server := fastAPIServer(t, time.Now().Add(time.Hour))
	get := func(handler http.Handler, path, token string) int {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == 200 {
			require.Equal(t, "hello, johndoe", w.Body.String())
		}
		return w.Code
	}
	old := pyJWT(t)
	require.Equal(t, 200, get(server, "/users/me", old))
	require.Equal(t, 403, get(server, "/users/me/items", old), "the token has no scope")
	require.Equal(t, 401, get(fastAPIServer(t, time.Now().Add(-time.Second)), "/users/me", old), "after the day")

	exp := time.Now().Add(time.Hour).Unix()
	for _, test := range []struct {
		name, key string
		claims    map[string]any
		path      string
		status    int
	}{
		{"by hand", secretKey, map[string]any{"sub": "johndoe", "exp": exp}, "/users/me", 200},
		{"scope", secretKey, map[string]any{"sub": "johndoe", "exp": exp, "scope": "me items"}, "/users/me/items", 200},
		{"scopes", secretKey, map[string]any{"sub": "johndoe", "exp": exp, "scopes": []string{"items"}}, "/users/me/items", 200},
		{"another secret", strings.ToUpper(secretKey), map[string]any{"sub": "johndoe", "exp": exp}, "/users/me", 401},
		{"expired", secretKey, map[string]any{"sub": "johndoe", "exp": exp - 7200}, "/users/me", 401},
		{"disabled", secretKey, map[string]any{"sub": "alice", "exp": exp}, "/users/me", 401},
		{"unknown", secretKey, map[string]any{"sub": "carol", "exp": exp}, "/users/me", 401},
		{"JWTStrategy", secretKey, map[string]any{"sub": "johndoe", "exp": exp, "aud": []string{"fastapi-users:auth"}}, "/users/me", 401},
		{"iss", secretKey, map[string]any{"sub": "johndoe", "exp": exp, "iss": "x"}, "/users/me", 401},
		{"nbf", secretKey, map[string]any{"sub": "johndoe", "exp": exp, "nbf": 1}, "/users/me", 401},
	} {
		require.Equal(t, test.status, get(server, test.path, handMade(t, test.key, test.claims)), test.name)
	}

	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	h := cheap(t)
	_, err = fromFastAPI(fastAPIStore(t, h), h, jwt, "a short secret", time.Now())
	require.ErrorContains(t, err, "shorter than 32 bytes")
}

// pyJWT returns the token that the Python of the guide prints, or the same token without
// Python.
func pyJWT(t *testing.T) string {
	blocks := readme.BlocksOf(t, "../../docs/from-fastapi.md", "python")
	require.Len(t, blocks, 1)
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import jwt; jwt.encode").Run() != nil {
			continue
		}
		command := exec.CommandContext(t.Context(), python, "-c", blocks[0])
		command.Env = append(os.Environ(), "SECRET_KEY="+secretKey)
		out, err := command.Output()
		require.NoError(t, err)
		t.Log("the token is of PyJWT: ", python)
		return strings.TrimSpace(string(out))
	}
	t.Log("without PyJWT: the token is made by hand")
	return handMade(t, secretKey, map[string]any{"sub": "johndoe", "exp": time.Now().Add(30 * time.Minute).Unix()})
}

func handMade(t *testing.T, key string, claims map[string]any) string {
	payload, err := json.Marshal(claims)
	require.NoError(t, err)
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestOtherAnswers: each answer of the table is the answer of the program.
func TestOtherAnswers(t *testing.T) {
	for row, request := range otherAnswers {
		t.Run(row, func(t *testing.T) {
			line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(row) + ` \|.*$`).FindString(read(t, "../../docs/from-fastapi.md"))
			require.NotEmpty(t, line)
			answer := strings.TrimSpace(strings.Split(line, "|")[3])
			want := regexp.MustCompile("^(\\d+)(?: `(\\w+)`)?").FindStringSubmatch(answer)
			require.NotNil(t, want, answer)
			server := fastAPIServer(t, time.Now().Add(time.Hour))
			w := request(t, server)
			require.Equal(t, want[1], fmt.Sprint(w.Code), w.Body)
			if want[2] != "" {
				require.Contains(t, w.Body.String(), `"error":"`+want[2]+`"`)
			}
		})
	}
	rows := strings.Count(between(t, read(t, "../../docs/from-fastapi.md"), "## Other answers", "A success"), "\n| ") - 2
	require.Len(t, otherAnswers, rows)
}

func between(t *testing.T, text, begin, end string) string {
	_, text, found := strings.Cut(text, begin)
	require.True(t, found)
	text, _, found = strings.Cut(text, end)
	require.True(t, found)
	return text
}

var otherAnswers = map[string]func(t *testing.T, server http.Handler) *httptest.ResponseRecorder{
	"no `password`":                      form("grant_type=password&username=johndoe"),
	"`username` twice":                   form("grant_type=password&username=johndoe&username=johndoe&password=secret"),
	"no `grant_type`":                    form("username=johndoe&password=secret"),
	"a wrong password":                   form("grant_type=password&username=johndoe&password=wrong"),
	"the login of a disabled user":       form("grant_type=password&username=alice&password=secret"),
	"no scope":                           form("grant_type=password&username=johndoe&password=secret"),
	"a scope that the user may not have": form("grant_type=password&username=johndoe&password=secret&scope=items"),
	"two spaces between scopes":          form("grant_type=password&username=bob&password=secret&scope=me++items"),
	"`multipart/form-data`": func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		contentType, body := multipartForm(t)
		return do(server, post("https://api.example.com/token", contentType, body))
	},
	"the eleventh wrong password in 15 minutes, each another one": func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		for i := range 10 {
			require.Equal(t, 400, form(fmt.Sprintf("grant_type=password&username=johndoe&password=wrong%d", i))(t, server).Code)
		}
		return form("grant_type=password&username=johndoe&password=secret")(t, server)
	},
	"`Authorization: Bearer` without a token": func(_ *testing.T, server http.Handler) *httptest.ResponseRecorder {
		return do(server, bearing("/users/me", ""))
	},
	"an invalid token": func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		w := do(server, bearing("/users/me", "x.y.z"))
		require.Contains(t, w.Header().Get("WWW-Authenticate"), `error="invalid_token"`)
		return w
	},
	"a token without the scope": func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		return do(server, bearing("/users/me/items", accessToken(t, server)))
	},
	"the token of a disabled user": func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		return do(server, bearing("/users/me", handMade(t, secretKey, map[string]any{"sub": "alice", "exp": time.Now().Add(time.Hour).Unix()})))
	},
	"plain HTTP from another machine": func(_ *testing.T, server http.Handler) *httptest.ResponseRecorder {
		return do(server, post("http://api.example.com/token", "application/x-www-form-urlencoded", "grant_type=password&username=johndoe&password=secret"))
	},
}

func form(body string) func(*testing.T, http.Handler) *httptest.ResponseRecorder {
	return func(t *testing.T, server http.Handler) *httptest.ResponseRecorder {
		w := do(server, post("https://api.example.com/token", "application/x-www-form-urlencoded", body))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		return w
	}
}

func post(target, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	return r
}

func bearing(path, token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func do(server http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	server.ServeHTTP(w, r)
	return w
}

func accessToken(t *testing.T, server http.Handler) string {
	w := form("grant_type=password&username=johndoe&password=secret")(t, server)
	var answer struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
		Scope       string `json:"scope"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.Equal(t, []any{"bearer", 900, "me"}, []any{answer.TokenType, answer.ExpiresIn, answer.Scope})
	return answer.AccessToken
}

func multipartForm(t *testing.T) (contentType, body string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	require.NoError(t, w.WriteField("username", "johndoe"))
	require.NoError(t, w.WriteField("password", "secret"))
	require.NoError(t, w.Close())
	return w.FormDataContentType(), b.String()
}

// TestFastAPISettings: the settings of the guide take the forms of FastAPI's front ends, and
// the table of fastapi-users.
func TestFastAPISettings(t *testing.T) {
	h := cheap(t)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	c := oauth2pw.Config{Users: fastAPIStore(t, h), Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"}}
	fastAPISettings(&c)
	auth, err := oauth2pw.New(c)
	require.NoError(t, err)
	contentType, body := multipartForm(t)
	for _, r := range []*http.Request{
		post("https://api.example.com/token", contentType, body),
		post("https://api.example.com/token", "application/x-www-form-urlencoded", url.Values{"username": {"JohnDoe"}, "password": {"secret"}}.Encode()),
	} {
		w := do(auth.TokenHandler(), r)
		require.Equal(t, 200, w.Code, w.Body)
	}
	for _, w := range []*httptest.ResponseRecorder{
		do(auth.TokenHandler(), post("https://api.example.com/token", "application/x-www-form-urlencoded", "username=johndoe&password=wrong")),
		do(auth.RequireBearer()(http.NotFoundHandler()), httptest.NewRequest(http.MethodGet, "/", nil)),
	} {
		var answer map[string]string
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		require.NotEmpty(t, answer["detail"], w.Body)
		require.Equal(t, answer["error_description"], answer["detail"])
	}

	claims, err := role(context.Background(), oauth2pw.Principal{Scope: "me"})
	require.NoError(t, err)
	require.Equal(t, "ME", claims["role"])
}

// TestFastAPIUsersTable: the table of fastapi-users opens with its hashes.
func TestFastAPIUsersTable(t *testing.T) {
	db := openDatabase(t)
	for _, statement := range []string{
		`CREATE TABLE "user" (id CHAR(36) PRIMARY KEY, email VARCHAR(320) NOT NULL, hashed_password VARCHAR(1024) NOT NULL, is_active BOOLEAN NOT NULL, is_superuser BOOLEAN NOT NULL, is_verified BOOLEAN NOT NULL)`,
		`CREATE UNIQUE INDEX ix_user_email ON "user" (email)`,
		`INSERT INTO "user" VALUES
			('0b5ab9e2-2f4e-4d3c-9d0a-8b6f0c0f7a11', 'Jane@example.com', '$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW', TRUE, FALSE, TRUE),
			('0b5ab9e2-2f4e-4d3c-9d0a-8b6f0c0f7a12', 'joe@example.com', '$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW', FALSE, FALSE, TRUE)`,
		`UPDATE user SET email = lower(email)`,
	} {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	users, err := fastAPIUsers(db)
	require.NoError(t, err)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	c := oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: jwt, DefaultScopes: []string{"me", "items"}}
	fastAPISettings(&c)
	auth, err := oauth2pw.New(c)
	require.NoError(t, err)
	mux := http.NewServeMux()
	fastAPIRoutes(mux, auth, http.NotFoundHandler())
	for name, status := range map[string]int{"JANE@example.com": 200, "jane@example.com": 200, "joe@example.com": 400} {
		w := do(mux, post("https://api.example.com/auth/jwt/login", "application/x-www-form-urlencoded", url.Values{"username": {name}, "password": {"secret"}}.Encode()))
		if name == "joe@example.com" {
			require.Contains(t, w.Body.String(), "invalid_grant")
		}
		require.Equal(t, status, w.Code, w.Body)
	}
}

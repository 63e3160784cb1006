package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// isService makes this binary the service, with a clock that its parent moves by stdin.
const isService = "RESOURCE_TEST_SERVICE"

func TestMain(m *testing.M) {
	if os.Getenv(isService) == "" {
		os.Exit(m.Run())
	}
	var ahead atomic.Int64
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			d, err := time.ParseDuration(in.Text())
			if err != nil {
				panic(err)
			}
			ahead.Add(int64(d))
			fmt.Println("ok")
		}
		os.Exit(0) // the parent has ended
	}()
	err := run(os.Args[1:], func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }, os.Stdout)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// service is the program in a process of its own.
type service struct {
	*testing.T
	url string
	in  io.WriteCloser
	out *bufio.Reader
}

func startService(t *testing.T, args ...string) *service {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(program, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), isService+"=1", "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NotEqual(t, os.Getpid(), cmd.Process.Pid)
	t.Cleanup(func() {
		require.NoError(t, in.Close())
		require.NoError(t, cmd.Wait(), "the process ran until the end of the test")
	})
	s := &service{t, "", in, bufio.NewReader(out)}
	_, address, found := strings.Cut(s.line(), "listening on ")
	require.True(t, found)
	s.url = address
	return s
}

func (s *service) line() string {
	s.Helper()
	line, err := s.out.ReadString('\n')
	require.NoError(s, err)
	return strings.TrimSpace(line)
}

// later moves the clock of the service.
func (s *service) later(d time.Duration) {
	s.Helper()
	_, err := fmt.Fprintln(s.in, d)
	require.NoError(s, err)
	require.Equal(s, "ok", s.line())
}

// items calls the service, and returns the status, the body and WWW-Authenticate.
func (s *service) items(token string) (int, string, string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), "GET", s.url+"/items", nil)
	require.NoError(s, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(s, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return resp.StatusCode, string(body), resp.Header.Get("WWW-Authenticate")
}

func (s *service) requireStatus(status int, token, message string) {
	s.Helper()
	got, body, _ := s.items(token)
	require.Equal(s, status, got, "%s: %s", message, body)
}

// issuer is a login server in the process of the test.
type issuer struct {
	*testing.T
	url     string
	key     tokens.Key
	jwt     *tokens.Ring
	down    atomic.Bool
	fetches atomic.Int32 // of the key set
}

func startIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{T: t, key: newKey(t)}
	mux := http.NewServeMux()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	i.url = server.URL
	i.jwt = i.ring(i.url, "api", time.Now, i.key)

	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	require.NoError(t, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: i.jwt, DefaultScopes: []string{"me", "items"},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()},
	})
	require.NoError(t, err)
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("GET /me", auth.RequireBearer("me")(http.NotFoundHandler()))
	mux.Handle("/.well-known/oauth-authorization-server", auth.MetadataHandler(oauth2pw.Metadata{
		TokenEndpoint: i.url + "/token", JWKSURI: i.url + "/jwks.json",
	}))
	jwks := i.jwt.JWKSHandler()
	mux.HandleFunc("/jwks.json", func(w http.ResponseWriter, r *http.Request) {
		i.fetches.Add(1)
		jwks.ServeHTTP(w, r)
	})
	return i
}

func newKey(t *testing.T) tokens.Key {
	t.Helper()
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	return key
}

func (i *issuer) ring(iss, aud string, now func() time.Time, key tokens.Key) *tokens.Ring {
	i.Helper()
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: iss, Audience: aud, Now: now})
	require.NoError(i, err)
	return ring
}

func (i *issuer) issue(ring *tokens.Ring, scope string) string {
	i.Helper()
	token, _, err := ring.Issue(i.Context(), oauth2pw.Principal{Subject: "1", Scope: scope})
	require.NoError(i, err)
	return token
}

func (i *issuer) post(path string, form url.Values) map[string]any {
	i.Helper()
	resp, err := http.PostForm(i.url+path, form)
	require.NoError(i, err)
	defer resp.Body.Close()
	var answer map[string]any
	require.NoError(i, json.NewDecoder(resp.Body).Decode(&answer))
	require.Equal(i, 200, resp.StatusCode, answer)
	return answer
}

func (i *issuer) login() string {
	i.Helper()
	return fmt.Sprint(i.post("/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})["access_token"])
}

// TestTokens: the service opens to a token of a login at the issuer, and to no other token. The
// service finds the keys by the issuer, or by -jwks.
func TestTokens(t *testing.T) {
	i := startIssuer(t)
	for name, args := range map[string][]string{
		"discovery": {"-issuer", i.url},
		"key set":   {"-issuer", i.url, "-jwks", i.url + "/jwks.json"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startService(t, args...)
			for _, test := range []struct {
				name, token string
				status      int
				body, head  string
			}{
				{"a login", i.login(), 200, "items of user 1 of " + i.url + `, with the scopes "items"`, ""},
				{"no token", "", 401, `"error":"unauthorized"`, `Bearer realm="items"`},
				{"no JWT", "x.y.z", 401, `"error":"invalid_token"`, `error="invalid_token"`},
				{"another scope", i.issue(i.jwt, "me"), 403, `"error":"insufficient_scope"`, `scope="items"`},
				{"another audience", i.issue(i.ring(i.url, "another", time.Now, i.key), "items"), 401, `"error":"invalid_token"`, ""},
				{"another issuer", i.issue(i.ring("https://another.example.com", "api", time.Now, i.key), "items"), 401, `"error":"invalid_token"`, ""},
				{"a forger's key", i.issue(i.ring(i.url, "api", time.Now, newKey(t)), "items"), 401, `"error":"invalid_token"`, ""},
				{"yesterday's token", i.issue(i.ring(i.url, "api", func() time.Time { return time.Now().Add(-24 * time.Hour) }, i.key), "items"), 401, `"error":"invalid_token"`, ""},
				{"the login again", i.login(), 200, "items of user 1", ""},
			} {
				status, body, head := s.items(test.token)
				require.Equal(t, test.status, status, "%s: %s", test.name, body)
				require.Contains(t, body, test.body, test.name)
				require.Contains(t, head, test.head, test.name)
				require.Equal(t, test.status == 200, strings.Contains(body, "items of user"), test.name)
			}
			s.later(15*time.Minute + 2*time.Second)
			s.requireStatus(401, i.issue(i.jwt, "items"), "the token has expired at the service's clock")
		})
	}
}

// TestPlannedRotation: with a key that is published before it signs, no token is refused.
func TestPlannedRotation(t *testing.T) {
	i := startIssuer(t)
	s := startService(t, "-issuer", i.url)
	next := newKey(t)
	require.NoError(t, i.jwt.SetKeys(i.key, next))
	before := i.login()
	s.requireStatus(200, before, "the old key signs, the new one is published")
	require.NoError(t, i.jwt.SetKeys(next, i.key))
	after := i.login()
	s.requireStatus(200, after, "the new key signs")
	s.requireStatus(200, before, "the old token")
	require.NoError(t, i.jwt.SetKeys(next))
	s.requireStatus(200, i.login(), "only the new key is left")
	require.EqualValues(t, 1, i.fetches.Load())
}

// TestSuddenRotation: a key that was stolen is replaced at once. The service learns of the new
// key by a token of it, but not more often than every 30 seconds, so that nobody makes it fetch
// at will. Then the stolen key is refused.
func TestSuddenRotation(t *testing.T) {
	i := startIssuer(t)
	s := startService(t, "-issuer", i.url)
	before := i.login()
	s.requireStatus(200, before, "the stolen key is not known as stolen")
	stolen := i.ring(i.url, "api", time.Now, i.key)
	require.NoError(t, i.jwt.SetKeys(newKey(t)))
	after := i.login()
	s.requireStatus(401, after, "the new key, right after a fetch")
	for range 3 {
		s.requireStatus(401, i.issue(i.ring(i.url, "api", time.Now, newKey(t)), "items"), "a forger's key")
	}
	require.EqualValues(t, 1, i.fetches.Load())

	s.later(31 * time.Second)
	s.requireStatus(200, after, "the new key")
	s.requireStatus(401, before, "a token of the old key")
	s.requireStatus(401, i.issue(stolen, "items"), "a new token of the stolen key")
	require.EqualValues(t, 2, i.fetches.Load())
}

// TestIssuerDown: without keys the answer is 503, because the token may be valid, and with keys
// the service does not need the issuer.
func TestIssuerDown(t *testing.T) {
	i := startIssuer(t)
	s := startService(t, "-issuer", i.url)
	token := i.login()
	i.down.Store(true)
	s.requireStatus(503, token, "no keys yet")
	s.requireStatus(401, i.issue(i.ring(i.url, "another", time.Now, i.key), "items"), "wrong in any case")
	i.down.Store(false)
	s.later(time.Second)
	s.requireStatus(200, token, "the keys are there")
	i.down.Store(true)
	s.later(14 * time.Minute)
	s.requireStatus(200, token, "the keys are old, and in use")
}

// TestLogout: the service does not see that a session has ended, as the doc comment says.
func TestLogout(t *testing.T) {
	i := startIssuer(t)
	s := startService(t, "-issuer", i.url)
	token := i.login()
	i.post("/revoke", url.Values{"token": {token}})
	r, err := http.NewRequestWithContext(t.Context(), "GET", i.url+"/me", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, 401, resp.StatusCode, "at the issuer")
	s.requireStatus(200, token, "at the service")
}

package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// serverFile is set in the environment of this test binary when it is to be a
// server over that SQLite file; it prints its URL and runs until it is killed.
const serverFile = "PASSWORDFLOW_TEST_SERVER"

// memberSettings is set in the environment of this test binary when it is to be a member of a
// fleet: the JSON of a member.
const memberSettings = "PASSWORDFLOW_TEST_MEMBER"

func TestMain(m *testing.M) {
	if file := os.Getenv(serverFile); file != "" {
		serveFile(file)
		return
	}
	if settings := os.Getenv(memberSettings); settings != "" {
		serveMember(settings)
		return
	}
	os.Exit(m.Run())
}

func sqliteDSN(file string) string {
	path := url.URL{Path: file} // the name of a test may have a "#"
	return "file:" + path.EscapedPath() + "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
}

func serveFile(file string) {
	db, err := sql.Open("sqlite", sqliteDSN(file))
	must(err)
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	must(err)
	must(st.Migrate(context.Background()))
	err = st.Users.Add(context.Background(), oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: "secret"})
	if !errors.Is(err, oauth2pw.ErrExists) { // after a restart
		must(err)
	}
	auth, err := oauth2pw.New(crashConfig(st, file))
	must(err)
	server := httptest.NewServer(auth.TokenHandler())
	_, err = os.Stdout.WriteString(server.URL + "\n")
	must(err)
	select {}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func crashConfig(st *sqlstore.Store, file string) oauth2pw.Config {
	jwt, err := tokens.Open(file+".jwk", "https://api.example.com", "api")
	must(err)
	secrets, err := oauth2pw.OpenSecrets(file + ".secret")
	must(err)
	return oauth2pw.Config{
		Users: st.Users, Hasher: plainHasher{}, Issuer: jwt,
		Sessions: st.Sessions, Secrets: secrets, RefreshGrace: 2 * time.Minute, LoadUser: true,
		DefaultScopes: []string{"me"},
	}
}

type plainHasher struct{}

func (plainHasher) Hash(_ context.Context, password string) (string, error) { return password, nil }

func (plainHasher) Verify(_ context.Context, hash, password string) (ok, outdated bool, err error) {
	return hash != "" && hash == password, false, nil
}

// process is a server in a process of its own.
type process struct {
	cmd    *exec.Cmd
	stdout io.Reader
	url    string // once it serves
}

func startProcess(t *testing.T, file string) *process {
	t.Helper()
	p := beginProcess(t, file)
	p.await(t)
	return p
}

// beginProcess starts a process, and does not wait until it serves.
func beginProcess(t *testing.T, file string) *process {
	t.Helper()
	return beginTestBinary(t, serverFile+"="+file)
}

// beginTestBinary starts this test binary with a variable of the environment.
func beginTestBinary(t *testing.T, variable string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), variable)
	cmd.Stderr = os.Stderr
	_, err := cmd.StdinPipe() // closed with the test
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &process{cmd: cmd, stdout: stdout}
	t.Cleanup(p.kill)
	return p
}

// await waits until the process serves.
func (p *process) await(t *testing.T) {
	t.Helper()
	line := make([]byte, 0, 64)
	for !bytes.HasSuffix(line, []byte("\n")) {
		one := make([]byte, 1)
		_, err := p.stdout.Read(one)
		require.NoError(t, err)
		line = append(line, one...)
	}
	p.url = strings.TrimSpace(string(line))
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // SIGKILL
	_ = p.cmd.Wait()
}

// refreshAt sends a refresh token. A lost answer is an error; a refusal is "".
func refreshAt(client *http.Client, server, token string) (string, error) {
	return tokenFrom(client.PostForm(server, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}))
}

func tokenFrom(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		return "", io.ErrUnexpectedEOF // nothing is decided: as good as lost
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	return answer.RefreshToken, json.Unmarshal(body, &answer)
}

// TestKilledWhileRefreshing: kill -9 in the middle of concurrent refreshes, 50
// times. No login is lost, and none is forked: each client sends its last token
// again, and what it gets is the one successor.
func TestKilledWhileRefreshing(t *testing.T) {
	const kills, clients = 50, 8
	file := filepath.Join(t.TempDir(), "test.db")
	p := startProcess(t, file)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	held := make([]string, clients) // the last refresh token that each client knows
	for i := range held {
		var err error
		held[i], err = tokenFrom(client.PostForm(p.url, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}))
		require.NoError(t, err)
		require.NotEmpty(t, held[i])
	}
	lost, refreshes := 0, 0
	for range kills {
		var mu sync.Mutex
		total := 0
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for i := range held {
			wg.Go(func() {
				for {
					next, err := refreshAt(client, p.url, held[i])
					mu.Lock()
					if err != nil {
						lost++
						mu.Unlock()
						return
					}
					if total++; total == 3*clients {
						close(enough)
					}
					mu.Unlock()
					if next == "" {
						t.Errorf("client %d was logged out", i)
						return
					}
					held[i] = next
				}
			})
		}
		<-enough
		p.kill() // while all of them are at it
		wg.Wait()
		refreshes += total
		p = startProcess(t, file)
		for i, token := range held {
			next, err := refreshAt(client, p.url, token)
			require.NoError(t, err)
			require.NotEmpty(t, next, "client %d lost its login", i)
			again, err := refreshAt(client, p.url, token)
			require.NoError(t, err)
			require.Equal(t, next, again, "client %d: a fork", i)
			held[i] = next
		}
	}
	t.Logf("%d kills, %d refreshes answered, %d answers lost", kills, refreshes, lost)
	require.NotZero(t, lost)

	// The table has one row a login.
	db, err := sql.Open("sqlite", sqliteDSN(file))
	require.NoError(t, err)
	defer db.Close()
	var rows, live int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), sum(ended_at IS NULL) FROM oauth2pw_sessions").Scan(&rows, &live))
	require.Equal(t, clients, rows)
	require.Equal(t, clients, live)
}

// TestDroppedAnswerAcrossRestart: the client that repeats its last refresh token
// gets the same successor from another process, and the one that repeats the token
// before that ends the session.
func TestDroppedAnswerAcrossRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	p := startProcess(t, file)
	client := http.DefaultClient
	first, err := tokenFrom(client.PostForm(p.url, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}))
	require.NoError(t, err)
	second, err := refreshAt(client, p.url, first)
	require.NoError(t, err)
	p.kill()
	p = startProcess(t, file)
	again, err := refreshAt(client, p.url, first)
	require.NoError(t, err)
	require.Equal(t, second, again)
	third, err := refreshAt(client, p.url, second)
	require.NoError(t, err)
	p.kill()
	p = startProcess(t, file)
	for _, token := range []string{first, third} {
		next, err := refreshAt(client, p.url, token)
		require.NoError(t, err)
		require.Empty(t, next)
	}
}

// TestDump: no file of the database holds a token or a password.
func TestDump(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "test.db")
	db, err := sql.Open("sqlite", sqliteDSN(file))
	require.NoError(t, err)
	defer db.Close()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	require.NoError(t, st.Migrate(t.Context()))
	const canary = "CANARYpassword"
	h := cheapHasher(t)
	hash, err := h.Hash(t.Context(), canary)
	require.NoError(t, err)
	require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)}))
	c := crashConfig(st, filepath.Join(t.TempDir(), "elsewhere"))
	c.Hasher = h
	auth, err := oauth2pw.New(c)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/", auth.TokenHandler())
	mux.Handle("/password", auth.RequireBearer()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := auth.ChangePassword(r, canary, "CANARYnew")
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	})))
	server := httptest.NewServer(mux)
	defer server.Close()

	canaries := []string{canary, "CANARYnew"}
	var answer struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	send := func(form url.Values) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+form.Get("path"), strings.NewReader(form.Encode()))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if form.Has("path") {
			r.Header.Set("Authorization", "Bearer "+answer.Access)
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
		canaries = append(canaries, answer.Access, answer.Refresh, answer.Refresh[4+34:])
	}
	send(url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {canary}})
	for range 5 {
		send(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {answer.Refresh}})
	}
	send(url.Values{"path": {"/password"}})

	dump := []byte{}
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		require.NoError(t, err)
		dump = append(dump, data...)
	}
	require.Contains(t, string(dump), "johndoe")
	for _, secret := range append(canaries, string(c.Secrets[0])) {
		require.False(t, bytes.Contains(dump, []byte(secret)), "the database holds %s", secret)
	}
}

// TestXOAuth2TokenSource: golang.org/x/oauth2's TokenSource under 16 goroutines,
// with access tokens of one second, for a minute: no request fails.
func TestXOAuth2TokenSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, _, err := tokens.NewKey("")
		require.NoError(t, err)
		jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api", TTL: time.Second})
		require.NoError(t, err)
		users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: "secret"})
		require.NoError(t, err)
		auth, err := oauth2pw.New(oauth2pw.Config{
			Users: users, Hasher: plainHasher{}, Issuer: jwt, Sessions: new(store.Sessions), DefaultScopes: []string{"me"},
			Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))}, LoadUser: true,
		})
		require.NoError(t, err)
		mux := http.NewServeMux()
		mux.Handle("/token", auth.TokenHandler())
		mux.Handle("GET /me", auth.RequireBearer("me")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
		memory := &http.Client{Transport: inMemory{mux}}
		ctx := context.WithValue(t.Context(), oauth2.HTTPClient, memory)
		c := oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: "https://api.example.com/token", AuthStyle: oauth2.AuthStyleInParams}}
		token, err := c.PasswordCredentialsToken(ctx, "johndoe", "secret")
		require.NoError(t, err)
		client := c.Client(ctx, token)
		var wg sync.WaitGroup
		var mu sync.Mutex
		requests := 0
		for i := range 16 {
			wg.Go(func() {
				for start := time.Now(); time.Since(start) < time.Minute; {
					resp, err := client.Get("https://api.example.com/me")
					if err != nil {
						t.Error(err)
						return
					}
					resp.Body.Close()
					if resp.StatusCode != 200 {
						t.Errorf("status %d", resp.StatusCode)
						return
					}
					mu.Lock()
					requests++
					mu.Unlock()
					time.Sleep(time.Duration(100+7*i) * time.Millisecond)
				}
			})
		}
		wg.Wait()
		t.Logf("%d requests", requests)
	})
}

// inMemory is a transport to a handler, without a network.
type inMemory struct{ handler http.Handler }

func (m inMemory) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.RemoteAddr = "127.0.0.1:1"
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	m.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "oathtool" {
		oathtool()
		return
	}
	dir, err := os.MkdirTemp("", "account")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "account")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintln(os.Stderr, string(out))
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

const (
	cheapHash = "-hash=m=64,t=1,p=1"
	jane      = "jane@example.com"
	password  = "correct horse 9"
)

// world is a running app, in another process or in this one.
type world struct {
	testing.TB
	url     string
	mails   chan mail
	headers map[string]string // of every request

	cmd *exec.Cmd // nil: in this process
	dir string

	mu  sync.Mutex
	now time.Time // of an app in this process

	hasher *countingHasher // of an app in this process
}

// start runs the program in a new folder, or in dir.
func start(t *testing.T, args ...string) *world { return startIn(t, t.TempDir(), args...) }

func startIn(t *testing.T, dir string, args ...string) *world {
	t.Helper()
	w := &world{TB: t, mails: make(chan mail, 100), dir: dir, headers: map[string]string{}}
	w.cmd = exec.Command(binary, append([]string{"-addr=127.0.0.1:0", cheapHash}, args...)...)
	w.cmd.Dir = dir
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	require.NoError(t, err)
	defer stderr.Close()
	w.cmd.Stderr = stderr
	stdout, err := w.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, w.cmd.Start())
	t.Cleanup(func() { _ = w.cmd.Process.Kill(); _ = w.cmd.Wait() })
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	require.NoError(t, err, w.log())
	address, ok := strings.CutPrefix(line, "listening on ")
	require.True(t, ok, line)
	w.url = strings.TrimSpace(address)
	go func() {
		defer close(w.mails)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				return
			}
			if bytes.HasPrefix(line, []byte("{")) {
				w.receive(line)
			}
		}
	}()
	return w
}

// log returns the stderr of the process.
func (w *world) log() string {
	data, err := os.ReadFile(filepath.Join(w.dir, "stderr"))
	require.NoError(w, err)
	return string(data)
}

// stop ends the process by SIGTERM, and requires status 0.
func (w *world) stop() {
	w.Helper()
	require.NoError(w, w.cmd.Process.Signal(syscall.SIGTERM))
	for range w.mails { // until the end of stdout
	}
	require.NoError(w, w.cmd.Wait(), w.log())
}

// inProcess runs the app in this process, with a clock that the test sets.
func inProcess(t testing.TB, args ...string) *world {
	t.Helper()
	o, err := parseFlags(append([]string{"-db=" + program.MemoryDB, cheapHash}, args...), io.Discard)
	require.NoError(t, err)
	o.Issuer = "http://127.0.0.1"
	w := &world{TB: t, mails: make(chan mail, 100), headers: map[string]string{}, now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	db, err := openDB(t.Context(), o.DB)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	h, err := hasher.New(o.Hash)
	require.NoError(t, err)
	w.hasher = &countingHasher{PasswordHasher: h}
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	mails := newOutbox(w, logger)
	app, err := newApp(o, parts{db, w.hasher, []tokens.Key{key}, []oauth2pw.Secret{oauth2pw.NewSecret()}, mails, logger, w.time})
	require.NoError(t, err)
	server := httptest.NewServer(app.routes())
	w.url = server.URL
	go mails.run()
	t.Cleanup(func() { server.Close(); mails.close() })
	return w
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass moves the clock of an app in this process.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// Write receives the mails of an app in this process.
func (w *world) Write(line []byte) (int, error) {
	w.receive(line)
	return len(line), nil
}

func (w *world) receive(line []byte) {
	var m map[string]mail
	if err := json.Unmarshal(line, &m); err != nil || len(m) != 1 {
		w.Errorf("%q is no mail: %v", line, err)
		return
	}
	w.mails <- m["mail"]
}

// mail waits for the next mail, and returns its token.
func (w *world) mail(kind, to string) string {
	w.Helper()
	select {
	case m, open := <-w.mails:
		require.True(w, open, "the process has ended")
		require.Equal(w, kind, m.Kind, m)
		require.Equal(w, to, m.To, m)
		require.Equal(w, kind == "verify" || kind == "reset", m.Token != "", m)
		return m.Token
	case <-time.After(20 * time.Second):
		require.Fail(w, "no mail", kind)
		return ""
	}
}

// noMail requires that no mail comes before the notice of a further sign-up: the outbox keeps
// the order.
func (w *world) noMail() {
	w.Helper()
	w.post("/signup", "", "email", "marker@example.com", "password", password).is(202)
	m := <-w.mails
	require.Equal(w, "marker@example.com", m.To, m)
}

// answer is an answer of the app.
type answer struct {
	w      *world
	status int
	header http.Header
	text   string
	json   map[string]any // nil: not an object
}

func (a answer) is(status int) answer {
	a.w.Helper()
	require.Equal(a.w, status, a.status, a.text)
	return a
}

// refused requires an error in the form of the contract.
func (a answer) refused(status int, code string) answer {
	a.w.Helper()
	a.is(status)
	require.Equal(a.w, code, a.json["error"], a.text)
	require.NotEmpty(a.w, a.json["error_description"], a.text)
	require.Equal(a.w, "application/json", a.header.Get("Content-Type"))
	return a
}

func (a answer) access() string {
	a.w.Helper()
	token, _ := a.is(200).json["access_token"].(string)
	require.NotEmpty(a.w, token)
	return token
}

func (a answer) refresh() string {
	a.w.Helper()
	token, _ := a.is(200).json["refresh_token"].(string)
	require.NotEmpty(a.w, token)
	return token
}

func (w *world) do(method, path, token, contentType, body string) answer {
	w.Helper()
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	require.NoError(w, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for name, value := range w.headers {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(w, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(w, err)
	a := answer{w: w, status: resp.StatusCode, header: resp.Header, text: string(data)}
	if strings.HasPrefix(a.text, "{") {
		require.NoError(w, json.Unmarshal(data, &a.json), a.text)
	}
	return a
}

func (w *world) get(path, token string) answer { w.Helper(); return w.do("GET", path, token, "", "") }
func (w *world) delete(path, token string) answer {
	w.Helper()
	return w.do("DELETE", path, token, "", "")
}
func (w *world) send(path, token, body string) answer {
	w.Helper()
	return w.do("POST", path, token, "application/json", body)
}

// post sends a JSON object of strings: names and values.
func (w *world) post(path, token string, members ...string) answer {
	w.Helper()
	body := map[string]string{}
	for i := 0; i < len(members); i += 2 {
		body[members[i]] = members[i+1]
	}
	data, err := json.Marshal(body)
	require.NoError(w, err)
	return w.send(path, token, string(data))
}

func (w *world) form(params ...string) answer {
	w.Helper()
	form := url.Values{}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	return w.do("POST", "/token", "", "application/x-www-form-urlencoded", form.Encode())
}

func (w *world) login(email, password string, more ...string) answer {
	w.Helper()
	return w.form(append([]string{"grant_type", "password", "username", email, "password", password}, more...)...)
}

func (w *world) useRefresh(token string) answer {
	w.Helper()
	return w.form("grant_type", "refresh_token", "refresh_token", token)
}

// join makes a verified account.
func (w *world) join(email string) {
	w.Helper()
	w.post("/signup", "", "email", email, "password", password).is(202)
	w.post("/verify", "", "token", w.mail("verify", email)).is(204)
}

// code returns the code of a time step from now.
func (w *world) code(secret string, steps int64) string {
	w.Helper()
	now := time.Now()
	if w.cmd == nil {
		now = w.time()
	}
	code, err := hotp.GenerateCode(secret, uint64(now.Unix()/totpPeriod+steps))
	require.NoError(w, err)
	return code
}

// enroll switches the second factor on, with the code of now, and returns the secret.
func (w *world) enroll(token string) string {
	w.Helper()
	a := w.post("/totp", token).is(200)
	secret, _ := a.json["secret"].(string)
	w.post("/totp/confirm", token, "code", w.code(secret, 0)).is(204)
	return secret
}

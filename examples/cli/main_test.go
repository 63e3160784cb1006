//go:build linux || darwin

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// isProgram makes this binary the program.
const isProgram = "CLI_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(isProgram) == "" {
		os.Exit(m.Run())
	}
	main()
}

const ttl = time.Minute // of an access token

// server is an app with a login, and with faults on demand.
type server struct {
	*testing.T
	url, file string       // the file of the client's tokens
	ahead     atomic.Int64 // of the server's clock
	auth      *oauth2pw.Auth
	events    sync.Map // EventKind to *atomic.Int32
	unsaved   atomic.Int32
	fault     atomic.Pointer[http.HandlerFunc] // answers instead of the endpoint for tokens; nil: no fault
	real      http.Handler
}

// start runs a server. A negative grace switches the grace period off: of two refreshes with one
// token the second ends the session.
func start(t *testing.T, grace time.Duration) *server {
	t.Helper()
	s := &server{T: t, file: filepath.Join(t.TempDir(), "config", "session.json")}
	now := func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }
	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	require.NoError(t, err)
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api", TTL: ttl, Now: now})
	require.NoError(t, err)
	s.auth, err = oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"}, LoadUser: true,
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()}, RefreshGrace: grace, Now: now,
		OnEvent: func(_ context.Context, e oauth2pw.Event) { s.count(e.Kind).Add(1) },
	})
	require.NoError(t, err)
	s.real = s.auth.TokenHandler()
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		if fault := s.fault.Load(); fault != nil {
			(*fault)(w, r)
			return
		}
		s.real.ServeHTTP(w, r)
	})
	mux.Handle("/revoke", s.auth.RevokeHandler())
	me := s.auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintln(w, p.User.Username)
	}))
	mux.HandleFunc("GET /users/me", func(w http.ResponseWriter, r *http.Request) {
		// A token that works is in the file before its first use.
		if data, _ := os.ReadFile(s.file); !strings.Contains(string(data), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			if _, err := s.auth.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err == nil {
				s.unsaved.Add(1)
			}
		}
		me.ServeHTTP(w, r)
	})
	running := httptest.NewServer(mux)
	t.Cleanup(running.Close)
	s.url = running.URL
	return s
}

func (s *server) count(kind oauth2pw.EventKind) *atomic.Int32 {
	n, _ := s.events.LoadOrStore(kind, new(atomic.Int32))
	return n.(*atomic.Int32)
}

// later moves the clock of the server: a minute is the end of an access token.
func (s *server) later(d time.Duration) { s.ahead.Add(int64(d)) }

func (s *server) command(args ...string) *exec.Cmd {
	s.Helper()
	program, err := os.Executable()
	require.NoError(s, err)
	cmd := exec.CommandContext(s.Context(), program, append([]string{"-file", s.file}, args...)...)
	cmd.Env = append(os.Environ(), isProgram+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// run runs the program in a process, and returns its output, and its errors with the status.
func (s *server) run(stdin string, args ...string) (stdout, stderr string) {
	s.Helper()
	cmd := s.command(args...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	failed := cmd.Run()
	if failed != nil {
		fmt.Fprintln(&err, failed)
	}
	return out.String(), strings.TrimPrefix(err.String(), "password: ")
}

func (s *server) login() {
	s.Helper()
	out, err := s.run("secret\n", "login", s.url, "johndoe")
	require.Empty(s, out)
	require.Empty(s, err)
}

func (s *server) requireWhoami() {
	s.Helper()
	out, err := s.run("", "whoami")
	require.Empty(s, err)
	require.Equal(s, "johndoe\n", out)
}

func (s *server) requireFailure(message string, args ...string) {
	s.Helper()
	out, err := s.run("", args...)
	require.Empty(s, out)
	require.Contains(s, err, message)
	require.Contains(s, err, "exit status 1")
}

func (s *server) saved() (login saved) {
	s.Helper()
	data, err := os.ReadFile(s.file)
	require.NoError(s, err)
	require.NoError(s, json.Unmarshal(data, &login))
	return login
}

// expire makes the saved access token look expired to the client.
func (s *server) expire() {
	s.Helper()
	login := s.saved()
	login.Token.Expiry = time.Now().Add(-time.Hour)
	require.NoError(s, (&session{s.file}).save(login))
}

func (s *server) setFault(f http.HandlerFunc) {
	if f == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&f)
}

// TestLogin: login, whoami and logout, each in a process of its own.
func TestLogin(t *testing.T) {
	s := start(t, -1)
	s.requireFailure("you are not logged in", "whoami")
	for _, password := range []string{"wrong\n", "wrong"} {
		out, err := s.run(password, "login", s.url, "johndoe")
		require.Empty(t, out)
		require.Contains(t, err, "wrong name or password")
		require.NoFileExists(t, s.file)
	}
	require.EqualValues(t, 2, s.count(oauth2pw.EventLoginFailed).Load(), "each wrong password is sent once")
	s.requireFailure("usage", "login", s.url, "johndoe", "secret") // a password is no argument
	s.requireFailure("usage")

	s.login()
	for name, want := range map[string]fs.FileMode{s.file: 0o600, s.file + ".lock": 0o600, filepath.Dir(s.file): 0o700 | fs.ModeDir} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		require.Equal(t, want, info.Mode(), name)
	}
	s.requireWhoami()
	s.requireWhoami()
	require.Zero(t, s.count(oauth2pw.EventRefresh).Load())

	before := s.saved().Token
	_, err := s.auth.Verify(t.Context(), before.AccessToken)
	require.NoError(t, err)
	out, failed := s.run("", "logout")
	require.Empty(t, out+failed)
	require.NoFileExists(t, s.file)
	_, err = s.auth.Verify(t.Context(), before.AccessToken)
	require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	s.requireFailure("you are not logged in", "whoami")
	s.requireFailure("you are not logged in", "logout")
	s.requireNoRest()
}

// requireNoRest requires that no temporary file is left.
func (s *server) requireNoRest() {
	s.Helper()
	rest, err := filepath.Glob(filepath.Join(filepath.Dir(s.file), ".session-*"))
	require.NoError(s, err)
	require.Empty(s, rest)
}

// TestParallel: of many processes at once, one refreshes, and the others use its tokens. Without
// a grace period a second refresh would end the session. The same is true for goroutines.
func TestParallel(t *testing.T) {
	const parallel = 8
	for name, expire := range map[string]func(s *server){
		"the server refuses the token":        func(s *server) { s.later(ttl + time.Second) },
		"the client knows that it is too old": func(s *server) { s.expire() },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, -1)
			s.login()
			for round := range 3 {
				expire(s)
				before := s.saved().Token
				outs, errs := make([]string, parallel), make([]string, parallel)
				var all sync.WaitGroup
				for i := range parallel {
					all.Go(func() {
						if round < 2 {
							outs[i], errs[i] = s.run("", "whoami")
							return
						}
						var out bytes.Buffer
						if err := whoami(t.Context(), &session{s.file}, &out); err != nil {
							errs[i] = err.Error()
						}
						outs[i] = out.String()
					})
				}
				all.Wait()
				for i := range parallel {
					require.Empty(t, errs[i])
					require.Equal(t, "johndoe\n", outs[i])
				}
				require.EqualValues(t, round+1, s.count(oauth2pw.EventRefresh).Load())
				require.NotEqual(t, before.RefreshToken, s.saved().Token.RefreshToken)
			}
			require.Zero(t, s.count(oauth2pw.EventRefreshReuse).Load())
			require.Zero(t, s.unsaved.Load(), "a token was used before it was saved")
			s.requireNoRest()
			info, err := os.Stat(s.file)
			require.NoError(t, err)
			require.EqualValues(t, 0o600, info.Mode())

			// The test can see a second refresh: an old token ends the session.
			data, err := os.ReadFile(s.file)
			require.NoError(t, err)
			expire(s)
			s.requireWhoami()
			require.NoError(t, os.WriteFile(s.file, data, 0o600))
			expire(s)
			s.requireFailure("the session has ended", "whoami")
			require.EqualValues(t, 1, s.count(oauth2pw.EventRefreshReuse).Load())
		})
	}
}

// lose lets the real endpoint answer, and sends only the first half of the answer.
func (s *server) lose(w http.ResponseWriter, r *http.Request) {
	record := httptest.NewRecorder()
	s.real.ServeHTTP(record, r)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(record.Body.Len()))
	_, _ = w.Write(record.Body.Bytes()[:record.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler) // closes the connection
}

// TestCutAnswer: the answer of a refresh is lost after the server has replaced the token. The
// next command sends the same token again, and gets the same successor.
func TestCutAnswer(t *testing.T) {
	s := start(t, 0)
	s.login()
	s.later(ttl + time.Second)
	before, err := os.ReadFile(s.file)
	require.NoError(t, err)
	s.setFault(s.lose)
	s.requireFailure("unexpected EOF", "whoami")
	after, err := os.ReadFile(s.file)
	require.NoError(t, err)
	require.Equal(t, before, after)
	s.setFault(nil)
	s.requireWhoami()
	require.EqualValues(t, 1, s.count(oauth2pw.EventRefresh).Load())
	require.EqualValues(t, 1, s.count(oauth2pw.EventRefreshRepeat).Load())
	s.later(ttl + time.Second)
	s.requireWhoami()
	require.Zero(t, s.count(oauth2pw.EventRefreshReuse).Load())
	require.Zero(t, s.unsaved.Load())
}

// TestCutAnswerWithoutGrace: without a grace period the lost answer ends the session.
func TestCutAnswerWithoutGrace(t *testing.T) {
	s := start(t, -1)
	s.login()
	s.later(ttl + time.Second)
	s.setFault(s.lose)
	s.requireFailure("unexpected EOF", "whoami")
	s.setFault(nil)
	s.requireFailure("the session has ended: log in again", "whoami")
	require.NoFileExists(t, s.file)
	s.login()
	s.requireWhoami()
}

// TestKilled: a process that is killed during a refresh leaves the file and no lock.
func TestKilled(t *testing.T) {
	s := start(t, 0)
	s.login()
	s.later(ttl + time.Second)
	refreshed := make(chan struct{})
	s.setFault(func(_ http.ResponseWriter, r *http.Request) {
		s.real.ServeHTTP(httptest.NewRecorder(), r)
		close(refreshed)
		<-r.Context().Done()
	})
	cmd := s.command("whoami")
	require.NoError(t, cmd.Start())
	<-refreshed
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	s.setFault(nil)
	s.requireWhoami()
	require.EqualValues(t, 1, s.count(oauth2pw.EventRefreshRepeat).Load())
}

// TestForget: only invalid_grant removes the file.
func TestForget(t *testing.T) {
	s := start(t, -1)
	s.login()
	s.later(ttl + time.Second)
	before, err := os.ReadFile(s.file)
	require.NoError(t, err)
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, fault := range map[string]http.HandlerFunc{
		"unavailable":       answer(503, "application/json", `{"error":"temporarily_unavailable"}`),
		"too many":          answer(429, "application/json", `{"error":"slow_down"}`),
		"another error":     answer(400, "application/json", `{"error":"invalid_request"}`),
		"the wrong status":  answer(502, "application/json", `{"error":"invalid_grant"}`),
		"a proxy's page":    answer(502, "text/html", "<h1>invalid_grant</h1>"),
		"a page for logins": answer(200, "text/html", "<h1>Welcome to the hotel</h1>"),
		"no token":          answer(200, "application/json", "{}"),
		"no answer":         func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s.setFault(fault)
		s.requireFailure("cli: ", "whoami")
		after, err := os.ReadFile(s.file)
		require.NoError(t, err, name)
		require.Equal(t, before, after, name)
	}
	s.setFault(nil)
	s.requireWhoami()

	list, err := s.auth.Sessions(t.Context(), "1")
	require.NoError(t, err)
	require.Len(t, list, 1)
	_, err = s.auth.EndAllSessions(t.Context(), "1", "ended_by_user")
	require.NoError(t, err)
	s.requireFailure("the session has ended: log in again", "whoami")
	require.NoFileExists(t, s.file)
	s.requireFailure("you are not logged in", "whoami")
}

// TestOtherServer: passwords and tokens go only to the server of the login.
func TestOtherServer(t *testing.T) {
	s := start(t, -1)
	var reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	for _, url := range []string{"http://192.0.2.1", "http://api.example.com", "http://localhost.example.com", "ftp://127.0.0.1", "api.example.com"} {
		s.requireFailure("cli: ", "login", url, "johndoe")
	}
	s.setFault(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/token", http.StatusTemporaryRedirect) // a client would repeat the form
	})
	out, err := s.run("secret\n", "login", s.url, "johndoe")
	require.Empty(t, out)
	require.Contains(t, err, "307")
	require.NotContains(t, err, "secret")
	require.Zero(t, reached.Load())
	require.NoFileExists(t, s.file)
}

// TestDamaged: a file that is no login is an error, and stays.
func TestDamaged(t *testing.T) {
	s := start(t, -1)
	require.NoError(t, os.MkdirAll(filepath.Dir(s.file), 0o700))
	for _, content := range []string{"", "{}", `{"server":"https://x.example`} {
		require.NoError(t, os.WriteFile(s.file, []byte(content), 0o600))
		s.requireFailure("is damaged", "whoami")
		require.FileExists(t, s.file)
	}
	s.login()
	s.requireWhoami()
}

// TestToken: the session is an oauth2.TokenSource.
func TestToken(t *testing.T) {
	s := start(t, -1)
	_, err := (&session{s.file}).Token()
	require.ErrorIs(t, err, errLoggedOut)
	s.login()
	first, err := (&session{s.file}).Token()
	require.NoError(t, err)
	require.Equal(t, s.saved().Token.AccessToken, first.AccessToken)
	s.expire()
	second, err := (&session{s.file}).Token()
	require.NoError(t, err)
	require.NotEqual(t, first.AccessToken, second.AccessToken)
	require.Equal(t, s.saved().Token.AccessToken, second.AccessToken)
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/examples/internal/readme"

	"github.com/oauth2pw/passwordflow/tokens"
)

// binary is the program, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "quickstart")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintln(os.Stderr, string(out))
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// process is a running quickstart.
type process struct {
	*testing.T
	cmd    *exec.Cmd
	url    string
	stdout *bufio.Reader
	greet  string // what it printed before it was ready for more
	stderr string // the file
}

const cheapHash = "-hash=m=64,t=1,p=1"

func start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{T: t, cmd: exec.Command(binary, append([]string{"-addr=127.0.0.1:0"}, args...)...)}
	p.cmd.Dir = t.TempDir()
	p.stderr = filepath.Join(p.cmd.Dir, "stderr")
	stderr, err := os.Create(p.stderr)
	require.NoError(t, err)
	defer stderr.Close()
	p.cmd.Stderr = stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	p.stdout = bufio.NewReader(stdout)
	for !strings.Contains(p.greet, "stop:") {
		line, err := p.stdout.ReadString('\n')
		require.NoError(t, err, p.greet+p.log())
		p.greet += line
	}
	p.url, _, _ = strings.Cut(strings.TrimPrefix(p.greet, "listening on "), "\n")
	return p
}

// log returns what it has written to stderr.
func (p *process) log() string {
	data, err := os.ReadFile(p.stderr)
	require.NoError(p, err)
	return string(data)
}

// stop ends it by SIGTERM and requires status 0.
func (p *process) stop() {
	p.Helper()
	require.NoError(p, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(p, p.cmd.Wait(), p.log())
}

func (p *process) get(path, token string) (int, string) {
	p.Helper()
	r, err := http.NewRequest("GET", p.url+path, nil)
	require.NoError(p, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(p, err)
	return readBody(p.T, resp)
}

func readBody(t *testing.T, resp *http.Response) (int, string) {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, strings.TrimSpace(string(data))
}

func (p *process) login(username, password, scope string) (int, map[string]any) {
	p.Helper()
	resp, err := http.PostForm(p.url+"/token", url.Values{
		"grant_type": {"password"}, "username": {username}, "password": {password}, "scope": {scope},
	})
	require.NoError(p, err)
	status, text := readBody(p.T, resp)
	var answer map[string]any
	require.NoError(p, json.Unmarshal([]byte(text), &answer), text)
	return status, answer
}

func (p *process) token(scope string) string {
	p.Helper()
	status, answer := p.login("johndoe", "secret", scope)
	require.Equal(p, 200, status, answer)
	return answer["access_token"].(string)
}

// failure runs the program, which must end by itself with one line on stderr.
func failure(t *testing.T, args ...string) (status int, line string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir = t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "%v: %s", args, stdout.String())
	require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "%v: one line, not %q", args, stderr.String())
	require.NotContains(t, stdout.String(), "listening")
	return exit.ExitCode(), stderr.String()
}

func TestRoutes(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	me, both := p.token(""), p.token("me items")
	for _, test := range []struct {
		path, token string
		status      int
		body        string
	}{
		{"/users/me", me, 200, `{"username":"johndoe","full_name":"John Doe","email":"johndoe@example.com","disabled":false}`},
		{"/users/me/items", both, 200, `[{"item_id":"Foo","owner":"johndoe"}]`},
		{"/status", me, 200, `{"status":"ok"}`},
		{"/", me, 200, `{"user":"johndoe"}`},
		{"/", "", 200, `{"user":null}`},
		{"/healthz", "", 200, `ok`},
	} {
		status, got := p.get(test.path, test.token)
		require.Equal(t, test.status, status, test.path)
		require.Equal(t, test.body, got, test.path)
	}
	for path, want := range map[string]int{"/users/me": 401, "/users/me/items": 401, "/status": 401, "/nothing": 404} {
		status, _ := p.get(path, "")
		require.Equal(t, want, status, path)
	}
	status, _ := p.get("/users/me/items", me)
	require.Equal(t, 403, status)
	status, _ = p.get("/", "bad")
	require.Equal(t, 401, status)
	status, answer := p.login("alice", "secret2", "")
	require.Equal(t, 400, status)
	require.Equal(t, "invalid_grant", answer["error"])
	p.stop()
	require.NotContains(t, p.log(), "secret2")
}

// TestPrintedCurlLines: what the program prints works as it is printed.
func TestPrintedCurlLines(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	var outputs []string
	for line := range strings.Lines(p.greet) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "curl ") {
			out, err := exec.Command("bash", "-c", line).Output()
			require.NoError(t, err, line)
			outputs = append(outputs, string(out))
		}
	}
	require.Len(t, outputs, 2)
	require.Contains(t, outputs[0], `"access_token"`)
	require.Contains(t, outputs[1], `"full_name":"John Doe"`)
}

// TestREADME: the commands of the README print what it says, the second time too.
func TestREADME(t *testing.T) {
	db := filepath.Join(t.TempDir(), "test.db")
	block := readme.Blocks(t, "console")[1]
	for range 2 {
		p := start(t, cheapHash, "-db="+db)
		readme.Run(t, block, p.url, t.TempDir())
		p.stop()
	}
}

// TestRestart: what the file keeps outlives the process, the signing key included.
func TestRestart(t *testing.T) {
	db := filepath.Join(t.TempDir(), "a file?&%41.db")
	args := []string{cheapHash, "-db=" + db, "-issuer=https://api.example.com"}
	p := start(t, args...)
	token := p.token("")
	p.stop()
	for _, file := range []string{db, db + ".jwk", db + ".secret"} {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
	}
	p = start(t, args...)
	status, _ := p.get("/users/me", token)
	require.Equal(t, 200, status)
	p.stop()
	p = start(t, append(args, "-audience=other")...)
	status, _ = p.get("/users/me", token)
	require.Equal(t, 401, status)
}

// TestAdministration: a user is disabled and deleted beside a running server.
//
// Conformance 73.
func TestAdministration(t *testing.T) {
	db := filepath.Join(t.TempDir(), "test.db")
	p := start(t, cheapHash, "-db="+db)
	token := p.token("")
	change := func(verb, want string) {
		t.Helper()
		out, err := exec.Command(binary, "-db="+db, "-"+verb, "johndoe").CombinedOutput()
		require.NoError(t, err, string(out))
		require.Equal(t, want+" johndoe\n", string(out))
	}
	status, _ := p.get("/status", token)
	require.Equal(t, 200, status)
	change("disable", "disabled")
	status, _ = p.get("/status", token)
	require.Equal(t, 401, status)
	status, _ = p.login("johndoe", "secret", "")
	require.Equal(t, 400, status)
	change("enable", "enabled")
	status, _ = p.get("/status", p.token(""))
	require.Equal(t, 200, status)
	change("delete", "deleted")
	status, _ = p.get("/status", token)
	require.Equal(t, 401, status)
	p.stop()

	code, line := failure(t, "-db="+db, "-disable", "johndoe")
	require.Equal(t, 1, code)
	require.Contains(t, line, `no user "johndoe"`)
	missing := filepath.Join(t.TempDir(), "missing.db")
	code, _ = failure(t, "-db="+missing, "-disable", "johndoe")
	require.Equal(t, 1, code)
	require.NoFileExists(t, missing)

	p = start(t, cheapHash, "-db="+db) // deleted stays deleted
	status, _ = p.login("johndoe", "secret", "")
	require.Equal(t, 400, status)
}

func TestBadStarts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	corrupt := write("corrupt.db", strings.Repeat("no database ", 100))
	for _, args := range [][]string{
		{"-nonsense"}, {"argument"}, {"-addr=127.0.0.1:0", "-db=:memory:", "-redis=http://127.0.0.1"}, {"-addr=127.0.0.1:0", "-db=:memory:", "-redis=redis://127.0.0.1:1"}, {"-cors=*"}, {"-cors="}, {"-cors=https://*.example.com"}, {"-cors=https://a.example/"}, {"-cors=null"}, {"-cors=://a.example"}, {"-cors=https://"}, {"-cors=https://a.example,b"},
		{"-throttle="}, {"-throttle=10"}, {"-throttle=0/1m"}, {"-throttle=-1/1m"}, {"-throttle=1/0"}, {"-throttle=1/x"}, {"-throttle=none"}, {"-throttle=100001/1m"}, {"-throttle=10/15ns"}, {"-throttle=10/999ms"}, {"-throttle=10/169h"},
		{"-access-ttl=0"}, {"-access-ttl=-1s"}, {"-access-ttl=1ms"}, {"-access-ttl=x"},
		{"-hash=m=1,t=1,p=1"}, {"-hash=m=64"}, {"-hash=m=64,t=1,p=1x"}, {"-hash-slots=0"}, {"-hash-queue=-1"},
		{"-hash=m=0,t=0,p=0"}, {"-hash=m=65536,t=0,p=4"}, {"-hash=m=65536,t=3,p=0"}, {"-hash=m=0,t=3,p=4"}, {"-hash=m=4294967295,t=1,p=1"}, {"-hash=m=4294967296,t=1,p=1"}, {"-hash=t=1,m=64,p=1"},
		{"-issuer=foo"}, {"-issuer=foo/bar"}, {"-issuer=https://"}, {"-issuer=https://x?y"}, {"-issuer=https://x?"}, {"-issuer=https://x#"}, {"-issuer=https://x#y"}, {"-issuer=http://x"}, {"-issuer=ftp://x"},
		{"-issuer=https://a@x"}, {"-issuer=https:x"}, {"-issuer=//x"}, {"-issuer=%"}, {"-issuer=https://x y"}, {"-issuer=http://10.0.0.1"},
		{"-proxy-header="}, {"-proxy-header=a b"}, {"-proxy-header=host"}, {"-proxy-header=x:"}, {"-lax-form=x"}, {"-refresh-grace=1us"},
		{"-refresh-forgive=10s"}, {"-refresh-forgive=-1h"}, {"-refresh-forgive=1h", "-refresh-grace=0"}, {"-refresh-forgive=337h"}, {"-refresh-forgive=2h", "-refresh-idle=1h"},
		{"-refresh-grace=2m1s"}, {"-refresh-grace=-1s"}, {"-refresh-idle=0"}, {"-refresh-max=-1s"}, {"-refresh-idle=x"},
		{"-addr=127.0.0.1:0", "-db=:memory:", "-secret=" + filepath.Join(dir, "none")},
		{"-addr=127.0.0.1:0", "-db=:memory:", "-secret=" + write("short.secret", "c2hvcnQ=\n")},
		{"-addr=127.0.0.1:0", "-db=:memory:", "-secret=" + write("empty.secret", "\n")},
		{"-trusted-proxies=x"}, {"-trusted-proxies="}, {"-trusted-proxies=0.0.0.0/0"}, {"-trusted-proxies=::/0"}, {"-trusted-proxies=10.0.0.0/8,0.0.0.0/0"}, {"-trusted-proxies=128.0.0.0/1"}, {"-trusted-proxies=::ffff:10.0.0.0/104"}, {"-tls-cert=x"}, {"-tls-cert=x", "-tls-key=x"}, {"-audience="}, {"-db="},
		{"-db=postgres://localhost/x"}, {"-addr=nonsense"}, {"-addr=" + taken.Addr().String()}, {"-addr=0.0.0.0:0"}, {"-addr=:0"},
		{"-addr=127.0.0.1:0", "-db=" + corrupt}, {"-addr=127.0.0.1:0", "-db=" + dir},
		{"-addr=127.0.0.1:0", "-db=" + filepath.Join(dir, "none", "x.db")},
		{"-addr=127.0.0.1:0", "-db=:memory:", "-key=" + filepath.Join(dir, "none")},
		{"-addr=127.0.0.1:0", "-db=:memory:", "-key=" + write("short.jwk", `{"kty":"oct","k":"c2hvcnQ"}`)},
		{"-db=:memory:", "-disable=johndoe"}, {"-disable=a", "-enable=b"}, {"-db=" + corrupt, "-disable=johndoe"},
	} {
		status, line := failure(t, append([]string{cheapHash, "-db=:memory:", "-addr=127.0.0.1:0"}, args...)...)
		require.Contains(t, []int{1, 2}, status)
		require.Greater(t, len(line), len("quickstart: \n"), "%v", args)
		require.NotContains(t, line, "goroutine")
	}

	out, err := exec.Command(binary, "-h").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "-access-ttl")
}

func TestHMACKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key.jwk")
	require.NoError(t, os.WriteFile(file, []byte(`{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}`), 0o600))
	p := start(t, cheapHash, "-db=:memory:", "-key="+file, "-access-ttl=2m")
	status, answer := p.login("johndoe", "secret", "")
	require.Equal(t, 200, status)
	require.Equal(t, 120.0, answer["expires_in"])
	_, set := p.get("/.well-known/jwks.json", "")
	require.Equal(t, `{"keys":[]}`, set)
	_, metadata := p.get("/.well-known/oauth-authorization-server", "")
	require.NotContains(t, metadata, "jwks_uri")
	status, _ = p.get("/status", answer["access_token"].(string))
	require.Equal(t, 200, status)
}

// TestKeyFiles: a JWK set, whose first key signs and whose others verify, and PEM.
func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	first, firstJWK, err := tokens.NewKey("ES256")
	require.NoError(t, err)
	_, secondJWK, err := tokens.NewKey("RS256")
	require.NoError(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	for name, file := range map[string][]byte{
		"one":  secondJWK,
		"both": fmt.Appendf(nil, `{"keys":[%s,%s]}`, firstJWK, secondJWK),
		"pem":  pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}),
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), file, 0o600))
	}
	args := func(key string) []string {
		return []string{cheapHash, "-db=" + filepath.Join(dir, "test.db"), "-issuer=https://api.example.com", "-key=" + filepath.Join(dir, key)}
	}
	p := start(t, args("one")...)
	old := p.token("")
	p.stop()
	p = start(t, args("both")...)
	status, _ := p.get("/status", old)
	require.Equal(t, 200, status)
	header, err := base64.RawURLEncoding.DecodeString(strings.Split(p.token(""), ".")[0])
	require.NoError(t, err)
	require.Contains(t, string(header), first.ID())
	p.stop()
	p = start(t, args("pem")...)
	status, _ = p.get("/status", old)
	require.Equal(t, 401, status)
	status, _ = p.get("/status", p.token(""))
	require.Equal(t, 200, status)
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyBytes}), 0o600))
	p := start(t, cheapHash, "-db=:memory:", "-tls-cert="+certFile, "-tls-key="+keyFile)
	require.True(t, strings.HasPrefix(p.url, "https://"))
	parsed, err := x509.ParseCertificate(cert)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}
	resp, err := client.PostForm(p.url+"/token", form)
	require.NoError(t, err)
	require.Equal(t, 2, resp.ProtoMajor)
	status, text := readBody(t, resp)
	require.Equal(t, 200, status, text)

	r, err := http.NewRequest("POST", p.url+"/token", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("X-Forwarded-Proto", "http")
	resp, err = client.Do(r)
	require.NoError(t, err)
	status, _ = readBody(t, resp)
	require.Equal(t, 400, status)
}

// TestDrain: SIGTERM lets a request in flight finish. The request is in flight when
// the server has asked for its body (100 Continue), and its body comes after the
// signal.
func TestDrain(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	form := "grant_type=password&username=johndoe&password=secret"
	fmt.Fprintf(conn, "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(form))
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "100 Continue")
	_, err = answer.ReadString('\n')
	require.NoError(t, err)

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	for { // until it has stopped listening
		c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			break
		}
		c.Close()
	}
	_, err = io.WriteString(conn, form)
	require.NoError(t, err)
	resp, err := http.ReadResponse(answer, nil)
	require.NoError(t, err)
	status, text := readBody(t, resp)
	require.Equal(t, 200, status, text)
	require.Contains(t, text, "access_token")
	require.NoError(t, p.cmd.Wait())
}

// TestDatabaseGone: a store that fails is 503, and /healthz says so.
func TestDatabaseGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "test.db")
	p := start(t, cheapHash, "-db="+file)
	token := p.token("")
	db, err := program.OpenDB(context.Background(), file)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.Exec("ALTER TABLE users RENAME TO gone")
	require.NoError(t, err)
	status, answer := p.login("johndoe", "secret", "")
	require.Equal(t, 503, status)
	require.Equal(t, "temporarily_unavailable", answer["error"])
	for _, path := range []string{"/status", "/", "/healthz"} {
		status, _ = p.get(path, token)
		require.Equal(t, 503, status, path)
	}
	_, err = db.Exec("ALTER TABLE gone RENAME TO users")
	require.NoError(t, err)
	status, _ = p.get("/status", token)
	require.Equal(t, 200, status)
}

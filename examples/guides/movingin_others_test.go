package guides

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/tls"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestMovingOthers: the programs of the guide do as the guide says. The folder MOVING has their
// scripts and their hashes: .ci/moving fills it.
func TestMovingOthers(t *testing.T) {
	folder := os.Getenv("MOVING")
	if folder == "" {
		t.Skip("MOVING is not set: run .ci/moving")
	}
	m := moving{folder}
	t.Run("hashes", m.hashes)
	t.Run("Django's table", m.django)
	t.Run("jq and sed", m.commands)
	t.Run("verifiers", m.verifiers)
	t.Run("old tokens", m.oldTokens)
	t.Run("front ends", m.frontEnds)
	t.Run("nginx", m.nginx)
}

type moving struct{ folder string }

// run runs a command in the folder, and returns its lines.
func (m moving) run(t *testing.T, command ...string) []string {
	t.Helper()
	c := exec.CommandContext(t.Context(), command[0], command[1:]...)
	c.Dir = m.folder
	var failure bytes.Buffer
	c.Stderr = &failure
	out, err := c.Output()
	require.NoError(t, err, "%v: %s", command, failure.String())
	return slices.Collect(strings.Lines(strings.TrimSpace(string(out)) + "\n"))
}

func (m moving) hashes(t *testing.T) {
	h := movedPasswords(t, longPepper)
	// The hashes that are stored, made from the hashes that the programs write.
	stored := map[string]func(fields []string) (string, error){
		"direct":            func(f []string) (string, error) { return f[0], nil },
		"flask-bcrypt-long": func(f []string) (string, error) { return "bcrypt_sha256$" + f[0], nil },
		"flask-security":    func(f []string) (string, error) { return "{flask-security}" + f[0], nil },
		"devise":            func(f []string) (string, error) { return "{devise}" + f[0], nil },
		"wordpress-spaces":  func(f []string) (string, error) { return "{wp}" + f[0], nil },
		"better-auth": func(f []string) (string, error) {
			return "scrypt:16384:16:1$" + strings.Replace(f[0], ":", "$", 1), nil
		},
		"passport-local-mongoose": func(f []string) (string, error) {
			salt, key, _ := strings.Cut(f[0], ":")
			return "pbkdf2:sha256:25000$" + salt + "$" + key[:64], nil
		},
		"keycloak": func(f []string) (string, error) { return keycloakHash(f[0], f[1]) },
	}
	seen := make(map[string]int)
	for line := range strings.Lines(read(t, filepath.Join(m.folder, "hashes.txt"))) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		password, err := hex.DecodeString(fields[1])
		require.NoError(t, err)
		form := fields[0]
		seen[form]++
		switch form {
		case "flask-security-long": // the whole HMAC, not 72 bytes of it
			input := flaskSecurityWhole(string(password))
			requireMatch(t, h.Hasher, fields[2], input)
			continue
		case "dovecot-pbkdf2":
			parts := strings.Split(fields[2], "$") // {PBKDF2}, 1, salt, rounds, hash
			requireMatch(t, h, fmt.Sprintf("pbkdf2:sha1:%s$%s$%s", parts[3], parts[2], parts[4]), string(password))
			continue
		case "flask-security", "devise": // without the prefix no login succeeds, although the hash is read
			require.True(t, h.Reads(fields[2]))
			ok, _, _ := h.Verify(t.Context(), fields[2], string(password))
			// Devise's bcrypt ignores the pepper behind 72 bytes of a password.
			require.Equal(t, form == "devise" && len(password) == 72, ok)
		case "wordpress-spaces":
			ok, _, _ := h.Verify(t.Context(), fields[2], string(password))
			require.False(t, ok)
		}
		hash, err := stored[form](fields[2:])
		require.NoError(t, err)
		requireMatch(t, h, hash, string(password))
	}
	require.Len(t, seen, len(stored)+2)
	t.Log(seen)
}

func (m moving) django(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(m.folder, "django.db"))
	require.NoError(t, err)
	defer db.Close()
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	auth, err := movingIn(db, jwt, nil)
	require.NoError(t, err)
	for name, want := range map[string]int{"johndoe": 200, "inactive": 400, "nopassword": 400} {
		for range 2 { // the first login replaces the hash
			require.Equal(t, want, login(auth.TokenHandler(), name, "secret"), name)
		}
	}
	var hash string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT password FROM auth_user WHERE username = 'johndoe'").Scan(&hash))
	require.True(t, strings.HasPrefix(hash, "$argon2id$"), hash) // Django wants "argon2" before it
}

func login(handler http.Handler, name, password string) int {
	r := httptest.NewRequest(http.MethodPost, "https://api.example.com/token", strings.NewReader(
		url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Code
}

// commands runs the blocks of jq and sed.
func (m moving) commands(t *testing.T) {
	h := movedPasswords(t, devisePepper)
	const (
		bcrypt = "$2b$05$DVXwXd0kUDqUlCXbw4hQ4.YaP2ip5UMThjJXdWZ2t99EXQmsgDR0u"
		pbkdf2 = "{PBKDF2}$1$SY.nb.kNrcU65t9f$5000$f5c394f707f3a0cd3a1c5afc1ad660b9313123ca"
	)
	inputs := map[string]string{
		"Auth0": `{"_id":{"$oid":"1"},"email":"johndoe","passwordHash":"` + bcrypt + `"}` + "\n" + `{"_id":{"$oid":"2"},"email":"social"}` + "\n",
		"Firebase": `{"users":[{"localId":"1","email":"johndoe","salt":"PgE1NqVIDZNn8R3Fsx96wQ==","passwordHash":"S9Ojg7Io3qVGjs57UBpDzhrSPDWT8nXVS50ZXwAS6MfBjccDBJpAuv6RrNCYY77j5rPEKcGvUaHvSkV50nFRlQ=="},
			{"localId":"2","email":"social"},{"localId":"3","email":"off","disabled":true,"salt":"x","passwordHash":"x"}]}`,
		"Dovecot": "johndoe:" + pbkdf2 + ":::::\njohndoe:{BLF-CRYPT}$2y$05$5/6LgdIawdrHafErzlxpJuphjDFoAz/iMZiS.3VUBc17LyGbT/d7y\n",
	}
	files := map[string]string{"Auth0": "users.ndjson", "Firebase": "users.json", "Dovecot": "dovecot-users"}
	blocks := tildes(t, "sh")
	require.Len(t, blocks, len(inputs))
	for _, block := range blocks {
		name, rest, _ := strings.Cut(strings.TrimPrefix(block, "# "), "\n")
		require.Contains(t, inputs, name)
		require.NoError(t, os.WriteFile(filepath.Join(m.folder, files[name]), []byte(inputs[name]), 0o600))
		var lines []string
		for line := range strings.Lines(rest) {
			if !strings.HasPrefix(line, "firebase ") {
				lines = append(lines, strings.ReplaceAll(line, "/etc/dovecot/users", "dovecot-users"))
			}
		}
		m.run(t, "bash", "-c", strings.Join(lines, "\n"))
		csv := strings.Split(strings.TrimSpace(read(t, filepath.Join(m.folder, "users.csv"))), "\n")
		require.Len(t, csv, map[string]int{"Auth0": 1, "Firebase": 1, "Dovecot": 2}[name])
		for _, line := range csv {
			fields := strings.SplitN(line, ",", 3)
			require.Equal(t, "johndoe", strings.Trim(fields[1], `"`))
			requireMatch(t, h, strings.Trim(fields[2], `"`), "secret")
		}
	}
}

// verifiers compares the answers of libraries with the table of the guide.
func (m moving) verifiers(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	principal := oauth2pw.Principal{Subject: "1", Scope: "me"}
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		key, _, err := tokens.NewKey(alg)
		require.NoError(t, err)
		c := tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"}
		ring, err := tokens.New(c)
		require.NoError(t, err)
		write(alg+".token", issue(t, ring, principal))
		w := httptest.NewRecorder()
		ring.JWKSHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/jwks.json", nil))
		write(alg+".jwks", w.Body.String())
		write(alg+".pem", strings.Join(m.run(t, "node", "-e", `const k = require("crypto").createPublicKey({ key: JSON.parse(process.argv[1]).keys[0], format: "jwk" }); console.log(k.export({ type: "spki", format: "pem" }))`, w.Body.String()), ""))
		if alg == "ES256" {
			c.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			past, err := tokens.New(c)
			require.NoError(t, err)
			write("expired.token", issue(t, past, principal))
		}
	}
	answers := make(map[string]string)
	for _, command := range [][]string{{"node", "verify.mjs"}, {"/usr/bin/python3", "verify.py"}, {"ruby", "verify.rb"}} {
		for _, line := range m.run(t, append(command, folder)...) {
			fields := strings.Split(strings.TrimSpace(line), "\t")
			name := fields[0] + " " + fields[1]
			if before, found := answers[name]; found {
				require.Equal(t, before, fields[2], name) // by PEM and by JWK set
			}
			answers[name] = fields[2]
		}
	}
	t.Log(answers)
	_, table, found := strings.Cut(read(t, movingGuide), "| verifier | EdDSA | ES256 | RS256 | no audience given | expired |\n| --- | --- | --- | --- | --- | --- |\n")
	require.True(t, found)
	seen := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		cells := strings.Split(line, " | ")
		words := strings.Fields(strings.Trim(cells[0], "| "))
		library := words[0]
		extra := strings.Contains(cells[0], "with rbnacl")
		for i, rule := range []string{"EdDSA", "ES256", "RS256", "without aud", "expired"} {
			name := library + " " + rule
			if extra && rule == "EdDSA" {
				name = library + " with rbnacl EdDSA"
			}
			require.Equal(t, answers[name], strings.Trim(cells[i+1], " |\n"), name)
		}
		seen++
	}
	require.Equal(t, 7, seen)
	require.Equal(t, "no", answers["jose typ JWT"])
	for _, library := range []string{"jsonwebtoken", "jose", "PyJWT", "python-jose", "ruby-jwt"} {
		require.Equal(t, "no", answers[library+" other aud"], library)
	}
}

func issue(t *testing.T, ring *tokens.Ring, p oauth2pw.Principal) string {
	t.Helper()
	token, _, err := ring.Issue(t.Context(), p)
	require.NoError(t, err)
	return token
}

// oldTokens: InsecureLegacyHS256 takes the tokens of these libraries, or refuses them.
func (m moving) oldTokens(t *testing.T) {
	legacy, err := tokens.InsecureLegacyHS256(tokens.LegacyConfig{
		Secret: secretKey, Issuer: "https://api.example.com", Until: time.Now().Add(time.Hour),
		Subject: func(_ context.Context, sub string) (string, error) { return "id of " + sub, nil },
	})
	require.NoError(t, err)
	taken := make(map[string]bool)
	for _, command := range [][]string{{"node", "sign.mjs"}, {"/usr/bin/python3", "sign.py"}, {"ruby", "sign.rb"}} {
		for _, line := range m.run(t, append(command, secretKey)...) {
			library, token, _ := strings.Cut(strings.TrimSpace(line), "\t")
			p, err := legacy.Verify(t.Context(), token)
			taken[library] = err == nil
			if err == nil {
				require.Equal(t, "id of johndoe", p.Subject)
			}
		}
	}
	require.Equal(t, map[string]bool{"PyJWT": true, "python-jose": true, "jsonwebtoken": true, "json-jwt": true, "ruby-jwt": false, "jose": false}, taken)
}

// quickstart starts the quickstart on a free port of loopback, and ends it with the test.
func (m moving) quickstart(t *testing.T, flags ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(m.folder, "quickstart"), append([]string{"-addr=127.0.0.1:0", "-db=:memory:", "-hash=m=64,t=1,p=1"}, flags...)...)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	text := ""
	for b := make([]byte, 1); !strings.HasSuffix(text, "\n"); text += string(b) {
		_, err := out.Read(b)
		require.NoError(t, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	_, address, found := strings.Cut(strings.TrimSpace(text), "listening on ")
	require.True(t, found, text)
	return address
}

func (m moving) frontEnds(t *testing.T) {
	strict, lax := m.quickstart(t, "-trusted-proxies=127.0.0.1/32"), m.quickstart(t, "-lax-form")
	want := []string{
		"FormData	400	invalid_request",
		"FormData, LaxForm	200	token",
		"URLSearchParams without grant_type	400	invalid_request",
		"URLSearchParams without grant_type, LaxForm	200	token",
		"URLSearchParams with grant_type	200	token",
		"offline_access	400	invalid_scope",
		"https,http	400	invalid_request",
		"https, X-Forwarded-Ssl off	200	token",
		"CF-Visitor http	200	token",
	}
	for range 10 {
		want = append(want, "wrong, 192.0.2.1	400	invalid_grant")
	}
	want = append(want, "wrong again, 192.0.2.1	429	slow_down", "wrong, 192.0.2.2	400	invalid_grant")
	require.Equal(t, strings.Join(want, "\n")+"\n", strings.Join(m.run(t, "node", "frontends.mjs", strict, lax), ""))
}

// nginx runs nginx with the two servers of the guide.
func (m moving) nginx(t *testing.T) {
	blocks := tildes(t, "nginx")
	require.Len(t, blocks, 2)
	backend := httptest.NewServer(behindProxy(t))
	defer backend.Close()
	quickstart := m.quickstart(t, "-trusted-proxies=127.0.0.1/32")

	var servers strings.Builder
	server := func(block, target string) (address string) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		address = listener.Addr().String()
		require.NoError(t, listener.Close())
		for old, replacement := range map[string]string{
			"listen 443 ": "listen " + address + " ", "listen 80;": "listen " + address + ";",
			"/etc/ssl": m.folder, "http://127.0.0.1:8000": target,
		} {
			block = strings.ReplaceAll(block, old, replacement)
		}
		servers.WriteString(block)
		return address
	}
	ends := server(blocks[0], backend.URL)
	endsQuickstart := server(blocks[0], quickstart)
	behind := server(blocks[1], backend.URL)
	// A proxy that appends its own scheme to that of the balancer.
	appends := server(strings.Replace(strings.SplitAfterN(blocks[1], "}\n", 2)[1], "$client_scheme", `"$http_x_forwarded_proto,$scheme"`, 1), backend.URL)

	folder := t.TempDir()
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += kind + "_temp_path " + folder + "/" + kind + ";\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "nginx.conf"), []byte(
		"daemon off; worker_processes 1; pid "+folder+"/pid; error_log stderr;\nevents {}\nhttp { access_log off;\n"+temp+servers.String()+"}\n"), 0o600))
	c := exec.CommandContext(t.Context(), "/usr/sbin/nginx", "-p", folder, "-e", "stderr", "-c", filepath.Join(folder, "nginx.conf"))
	var log bytes.Buffer
	c.Stderr = &log
	require.NoError(t, c.Start())
	defer func() { // the master ends its workers
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	}()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", appends)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, 10*time.Second, 20*time.Millisecond, log.String())

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // loopback
	defer client.CloseIdleConnections()
	post := func(base, proto string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/token", strings.NewReader("grant_type=password&username=johndoe&password=secret"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if proto != "" {
			r.Header.Set("X-Forwarded-Proto", proto)
		}
		answer, err := client.Do(r)
		require.NoError(t, err, log.String())
		defer answer.Body.Close()
		return answer.StatusCode, answer.Header.Get("Seen-Proto")
	}
	for _, test := range []struct {
		base, proto string
		status      int
		seen        string
	}{
		{"https://" + ends, "", 200, "https"},
		{"https://" + ends, "https,http", 200, "https"}, // nginx overwrites the header of the client
		{"https://" + endsQuickstart, "", 200, ""},
		{"https://" + endsQuickstart, "https,http", 200, ""},
		{"http://" + behind, "https", 200, "https"},
		{"http://" + behind, "http", 400, "http"},
		{"http://" + behind, "", 400, "http"},
		{"http://" + behind, "https,http", 400, "http"},
		{"http://" + appends, "https", 400, "https,http"},
		{backend.URL, "https,http", 400, "https,http"},
		{backend.URL, "https, https", 200, "https, https"},
		{backend.URL, "", 400, ""},
	} {
		status, seen := post(test.base, test.proto)
		require.Equal(t, fmt.Sprint(test.status, " ", test.seen), fmt.Sprint(status, " ", seen), "%+v", test)
	}
}

// behindProxy is a login that sees the proxy at another machine: from loopback, plain HTTP is
// allowed without any header.
func behindProxy(t *testing.T) http.Handler {
	h := cheap(t)
	jwt, err := tokens.Open(filepath.Join(t.TempDir(), "signing.jwk"), "https://api.example.com", "api")
	require.NoError(t, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: fastAPIStore(t, h), Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	require.NoError(t, err)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = "10.0.0.7:1234"
		w.Header().Set("Seen-Proto", r.Header.Get("X-Forwarded-Proto"))
		auth.TokenHandler().ServeHTTP(w, r)
	})
}

// flaskSecurityWhole is the input of Flask-Security for formats that read more than 72 bytes.
func flaskSecurityWhole(password string) string {
	h := hmac.New(sha512.New, []byte(flaskSalt))
	h.Write([]byte(password))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

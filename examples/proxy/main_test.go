package main

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/tokens"
)

// site is the app with a proxy in front.
type site struct {
	*testing.T
	url    string // of the proxy, with the prefix
	jwt    *tokens.Ring
	client *http.Client
	roots  *x509.CertPool // of the proxy
}

// fromHeader has the address from which a test's client seems to connect.
const fromHeader = "Test-From"

// setup is the way of a request from the client to the app.
type setup struct {
	plain   bool   // the proxy serves plain HTTP
	appends bool   // the proxy appends to X-Forwarded-For of its clients, and does not replace it
	seen    string // the address of the proxy, as the app sees it; "": 127.0.0.1
	trusted string // Config.TrustedProxies; "": no proxy
}

func start(t *testing.T, s setup) *site {
	t.Helper()
	var app http.Handler
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.seen != "" {
			r.RemoteAddr = s.seen + ":50000"
		}
		app.ServeHTTP(w, r)
	}))
	t.Cleanup(inner.Close)
	target, err := url.Parse(inner.URL)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if s.appends {
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		}
		r.SetURL(target)
		r.SetXForwarded()
	}}
	outer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get(fromHeader); from != "" {
			r.RemoteAddr = from + ":40000"
		}
		proxy.ServeHTTP(w, r)
	}))
	if s.plain {
		outer.Start()
	} else {
		outer.StartTLS()
	}
	t.Cleanup(outer.Close)

	h, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	require.NoError(t, err)
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: outer.URL + prefix, Audience: "api"})
	require.NoError(t, err)
	var trusted []netip.Prefix
	if s.trusted != "" {
		trusted = append(trusted, netip.MustParsePrefix(s.trusted))
	}
	app, err = routes(jwt, h, trusted...)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	if !s.plain {
		roots.AddCert(outer.Certificate())
	}
	return &site{t, outer.URL + prefix, jwt, outer.Client(), roots}
}

// do sends a request; headers are pairs of a name and a value.
func (s *site) do(method, path string, form url.Values, headers ...string) (int, string) {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, s.url+path, strings.NewReader(form.Encode()))
	require.NoError(s, err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(r)
	require.NoError(s, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return resp.StatusCode, string(body)
}

func (s *site) login(password string, headers ...string) (status int, body, token string) {
	s.Helper()
	status, body = s.do("POST", "/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {password}}, headers...)
	var answer struct {
		Token string `json:"access_token"`
	}
	require.NoError(s, json.Unmarshal([]byte(body), &answer), body)
	return status, body, answer.Token
}

// behind is the setup of the doc comment.
var behind = setup{trusted: "127.0.0.1/32"}

// TestLogin: a login works through the proxy, below the prefix, and the handler has the client
// address.
func TestLogin(t *testing.T) {
	s := start(t, behind)
	status, body, token := s.login("secret", fromHeader, "203.0.113.5")
	require.Equal(t, 200, status, body)
	bearer := []string{"Authorization", "Bearer " + token, fromHeader, "203.0.113.5"}
	status, body = s.do("GET", "/hello", nil, bearer...)
	require.Equal(t, 200, status, body)
	require.Equal(t, "hello, user 1 at 203.0.113.5\n", body)

	for _, test := range []struct {
		name, password, error string
		status                int
	}{
		{"a wrong password", "wrong", "invalid_grant", 400},
		{"no password", "", "invalid_request", 400},
	} {
		status, body, token = s.login(test.password)
		require.Equal(t, test.status, status, test.name)
		require.Contains(t, body, fmt.Sprintf(`"error":%q`, test.error), test.name)
		require.Empty(t, token, test.name)
	}
	status, body = s.do("GET", "/hello", nil)
	require.Equal(t, 401, status, body)

	// The paths exist only below the prefix.
	s.url = strings.TrimSuffix(s.url, prefix)
	status, _ = s.do("GET", "/hello", nil, bearer...)
	require.Equal(t, 404, status)
}

// TestMetadata: another service finds the keys through the proxy, from the issuer on.
func TestMetadata(t *testing.T) {
	s := start(t, behind)
	_, _, token := s.login("secret")
	remote, err := tokens.NewRemote(tokens.RemoteConfig{Issuer: s.jwt.Issuer(), Audience: "api", RootCAs: s.roots, Scopes: tokens.SameScopes("me")})
	require.NoError(t, err)
	p, err := remote.Verify(t.Context(), token)
	require.NoError(t, err)
	require.Equal(t, "1", p.Subject)
	require.True(t, p.HasScope("me"))

	s.url = strings.TrimSuffix(s.url, prefix)
	status, body := s.do("GET", "/.well-known/oauth-authorization-server"+prefix, nil)
	require.Equal(t, 200, status, body)
	require.Contains(t, body, fmt.Sprintf(`"token_endpoint":"%s%s/token"`, s.url, prefix))
}

// TestPlainHTTP: a password arrives only if every part of the way is TLS or trusted.
func TestPlainHTTP(t *testing.T) {
	const network = "10.0.0.0/8" // of the containers, for example
	for name, test := range map[string]struct {
		setup  setup
		status int
	}{
		"as documented":                         {behind, 200},
		"in a network of containers":            {setup{seen: "10.0.0.7", trusted: network}, 200},
		"the proxy is not trusted":              {setup{seen: "10.0.0.7"}, 400},
		"another proxy is trusted":              {setup{seen: "10.0.0.7", trusted: "10.9.0.0/16"}, 400},
		"a container's proxy got http":          {setup{plain: true, seen: "10.0.0.7", trusted: network}, 400},
		"the proxy of this machine got http":    {setup{plain: true, trusted: "127.0.0.1/32"}, 400},
		"an untrusted proxy here got http":      {setup{plain: true}, 400},
		"an untrusted proxy elsewhere got http": {setup{plain: true, seen: "10.0.0.7"}, 400},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, test.setup)
			status, body, token := s.login("secret", "X-Forwarded-Proto", "https") // a forgery: the proxy overwrites the header
			require.Equal(t, test.status, status, body)
			require.Equal(t, test.status == 200, token != "")
			if test.status == 400 {
				require.Contains(t, body, `"error":"invalid_request"`)
			}
		})
	}
}

// TestForgedAddress: a guesser who names the address of the owner in X-Forwarded-For is counted
// by the real address, so that the owner is not blocked, and a new name gives no new tries. It
// makes no difference whether the proxy replaces the client's header or appends to it.
func TestForgedAddress(t *testing.T) {
	const owner, guesser = "203.0.113.5", "198.51.100.66"
	for name, s := range map[string]setup{
		"the proxy replaces": behind,
		"the proxy appends":  {appends: true, trusted: "127.0.0.1/32"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, s)
			status, body, _ := s.login("secret", fromHeader, owner)
			require.Equal(t, 200, status, body)
			wrong := 0
			for ; wrong < 100; wrong++ {
				status, body, _ = s.login(fmt.Sprint("guess", wrong), fromHeader, guesser, "X-Forwarded-For", owner)
				if status == 429 {
					break
				}
				require.Equal(t, 400, status, body)
			}
			require.Equal(t, 10, wrong, "Config.ThrottleLimit")
			for i := range 5 {
				status, _, _ = s.login("secret", fromHeader, guesser, "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
				require.Equal(t, 429, status)
			}
			status, body, token := s.login("secret", fromHeader, owner)
			require.Equal(t, 200, status, body)
			status, body = s.do("GET", "/hello", nil, "Authorization", "Bearer "+token, fromHeader, guesser, "X-Forwarded-For", owner)
			require.Equal(t, 200, status)
			require.Contains(t, body, "at "+guesser)
		})
	}
}

// TestUntrustedProxy: without TrustedProxies all clients of a proxy on this machine have its
// address, and a forged header changes nothing.
func TestUntrustedProxy(t *testing.T) {
	s := start(t, setup{appends: true})
	_, _, token := s.login("secret")
	_, body := s.do("GET", "/hello", nil, "Authorization", "Bearer "+token, fromHeader, "203.0.113.5", "X-Forwarded-For", "192.0.2.9")
	require.Equal(t, "hello, user 1 at 127.0.0.1\n", body)
}

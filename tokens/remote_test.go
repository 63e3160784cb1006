package tokens

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// provider is a fake identity provider.
type provider struct {
	*testing.T
	server *httptest.Server
	clock  *testClock
	keys   map[string]Key // by kid
	mu     sync.Mutex
	set    string // the JWK set
	answer http.HandlerFunc
	hits   atomic.Int32 // of the JWK set
	remote *Remote
}

func newProvider(t *testing.T, edits ...func(*RemoteConfig)) *provider {
	t.Helper()
	p := &provider{T: t, clock: &testClock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, keys: make(map[string]Key)}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"more":[1]}`, p.server.URL, p.server.URL+"/jwks")
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, r *http.Request) {
		p.hits.Add(1)
		p.mu.Lock()
		answer, set := p.answer, p.set
		p.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		_, _ = w.Write([]byte(set))
	})
	p.server = httptest.NewTLSServer(mux)
	t.Cleanup(p.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(p.server.Certificate())
	c := RemoteConfig{Issuer: p.server.URL, Audience: "api", RootCAs: roots, Now: p.clock.Now,
		Scopes: map[string]string{"read": "me", "write": "items", "profile": "me"}}
	for _, edit := range edits {
		edit(&c)
	}
	var err error
	p.remote, err = NewRemote(c)
	require.NoError(t, err)
	p.publish(p.key("k1", "ES256"))
	return p
}

func (p *provider) key(kid, alg string) Key {
	p.Helper()
	_, jwk, err := NewKey(alg)
	require.NoError(p, err)
	k := mustKeys(p.T, strings.Replace(string(jwk), "{", fmt.Sprintf(`{"kid":%q,`, kid), 1))[0]
	p.keys[kid] = k
	return k
}

func (p *provider) publish(keys ...Key) {
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.material.jwk)
	}
	data, err := json.Marshal(set)
	require.NoError(p, err)
	p.serve(string(data), nil)
}

func (p *provider) serve(set string, answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set, p.answer = set, answer
}

// token makes a token by a key of the provider. edits change header or payload.
func (p *provider) token(kid string, edits ...string) string {
	p.Helper()
	k := p.keys[kid]
	header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, k.Algorithm(), kid)
	payload := fmt.Sprintf(`{"iss":%q,"sub":"their-42","aud":["other","api"],"exp":%d,"iat":%d,"scope":"read openid","sid":"s"}`,
		p.server.URL, p.clock.now.Unix()+3600, p.clock.now.Unix())
	r := strings.NewReplacer(edits...)
	signed := encode([]byte(r.Replace(header))) + "." + encode([]byte(r.Replace(payload)))
	signature, err := k.material.sign([]byte(signed))
	require.NoError(p, err)
	return signed + "." + encode(signature)
}

func (p *provider) verify(token string) (oauth2pw.Principal, error) {
	return p.remote.Verify(p.Context(), token)
}

func (p *provider) good(token string) oauth2pw.Principal {
	p.Helper()
	got, err := p.verify(token)
	require.NoError(p, err)
	return got
}

func (p *provider) bad(token, says string) {
	p.Helper()
	_, err := p.verify(token)
	require.ErrorIs(p, err, oauth2pw.ErrInvalidToken)
	require.ErrorContains(p, err, says)
}

func (p *provider) unavailable(token, says string) {
	p.Helper()
	_, err := p.verify(token)
	require.Error(p, err)
	require.NotErrorIs(p, err, oauth2pw.ErrInvalidToken)
	require.ErrorContains(p, err, says)
}

func TestRemote(t *testing.T) {
	p := newProvider(t)
	token := p.token("k1")
	for range 3 {
		got := p.good(token)
		require.Equal(t, p.server.URL, got.Issuer)
		require.Equal(t, "their-42", got.Subject)
		require.Equal(t, "me", got.Scope, "what is not listed is dropped")
		require.Equal(t, "api", got.Audience)
		require.True(t, got.ExpiresAt.Equal(p.clock.now.Add(time.Hour)))
	}
	require.Equal(t, int32(1), p.hits.Load())
	require.Equal(t, p.server.URL, p.remote.Issuer())
	p.clock.now = p.clock.now.Add(time.Hour + time.Second)
	p.bad(token, "expired")
}

// TestRemoteForgeries: what is refused, and that none of it makes us ask for keys.
//
// Conformance 98, 100, 102, 103, 104, 108.
func TestRemoteForgeries(t *testing.T) {
	p := newProvider(t)
	p.good(p.token("k1"))
	const typ, sub = `"typ":"at+jwt"`, `"sub":"their-42"`
	stranger := p.key("k2", "ES256")
	_ = stranger
	p.keys["k1b"] = p.keys["k2"]
	for _, test := range []struct{ name, token, says string }{
		{"ID token", p.token("k1", typ, `"typ":"JWT"`), "type"},
		{"no typ", p.token("k1", ","+typ, ""), "type"},
		{"alg none", strings.TrimRight(p.token("k1", "ES256", "none"), "x"), "algorithm"},
		{"alg NONE", p.token("k1", "ES256", "NONE"), "algorithm"},
		{"HMAC", p.token("k1", "ES256", "HS256"), "algorithm"},
		{"not allowed", p.token("k1", "ES256", "ES384"), "algorithm"},
		{"another of the allowed", p.token("k1", "ES256", "RS256"), "key id"},
		{"crit", p.token("k1", typ, typ+`,"crit":["exp"]`), "extension"},
		{"b64", p.token("k1", typ, typ+`,"b64":false`), "extension"},
		{"duplicate alg", p.token("k1", typ, typ+`,"alg":"ES256"`), "duplicate"},
		{"wrong issuer", p.token("k1", p.server.URL, "https://evil.example"), "issuer"},
		{"issuer with a slash", p.token("k1", p.server.URL, p.server.URL+"/"), "issuer"},
		{"wrong audience", p.token("k1", `"api"`, `"apis"`), "audience"},
		{"no audience", p.token("k1", `"aud":["other","api"],`, ""), "audience"},
		{"audience of numbers", p.token("k1", `"api"`, `1`), "wrong type"},
		{"no subject", p.token("k1", sub+",", ""), "subject"},
		{"no exp", p.token("k1", `"exp"`, `"expired"`), "time"},
		{"expired", p.token("k1", fmt.Sprint(p.clock.now.Unix()+3600), fmt.Sprint(p.clock.now.Unix()-1)), "expired"},
		{"exp huge", p.token("k1", fmt.Sprint(p.clock.now.Unix()+3600), "1e300"), "time"},
		{"exp string", p.token("k1", fmt.Sprint(p.clock.now.Unix()+3600), `"1"`), "type"},
		{"nbf", p.token("k1", sub, sub+fmt.Sprintf(`,"nbf":%d`, p.clock.now.Unix()+31)), "not valid yet"},
		{"future", p.token("k1", `"iat":`+fmt.Sprint(p.clock.now.Unix()), `"iat":`+fmt.Sprint(p.clock.now.Unix()+31)), "future"},
		{"cnf", p.token("k1", sub, sub+`,"cnf":{"jkt":"x"}`), "bound"},
		{"duplicate sub", p.token("k1", sub, sub+`,"sub":"admin"`), "duplicate"},
		{"another key under its kid", p.token("k1b", "k1b", "k1"), "signature"},
		{"garbage", "x", "header"},
		{"empty", "", "header"},
		{"JSON", `{"payload":""}`, "header"},
		{"long", strings.Repeat("x", 1<<20), "long"},
	} {
		t.Run(test.name, func(t *testing.T) { p.bad(test.token, test.says) })
	}
	require.Equal(t, int32(1), p.hits.Load(), "nothing that a forged token says is fetched")
	// Keys and URLs in the header are not looked at.
	p.good(p.token("k1", typ, typ+`,"jku":"https://127.0.0.1:1/","x5u":"https://127.0.0.1:1/","jwk":{"kty":"oct","k":"AAAA"}`))
	p.good(p.token("k1", typ, `"typ":"application/AT+JWT"`))
	p.good(p.token("k1", `"aud":["other","api"]`, `"aud":"api"`))
	p.good(p.token("k1", sub, sub+fmt.Sprintf(`,"nbf":%d.5,"auth_time":1e9`, p.clock.now.Unix()+29)))
}

// TestRemoteScopes: providers that put scopes elsewhere.
func TestRemoteScopes(t *testing.T) {
	p := newProvider(t, func(c *RemoteConfig) { c.ScopeClaims = []string{"scp", "permissions"} })
	for claim, want := range map[string]string{
		`"scp":"read write read"`:                "me items",
		`"scp":["write","read"]`:                 "items me",
		`"permissions":["write","admin"]`:        "items",
		`"permissions":["profile"],"scp":"read"`: "me",
		`"scp":"admin me items"`:                 "", // ours by name, theirs by meaning
		`"scp":[]`:                               "",
	} {
		require.Equal(t, want, p.good(p.token("k1", `"scope":"read openid"`, claim)).Scope, claim)
	}
	p.bad(p.token("k1", `"scope":"read openid"`, `"scp":{"a":1}`), "scp")
}

// TestRemoteRotation: a key that is unknown is fetched, at most once in 30
// seconds, and old keys go with the set.
func TestRemoteRotation(t *testing.T) {
	p := newProvider(t)
	old := p.token("k1")
	p.good(old)
	p.publish(p.keys["k1"], p.key("k2", "EdDSA"))
	p.bad(p.token("k2"), "unknown key id") // too soon after the last fetch
	p.clock.now = p.clock.now.Add(30 * time.Second)
	p.good(p.token("k2"))
	p.good(old)
	require.Equal(t, int32(2), p.hits.Load())

	p.publish(p.keys["k2"])
	p.clock.now = p.clock.now.Add(remoteFresh)
	p.good(old) // still by the old set; a fetch begins behind it
	require.Eventually(t, func() bool { return p.remote.state.Load().fetched.Equal(p.clock.now) }, 5*time.Second, time.Millisecond)
	p.bad(old, "unknown key id")
	p.good(p.token("k2"))

	// Without a kid, the only key of the algorithm.
	p.good(p.token("k2", `"kid":"k2",`, ""))
	p.publish(p.keys["k2"], p.key("k3", "EdDSA"))
	p.clock.now = p.clock.now.Add(remoteFresh)
	require.NoError(t, p.remote.Refresh(t.Context()))
	p.bad(p.token("k2", `"kid":"k2",`, ""), "unknown key id")
}

// TestRemoteFlood: 10^4 tokens with unknown kids cause one fetch in 30 seconds.
func TestRemoteFlood(t *testing.T) {
	p := newProvider(t)
	p.good(p.token("k1"))
	flood := func() {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 1250 {
					_, err := p.verify(p.token("k1", `"kid":"k1"`, fmt.Sprintf(`"kid":"x%d-%d"`, i, j)))
					if !errors.Is(err, oauth2pw.ErrInvalidToken) {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	flood()
	require.Equal(t, int32(1), p.hits.Load())
	p.clock.now = p.clock.now.Add(30 * time.Second)
	flood()
	require.Equal(t, int32(2), p.hits.Load())
}

// TestRemoteBadProvider: what a provider that misbehaves does to a request: with
// no keys yet it is a failure, with good keys nothing, until they are too old.
func TestRemoteBadProvider(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	weakSet := func(p *provider) string {
		n := encode(weak.N.Bytes())
		return `{"keys":[{"kty":"RSA","kid":"k1","n":"` + n + `","e":"AQAB"},{"kty":"oct","kid":"k1","alg":"HS256","k":"` + strings.Repeat("A", 43) + `"},` +
			strings.Replace(string(p.keys["k1"].material.jwk), `"sig"`, `"enc"`, 1) + `]}`
	}
	var over chan struct{} // closed when the test is over
	serve := func(set string) func(*provider) (string, http.HandlerFunc) {
		return func(*provider) (string, http.HandlerFunc) { return set, nil }
	}
	handle := func(h http.HandlerFunc) func(*provider) (string, http.HandlerFunc) {
		return func(*provider) (string, http.HandlerFunc) { return "", h }
	}
	for _, test := range []struct {
		name, says string
		answer     func(p *provider) (string, http.HandlerFunc)
	}{
		{"garbage", "no JWK set", serve("<html>")},
		{"an array", "no JWK set", serve("[]")},
		{"nothing", "no JWK set", serve("")},
		{"an empty set", "no key that can be used", serve(`{"keys":[]}`)},
		{"weak, secret and other keys", "no key that can be used", func(p *provider) (string, http.HandlerFunc) { return weakSet(p), nil }},
		{"too many keys", "101 keys", serve(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`)},
		{"10 MiB", "larger than 512 KiB", serve(`{"keys":["` + strings.Repeat("x", 10<<20) + `"]}`)},
		{"a redirect", "302", handle(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/jwks2", http.StatusFound) })},
		{"an error", "500", handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })},
		{"no answer", "EOF", handle(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })},
		{"a slow answer", "deadline exceeded", handle(func(http.ResponseWriter, *http.Request) { <-over })},
		{"a slow body", "deadline exceeded", handle(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
			<-over
		})},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProvider(t)
			over = make(chan struct{})
			t.Cleanup(func() { close(over) })
			if strings.Contains(test.name, "slow") {
				p.remote.limit = 50 * time.Millisecond
			}
			good := p.set
			p.serve(test.answer(p))
			token := p.token("k1")
			p.unavailable(token, test.says)
			p.unavailable(token, test.says) // and nobody asks again at once
			require.Equal(t, 1, p.remote.failures)
			p.clock.now = p.clock.now.Add(time.Second) // but soon
			p.serve(good, nil)
			p.good(token)

			p.serve(test.answer(p)) // it fails later
			p.clock.now = p.clock.now.Add(24*time.Hour - time.Second)
			token = p.token("k1")
			require.Eventually(t, func() bool { p.good(token); return p.remote.lastError() != nil }, 5*time.Second, time.Millisecond)
			p.good(token)
			p.key("k2", "ES256")
			p.unavailable(p.token("k2"), test.says) // the issuer may have it
			p.clock.now = p.clock.now.Add(time.Second)
			p.unavailable(token, test.says)
			p.clock.now = p.clock.now.Add(30 * time.Second)
			p.serve(good, nil)
			p.good(token)
		})
	}
}

func (r *Remote) lastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lastErr
}

// TestRemoteDiscovery: whose metadata is believed, and where keys may be.
func TestRemoteDiscovery(t *testing.T) {
	document := ""
	paths := []string{}
	var p *provider
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		if strings.Contains(r.URL.Path, "openid") && !strings.Contains(document, "openid") {
			w.WriteHeader(404)
			return
		}
		_, _ = w.Write([]byte(document))
	}))
	defer issuer.Close()
	p = newProvider(t)
	roots := x509.NewCertPool()
	roots.AddCert(issuer.Certificate())
	roots.AddCert(p.server.Certificate())
	port := strings.TrimPrefix(p.server.URL, "https://127.0.0.1:")
	for _, test := range []struct{ name, path, document, says string }{
		{"another issuer", "", `{"issuer":"https://evil.example","jwks_uri":"` + p.server.URL + `/jwks"}`, "another issuer"},
		{"a slash more", "", `{"issuer":"` + issuer.URL + `/","jwks_uri":"` + p.server.URL + `/jwks"}`, "another issuer"},
		{"plain HTTP", "", `{"issuer":"` + issuer.URL + `","jwks_uri":"http://127.0.0.1:` + port + `/jwks"}`, "https"},
		{"no jwks_uri", "", `{"issuer":"` + issuer.URL + `"}`, "https"},
		{"another private address", "", `{"issuer":"` + issuer.URL + `","jwks_uri":"https://127.0.0.2:` + port + `/jwks"}`, "private address"},
		{"a private network", "", `{"issuer":"` + issuer.URL + `","jwks_uri":"https://10.0.0.1/jwks"}`, "private address"},
		{"the cloud's metadata", "", `{"issuer":"` + issuer.URL + `","jwks_uri":"https://169.254.169.254/jwks"}`, "private address"},
		{"garbage", "", `<html>`, "no JSON object"},
		{"good", "", `{"issuer":"` + issuer.URL + `","jwks_uri":"` + p.server.URL + `/jwks"}`, ""},
		{"good, with a path", "/t1", `{"issuer":"` + issuer.URL + `/t1","jwks_uri":"` + p.server.URL + `/jwks"}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			document, paths = test.document, nil
			r, err := NewRemote(RemoteConfig{Issuer: issuer.URL + test.path, Audience: "api", RootCAs: roots})
			require.NoError(t, err)
			err = r.Refresh(t.Context())
			require.Equal(t, []string{test.path + "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server" + test.path}, paths)
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
		})
	}
	// A JWK set whose place is given needs no metadata; an issuer on a public
	// address makes no private one good.
	paths = nil
	r, err := NewRemote(RemoteConfig{Issuer: issuer.URL, JWKSURL: p.server.URL + "/jwks", Audience: "api", RootCAs: roots})
	require.NoError(t, err)
	require.NoError(t, r.Refresh(t.Context()))
	require.Empty(t, paths)
	r, err = NewRemote(RemoteConfig{Issuer: "https://192.0.2.1", JWKSURL: p.server.URL + "/jwks", Audience: "api", RootCAs: roots})
	require.NoError(t, err)
	require.ErrorContains(t, r.Refresh(t.Context()), "private address")
	unknown, err := NewRemote(RemoteConfig{Issuer: p.server.URL, Audience: "api"})
	require.NoError(t, err)
	require.ErrorContains(t, unknown.Refresh(t.Context()), "certificate")
}

func TestForbiddenAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"8.8.8.8": false, "2606:4700::1111": false, "1.1.1.1": false,
		"127.0.0.1": true, "10.1.2.3": true, "172.16.0.1": true, "192.168.1.1": true, "169.254.169.254": true, "0.0.0.0": true, "100.64.0.1": true,
		"198.18.0.1": true, "224.0.0.1": true, "255.255.255.255": true, "::1": true, "::": true, "fe80::1": true, "fc00::1": true, "ff02::1": true,
		"::ffff:10.0.0.1": true, "64:ff9b::a00:1": true, "2002:a00:1::": true,
		"fec0::1": true, "::10.0.0.1": true, "::ffff:0:10.0.0.1": true, "2001:0:a00:1::": true, "100::1": true, "2001:db8::1": true, "3fff::1": true, "5f00::1": true,
		"168.63.129.16": true, "100.100.100.200": true, "192.0.0.192": true, "fd00:ec2::254": true, "192.0.2.1": true, "203.0.113.1": true, "2001:20::1": true,
		"2001:4860:4860::8888": false, "2a00:1450::1": false,
	} {
		require.Equal(t, want, forbidden(netip.MustParseAddr(address)), address)
	}
}

// TestFetchedHosts: the private address of the issuer's own host may be asked under that name
// alone, and where clouds hand out credentials under none.
func TestFetchedHosts(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	for _, test := range []struct {
		issuer, host string
		own          []string
		ok           bool
	}{
		{"https://127.0.0.1", "127.0.0.1", []string{"127.0.0.1"}, true},
		{"https://localhost", "localhost", []string{"127.0.0.1", "::1"}, true},
		{"https://LOCALHOST:8443/x", "localhost", []string{"127.0.0.1", "::1"}, true},
		{"https://localhost", "127.0.0.1", []string{"127.0.0.1"}, false}, // another name of the same address
		{"https://issuer.example", "localhost", []string{"127.0.0.1", "::1"}, false},
		{"https://localhost", "localhost", nil, false},
		{"https://169.254.169.254", "169.254.169.254", []string{"169.254.169.254"}, false},
		{"https://168.63.129.16", "168.63.129.16", []string{"168.63.129.16"}, false},
	} {
		f := newFetcher(RemoteConfig{Issuer: test.issuer})
		var own []netip.Addr
		for _, a := range test.own {
			own = append(own, netip.MustParseAddr(a))
		}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), ownKey{}, own), 5*time.Second)
		conn, err := f.client.Transport.(*http.Transport).DialContext(ctx, "tcp", net.JoinHostPort(test.host, port))
		cancel()
		if test.ok {
			require.NoError(t, err, "%+v", test)
			conn.Close()
		} else {
			require.ErrorContains(t, err, "private address", "%+v", test)
		}
	}
}

// TestFetchPanics: the goroutine of a fetch recovers, for nobody else does.
func TestFetchPanics(t *testing.T) {
	r, err := NewRemote(RemoteConfig{Issuer: "https://x.example", Audience: "api"})
	require.NoError(t, err)
	r.fetch = func(context.Context) ([]*keyMaterial, error) { panic("secret") }
	err = r.Refresh(t.Context())
	require.ErrorContains(t, err, "panic")
	require.NotContains(t, err.Error(), "secret")
}

func TestRemoteConfig(t *testing.T) {
	good := RemoteConfig{Issuer: "https://x.example", Audience: "api"}
	for names, edit := range map[string]func(*RemoteConfig){
		"Issuer":     func(c *RemoteConfig) { c.Issuer = "http://x.example" },
		"JWKSURL":    func(c *RemoteConfig) { c.JWKSURL = "file:///etc/passwd" },
		"Audience":   func(c *RemoteConfig) { c.Audience = "" },
		"Algorithms": func(c *RemoteConfig) { c.Algorithms = []string{"HS256"} },
		"MaxStale":   func(c *RemoteConfig) { c.MaxStale = -1 },
	} {
		c := good
		edit(&c)
		_, err := NewRemote(c)
		require.ErrorContains(t, err, names)
	}
	var told atomic.Int32
	good.OnError = func(err error) { told.Add(1) }
	r, err := NewRemote(good)
	require.NoError(t, err)
	r.fetch = func(context.Context) ([]*keyMaterial, error) { return nil, errors.New("down") }
	require.ErrorContains(t, r.Refresh(t.Context()), "down")
	require.Eventually(t, func() bool { return told.Load() == 1 }, 5*time.Second, time.Millisecond)
}

func TestByIssuer(t *testing.T) {
	ours, clock := newRing(t, hmacJWK)
	theirs, _ := newRing(t, rfc8037, func(c *Config) { c.Issuer = "https://other.example" })
	const secret = "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7" // that of FastAPI's tutorial
	legacyConfig := LegacyConfig{
		Secret: secret, Issuer: ours.Issuer(), Until: clock.now.Add(time.Hour), Now: clock.Now,
		Subject: func(_ context.Context, sub string) (string, error) {
			switch sub {
			case "johndoe":
				return "42", nil
			case "down":
				return "", errors.New("the database is down")
			}
			return "", oauth2pw.ErrNotFound
		},
	}
	old, err := InsecureLegacyHS256(legacyConfig)
	require.NoError(t, err)
	v, err := ByIssuer(ours, theirs, old)
	require.NoError(t, err)
	for _, r := range []*Ring{ours, theirs} {
		token, _, err := r.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
		require.NoError(t, err)
		p, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, r.Issuer(), p.Issuer)
	}
	// One issuer's key under the other's name.
	keys := mustKeys(t, rfc8037)
	forger, err := New(Config{Keys: keys, Issuer: ours.Issuer(), Audience: "api", Now: clock.Now})
	require.NoError(t, err)
	forged, _, err := forger.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
	require.NoError(t, err)
	for _, token := range []string{forged, "", "..", "a.b.c", "x." + encode([]byte(`{"iss":""}`)) + ".x", "x." + encode([]byte(`{"iss":"https://evil.example"}`)) + ".x", strings.Repeat("x.", 20000)} {
		_, err = v.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
	_, err = ByIssuer(ours, forger)
	require.ErrorContains(t, err, "two verifiers")
	_, err = ByIssuer()
	require.Error(t, err)

	// What PyJWT makes for FastAPI's tutorial.
	key := mustKeys(t, `{"kty":"oct","k":"`+encode([]byte(secret))+`"}`)[0]
	legacyToken := func(header, payload string) string {
		signed := encode([]byte(header)) + "." + encode([]byte(payload))
		signature, err := key.material.sign([]byte(signed))
		require.NoError(t, err)
		return signed + "." + encode(signature)
	}
	const header = `{"alg":"HS256","typ":"JWT"}`
	claims := func(more string) string {
		return fmt.Sprintf(`{"sub":"johndoe","exp":%d%s}`, clock.now.Unix()+600, more)
	}
	for more, scope := range map[string]string{``: "", `,"scope":"me items"`: "me items", `,"scopes":["me","items"]`: "me items"} {
		p, err := v.Verify(t.Context(), legacyToken(header, claims(more)))
		require.NoError(t, err)
		require.Equal(t, "42", p.Subject)
		require.Equal(t, ours.Issuer(), p.Issuer)
		require.Equal(t, scope, p.Scope)
	}
	for _, token := range []string{
		legacyToken(`{"alg":"none","typ":"JWT"}`, claims("")),
		legacyToken(`{"alg":"HS512","typ":"JWT"}`, claims("")),
		legacyToken(`{"alg":"HS256","typ":"at+jwt"}`, claims("")),
		legacyToken(`{"alg":"HS256","kid":"x","typ":"JWT"}`, claims("")),
		legacyToken(header, claims(`,"aud":"api"`)),
		legacyToken(header, claims(`,"iss":"`+ours.Issuer()+`"`)),
		legacyToken(header, `{"sub":"johndoe"}`),
		legacyToken(header, fmt.Sprintf(`{"sub":"johndoe","exp":%d}`, clock.now.Unix()-2)),
		legacyToken(header, strings.Replace(claims(""), "johndoe", "nobody", 1)),
		legacyToken(header, strings.Replace(claims(""), "johndoe", "", 1)),
		legacyToken(header, claims("")) + "x",
	} {
		_, err := old.Verify(t.Context(), token)
		require.ErrorIs(t, err, oauth2pw.ErrInvalidToken)
	}
	_, err = old.Verify(t.Context(), legacyToken(header, strings.Replace(claims(""), "johndoe", "down", 1)))
	require.Error(t, err)
	require.NotErrorIs(t, err, oauth2pw.ErrInvalidToken)
	last := legacyToken(header, strings.Replace(claims(""), fmt.Sprint(clock.now.Unix()+600), fmt.Sprint(clock.now.Unix()+36000), 1))
	clock.now = clock.now.Add(time.Hour - 1)
	_, err = old.Verify(t.Context(), last)
	require.NoError(t, err)
	clock.now = clock.now.Add(1)
	_, err = old.Verify(t.Context(), last)
	require.ErrorContains(t, err, "no longer")
	require.NotContains(t, fmt.Sprintf("%v %+v %s", old, old, []any{old}), secret)

	for names, edit := range map[string]func(*LegacyConfig){
		"Secret":  func(c *LegacyConfig) { c.Secret = "short" },
		"Issuer":  func(c *LegacyConfig) { c.Issuer = "" },
		"Subject": func(c *LegacyConfig) { c.Subject = nil },
		"Until":   func(c *LegacyConfig) { c.Until = time.Time{} },
	} {
		c := legacyConfig
		edit(&c)
		_, err := InsecureLegacyHS256(c)
		require.ErrorContains(t, err, names)
	}
}

// FuzzForeignToken: no token of another issuer panics, and none without a key's
// signature is accepted.
func FuzzForeignToken(f *testing.F) {
	r, err := NewRemote(RemoteConfig{Issuer: "https://x.example", Audience: "api", Types: []string{"JWT", ""}})
	require.NoError(f, err)
	keys := mustKeys(f, rfc8037)
	r.fetch = func(context.Context) ([]*keyMaterial, error) { return []*keyMaterial{keys[0].material}, nil }
	f.Add(`{"alg":"EdDSA"}`, `{"iss":"https://x.example","sub":"1","aud":["api"],"exp":9999999999,"scope":"a b"}`, "x")
	f.Add(`{"alg":"EdDSA","kid":"\u0061","typ":"JWT"}`, `{"iss":"https://x.example","sub":"1","aud":"api","exp":1e10,"nbf":0.5}`, "")
	f.Fuzz(func(t *testing.T, header, payload, signature string) {
		token := encode([]byte(header)) + "." + encode([]byte(payload)) + "." + signature
		if p, err := r.Verify(context.Background(), token); err == nil {
			t.Fatalf("forged: %+v", p)
		}
		_, _ = issuerOf(token)
	})
}

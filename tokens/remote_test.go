package tokens

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	requireShort(p, err)
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
		{"ID token", p.token("k1", typ, `"typ":"JWT"`), "has typ JWT, want at+jwt"},
		{"no typ", p.token("k1", ","+typ, ""), "has no typ, want at+jwt"},
		{"alg none", strings.TrimRight(p.token("k1", "ES256", "none"), "x"), "has alg none, want RS256 or PS256 or ES256 or EdDSA"},
		{"alg NONE", p.token("k1", "ES256", "NONE"), "has alg "},
		{"HMAC", p.token("k1", "ES256", "HS256"), "has alg "},
		{"not allowed", p.token("k1", "ES256", "ES384"), "has alg "},
		{"another of the allowed", p.token("k1", "ES256", "RS256"), "key id"},
		{"crit", p.token("k1", typ, typ+`,"crit":["exp"]`), "extension"},
		{"b64", p.token("k1", typ, typ+`,"b64":false`), "extension"},
		{"duplicate alg", p.token("k1", typ, typ+`,"alg":"ES256"`), "duplicate"},
		{"wrong issuer", p.token("k1", p.server.URL, "https://evil.example"), "has issuer https://evil.example, want " + p.server.URL},
		{"issuer with a slash", p.token("k1", p.server.URL, p.server.URL+"/"), "has issuer " + p.server.URL + "/, want " + p.server.URL + ":"},
		{"wrong audience", p.token("k1", `"api"`, `"apis"`), "has audience other apis, want api"},
		{"no audience", p.token("k1", `"aud":["other","api"],`, ""), "has no audience, want api"},
		{"many audiences", p.token("k1", `"other","api"`, `"a","b","c","d\ne","f","g"`), "has audience a b c d?e ..., want api"},
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

func TestSameScopes(t *testing.T) {
	require.Equal(t, map[string]string{"me": "me", "items": "items"}, SameScopes("me", "items"))
	require.Empty(t, SameScopes())
	p := newProvider(t, func(c *RemoteConfig) { c.Scopes = SameScopes("read", "write") })
	require.Equal(t, "read", p.good(p.token("k1")).Scope, "openid is dropped")
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
			limit := func(d time.Duration) { // of a slow answer; a good one has the time that it needs
				if strings.Contains(test.name, "slow") {
					p.remote.limit = d
				}
			}
			good := p.set
			limit(50 * time.Millisecond)
			p.serve(test.answer(p))
			token := p.token("k1")
			p.unavailable(token, test.says)
			p.unavailable(token, test.says) // and nobody asks again at once
			require.Equal(t, 1, p.remote.failures)
			p.clock.now = p.clock.now.Add(time.Second) // but soon
			limit(remoteTimeout)
			p.serve(good, nil)
			p.good(token)

			limit(50 * time.Millisecond)
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
			limit(remoteTimeout)
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

func TestRemoteConfig(t *testing.T) {
	good := RemoteConfig{Issuer: "https://x.example", Audience: "api"}
	for names, edit := range map[string]func(*RemoteConfig){
		"Issuer": func(c *RemoteConfig) { c.Issuer = "http://x.example" },
		"RemoteConfig.Issuer must be an https URL": func(c *RemoteConfig) { c.Issuer = "http://localhost.example" },
		"not \"http://10.0.0.1\"":                  func(c *RemoteConfig) { c.Issuer = "http://10.0.0.1" },
		"not \"http://0.0.0.0:8080\"":              func(c *RemoteConfig) { c.Issuer = "http://0.0.0.0:8080" },
		"not \"http://[::]\"":                      func(c *RemoteConfig) { c.Issuer = "http://[::]" },
		"not \"http://a@localhost\"":               func(c *RemoteConfig) { c.Issuer = "http://a@localhost" },
		"not \"ftp://localhost\"":                  func(c *RemoteConfig) { c.Issuer = "ftp://localhost" },
		"JWKSURL must be an https":                 func(c *RemoteConfig) { c.JWKSURL = "http://x.example/jwks" },
		"not \"http://localhost/jwks\"":            func(c *RemoteConfig) { c.JWKSURL = "http://localhost/jwks" }, // the issuer is https
		"not \"http://127.0.0.1/jwks\"":            func(c *RemoteConfig) { c.Issuer, c.JWKSURL = "http://localhost", "http://127.0.0.1/jwks" },
		"not \"http://x.example/k\"":               func(c *RemoteConfig) { c.Issuer, c.JWKSURL = "http://localhost", "http://x.example/k" },
		"JWKSURL":                                  func(c *RemoteConfig) { c.JWKSURL = "file:///etc/passwd" },
		"Audience":                                 func(c *RemoteConfig) { c.Audience = "" },
		"\"read items\" is not one scope":          func(c *RemoteConfig) { c.Scopes = SameScopes("read items") },
		"\"a\\\"b\" is not one scope":              func(c *RemoteConfig) { c.Scopes = map[string]string{"read": "a\"b"} },
		"not \"https://a:xxxxx@x.example\"":        func(c *RemoteConfig) { c.Issuer = "https://a:letmein@x.example" },
		"Algorithms":                               func(c *RemoteConfig) { c.Algorithms = []string{"HS256"} },
		"MaxStale":                                 func(c *RemoteConfig) { c.MaxStale = -1 },
	} {
		c := good
		edit(&c)
		_, err := NewRemote(c)
		require.ErrorContains(t, err, names)
	}
	for _, issuer := range []string{"http://localhost", "http://localhost:8080/realms/x", "http://127.0.0.1:8080", "http://127.1.2.3", "http://[::1]:8080"} {
		_, err := NewRemote(RemoteConfig{Issuer: issuer, Audience: "api"})
		require.NoError(t, err, issuer)
	}
	_, err := NewRemote(RemoteConfig{Issuer: "http://localhost:8080", JWKSURL: "http://LOCALHOST:9090/jwks", Audience: "api"})
	require.NoError(t, err)
	_, err = NewRemote(RemoteConfig{Issuer: "http://localhost:8080", JWKSURL: "https://keys.example/jwks", Audience: "api"})
	require.NoError(t, err)
	var told atomic.Int32
	good.OnError = func(err error) { told.Add(1) }
	r, err := NewRemote(good)
	require.NoError(t, err)
	r.fetch = func(context.Context) ([]*keyMaterial, error) { return nil, errors.New("down") }
	require.ErrorContains(t, r.Refresh(t.Context()), "down")
	require.Eventually(t, func() bool { return told.Load() == 1 }, 5*time.Second, time.Millisecond)
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

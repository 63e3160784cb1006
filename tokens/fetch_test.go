package tokens

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

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
		{"another member in capitals", "", `{"issuer":"` + issuer.URL + `","Issuer":"https://x.example","JWKS_URI":"https://x.example"}`, "jwks_uri must be"},
		{"a member twice", "", `{"issuer":"` + issuer.URL + `","issuer":"` + issuer.URL + `"}`, "malformed"},
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

// TestLoopbackIssuer: an issuer on loopback needs no TLS, for itself and its own keys alone.
func TestLoopbackIssuer(t *testing.T) {
	key := mustKeys(t, rfc8037)[0]
	jwksURI := ""
	var asked []string
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, server.URL, jwksURI)
	})
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host)
		fmt.Fprintf(w, `{"keys":[%s]}`, key.material.jwk)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, server.URL+"/jwks", http.StatusFound)
	})
	port := strings.TrimPrefix(server.URL, "http://127.0.0.1:")
	for _, test := range []struct{ name, jwksURI, says string }{
		{"its own keys", server.URL + "/jwks", ""},
		{"another name", "http://localhost:" + port + "/jwks", "https"},
		{"another loopback address", "http://127.0.0.2:" + port + "/jwks", "https"},
		{"another host", "http://keys.example/jwks", "https"},
		{"a private network", "http://10.0.0.1/jwks", "https"},
		{"the cloud's metadata", "http://169.254.169.254/jwks", "https"},
		{"another name over TLS", "https://localhost:" + port + "/jwks", "private address"},
		{"a redirect", server.URL + "/away", "302"},
	} {
		t.Run(test.name, func(t *testing.T) {
			jwksURI, asked = test.jwksURI, nil
			r, err := NewRemote(RemoteConfig{Issuer: server.URL, Audience: "api"})
			require.NoError(t, err)
			err = r.Refresh(t.Context())
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				require.Empty(t, asked)
				return
			}
			require.NoError(t, err)
			require.Len(t, asked, 1)
			ring, err := New(Config{Keys: []Key{key}, Issuer: server.URL, Audience: "api"})
			require.NoError(t, err)
			token, _, err := ring.Issue(t.Context(), oauth2pw.Principal{Subject: "1"})
			require.NoError(t, err)
			_, err = r.Verify(t.Context(), token)
			require.NoError(t, err)
		})
	}
}

// TestCheckAddress: the addresses that a fetch may connect to, by the name of the host.
func TestCheckAddress(t *testing.T) {
	const private, notLoopback = "private address", "not a loopback address"
	for _, test := range []struct{ issuer, host, own, address, says string }{
		{"https://issuer.example", "issuer.example", "8.8.8.8", "8.8.8.8", ""},
		{"https://issuer.example", "keys.example", "8.8.8.8", "1.1.1.1", ""},
		{"https://issuer.example", "issuer.example", "10.0.0.1", "10.0.0.1", ""}, // inside, as its keys
		{"https://issuer.example", "ISSUER.example", "10.0.0.1", "::ffff:10.0.0.1", ""},
		{"https://issuer.example", "issuer.example", "10.0.0.1", "10.0.0.2", private}, // it has changed since
		{"https://issuer.example", "keys.example", "10.0.0.1", "10.0.0.1", private},
		{"https://issuer.example", "issuer.example", "169.254.169.254", "169.254.169.254", private},
		{"http://localhost", "localhost", "127.0.0.1", "127.0.0.1", ""},
		{"http://localhost:8080", "LOCALHOST", "::1", "::1", ""},
		{"http://127.0.0.9", "127.0.0.9", "127.0.0.9", "127.0.0.9", ""},
		{"http://localhost", "localhost", "8.8.8.8", "8.8.8.8", notLoopback}, // a name server says so
		{"http://localhost", "localhost", "10.0.0.1", "10.0.0.1", notLoopback},
		{"http://localhost", "localhost", "127.0.0.1", "127.0.0.2", private},
		{"http://localhost", "127.0.0.1", "127.0.0.1", "127.0.0.1", private},
		{"http://localhost", "keys.example", "127.0.0.1", "1.1.1.1", ""}, // over TLS: checkFetchURL
		{"http://localhost", "keys.example", "127.0.0.1", "127.0.0.1", private},
		{"http://localhost", "localhost", "169.254.169.254", "169.254.169.254", private},
	} {
		f := newFetcher(RemoteConfig{Issuer: test.issuer})
		err := f.checkAddress(test.host, []netip.Addr{netip.MustParseAddr(test.own)}, netip.MustParseAddr(test.address))
		if test.says == "" {
			require.NoError(t, err, "%+v", test)
		} else {
			require.ErrorContains(t, err, test.says, "%+v", test)
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

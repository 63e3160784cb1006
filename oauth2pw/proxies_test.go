package oauth2pw_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance72HTTPS: the token endpoint, as its siblings, needs HTTPS.
func TestConformance72HTTPS(t *testing.T) {
	proxy := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, test := range []struct {
		name    string
		peer    string
		tls     bool
		header  string // Config.ProxyHeader
		headers []string
		ok      bool
	}{
		{name: "other machine", peer: "192.0.2.1:1"},
		{name: "other machine by TLS", peer: "192.0.2.1:1", tls: true, ok: true},
		{name: "loopback", peer: "127.0.0.1:1", ok: true},
		{name: "loopback IPv6", peer: "[::1]:1", ok: true},
		{name: "loopback mapped", peer: "[::ffff:127.0.0.1]:1", ok: true},
		{name: "no peer", peer: ""},
		{name: "a Unix socket", peer: "@", ok: true}, // 141
		{name: "a Unix socket with a path", peer: "/run/app.sock", ok: true},
		{name: "http from a Unix socket", peer: "@", headers: []string{"X-Forwarded-Proto: http"}},
		{name: "https from a stranger", peer: "192.0.2.1:1", headers: []string{"X-Forwarded-Proto: https"}},
		{name: "https from the proxy", peer: "10.1.2.3:1", headers: []string{"X-Forwarded-Proto: HTTPS"}, ok: true},
		{name: "nothing from the proxy", peer: "10.1.2.3:1"},
		{name: "http from the proxy", peer: "10.1.2.3:1", headers: []string{"X-Forwarded-Proto: http"}},
		{name: "http from a stranger by TLS", peer: "192.0.2.1:1", tls: true, headers: []string{"X-Forwarded-Proto: http"}},
		{name: "http from loopback", peer: "127.0.0.1:1", headers: []string{"X-Forwarded-Proto: http"}},
		{name: "http in a list", peer: "10.1.2.3:1", headers: []string{"X-Forwarded-Proto: https, http"}},
		{name: "Forwarded http", peer: "127.0.0.1:1", headers: []string{`Forwarded: for=192.0.2.9;proto=http`}},
		{name: "Forwarded http quoted", peer: "127.0.0.1:1", headers: []string{`Forwarded: for="[2001:db8::1]:4711" ; Proto="HTTP", for=x`}},
		{name: "Forwarded http behind an open quote", peer: "127.0.0.1:1", headers: []string{`Forwarded: for=", for=192.0.2.9;proto=http`}},
		{name: "Forwarded https, not the header", peer: "10.1.2.3:1", headers: []string{`Forwarded: proto=https`}},
		{name: "Forwarded https", peer: "10.1.2.3:1", header: "forwarded", headers: []string{`Forwarded: for=192.0.2.9;proto=https`}, ok: true},
		{name: "X-Forwarded-Proto beside Forwarded", peer: "10.1.2.3:1", header: "Forwarded", headers: []string{"X-Forwarded-Proto: https"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies, c.ProxyHeader = proxy, test.header })
			r := post(login, peer(test.peer), with(test.headers...))
			if test.tls {
				r.TLS = new(tls.ConnectionState)
			}
			got := a.serve(r)
			if test.ok {
				require.Equal(t, 200, got.StatusCode, got.body)
				return
			}
			got.isError(t, 400, "invalid_request")
			require.Zero(t, a.hasher.take())
		})
	}

	t.Run("InsecureAllowHTTP", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.InsecureAllowHTTP = true })
		require.Equal(t, 200, a.serve(post(login, peer("192.0.2.1:1"))).StatusCode)
	})

	t.Run("not at the resource", func(t *testing.T) {
		a := newApp(t)
		require.Equal(t, 200, a.serve(get("/me", peer("192.0.2.1:1"), with(bearer(a.token(""))))).StatusCode)
	})
}

// TestClientAddress: the address by which the throttle counts.
//
// Conformance 127.
func TestClientAddress(t *testing.T) {
	for _, test := range []struct {
		name, peer, header string
		fields             []string // values of the header
		want               string
	}{
		{name: "the peer", peer: "192.0.2.1:5", want: "192.0.2.1"},
		{name: "a stranger's header is ignored", peer: "192.0.2.1:5", fields: []string{"198.51.100.7"}, want: "192.0.2.1"},
		{name: "the proxy's counts", peer: "10.0.0.1:5", fields: []string{"198.51.100.7"}, want: "198.51.100.7"},
		{name: "from the right", peer: "10.0.0.1:5", fields: []string{"203.0.113.1, 198.51.100.7"}, want: "198.51.100.7"},
		{name: "trusted hops are skipped", peer: "10.0.0.1:5", fields: []string{"203.0.113.1, 198.51.100.7, 10.9.9.9"}, want: "198.51.100.7"},
		{name: "over several lines", peer: "10.0.0.1:5", fields: []string{"203.0.113.1", "198.51.100.7, 10.9.9.9"}, want: "198.51.100.7"},
		{name: "garbage ends the walk", peer: "10.0.0.1:5", fields: []string{"198.51.100.7, unknown, 10.9.9.9"}, want: "10.9.9.9"},
		{name: "all trusted", peer: "10.0.0.1:5", fields: []string{"10.0.0.3, 10.0.0.2"}, want: "10.0.0.3"},
		{name: "nothing named", peer: "10.0.0.1:5", want: "10.0.0.1"},
		{name: "port", peer: "10.0.0.1:5", fields: []string{"198.51.100.7:4711"}, want: "198.51.100.7"},
		{name: "IPv6", peer: "10.0.0.1:5", fields: []string{"2001:db8::1"}, want: "2001:db8::1"},
		{name: "IPv6 in brackets", peer: "10.0.0.1:5", fields: []string{"[2001:db8::1]"}, want: "2001:db8::1"},
		{name: "IPv6 with a port", peer: "10.0.0.1:5", fields: []string{"[2001:db8::1]:1"}, want: "2001:db8::1"},
		{name: "mapped", peer: "[::ffff:10.0.0.1]:5", fields: []string{"::ffff:198.51.100.7"}, want: "198.51.100.7"},
		{name: "zone", peer: "[fe80::1%eth0]:5", want: "fe80::1"},
		{name: "Forwarded", peer: "10.0.0.1:5", header: "Forwarded", fields: []string{`for=203.0.113.1, FOR="[2001:db8::1]:4711";proto=https;by=x, for=10.0.0.7`}, want: "2001:db8::1"},
		{name: "Forwarded obfuscated", peer: "10.0.0.1:5", header: "Forwarded", fields: []string{`for=203.0.113.1, for=_hidden`}, want: "10.0.0.1"},
		{name: "Forwarded with an open quote", peer: "10.0.0.1:5", header: "Forwarded", fields: []string{`for=", for="198.51.100.7"`}, want: "198.51.100.7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			header := test.header
			if header == "" {
				header = "X-Forwarded-For"
			}
			var got netip.Addr
			a := newApp(t, func(c *oauth2pw.Config) {
				c.TrustedProxies, c.ProxyHeader = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, test.header
			})
			a.mux.Handle("/address", oauth2pw.OptionalBearer(a.auth)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = oauth2pw.ClientAddress(r.Context())
			})))
			r := get("/address", peer(test.peer))
			r.Header[header] = test.fields
			require.Equal(t, 200, a.serve(r).StatusCode)
			require.Equal(t, test.want, got.String())
		})
	}
}

// TestUnknownProxy: a proxy that Config.TrustedProxies does not name is an event, and the address
// of its clients never becomes known.
func TestUnknownProxy(t *testing.T) {
	for _, header := range []string{"X-Forwarded-For: ", "X-Real-IP: ", "Forwarded: for="} {
		a := newApp(t)
		proxy := "192.0.2.250" // all clients seem to be it
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
		unknown := a.event()
		require.Equal(t, oauth2pw.EventUnknownProxy, unknown.Kind)
		require.Equal(t, netip.MustParseAddr(proxy), unknown.Address)
		a.attackAccount("johndoe")
		a.serve(post(right("johndoe"), from(proxy), with(header+"203.0.113.66"))).isThrottled(t) // an attacker has no known address
		events := a.takeEvents()
		require.NotEmpty(t, events)
		for _, e := range events {
			require.NotEqual(t, oauth2pw.EventUnknownProxy, e.Kind, "once")
		}
		a.clock.Advance(time.Hour)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
		require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind, "and again after an hour")
		a.clock.Advance(-24 * time.Hour)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(proxy), with(header+"198.51.100.1"))).StatusCode)
		require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind, "a clock that is set back silences nothing")
	}
	// A hop that cannot be read may stand for many clients.
	g := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	require.Equal(t, 200, g.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: unknown"))).StatusCode)
	unreadable := g.event()
	require.Equal(t, oauth2pw.EventProxyHeader, unreadable.Kind, "the proxy is known")
	require.Equal(t, oauth2pw.ReasonUnreadableHop, unreadable.Reason)
	g.attackAccount("johndoe")
	g.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: unknown"))).isThrottled(t)
	// A proxy in front of the trusted one.
	a := newApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	require.Equal(t, 200, a.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1, 192.0.2.250"))).StatusCode)
	require.Equal(t, oauth2pw.EventUnknownProxy, a.event().Kind)
	a.attackAccount("johndoe")
	a.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 203.0.113.66, 192.0.2.250"))).isThrottled(t)
	// A trusted proxy that names its clients in another header.
	b := newApp(t, func(c *oauth2pw.Config) {
		c.TrustedProxies, c.ProxyHeader = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, "X-Real-IP"
	})
	require.Equal(t, 200, b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1"))).StatusCode)
	e := b.event()
	require.Equal(t, oauth2pw.EventProxyHeader, e.Kind)
	require.Equal(t, oauth2pw.ReasonOtherHeader, e.Reason)
	require.ErrorContains(t, e.Err, "Config.ProxyHeader")
	b.attackAccount("johndoe")
	b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1"))).isThrottled(t)
	b.clock.Advance(2 * time.Hour)
	b.takeEvents()
	require.Equal(t, 200, b.serve(post(right("johndoe"), from("10.1.2.3"), with("X-Forwarded-For: 198.51.100.1", "X-Real-IP: 198.51.100.1"))).StatusCode)
	require.Equal(t, oauth2pw.EventLogin, b.event().Kind, "both are fine")
}

// TestTwiceTheLimit: a forwarding header from a known address is no second set of limits.
func TestTwiceTheLimit(t *testing.T) {
	a := newApp(t)
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	n := 0
	for i := range 60 {
		var headers []string
		if i%2 == 1 {
			headers = []string{"X-Forwarded-For: x"}
		}
		if checked(a, a.serve(post(wrong("johndoe", i), from(home), with(headers...)))) {
			n++
		}
	}
	require.Equal(t, 10, n)
}

// TestTrustedProxiesConfig: networks that hold strangers are refused.
func TestTrustedProxiesConfig(t *testing.T) {
	a := newApp(t)
	for prefix, good := range map[string]bool{
		"0.0.0.0/0": false, "::/0": false, "0.0.0.0/1": false, "128.0.0.0/1": false, "8.0.0.0/7": false, "::/1": false, "2000::/3": false, "::ffff:0:0/96": false,
		"10.0.0.0/8": true, "127.0.0.1/32": true, "fc00::/7": true, "::1/128": true,
	} {
		c := a.config()
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(prefix)}
		_, err := oauth2pw.New(c)
		if good {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, "Config.TrustedProxies", prefix)
		}
	}
}

// TestConformance145: a form from a page of another site is refused before anything is
// counted.
func TestConformance145(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.TrustedOrigins = []string{"https://app.example.com", "capacitor://localhost", "http://localhost:5173"}
	})
	for _, test := range []struct {
		headers []string
		status  int
	}{
		{nil, 200},
		{[]string{"Origin: https://evil.example"}, 200}, // an old browser or a program sends no Sec-Fetch-Site
		{[]string{"Sec-Fetch-Site: same-origin"}, 200},
		{[]string{"Sec-Fetch-Site: same-site", "Origin: https://other.example.com"}, 200},
		{[]string{"Sec-Fetch-Site: none"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: capacitor://localhost"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: http://localhost:5173"}, 200},
		{[]string{"Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: null"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com.evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://APP.example.com"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com/"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: http://localhost"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site", "Origin: https://app.example.com", "Origin: https://evil.example"}, 403},
		{[]string{"Sec-Fetch-Site: Cross-Site"}, 403},
		{[]string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: same-origin, cross-site"}, 403},
	} {
		for target, form := range map[string]string{"/token": right("johndoe"), "/revoke": "token=x", "/introspect": "token=x&client_id=backend&client_secret=backend-secret"} {
			got := a.serve(post(form, to(target), from(home), with(test.headers...)))
			if test.status == 200 {
				require.Equal(t, 200, got.StatusCode, "%s %v %s", target, test.headers, got.body)
				continue
			}
			got.isError(t, 403, "access_denied")
			require.Empty(t, got.Header.Values("WWW-Authenticate"))
		}
	}
	for i := range 100 { // and does not count, for the client either
		a.serve(post(wrong("johndoe", i)+fmt.Sprint("&client_id=backend&client_secret=", i), from(home), with("Sec-Fetch-Site: cross-site"))).isError(t, 403, "access_denied")
	}
	require.Equal(t, 200, a.serve(post(right("johndoe")+"&client_id=backend&client_secret=backend-secret", from(home))).StatusCode)
	a.takeEvents()
	a.serve(post(right("johndoe"), from(home), with("Sec-Fetch-Site: cross-site"))).isError(t, 403, "access_denied")
	e := a.event()
	require.Equal(t, oauth2pw.EventRequestRefused, e.Kind)
	require.Equal(t, oauth2pw.ReasonCrossSite, e.Reason)
	require.ErrorContains(t, e.Err, "Config.TrustedOrigins")

	for _, origin := range []string{"", "null", "*", "https://*.example.com", "app.example.com", "https://app.example.com/", "https://app.example.com/x", "HTTPS://app.example.com", "https://App.example.com", "https://app.example.com:443", "http://x:80", "https://user@app.example.com", "https://", "https://a b", "https://x?y", "//app.example.com", "https://x:"} {
		c := a.config()
		c.TrustedOrigins = []string{origin}
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, "Config.TrustedOrigins", origin)
	}
}

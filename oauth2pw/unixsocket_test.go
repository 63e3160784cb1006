package oauth2pw_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// unixApp is an app whose requests come over a Unix socket.
type unixApp struct {
	*app
	socket string
}

func newUnixApp(t *testing.T, edit func(*oauth2pw.Config)) *unixApp {
	t.Helper()
	a := &unixApp{newApp(t, edit), filepath.Join(t.TempDir(), "s")}
	listener, err := net.Listen("unix", a.socket)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(a.watched), ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	a.url, a.client = "http://app", unixClient(a.socket, nil)
	return a
}

// unixClient sends to a Unix socket. Its own end has a name, or, with nil, none.
func unixClient(server string, own *net.UnixAddr) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.DialUnix("unix", own, &net.UnixAddr{Name: server, Net: "unix"})
		},
	}}
}

// TestUnixSocket: over a real socket callers without an address share no counter, and the
// header of a proxy counts where Config.TrustUnixSocket is set.
//
// Conformance 140, 141.
func TestUnixSocket(t *testing.T) {
	t.Run("local peers without an address", func(t *testing.T) {
		a := newUnixApp(t, func(*oauth2pw.Config) {})
		names := a.addUsers("x", 11)
		for _, name := range names[:10] {
			for i := range 10 {
				a.post(wrong(name, i)).isError(t, 400, "invalid_grant")
			}
		}
		for i := range 150 {
			a.post(fmt.Sprintf("grant_type=password&username=invented%d&password=x", i)).isError(t, 400, "invalid_grant")
			a.post(login+fmt.Sprint("&client_id=backend&client_secret=", i)).isError(t, 400, "invalid_client")
		}
		require.Equal(t, 200, a.post(right(names[10])).StatusCode)
		require.Equal(t, 200, a.post(login+"&client_id=backend&client_secret=backend-secret").StatusCode)
		for i := range 20 { // the account's own limit holds
			a.post(wrong(names[0], 10+i)).isError(t, 400, "invalid_grant")
		}
		a.post(right(names[0])).isThrottled(t)
		for range 3 { // which a success does not clear, and the same wrong secret counts once
			a.post(wrong("johndoe", 0)).isError(t, 400, "invalid_grant")
		}
		for range 50 {
			require.Equal(t, 200, a.post(right("johndoe")).StatusCode)
		}
		for i := range 28 {
			a.post(wrong("johndoe", 1+i)).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.post(right("johndoe")).StatusCode)
		a.post(wrong("johndoe", 100)).isError(t, 400, "invalid_grant")
		a.post(right("johndoe")).isThrottled(t)
	})
	t.Run("not trusted", func(t *testing.T) {
		a := newUnixApp(t, func(*oauth2pw.Config) {})
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home, "X-Forwarded-Proto: https").StatusCode)
		e := a.event()
		require.Equal(t, oauth2pw.EventUnknownProxy, e.Kind)
		require.ErrorContains(t, e.Err, "Config.TrustUnixSocket")
		require.False(t, e.Address.IsValid())
		a.attackAccount("johndoe")
		a.post(right("johndoe"), "X-Forwarded-For: "+home).isThrottled(t) // the header makes nothing known
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.post(right("x"), "X-Forwarded-Proto: http").isError(t, 400, "invalid_request")
	})
	t.Run("trusted", func(t *testing.T) {
		a := newUnixApp(t, func(c *oauth2pw.Config) { c.TrustUnixSocket = true })
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home).StatusCode)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.post(right("johndoe"), "X-Forwarded-For: "+home).StatusCode, "the owner's address is known")
		a.post(right("johndoe"), "X-Forwarded-For: 203.0.113.99").isThrottled(t)
		a.post(right("johndoe"), "X-Forwarded-For: "+home, "X-Forwarded-Proto: http").isError(t, 400, "invalid_request")
	})
	t.Run("without an http.Server", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.TrustUnixSocket = true })
		r := post(right("johndoe"), peer("@"), with("X-Forwarded-For: "+home))
		require.Equal(t, 200, a.serve(r).StatusCode)
		require.Equal(t, home, oauth2pw.ClientAddress(oauth2pw.ContextOf(a.auth, r)).String())
		// Middleware of the app may have set RemoteAddr: it is an address then.
		r.RemoteAddr = "@ 192.0.2.9"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}))
		a.serve(r).isError(t, 400, "invalid_request") // and never a Unix socket, if the server has another
	})
}

// TestUnixPeerNames: the other end of a Unix socket chooses its own name, and no name is taken
// for the address of a proxy or of the owner's home.
func TestUnixPeerNames(t *testing.T) {
	t.Chdir(t.TempDir()) // the names are relative paths
	a := newUnixApp(t, func(c *oauth2pw.Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	named := func(name string) *http.Client { return unixClient(a.socket, &net.UnixAddr{Name: name, Net: "unix"}) }
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	for i := range 10 {
		a.client = named(fmt.Sprintf("%s:%d", home, i+1))
		a.post(wrong("johndoe", i)).isError(t, 400, "invalid_grant")
	}
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	a.takeEvents()
	a.client = named("10.1.2.3:4")
	a.post(wrong("old", 1), "X-Forwarded-For: 198.51.100.9").isError(t, 400, "invalid_grant")
	events := a.takeEvents()
	require.NotEmpty(t, events)
	for _, e := range events {
		require.False(t, e.Address.IsValid(), "%+v", e)
	}
}

package tokens

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"
)

const maxDocument = 512 << 10 // bytes

// fetcher gets the keys of an issuer.
type fetcher struct {
	issuer, jwksURL string
	host            string // of the issuer
	plainHost       string // see plainHostOf
	client          *http.Client
}

func newFetcher(c RemoteConfig) *fetcher {
	f := &fetcher{issuer: c.Issuer, jwksURL: c.JWKSURL, plainHost: plainHostOf(c.Issuer)}
	if issuer, err := url.Parse(c.Issuer); err == nil {
		f.host = issuer.Hostname()
	}
	f.client = &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would resolve the names, unchecked
			DialContext:            f.dial,
			TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    remoteTimeout,
			ResponseHeaderTimeout:  remoteTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			IdleConnTimeout:        10 * time.Second,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return f
}

// dial connects to an address. The address is checked at the connection itself, because a name
// may resolve to another address the next time.
func (f *fetcher) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	own, _ := ctx.Value(ownKey{}).([]netip.Addr)
	d := &net.Dialer{Timeout: remoteTimeout}
	d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return f.checkAddress(host, own, at.Addr())
	}
	return d.DialContext(ctx, network, address)
}

// checkAddress refuses a private address, unless host is the issuer's own host and the address
// is in own, the addresses of that host. For the host of an http issuer, checkAddress refuses
// every address outside of loopback, because a name such as localhost may resolve to another
// address.
func (f *fetcher) checkAddress(host string, own []netip.Addr, a netip.Addr) error {
	a = a.Unmap().WithZone("")
	isOwn := strings.EqualFold(host, f.host)
	switch {
	case neverFetched(a), forbidden(a) && !(isOwn && slices.Contains(own, a)):
		return fmt.Errorf("%s is a private address, and not that of the issuer's own host", a)
	case isOwn && f.plainHost != "" && !a.IsLoopback():
		return fmt.Errorf("%s is not a loopback address, and the issuer is not https", a)
	}
	return nil
}

type ownKey struct{}

// keys fetches the JWK set. Without a jwksURL, the metadata has the URL of the JWK set.
func (f *fetcher) keys(ctx context.Context) ([]*keyMaterial, error) {
	issuer, err := url.Parse(f.issuer)
	if err != nil {
		return nil, err
	}
	// The keys of an issuer at a private address may be at this address too, under the same
	// host name. Another host name at the same address may be another service.
	own, err := net.DefaultResolver.LookupNetIP(ctx, "ip", issuer.Hostname())
	if err != nil {
		return nil, err
	}
	for i, a := range own {
		own[i] = a.Unmap().WithZone("")
	}
	ctx = context.WithValue(ctx, ownKey{}, own)
	jwksURL := f.jwksURL
	if jwksURL == "" {
		if jwksURL, err = f.discover(ctx, issuer); err != nil {
			return nil, err
		}
	}
	data, err := f.get(ctx, jwksURL)
	if err != nil {
		return nil, err
	}
	return parseForeignKeys(data)
}

// discover fetches the metadata of an issuer from its two possible places (OpenID Connect
// Discovery 1.0, section 4; RFC 8414, section 3).
func (f *fetcher) discover(ctx context.Context, issuer *url.URL) (jwksURL string, err error) {
	path := strings.TrimSuffix(issuer.EscapedPath(), "/")
	base := issuer.Scheme + "://" + issuer.Host
	var failures []error
	for _, place := range []string{
		base + path + "/.well-known/openid-configuration",
		base + "/.well-known/oauth-authorization-server" + path,
	} {
		data, err := f.get(ctx, place)
		if err == nil {
			jwksURL, err = f.parseDocument(data)
		}
		if err == nil {
			return jwksURL, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", place, err))
	}
	return "", errors.Join(failures...)
}

func (f *fetcher) get(ctx context.Context, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // the body was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDocument {
		return nil, errors.New("the answer is larger than 512 KiB")
	}
	return data, nil
}

func (f *fetcher) parseDocument(data []byte) (jwksURL string, err error) {
	issuer := ""
	err = eachMember(string(data), func(name, value string) (err error) {
		switch name {
		case "issuer":
			issuer, err = jsonString(value)
		case "jwks_uri":
			jwksURL, err = jsonString(value)
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("the metadata is malformed: %w", err)
	}
	if issuer != f.issuer { // RFC 8414, section 3.3
		return "", errors.New("the metadata is that of another issuer")
	}
	if err := checkFetchURL("jwks_uri", jwksURL, f.plainHost); err != nil {
		return "", err
	}
	return jwksURL, nil
}

// plainHostOf returns the host of an http issuer on loopback, "" for any other issuer. From
// this host, and no other, metadata and keys are fetched without TLS.
func plainHostOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "http" || !isLoopback(u.Hostname()) {
		return ""
	}
	return u.Hostname()
}

// isLoopback reports whether a host is localhost, in 127.0.0.0/8, or ::1.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// checkFetchURL accepts an https URL, or an http URL on plainHost.
func checkFetchURL(name, s, plainHost string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && plainHost != "" && strings.EqualFold(u.Hostname(), plainHost):
		return nil
	}
	const want = "tokens: %s must be an https URL without a user and a fragment, or http on the loopback host of the issuer"
	if err != nil {
		return fmt.Errorf(want, name)
	}
	return fmt.Errorf(want+", not %q", name, u.Redacted()) // u may have a password
}

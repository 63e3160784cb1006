package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	headerForwarded      = "Forwarded"         // RFC 7239
	headerForwardedFor   = "X-Forwarded-For"   // the default of Config.ProxyHeader
	headerForwardedProto = "X-Forwarded-Proto" // read beside any header but Forwarded
)

// transport knows how requests reach the app: who the client is, whether it came by
// HTTPS, and whether a page of another site has sent it.
type transport struct {
	trusted   []netip.Prefix
	trustUnix bool
	header    string // canonical
	allowHTTP bool
	origins   []string
}

// peer is who holds the other end of the connection.
type peer struct {
	address netip.Addr // invalid: it has none
	unix    bool       // on a Unix socket
}

func peerOf(r *http.Request) peer {
	p := peer{address: parseHop(r.RemoteAddr)}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		p.unix = local.Network() == "unix"
	} else { // not from an http.Server: how a Unix socket prints
		p.unix = strings.HasPrefix(r.RemoteAddr, "@") || strings.HasPrefix(r.RemoteAddr, "/")
	}
	if p.unix { // RemoteAddr is a path then, which the other end has chosen
		p.address = netip.Addr{}
	}
	return p
}

func (p peer) String() string {
	switch {
	case p.unix:
		return "a Unix socket"
	case !p.address.IsValid():
		return "a peer without an address"
	default:
		return p.address.String()
	}
}

// local reports whether a peer is on this machine.
func (p peer) local() bool { return p.unix || p.address.IsLoopback() }

func (t *transport) trustsPeer(p peer) bool {
	return p.unix && t.trustUnix || t.trusts(p.address)
}

func (t *transport) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(t.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// requireHTTPS refuses a request that came over plain HTTP from another machine
// (RFC 6749, section 3.2). A header that says http counts, whoever sent it; one
// that says https counts from a trusted proxy.
func (t *transport) requireHTTPS(r *http.Request) error {
	if t.allowHTTP {
		return nil
	}
	refused := func(format string, args ...any) error {
		return badRequest("HTTPS is required here.").because("", "plain_http", fmt.Errorf("oauth2pw: "+format, args...))
	}
	protos := listMembers(r.Header[headerForwardedProto])
	forwarded := forwardedValues(r.Header[headerForwarded], "proto")
	says := func(list []string, scheme string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return equalFold(s, scheme) })
	}
	if says(protos, "http") || says(forwarded, "http") {
		return refused("a forwarding header says http")
	}
	if r.TLS != nil {
		return nil
	}
	p := peerOf(r)
	if t.header == headerForwarded {
		protos = forwarded
	}
	switch {
	case p.local(), t.trustsPeer(p) && says(protos, "https"):
		return nil
	case t.trustsPeer(p):
		return refused("the trusted proxy %s does not say https in %s", p, t.protoHeader())
	case says(protos, "https"):
		return refused("%s says https, and is none of Config.TrustedProxies", p)
	default:
		return refused("plain HTTP from %s: serve TLS, or name your proxy in Config.TrustedProxies, or set Config.InsecureAllowHTTP", p)
	}
}

func (t *transport) protoHeader() string {
	if t.header == headerForwarded {
		return headerForwarded
	}
	return headerForwardedProto
}

var errCrossSite = (&Error{Code: "access_denied", Description: "A page of another site sent this request."}).
	because("", "cross_site", errors.New("oauth2pw: Sec-Fetch-Site is cross-site, and the Origin is none of Config.TrustedOrigins"))

// requireSameSite refuses a form that a page of another site has sent, as far as the
// browser says so: it must not guess passwords from the address of whoever reads the
// page. Programs and old browsers send no Sec-Fetch-Site.
func (t *transport) requireSameSite(r *http.Request) error {
	crossSite := slices.ContainsFunc(listMembers(r.Header["Sec-Fetch-Site"]), func(s string) bool {
		return equalFold(s, "cross-site")
	})
	if origin := r.Header["Origin"]; crossSite && (len(origin) != 1 || !slices.Contains(t.origins, origin[0])) {
		return errCrossSite
	}
	return nil
}

// isOrigin reports whether s is an origin as a header Origin has it, other than
// "null": a scheme, a host, and a port that is not the scheme's own.
func isOrigin(s string) bool {
	scheme, host, found := strings.Cut(s, "://")
	u, err := url.Parse(s)
	return found && err == nil && u.Scheme == scheme && u.Host == host && u.Hostname() != "" && s == strings.ToLower(s) &&
		onlyNQSChar(s) && !strings.ContainsAny(host, "*@/?# ") &&
		!(scheme == "https" && u.Port() == "443" || scheme == "http" && u.Port() == "80") && !strings.HasSuffix(host, ":")
}

// Why the address of a client may be that of many.
var (
	errForgottenProxy = errors.New("oauth2pw: a forwarding header came from a peer that is none of Config.TrustedProxies: if it is a proxy of yours, all its clients have one address")
	errForgottenUnix  = errors.New("oauth2pw: a forwarding header came through a Unix socket: if it is a proxy of yours, set Config.TrustUnixSocket")
	errWrongHeader    = errors.New("oauth2pw: a trusted proxy names its client in another header than Config.ProxyHeader: all its clients have one address")
	errUnreadableHop  = errors.New("oauth2pw: a trusted proxy names a client whose address cannot be read")
)

// clientAddress is the peer's, or, behind a trusted proxy, the one that the
// operator's header names: read from the right, trusted hops skipped. A hop that
// cannot be read ends the walk at the last good one. doubt says why the address may be
// that of many clients; nil: it is one client's own.
func (t *transport) clientAddress(r *http.Request) (address netip.Addr, doubt error) {
	if t == nil {
		return netip.Addr{}, nil
	}
	p := peerOf(r)
	address = p.address
	names := func(header string) bool { return len(r.Header[header]) > 0 }
	others := func() bool { return slices.ContainsFunc(clientHeaders, names) }
	if !t.trustsPeer(p) {
		switch {
		case !names(t.header) && !others():
			return address, nil
		case p.unix:
			return address, errForgottenUnix
		}
		return address, errForgottenProxy
	}
	if !names(t.header) && others() {
		return address, errWrongHeader
	}
	var hops []string
	if t.header == headerForwarded {
		hops = forwardedValues(r.Header[t.header], "for")
	} else {
		hops = listMembers(r.Header[t.header])
	}
	for i, hop := range slices.Backward(hops) {
		next := parseHop(hop)
		if !next.IsValid() {
			return address, errUnreadableHop
		}
		address = next
		if !t.trusts(address) {
			if i > 0 {
				return address, errForgottenProxy
			}
			return address, nil
		}
	}
	return address, nil
}

// clientHeaders are headers in which proxies name the client.
var clientHeaders = []string{headerForwardedFor, headerForwarded, "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip", "Fly-Client-Ip", "X-Client-Ip"}

// noteProxy tells the event hook, once an hour at most, that a client's address may be
// that of many: either a client sends a forwarding header, or the operator has
// forgotten a proxy.
func (c *config) noteProxy(ctx context.Context) {
	if doubt := stateFrom(ctx).doubt; doubt != nil && c.proxyTold.due(c.now()) {
		c.emit(ctx, Event{Kind: EventUnknownProxy, Err: doubt})
	}
}

// hourly is due once an hour at most.
type hourly struct{ last atomic.Int64 } // in nanoseconds; 0: never

func (h *hourly) due(now time.Time) bool {
	at, last := now.UnixNano(), h.last.Load()
	return (last == 0 || at-last >= int64(time.Hour) || at < last) && h.last.CompareAndSwap(last, at)
}

// parseHop reads an address with or without a port, in or out of brackets. The
// IPv4 in an IPv6 is the IPv4, and a zone is no part of it.
func parseHop(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	if bracketed, ok := strings.CutPrefix(s, "["); ok {
		s, ok = strings.CutSuffix(bracketed, "]")
		if !ok {
			return netip.Addr{}
		}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}

// equalFold is strings.EqualFold for ASCII: no letter of another script is a letter of a
// protocol.
func equalFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(t[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// listMembers splits the values of a header field into the members of its list,
// those of later lines last (RFC 9110, section 5.3).
func listMembers(values []string) []string {
	var members []string
	for _, v := range values {
		for m := range strings.SplitSeq(v, ",") {
			members = append(members, strings.Trim(m, " \t"))
		}
	}
	return members
}

// forwardedValues returns the value of one parameter of each element of a
// Forwarded header (RFC 7239, section 4), "" for an element without it. For what
// is malformed it returns an element that means nothing.
func forwardedValues(lines []string, name string) []string {
	var values []string
	for _, line := range lines {
		for _, element := range splitQuoted(line, ',') {
			value := ""
			for _, pair := range splitQuoted(element, ';') {
				key, v, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
				if equalFold(key, name) {
					value = unquote(v)
				}
			}
			values = append(values, value)
		}
	}
	return values
}

// splitQuoted splits s at sep where it stands outside of a quoted string. If a
// quoted string never ends, quotes mean nothing: a client must not swallow, with
// one quote of its own, what a proxy wrote behind it.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == sep:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	if quoted {
		return strings.Split(s, string(sep))
	}
	return append(parts, s[start:])
}

// unquote returns the content of a quoted string (RFC 9110, section 5.6.4), or s.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '\\' && i < len(s)-2 {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

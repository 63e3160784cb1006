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
)

const (
	headerForwarded      = "Forwarded"         // RFC 7239
	headerForwardedFor   = "X-Forwarded-For"   // the default of Config.ProxyHeader
	headerForwardedProto = "X-Forwarded-Proto" // trusted for https unless Config.ProxyHeader is Forwarded
)

// proxies has the rules for the way of a request to the app: the client address, HTTPS, and
// the pages that may send forms.
type proxies struct {
	trusted   []netip.Prefix
	trustUnix bool
	header    string // canonical
	allowHTTP bool
	origins   []string

	events *reporter
	told   hourly // EventUnknownProxy and EventProxyHeader
}

func newProxies(c *Config, events *reporter) (*proxies, error) {
	header := http.CanonicalHeaderKey(c.ProxyHeader)
	if header == "" {
		header = headerForwardedFor
	}
	if header == "Host" || strings.ContainsFunc(header, notInFieldName) {
		return nil, fmt.Errorf("oauth2pw: Config.ProxyHeader: %q is no header in which a proxy names its client", c.ProxyHeader)
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() {
			return nil, errors.New("oauth2pw: Config.TrustedProxies holds an invalid prefix")
		}
		if p.Addr().Is4In6() {
			return nil, fmt.Errorf("oauth2pw: Config.TrustedProxies: write %s as an IPv4 prefix", p)
		}
		if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 7 {
			return nil, fmt.Errorf("oauth2pw: Config.TrustedProxies: %s is not the network of a proxy: anybody could name any address", p)
		}
	}
	for _, o := range c.TrustedOrigins {
		if !isOrigin(o) {
			return nil, fmt.Errorf("oauth2pw: Config.TrustedOrigins: %q is no origin such as https://app.example.com", o)
		}
	}
	return &proxies{
		trusted: slices.Clone(c.TrustedProxies), trustUnix: c.TrustUnixSocket, header: header,
		allowHTTP: c.InsecureAllowHTTP, origins: slices.Clone(c.TrustedOrigins), events: events,
	}, nil
}

func notInFieldName(r rune) bool {
	return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// peer is the other end of the connection.
type peer struct {
	address netip.Addr // invalid: no address
	unix    bool       // on a Unix socket
}

func peerOf(r *http.Request) peer {
	p := peer{address: parseHop(r.RemoteAddr)}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		p.unix = local.Network() == "unix"
	} else { // without an http.Server: a Unix socket prints like this
		p.unix = strings.HasPrefix(r.RemoteAddr, "@") || strings.HasPrefix(r.RemoteAddr, "/")
	}
	if p.unix { // RemoteAddr is a path then, chosen by the peer
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

func (x *proxies) trustsPeer(p peer) bool {
	return p.unix && x.trustUnix || x.trusts(p.address)
}

func (x *proxies) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(x.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// requireHTTPS refuses a request over plain HTTP from another machine (RFC 6749, section
// 3.2). A header that says http is trusted from any peer; a header that says https is
// trusted only from a trusted proxy.
func (x *proxies) requireHTTPS(r *http.Request) error {
	if x.allowHTTP {
		return nil
	}
	refused := func(format string, args ...any) error {
		return badRequest("HTTPS is required here.").because("", ReasonPlainHTTP, fmt.Errorf("oauth2pw: "+format, args...))
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
	if x.header == headerForwarded {
		protos = forwarded
	}
	switch {
	case p.local(), x.trustsPeer(p) && says(protos, "https"):
		return nil
	case x.trustsPeer(p):
		return refused("the trusted proxy %s does not say https in %s", p, x.protoHeader())
	case says(protos, "https"):
		return refused("%s says https, and is none of Config.TrustedProxies", p)
	default:
		return refused("plain HTTP from %s: serve TLS, or name your proxy in Config.TrustedProxies, or set Config.InsecureAllowHTTP", p)
	}
}

func (x *proxies) protoHeader() string {
	if x.header == headerForwarded {
		return headerForwarded
	}
	return headerForwardedProto
}

var errCrossSite = (&Error{Code: "access_denied", Description: "A page of another site sent this request."}).
	because("", ReasonCrossSite, errors.New("oauth2pw: Sec-Fetch-Site is cross-site, and the Origin is none of Config.TrustedOrigins"))

// requireSameSite refuses a form from a page of another site, if the browser reports such a
// page: the page must not guess passwords from the address of its reader. Programs and old
// browsers send no Sec-Fetch-Site, and are not refused.
func (x *proxies) requireSameSite(r *http.Request) error {
	crossSite := slices.ContainsFunc(listMembers(r.Header["Sec-Fetch-Site"]), func(s string) bool {
		return equalFold(s, "cross-site")
	})
	if origin := r.Header["Origin"]; crossSite && (len(origin) != 1 || !slices.Contains(x.origins, origin[0])) {
		return errCrossSite
	}
	return nil
}

// isOrigin reports whether s is an origin as in the header Origin, except "null": a scheme,
// a host, and no port or a port other than the default of the scheme.
func isOrigin(s string) bool {
	scheme, host, found := strings.Cut(s, "://")
	u, err := url.Parse(s)
	return found && err == nil && u.Scheme == scheme && u.Host == host && u.Hostname() != "" && s == strings.ToLower(s) &&
		onlyNQSChar(s) && !strings.ContainsAny(host, "*@/?# ") &&
		!(scheme == "https" && u.Port() == "443" || scheme == "http" && u.Port() == "80") && !strings.HasSuffix(host, ":")
}

var (
	sharedPeer   = &sharedAddress{EventUnknownProxy, ReasonUntrustedPeer, errors.New("oauth2pw: a forwarding header came from a peer that is none of Config.TrustedProxies: if it is a proxy of yours, all its clients have one address")}
	sharedSocket = &sharedAddress{EventUnknownProxy, ReasonUntrustedSocket, errors.New("oauth2pw: a forwarding header came through a Unix socket: if it is a proxy of yours, set Config.TrustUnixSocket")}
	sharedHop    = &sharedAddress{EventUnknownProxy, ReasonUntrustedHop, errors.New("oauth2pw: a trusted proxy got the request from a peer that is none of Config.TrustedProxies and sent a forwarding header: if it is a proxy of yours, all its clients have one address")}
	sharedHeader = &sharedAddress{EventProxyHeader, ReasonOtherHeader, errors.New("oauth2pw: a trusted proxy names its client in another header than Config.ProxyHeader: all its clients have one address")}
	sharedByHop  = &sharedAddress{EventProxyHeader, ReasonUnreadableHop, errors.New("oauth2pw: a trusted proxy names a client whose address cannot be read in Config.ProxyHeader: all such clients have one address")}
)

// clientAddress returns the address of the peer. Behind a trusted proxy the result is the
// address in Config.ProxyHeader, read from the right: trusted hops are skipped, and an
// unreadable hop ends the search at the last readable address. shared is the reason why
// many clients may share the address; nil: the address is of one client.
func (x *proxies) clientAddress(r *http.Request) (address netip.Addr, shared *sharedAddress) {
	if x == nil {
		return netip.Addr{}, nil
	}
	p := peerOf(r)
	address = p.address
	names := func(header string) bool { return len(r.Header[header]) > 0 }
	others := func() bool { return slices.ContainsFunc(clientHeaders, names) }
	if !x.trustsPeer(p) {
		switch {
		case !names(x.header) && !others():
			return address, nil
		case p.unix:
			return address, sharedSocket
		}
		return address, sharedPeer
	}
	if !names(x.header) && others() {
		return address, sharedHeader
	}
	var hops []string
	if x.header == headerForwarded {
		hops = forwardedValues(r.Header[x.header], "for")
	} else {
		hops = listMembers(r.Header[x.header])
	}
	for i, hop := range slices.Backward(hops) {
		next := parseHop(hop)
		if !next.IsValid() {
			return address, sharedByHop
		}
		address = next
		if !x.trusts(address) {
			if i > 0 {
				return address, sharedHop
			}
			return address, nil
		}
	}
	return address, nil
}

// clientHeaders are headers in which proxies name the client.
var clientHeaders = []string{headerForwardedFor, headerForwarded, "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip", "Fly-Client-Ip", "X-Client-Ip"}

// withAddress returns the context of a request with the client address.
func (x *proxies) withAddress(r *http.Request) context.Context {
	s := newState(r.Context())
	s.request = r
	s.address, s.shared = x.clientAddress(r)
	return s
}

// note sends an event, at most once an hour, if many clients may share the address of a
// request: the client has sent a forwarding header, or a proxy is missing in the Config.
func (x *proxies) note(ctx context.Context) {
	if shared := stateFrom(ctx).shared; shared != nil && x.told.due(x.events.clock()) {
		x.events.emit(ctx, Event{Kind: shared.kind, Reason: shared.reason, Err: shared.err})
	}
}

// ClientAddress returns the client address of any request, by [Config.TrustedProxies], for
// handlers without the middleware, such as a sign-up. The zero Addr: no address.
func (a *Auth) ClientAddress(r *http.Request) netip.Addr {
	address, _ := a.proxies.clientAddress(r)
	return address
}

// parseHop reads an address with or without a port, with or without brackets. An IPv4 in an
// IPv6 becomes the IPv4, and a zone is removed.
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

// equalFold is strings.EqualFold for ASCII, because letters of other scripts must not match
// the letters of a protocol.
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

// listMembers splits the values of a header field into the members of its list, in the
// order of the lines (RFC 9110, section 5.3).
func listMembers(values []string) []string {
	var members []string
	for _, v := range values {
		for m := range strings.SplitSeq(v, ",") {
			members = append(members, strings.Trim(m, " \t"))
		}
	}
	return members
}

// forwardedValues returns the value of one parameter of each element of a Forwarded header
// (RFC 7239, section 4), or "" for an element without the parameter. A malformed element
// becomes a value without meaning.
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

// splitQuoted splits s at each sep outside of a quoted string. If a quoted string has no
// end, quotes have no meaning: otherwise a client could hide the text of the proxy behind a
// quote.
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

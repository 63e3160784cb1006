package oauth2pw

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	headerForwarded      = "Forwarded"         // RFC 7239
	headerForwardedFor   = "X-Forwarded-For"   // the default of Config.ProxyHeader
	headerForwardedProto = "X-Forwarded-Proto" // read beside any header but Forwarded
)

// transport knows how requests reach the app: who the client is, and whether it
// came by HTTPS.
type transport struct {
	trusted   []netip.Prefix
	header    string // canonical
	allowHTTP bool
}

var errPlainHTTP = badRequest("HTTPS is required here.").because("", "plain_http", nil)

// requireHTTPS refuses a request that came over plain HTTP from another machine
// (RFC 6749, section 3.2). A header that says http counts, whoever sent it; one
// that says https counts from a trusted proxy.
func (t *transport) requireHTTPS(r *http.Request) error {
	if t.allowHTTP {
		return nil
	}
	protos := listMembers(r.Header[headerForwardedProto])
	forwarded := forwardedValues(r.Header[headerForwarded], "proto")
	says := func(list []string, scheme string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, scheme) })
	}
	if says(protos, "http") || says(forwarded, "http") {
		return errPlainHTTP
	}
	if r.TLS != nil {
		return nil
	}
	peer := peerAddress(r)
	if peer.IsLoopback() {
		return nil
	}
	if t.header == headerForwarded {
		protos = forwarded
	}
	if t.trusts(peer) && says(protos, "https") {
		return nil
	}
	return errPlainHTTP
}

// clientAddress is the peer's, or, behind a trusted proxy, the one that the
// operator's header names: read from the right, trusted hops skipped. A hop that
// cannot be read ends the walk at the last good one. It is unvouched if a
// forwarding header names others behind it, which nobody trusted has written: then
// it may be the address of a proxy, and so of many clients.
func (t *transport) clientAddress(r *http.Request) (address netip.Addr, unvouched bool) {
	if t == nil {
		return netip.Addr{}, false
	}
	address = peerAddress(r)
	if !t.trusts(address) {
		return address, slices.ContainsFunc(t.clientHeaders(), func(name string) bool { return len(r.Header[name]) > 0 })
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
			return address, true
		}
		address = next
		if !t.trusts(address) {
			return address, i > 0
		}
	}
	return address, false
}

// clientHeaders are the headers in which proxies name the client.
func (t *transport) clientHeaders() []string {
	return []string{headerForwardedFor, headerForwarded, "X-Real-Ip", t.header}
}

// noteProxy tells the event hook, once an hour at most, that a forwarding header
// has come from somebody who is no trusted proxy: either a client sends one, or the
// operator has forgotten a proxy, behind which all clients have one address.
func (c *config) noteProxy(ctx context.Context) {
	if !stateFrom(ctx).unvouched || c.OnEvent == nil {
		return
	}
	now, last := c.now().UnixNano(), c.proxyTold.Load()
	if last != 0 && now-last < int64(time.Hour) || !c.proxyTold.CompareAndSwap(last, now) {
		return
	}
	c.emit(ctx, Event{Kind: EventUnknownProxy})
}

func (t *transport) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(t.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// peerAddress returns the address that the request came from; invalid where there
// is none, as on a Unix socket.
func peerAddress(r *http.Request) netip.Addr {
	return parseHop(r.RemoteAddr)
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
				if strings.EqualFold(key, name) {
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

package tokens

import (
	"net/netip"
	"slices"
)

// forbidden reports whether an address is one that nobody outside should be able
// to make us ask.
func forbidden(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !globalIPv6.Contains(a) || neverFetched(a) ||
		slices.ContainsFunc(reservedNetworks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neverFetched reports whether an address is one that no issuer has, its own host
// included: where clouds answer with the credentials of the machine.
func neverFetched(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.Contains(metadataServices, a)
}

// metadataServices are those beside 169.254.0.0/16.
var metadataServices = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
}

// globalIPv6 is all that is assigned as global unicast (RFC 4291, section 2.4): outside
// of it are IPv4-compatible, -mapped and -translated addresses, NAT64, site-local ones.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

// reservedNetworks are those that netip does not name (RFC 6890).
var reservedNetworks = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), // Teredo and ORCHID are of it
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
}

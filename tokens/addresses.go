package tokens

import (
	"net/netip"
	"slices"
)

// forbidden reports whether a fetch must not connect to an address, unless the issuer's own
// host has it.
func forbidden(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsGlobalUnicast() || a.IsPrivate() || a.Is6() && !globalIPv6.Contains(a) || neverFetched(a) ||
		slices.ContainsFunc(reservedNetworks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neverFetched reports whether a fetch must not connect to an address, not even on the issuer's
// own host: clouds answer there with the credentials of the machine.
func neverFetched(a netip.Addr) bool {
	return a.IsLinkLocalUnicast() || slices.Contains(metadataServices, a)
}

// metadataServices are the addresses of neverFetched outside of 169.254.0.0/16.
var metadataServices = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("100.100.100.200"), // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"),     // Oracle Cloud
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google Cloud
	netip.MustParseAddr("fd00:42::42"),     // Scaleway
}

// globalIPv6 is the assigned part of global unicast (RFC 4291, section 2.4). Outside of it are
// IPv4-compatible, -mapped and -translated addresses, NAT64 and site-local addresses.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

// reservedNetworks are the networks of RFC 6890 that netip does not name.
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
	netip.MustParsePrefix("2001::/23"), // includes Teredo and ORCHID
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"), // 6to4
	netip.MustParsePrefix("3fff::/20"),
}

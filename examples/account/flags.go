package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
)

// The flags are those of the quickstart, as far as they apply, and -recent.
//
// First parseFlags reads the command line; next the parsers of this file read the values;
// last options.check refuses combinations that make no sense.

// options are the parsed flags.
type options struct {
	addr, db, key, secret, issuer           string
	accessTTL, refreshGrace, refreshForgive time.Duration
	recent                                  time.Duration
	hash                                    hasher.Config
	throttle                                throttle
	trustedProxies                          []netip.Prefix
	tlsCert, tlsKey                         string
}

// throttle is the value of -throttle.
type throttle struct {
	off    bool
	limit  int // 0: the library's default
	window time.Duration
}

// parseFlags reads the command line. The usage text, for -h, goes to w.
func parseFlags(args []string, w io.Writer) (*options, error) {
	o := &options{hash: hasher.Config{Params: hasher.Params{Memory: 64 << 10, Time: 3, Threads: 4}}}
	f := flag.NewFlagSet("account", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.addr, "addr", "127.0.0.1:8000", "listen `address`; port 0 picks a free one")
	f.StringVar(&o.db, "db", "account.db", "a SQLite `file`, or :memory:")
	f.StringVar(&o.key, "key", "", "signing key `file`: a JWK, a JWK set (the first signs) or PEM (default: a fresh Ed25519 key, kept beside the database)")
	f.StringVar(&o.secret, "secret", "", "`file` of the server's secrets, a line of padded base64 each (default: a fresh one, kept beside the database)")
	f.StringVar(&o.issuer, "issuer", "", "the iss of the tokens, a `URL` (default: where it listens)")
	f.DurationVar(&o.accessTTL, "access-ttl", 15*time.Minute, "life of an access token, in whole seconds")
	f.DurationVar(&o.refreshGrace, "refresh-grace", 30*time.Second, "how long a refresh token just replaced may be sent again; 0 turns it off; at most 2m")
	f.DurationVar(&o.refreshForgive, "refresh-forgive", 0, "how long after a refresh the token just replaced is forgiven once; 0: not at all")
	f.DurationVar(&o.recent, "recent", 5*time.Minute, "how fresh a password must be for something dangerous, in whole seconds")
	f.Func("hash", "argon2id `cost`: KiB, passes, lanes (default m=65536,t=3,p=4)", func(s string) (err error) {
		o.hash.Params, err = parseCost(s)
		o.hash.InsecureParams = true // serve accepts a weak cost, with a warning
		return err
	})
	f.Func("throttle", "failed logins of one account from one address before 429: `N/W`, or off (default 10/15m)", func(s string) (err error) {
		o.throttle, err = parseThrottle(s)
		return err
	})
	f.Func("trusted-proxies", "`CIDRs`, comma-separated, whose forwarding headers are trusted", func(s string) (err error) {
		o.trustedProxies, err = parsePrefixes(s)
		return err
	})
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate `file`: serve HTTPS")
	f.StringVar(&o.tlsKey, "tls-key", "", "private key `file` of the certificate")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(w)
			fmt.Fprintln(w, "Usage of account:")
			f.PrintDefaults()
		}
		return nil, err
	}
	return o, o.check(f.Args())
}

// check refuses invalid values, and combinations of flags.
func (o *options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.db == "":
		return errors.New("-db is empty")
	case strings.Contains(o.db, "://"):
		return errors.New("-db takes :memory: or a SQLite file")
	case o.accessTTL < time.Second || o.accessTTL%time.Second != 0:
		return errors.New("-access-ttl must be a positive number of whole seconds")
	case o.recent < time.Second || o.recent%time.Second != 0:
		return errors.New("-recent must be a positive number of whole seconds")
	case o.refreshGrace < 0 || o.refreshGrace > 2*time.Minute || 0 < o.refreshGrace && o.refreshGrace < time.Millisecond:
		return errors.New("-refresh-grace must be 0, or from 1ms to 2m")
	case o.refreshForgive != 0 && (o.refreshGrace == 0 || o.refreshForgive <= o.refreshGrace || o.refreshForgive > longSession):
		return fmt.Errorf("-refresh-forgive must be longer than -refresh-grace, which must be on, and at most %s", longSession)
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	}
	if o.issuer != "" {
		return checkIssuer(o.issuer)
	}
	return nil
}

func parseCost(s string) (hasher.Params, error) {
	var m, t uint32
	var p uint8
	if _, err := fmt.Sscanf(s, "m=%d,t=%d,p=%d", &m, &t, &p); err != nil || fmt.Sprintf("m=%d,t=%d,p=%d", m, t, p) != s {
		return hasher.Params{}, errors.New("want m=KiB,t=PASSES,p=LANES")
	}
	if m == 0 || t == 0 || p == 0 {
		return hasher.Params{}, errors.New("a cost of zero is none")
	}
	return hasher.Params{Memory: m, Time: t, Threads: p}, nil
}

func parseThrottle(s string) (throttle, error) {
	if s == "off" {
		return throttle{off: true}, nil
	}
	limit, window, _ := strings.Cut(s, "/")
	n, err1 := strconv.Atoi(limit)
	w, err2 := time.ParseDuration(window)
	if err1 != nil || err2 != nil || n < 1 || n > 100_000 || w < time.Second || w > 7*24*time.Hour {
		return throttle{}, errors.New("want NUMBER/TIME such as 10/15m, of 1 to 100000 in 1s to 168h, or off")
	}
	return throttle{limit: n, window: w}, nil
}

func parsePrefixes(s string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for member := range strings.SplitSeq(s, ",") {
		member = strings.TrimSpace(member)
		p, err := netip.ParsePrefix(member)
		if err != nil {
			a, err := netip.ParseAddr(member)
			if err != nil {
				return nil, fmt.Errorf("%q is no network such as 10.0.0.0/8", member)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Bits() == 0 {
			return nil, fmt.Errorf("%s is everybody: anybody could name any address", p)
		}
		prefixes = append(prefixes, p.Masked())
	}
	return prefixes, nil
}

// checkIssuer accepts only a URL that can be the iss of the tokens.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(issuer, "?#") {
		return fmt.Errorf("-issuer must be a URL without query and fragment, such as https://api.example.com, not %q", issuer)
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !a.IsLoopback()) {
		return fmt.Errorf("-issuer must be https, or http on a loopback host, not %q", issuer)
	}
	return nil
}

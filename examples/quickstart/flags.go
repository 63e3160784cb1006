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

// options are the parsed flags.
type options struct {
	addr, db, key, secret, issuer, audience string
	accessTTL                               time.Duration
	refreshIdle, refreshMax, refreshGrace   time.Duration
	refreshForgive                          time.Duration
	hash                                    hasher.Config
	trustedProxies                          []netip.Prefix
	proxyHeader                             string
	laxForm                                 bool
	throttle                                throttle
	cors                                    []string // allowed origins
	tlsCert, tlsKey                         string
	admin                                   *adminCommand // nil: serve
}

const defaultProxyHeader = "X-Forwarded-For"

// throttle is the value of -throttle.
type throttle struct {
	off    bool
	limit  int // 0: the library's default
	window time.Duration
}

// adminCommand is the flag -disable, -enable or -delete with its value.
type adminCommand struct{ verb, username string }

// parseFlags reads the command line. The usage text, for -h, goes to w.
func parseFlags(args []string, w io.Writer) (*options, error) {
	o := &options{hash: hasher.Config{Params: hasher.Params{Memory: 64 << 10, Time: 3, Threads: 4}}}
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.addr, "addr", "127.0.0.1:8000", "listen `address`; port 0 picks a free one")
	f.StringVar(&o.db, "db", "quickstart.db", "a SQLite `file`, or :memory:")
	f.StringVar(&o.key, "key", "", "signing key `file`: a JWK, a JWK set (the first signs) or PEM (default: a fresh Ed25519 key, kept beside the database)")
	f.StringVar(&o.secret, "secret", "", "`file` of the refresh secrets, a line of padded base64 each (default: a fresh one, kept beside the database)")
	f.StringVar(&o.issuer, "issuer", "", "the iss of the tokens, a `URL` (default: where it listens)")
	f.StringVar(&o.audience, "audience", "quickstart", "the aud of the tokens")
	f.DurationVar(&o.accessTTL, "access-ttl", 15*time.Minute, "life of an access token, in whole seconds")
	f.DurationVar(&o.refreshIdle, "refresh-idle", 14*24*time.Hour, "a session dies when it is not refreshed for this long")
	f.DurationVar(&o.refreshMax, "refresh-max", 90*24*time.Hour, "and at this age, whatever happens")
	f.DurationVar(&o.refreshGrace, "refresh-grace", 30*time.Second, "how long a refresh token just replaced may be sent again; 0 turns it off; at most 2m")
	f.DurationVar(&o.refreshForgive, "refresh-forgive", 0, "how long after a refresh the token just replaced is forgiven once, if its successor is unused; 0: not at all")
	f.Func("hash", "argon2id `cost`: KiB, passes, lanes (default m=65536,t=3,p=4)", func(s string) (err error) {
		o.hash.Params, err = parseCost(s)
		o.hash.InsecureParams = true // serve accepts a weak cost, with a warning
		return err
	})
	f.Func("hash-slots", "`number` of passwords hashed at once (default: GOMAXPROCS/4, at least 2)", func(s string) (err error) {
		o.hash.Slots, err = parseCount(s, 1)
		return err
	})
	f.Func("hash-queue", "`number` of logins that may wait for a slot (default: 16 for each slot)", func(s string) (err error) {
		if o.hash.Queue, err = parseCount(s, 0); o.hash.Queue == 0 {
			o.hash.Queue = -1 // no queue
		}
		return err
	})
	f.Func("throttle", "failed logins of one account from one address before 429: `N/W`, or off (default 10/15m)", func(s string) (err error) {
		o.throttle, err = parseThrottle(s)
		return err
	})
	f.Func("cors", "`origins`, comma-separated, that browsers may call from", func(s string) (err error) {
		o.cors, err = parseOrigins(s)
		return err
	})
	f.Func("trusted-proxies", "`CIDRs`, comma-separated, whose forwarding headers are believed", func(s string) (err error) {
		o.trustedProxies, err = parsePrefixes(s)
		return err
	})
	f.BoolVar(&o.laxForm, "lax-form", false, "take what FastAPI's form takes: multipart too, and a password request without grant_type")
	f.StringVar(&o.proxyHeader, "proxy-header", defaultProxyHeader, "the `header` in which they name the client")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate `file`: serve HTTPS")
	f.StringVar(&o.tlsKey, "tls-key", "", "private key `file` of the certificate")
	for _, verb := range []string{"disable", "enable", "delete"} {
		f.Func(verb, verb+" the user of this `name` in the database, and exit", func(s string) error {
			if o.admin != nil {
				return errors.New("only one user can be changed at a time")
			}
			o.admin = &adminCommand{verb, s}
			return nil
		})
	}

	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(w)
			fmt.Fprintln(w, "Usage of quickstart:")
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
		return errors.New("-db takes :memory: or a SQLite file, no other database yet")
	case o.admin != nil && o.db == memoryDB:
		return fmt.Errorf("-%s needs a database file, for nobody else sees what is in memory", o.admin.verb)
	case o.accessTTL < time.Second || o.accessTTL%time.Second != 0:
		return errors.New("-access-ttl must be a positive number of whole seconds")
	case o.refreshIdle < time.Second || o.refreshMax < time.Second:
		return errors.New("-refresh-idle and -refresh-max must be at least 1s")
	case o.refreshGrace < 0 || o.refreshGrace > 2*time.Minute || 0 < o.refreshGrace && o.refreshGrace < time.Millisecond:
		return errors.New("-refresh-grace must be 0, or from 1ms to 2m")
	case o.refreshForgive != 0 && (o.refreshGrace == 0 || o.refreshForgive <= o.refreshGrace || o.refreshForgive > o.refreshIdle):
		return errors.New("-refresh-forgive must be longer than -refresh-grace, which must be on, and at most -refresh-idle")
	case o.audience == "":
		return errors.New("-audience is empty")
	case o.proxyHeader == "" || strings.EqualFold(o.proxyHeader, "Host") || strings.ContainsFunc(o.proxyHeader, notInFieldName):
		return errors.New("-proxy-header is no name of a header")
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	}
	if o.issuer != "" {
		return checkIssuer(o.issuer)
	}
	return nil
}

func notInFieldName(r rune) bool {
	return !(r == '-' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
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

// parseOrigins accepts exact origins of any scheme, and no wildcards.
func parseOrigins(s string) ([]string, error) {
	var origins []string
	for member := range strings.SplitSeq(s, ",") {
		member = strings.ToLower(strings.TrimSpace(member))
		u, err := url.Parse(member)
		if err != nil || u.Scheme == "" || u.Hostname() == "" || u.Scheme+"://"+u.Host != member || strings.ContainsAny(member, "*@") {
			return nil, fmt.Errorf("%q is no origin such as https://app.example.com", member)
		}
		if port := u.Port(); port != "" && port == map[string]string{"http": "80", "https": "443"}[u.Scheme] {
			member = strings.TrimSuffix(member, ":"+port) // browsers leave out the default port
		}
		origins = append(origins, member)
	}
	return origins, nil
}

// checkIssuer accepts only a URL that can be the iss of the tokens and the base of the
// metadata (RFC 8414, section 2).
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

func parseCount(s string, least int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		return 0, fmt.Errorf("want a number of at least %d", least)
	}
	return n, nil
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

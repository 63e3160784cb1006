package program

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

// Flags are the values of the flags that every program with flags has.
type Flags struct {
	Addr, DB, Key, Secret, Issuer           string
	AccessTTL, RefreshGrace, RefreshForgive time.Duration
	Hash                                    hasher.Config
	Throttle                                Throttle
	TrustedProxies                          []netip.Prefix
	TLSCert, TLSKey                         string

	Servers bool // the program has -db postgres://… and mysql://…, too
}

// Throttle is the value of -throttle.
type Throttle struct {
	Off    bool
	Limit  int // 0: the library's default
	Window time.Duration
}

// NewFlagSet returns the flags of a program; a program adds its own. The default database is
// a file with the name of the program.
func (o *Flags) NewFlagSet(name string) *flag.FlagSet {
	o.Hash.Params = hasher.Params{Memory: 64 << 10, Time: 3, Threads: 4}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.Addr, "addr", "127.0.0.1:8000", "listen `address`; port 0 picks a free one")
	dbs := "a SQLite `file`, or :memory:"
	if o.Servers {
		dbs = "a SQLite `file`, :memory:, postgres://user@host/database or mysql://user@host:3306/database"
	}
	f.StringVar(&o.DB, "db", name+".db", dbs)
	f.StringVar(&o.Key, "key", "", "signing key `file`: a JWK, a JWK set (the first signs) or PEM (default: a fresh Ed25519 key, kept beside the database)")
	f.StringVar(&o.Secret, "secret", "", "`file` of the server's secrets, a line of padded base64 each (default: a fresh one, kept beside the database)")
	f.StringVar(&o.Issuer, "issuer", "", "the iss of the tokens, a `URL` (default: where it listens)")
	f.DurationVar(&o.AccessTTL, "access-ttl", 15*time.Minute, "life of an access token, in whole seconds")
	f.DurationVar(&o.RefreshGrace, "refresh-grace", 30*time.Second, "how long a refresh token just replaced may be sent again; 0 turns it off; at most 2m")
	f.DurationVar(&o.RefreshForgive, "refresh-forgive", 0, "how long after a refresh the token just replaced is forgiven once, if its successor is unused; 0: not at all")
	f.Func("hash", "argon2id `cost`: KiB, passes, lanes (default m=65536,t=3,p=4)", func(s string) (err error) {
		o.Hash.Params, err = parseCost(s)
		o.Hash.InsecureParams = true // a weak cost is accepted; Warn reports it
		return err
	})
	f.Func("throttle", "failed logins of one account from one address before 429: `N/W`, or off (default 10/15m)", func(s string) (err error) {
		o.Throttle, err = parseThrottle(s)
		return err
	})
	f.Func("trusted-proxies", "`CIDRs`, comma-separated, whose forwarding headers are believed", func(s string) (err error) {
		o.TrustedProxies, err = parsePrefixes(s)
		return err
	})
	f.StringVar(&o.TLSCert, "tls-cert", "", "certificate `file`: serve HTTPS")
	f.StringVar(&o.TLSKey, "tls-key", "", "private key `file` of the certificate")
	return f
}

// Parse reads the command line, and refuses invalid values and combinations of flags. The
// usage text, for -h, goes to w.
func (o *Flags) Parse(f *flag.FlagSet, args []string, w io.Writer) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(w)
			fmt.Fprintf(w, "Usage of %s:\n", f.Name())
			f.PrintDefaults()
		}
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.AccessTTL < time.Second || o.AccessTTL%time.Second != 0:
		return errors.New("-access-ttl must be a positive number of whole seconds")
	case o.RefreshGrace < 0 || o.RefreshGrace > 2*time.Minute || 0 < o.RefreshGrace && o.RefreshGrace < time.Millisecond:
		return errors.New("-refresh-grace must be 0, or from 1ms to 2m")
	case o.RefreshForgive != 0 && (o.RefreshGrace == 0 || o.RefreshForgive <= o.RefreshGrace):
		return errors.New("-refresh-forgive must be longer than -refresh-grace, which must be on")
	case (o.TLSCert == "") != (o.TLSKey == ""):
		return errors.New("-tls-cert and -tls-key go together")
	}
	if err := o.checkDB(); err != nil || o.Issuer == "" {
		return err
	}
	return checkIssuer(o.Issuer)
}

// Grace returns -refresh-grace as oauth2pw.Config.RefreshGrace has it.
func (o *Flags) Grace() time.Duration {
	if o.RefreshGrace == 0 {
		return -1 // no grace period
	}
	return o.RefreshGrace
}

// Warn prints the settings that weaken the program.
func (o *Flags) Warn(stderr io.Writer) {
	strong := o.Hash
	strong.InsecureParams = false
	if _, err := hasher.New(strong); err != nil {
		fmt.Fprintln(stderr, "-hash is weaker than OWASP's minimum for argon2id: for tests only")
	}
	if o.Throttle.Off {
		fmt.Fprintln(stderr, "-throttle=off: anybody may guess passwords without a bound")
	}
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

func parseThrottle(s string) (Throttle, error) {
	if s == "off" {
		return Throttle{Off: true}, nil
	}
	limit, window, _ := strings.Cut(s, "/")
	n, err1 := strconv.Atoi(limit)
	w, err2 := time.ParseDuration(window)
	if err1 != nil || err2 != nil || n < 1 || n > 100_000 || w < time.Second || w > 7*24*time.Hour {
		return Throttle{}, errors.New("want NUMBER/TIME such as 10/15m, of 1 to 100000 in 1s to 168h, or off")
	}
	return Throttle{Limit: n, Window: w}, nil
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

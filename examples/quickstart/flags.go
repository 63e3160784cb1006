package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
)

// options are the parsed flags: those of every example program, and those of the quickstart.
type options struct {
	program.Flags
	audience                string
	refreshIdle, refreshMax time.Duration
	proxyHeader             string
	laxForm                 bool
	cors                    []string      // allowed origins
	redis                   string        // "": sessions in the database, the throttle in memory
	admin                   *adminCommand // nil: serve
}

const defaultProxyHeader = "X-Forwarded-For"

// adminCommand is the flag -disable, -enable or -delete with its value.
type adminCommand struct{ verb, username string }

// parseFlags reads the command line. The usage text, for -h, goes to w.
func parseFlags(args []string, w io.Writer) (*options, error) {
	o := new(options)
	o.Servers = true
	f := o.NewFlagSet("quickstart")
	f.StringVar(&o.audience, "audience", "quickstart", "the aud of the tokens")
	f.DurationVar(&o.refreshIdle, "refresh-idle", 14*24*time.Hour, "a session dies when it is not refreshed for this long")
	f.DurationVar(&o.refreshMax, "refresh-max", 90*24*time.Hour, "and at this age, whatever happens")
	f.Func("hash-slots", "`number` of passwords hashed at once (default: GOMAXPROCS/4, at least 2)", func(s string) (err error) {
		o.Hash.Slots, err = parseCount(s, 1)
		return err
	})
	f.Func("hash-queue", "`number` of logins that may wait for a slot (default: 16 for each slot)", func(s string) (err error) {
		if o.Hash.Queue, err = parseCount(s, 0); o.Hash.Queue == 0 {
			o.Hash.Queue = -1 // no queue
		}
		return err
	})
	f.Func("cors", "`origins`, comma-separated, that browsers may call from", func(s string) (err error) {
		o.cors, err = parseOrigins(s)
		return err
	})
	f.BoolVar(&o.laxForm, "lax-form", false, "take what FastAPI's form takes: multipart too, and a password request without grant_type")
	f.StringVar(&o.redis, "redis", "", "sessions and throttle state go to this Redis, redis://host:6379; users stay in -db")
	f.StringVar(&o.proxyHeader, "proxy-header", defaultProxyHeader, "the `header` in which they name the client")
	for _, verb := range []string{"disable", "enable", "delete"} {
		f.Func(verb, verb+" the user of this `name` in the database, and exit", func(s string) error {
			if o.admin != nil {
				return errors.New("only one user can be changed at a time")
			}
			o.admin = &adminCommand{verb, s}
			return nil
		})
	}

	if err := o.Parse(f, args, w); err != nil {
		return nil, err
	}
	return o, o.check()
}

// check refuses invalid values of the quickstart's own flags.
func (o *options) check() error {
	switch {
	case o.admin != nil && o.DB == program.MemoryDB:
		return fmt.Errorf("-%s needs a database file, for nobody else sees what is in memory", o.admin.verb)
	case o.refreshIdle < time.Second || o.refreshMax < time.Second:
		return errors.New("-refresh-idle and -refresh-max must be at least 1s")
	case o.RefreshForgive > o.refreshIdle:
		return errors.New("-refresh-forgive must be at most -refresh-idle")
	case o.audience == "":
		return errors.New("-audience is empty")
	case o.proxyHeader == "" || strings.EqualFold(o.proxyHeader, "Host") || strings.ContainsFunc(o.proxyHeader, notInFieldName):
		return errors.New("-proxy-header is no name of a header")
	}
	return nil
}

func notInFieldName(r rune) bool {
	return !(r == '-' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
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

func parseCount(s string, least int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least {
		return 0, fmt.Errorf("want a number of at least %d", least)
	}
	return n, nil
}

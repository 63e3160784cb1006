package redisstore

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.Throttle = (*Throttle)(nil)

// Throttle is an oauth2pw.Throttle with the limits of the built-in one, which are listed at
// oauth2pw.Config.ThrottleLimit, for all processes together. A Throttle is safe for concurrent
// use.
type Throttle struct {
	conn
	limit  int
	window time.Duration
	seed   atomic.Pointer[string]
	now    func() time.Time // nil: the clock of the server
}

// ThrottleConfig has the settings of a Throttle, the same in all processes. The zero value is the
// default.
type ThrottleConfig struct {
	// Prefix begins every key. Empty: "oauth2pw:".
	Prefix string
	// Limit is N of oauth2pw.Config.ThrottleLimit. Zero: 10; at most 1,000.
	Limit int
	// Window is W of oauth2pw.Config.ThrottleWindow. Zero: 15 minutes; at least 1 second, at
	// most 1 week.
	Window time.Duration
}

// NewThrottle returns a throttle over a client of Redis, Redis Cluster or Sentinel. NewThrottle
// sends nothing. The error names the setting that is wrong.
func NewThrottle(client redis.UniversalClient, c ThrottleConfig) (*Throttle, error) {
	s, err := newConn(client, c.Prefix)
	if err != nil {
		return nil, err
	}
	if c.Limit == 0 {
		c.Limit = 10
	}
	if c.Window == 0 {
		c.Window = 15 * time.Minute
	}
	switch {
	case strings.Contains(c.Prefix, "{}"):
		return nil, errors.New("redisstore: ThrottleConfig.Prefix has {}, which is no hash tag: the keys would be in many slots of a cluster")
	case c.Limit < 0 || c.Limit > maxThrottleLimit:
		return nil, errors.New("redisstore: ThrottleConfig.Limit is at least 1, and at most 1000; zero is 10")
	case c.Window < time.Second || c.Window > 7*24*time.Hour:
		return nil, errors.New("redisstore: ThrottleConfig.Window is at least a second, and at most a week; zero is 15 minutes")
	}
	t := &Throttle{conn: s, limit: c.Limit, window: c.Window}
	seed := rand.Text()
	t.seed.Store(&seed)
	return t, nil
}

// Check reports that a Throttle was not made by NewThrottle; see oauth2pw.Checker.
func (t *Throttle) Check() error {
	if t.client == nil {
		return errors.New("redisstore: a zero Throttle: it is made by NewThrottle")
	}
	return nil
}

// Begin implements oauth2pw.Throttle.
func (t *Throttle) Begin(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	n, err := t.run(ctx, "begin", a)
	if err != nil {
		return 0, t.failed("counting an attempt", err)
	}
	return time.Duration(n) * time.Microsecond, nil
}

// Succeed implements oauth2pw.Throttle.
func (t *Throttle) Succeed(ctx context.Context, a oauth2pw.Attempt) error {
	if a.Kind == oauth2pw.AttemptGrant { // counted without the user, who is known only now
		user := a
		user.Kind, a.UserID = oauth2pw.AttemptPassword, ""
		if err := t.Cancel(ctx, a); err != nil || user.UserID == "" {
			return err
		}
		return t.settle(ctx, "prove", user)
	}
	return t.settle(ctx, "succeed", a)
}

// Cancel implements oauth2pw.Throttle.
func (t *Throttle) Cancel(ctx context.Context, a oauth2pw.Attempt) error {
	return t.settle(ctx, "cancel", a)
}

// Forget implements oauth2pw.Throttle.
func (t *Throttle) Forget(ctx context.Context, a oauth2pw.Attempt) error {
	return t.settle(ctx, "forget", a)
}

func (t *Throttle) settle(ctx context.Context, call string, a oauth2pw.Attempt) error {
	if _, err := t.run(ctx, call, a); err != nil {
		return t.failed("settling an attempt", err)
	}
	return nil
}

//go:embed throttle.lua
var throttleSource string

var throttleScript = redis.NewScript(throttleSource)

// run runs the script for a call, and returns its number. The keys are digests under a seed that
// is in Redis: the script keeps that of the first process, and returns it to the others.
func (t *Throttle) run(ctx context.Context, call string, a oauth2pw.Attempt) (int64, error) {
	clock, tag := "", ""
	if t.now != nil {
		clock = strconv.FormatInt(t.now().UnixMicro(), 10)
	}
	if a.HasTag {
		tag = strconv.FormatUint(uint64(a.Tag), 10)
	}
	nonce := rand.Text()[:10] // 50 bits: other calls for the same pair have others
	for range 3 {
		seed := *t.seed.Load()
		k := t.keysOf(seed, a)
		answer, err := throttleScript.Run(ctx, t.client, k.names, call, seed, clock, t.limit, t.window.Microseconds(), nonce,
			string(a.Kind), k.pair, k.place, k.network, a.Shared, a.Right, tag).Slice()
		if err != nil {
			return 0, err
		}
		if len(answer) != 2 {
			return 0, fmt.Errorf("an answer of %d values", len(answer))
		}
		switch other := answer[1].(type) {
		case int64:
			return other, nil
		case string:
			t.seed.Store(&other)
		}
	}
	return 0, errors.New("the seed of the throttle changes at every call")
}

// throttleKeys are the keys of an attempt, and the digests in them.
type throttleKeys struct {
	names   []string // in the order of throttle.lua
	pair    string   // the account at the place, or the account without a place
	place   string   // empty: no address
	network string   // the /48 of an IPv6; empty: none
}

// bounded is the number of hexadecimal digits of a digest in a key that costs its sender no hash:
// all such attempts of one kind share 65,536 keys, of at most 2 KiB each at the default limit.
const bounded = 4

// maxThrottleLimit bounds a key: each of the N guesses of an account at an address is in it, and
// each call reads it.
const maxThrottleLimit = 1000

func (t *Throttle) keysOf(seed string, a oauth2pw.Attempt) throttleKeys {
	what, id := "name", a.Name
	switch {
	case a.Kind == oauth2pw.AttemptGrant:
		what, id = "grant", ""
	case a.Kind == oauth2pw.AttemptClient && a.ClientID != "":
		what, id = "client", a.ClientID
	case a.Kind == oauth2pw.AttemptClient:
		what = "no-client"
	case a.UserID != "":
		what, id = "user", a.UserID
	}
	mac := hmac.New(sha256.New, []byte(seed))
	ip := a.Address.Unmap()
	place := placeOf(ip, 64)
	k := throttleKeys{pair: digest(mac, what+" at", a.Realm, id, place)}
	if ip.IsValid() {
		k.place = digest(mac, "place", a.Realm, "", place)
	}
	if ip.Is6() {
		k.network = digest(mac, "network", a.Realm, "", placeOf(ip, 48))
	}
	name := func(parts ...string) string {
		return t.keys.throttle(strings.Join(parts, ":"))
	}
	if a.Kind == oauth2pw.AttemptGrant || a.Kind == oauth2pw.AttemptClient {
		first := func(digest string) string { return digest[:min(len(digest), bounded)] }
		k.names = []string{name("state"), name(what, "pair", first(k.pair)), name(what, "known"), name(what, "account"),
			name(what, "place", first(k.place)), name(what, "network", first(k.network)), name(what, "home")}
		return k
	}
	account := digest(mac, what, a.Realm, id, netip.Addr{})
	k.names = []string{name("state"), name("pair", k.pair), name("known", account), name("account", account),
		name("place", k.place), name("network", k.network), name("home", k.place)}
	return k
}

// digest returns 24 characters, which do not show a name that was typed.
func digest(mac hash.Hash, what, realm, id string, place netip.Addr) string {
	mac.Reset()
	for _, s := range [...]string{what, realm, id} {
		_ = binary.Write(mac, binary.BigEndian, uint64(len(s)))
		_, _ = io.WriteString(mac, s)
	}
	bytes := place.As16()
	mac.Write([]byte{byte(place.BitLen())}) // 0: no place
	mac.Write(bytes[:])
	return hex.EncodeToString(mac.Sum(nil)[:12])
}

// placeOf returns the network of an IPv6 with this many bits, or an IPv4 unchanged.
func placeOf(ip netip.Addr, bits int) netip.Addr {
	if !ip.Is6() {
		return ip
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return ip
	}
	return p.Addr()
}

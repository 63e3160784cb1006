package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// Config has every plug and every setting of an [Auth]. Users, Issuer, and one of
// Hasher and Authenticate are required; the zero value of any other field is the
// safe default that its comment names.
type Config struct {
	// Users finds users.
	Users UserStore
	// Hasher verifies passwords.
	Hasher PasswordHasher
	// Authenticate finds and checks a user in one step, instead of Hasher and the
	// stored hash: LDAP, an old system. An error that wraps ErrNotFound says
	// that name or password is wrong; any other that the check failed (503). That
	// an unknown user costs what a wrong password costs is then its duty.
	Authenticate func(ctx context.Context, username, password string) (*User, error)
	// Issuer makes access tokens.
	Issuer TokenIssuer
	// Verifier checks them. Nil: Issuer, if it is a TokenVerifier too. With one
	// of its own, LoadUser and Sessions need an Issuer with a method
	// Issuer() string that returns the iss of its tokens: users and sessions are
	// looked up for those alone.
	Verifier TokenVerifier
	// Clients finds clients. Nil: there are none, and a request that names one is
	// refused.
	Clients ClientStore

	// Scopes are all scopes there are, each with its description. Nil: those of
	// DefaultScopes.
	Scopes map[string]string
	// DefaultScopes are granted to a request that asks for none, as far as the
	// user and the client may have them. Nil: none.
	DefaultScopes []string
	// GrantScopes decides which scopes a login gets, instead of User.Scopes.
	// asked is nil where the client asked for none; c is nil where none was
	// named. It may grant what Config.Scopes names and Client.Scopes allows. An
	// *Error with the code "invalid_scope" refuses; any other error is a 503. At a
	// refresh it is asked again, for scopes that the login was granted, and what it
	// adds to them is dropped.
	GrantScopes func(ctx context.Context, u *User, c *Client, asked []string) ([]string, error)

	// Sessions keeps one row for each login, and makes refresh tokens possible.
	// Nil: there are none, and an access token lives until it expires. With
	// Authenticate, Users must find the same users by ID.
	Sessions SessionStore
	// RefreshSecrets are the server secrets that make refresh tokens, 32 random
	// bytes each at least: the first makes those of new sessions, all verify.
	// To rotate, put a new one first, and drop the old one RefreshMax later; its
	// sessions end then. They must not share a backup with the session store:
	// together they make every token, alone none. Required with Sessions, unless
	// DisableRefresh is set. See tokens.OpenRefreshSecrets.
	RefreshSecrets []Secret
	// RefreshIdle ends a session that is not refreshed for so long. Zero: 14 days.
	RefreshIdle time.Duration
	// RefreshMax ends a session at this age, whatever happens. Zero: 90 days.
	RefreshMax time.Duration
	// RefreshGrace is how long a refresh token that was just replaced may be sent
	// again, and gets the same successor: a lost answer or two tabs cost nobody the
	// login. It costs that a thief who holds the predecessor and follows each
	// refresh within this time is not stopped by rotation. Zero: 30 s; negative:
	// none, and of parallel requests with one token all but one are reuse, and end
	// the session. At most 2 minutes.
	RefreshGrace time.Duration
	// LiveSessions says how soon a request notices that its session has ended.
	// Zero: not at all, the access token lives until it expires; negative: at once,
	// the store is asked at every request; else that a session lives is remembered
	// for so long in this process, and an end in this process is noticed at once.
	LiveSessions time.Duration
	// MaxSessions is how many live sessions a user may have: with a login beyond
	// it, the one idle longest ends. Zero: 100.
	MaxSessions int
	// DisableRefresh switches refresh tokens off: sessions end with their access
	// token.
	DisableRefresh bool

	// DisablePasswordGrant switches the password grant off. The rest goes on, and
	// MetadataHandler says so.
	DisablePasswordGrant bool
	// CheckNewPassword is asked by ChangePassword, once the old password was
	// right. An *Error with the code "invalid_request" refuses the new one, and
	// its description tells the user why; any other error is a 503. Nil: every
	// password of 1 to 1,024 bytes is good.
	CheckNewPassword func(ctx context.Context, u *User, password string) error

	// Grants are grant types of the app's own, by name. Each proves who the user
	// is and returns the user; the tokens are the endpoint's. An error that wraps
	// ErrNotFound is answered as a wrong password, an *Error as it says, and any
	// other as 503. The first two count for the throttle: for the client's address,
	// and for the account that the parameter username names, if there is one.
	Grants map[string]func(ctx context.Context, r *TokenRequest) (*User, error)
	// LoadUser reads the user again at every request that Auth verifies: one that
	// is missing, disabled, or whose SessionsFrom is later than the login is
	// refused, and Principal.User is set.
	LoadUser bool

	// Throttle bounds guessing. Nil: the built-in one, in memory, for one process.
	Throttle Throttle
	// ThrottleLimit is how often an attempt at one account from one address may
	// fail in a ThrottleWindow, before the answer is 429 for a while, to a right
	// password too. From it follow the other limits of the built-in throttle: all
	// addresses together that the user has not logged in from within 30 days may
	// fail three times as often at the account in four such times; one address,
	// which for IPv6 is a /64, ten times as often at all accounts; and an IPv6 /48
	// a hundred times as often. Zero: 10; at most 100,000.
	ThrottleLimit int
	// ThrottleWindow is the time that ThrottleLimit counts in. Zero: 15 minutes; at
	// most a week.
	ThrottleWindow time.Duration
	// InsecureNoThrottle lets everybody guess without a bound.
	InsecureNoThrottle bool

	// Realm names the protection space in challenges. Empty: "api".
	Realm string
	// TrustedProxies are the networks of the reverse proxies whose forwarding
	// headers are believed. Nil: none; the client is the peer.
	TrustedProxies []netip.Prefix
	// ProxyHeader is the one header in which they name the client. Empty:
	// X-Forwarded-For. The scheme is read from X-Forwarded-Proto, or from
	// Forwarded (RFC 7239) where that is the header.
	ProxyHeader string
	// InsecureAllowHTTP lets passwords arrive over plain HTTP from other
	// machines.
	InsecureAllowHTTP bool

	// StoreTimeout is how long one call of a store, or of a Throttle, may take
	// before its context ends; the answer is 503 then. Zero: 5 seconds; negative:
	// as long as it takes.
	StoreTimeout time.Duration

	// RequestID returns the app's id of a request from its context, for the
	// events. Nil: there is none.
	RequestID func(ctx context.Context) string
	// OnEvent is told what happens, in the goroutine of the request: it must not
	// block. Nil: nobody is. See LogEvents.
	OnEvent func(ctx context.Context, e Event)
	// ErrorBody replaces the body of an error by what it returns, encoded as
	// JSON. It sees the public part of the error, and changes neither status nor
	// headers. Nil, or a nil result: the standard body.
	ErrorBody func(ctx context.Context, e *Error) any
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Auth is the login of an app. It is made by [New], and is safe for concurrent
// use.
type Auth struct {
	c *config // behind a pointer: printing an Auth prints no plug
}

// config is a checked Config with what follows from it.
type config struct {
	Config
	now       func() time.Time
	transport transport
	answers   answerer
	grants    map[string]grant
	updater   PasswordUpdater // nil: Users cannot write
	ownIssuer string          // the iss of own tokens; "": every token is own
	nameTag   func(name string) string
	tag       func(account, secret string) uint32 // of an Attempt
	refreshes bool                                // there are refresh tokens
	keys      refreshKeys
	live      *liveMemory
	proxyTold atomic.Int64 // when EventUnknownProxy was last told, in nanoseconds; 0: never
}

// time returns the time as sessions keep it.
func (c *config) time() time.Time { return c.now().UTC().Truncate(time.Microsecond) }

// New checks a Config and returns the Auth that it describes. The error names the
// field that is wrong. New computes no hash, opens no connection and starts no
// goroutine. Changing a map or slice of the Config afterwards is not allowed.
func New(c Config) (*Auth, error) {
	cfg := &config{Config: c, now: c.Now, nameTag: newNameTag()}
	if cfg.now == nil {
		cfg.now = time.Now
	}
	for _, set := range []func() error{cfg.setPlugs, cfg.setScopes, cfg.setSessions, cfg.setGrants, cfg.setTransport, cfg.setThrottle, cfg.setTimeout} {
		if err := set(); err != nil {
			return nil, err
		}
	}
	return &Auth{cfg}, nil
}

func (c *config) setPlugs() error {
	if isNil(c.Users) {
		return errors.New("oauth2pw: Config.Users is nil")
	}
	if c.Authenticate != nil && !isNil(c.Hasher) || c.Authenticate == nil && isNil(c.Hasher) && !c.DisablePasswordGrant {
		return errors.New("oauth2pw: set one of Config.Hasher and Config.Authenticate")
	}
	if isNil(c.Issuer) {
		return errors.New("oauth2pw: Config.Issuer is nil")
	}
	if c.Clients != nil && isNil(c.Clients) {
		return errors.New("oauth2pw: Config.Clients is a nil pointer")
	}
	c.updater, _ = c.Users.(PasswordUpdater)
	if isNil(c.Verifier) {
		v, ok := c.Issuer.(TokenVerifier)
		if !ok {
			return errors.New("oauth2pw: Config.Verifier is nil, and Config.Issuer verifies nothing")
		}
		c.Verifier = v
		return nil
	}
	c.ownIssuer, _ = issuerOf(c.Issuer)
	if (c.LoadUser || c.Sessions != nil) && c.ownIssuer == "" {
		return errors.New("oauth2pw: with a Config.Verifier, Config.LoadUser and Config.Sessions need a Config.Issuer with a method Issuer() string")
	}
	return nil
}

// issuerOf returns the iss of the tokens of an issuer that says so.
func issuerOf(i TokenIssuer) (string, bool) {
	named, ok := i.(interface{ Issuer() string })
	if !ok {
		return "", false
	}
	return named.Issuer(), true
}

func (c *config) setTransport() error {
	if c.Realm == "" {
		c.Realm = defaultRealm
	}
	if !onlyVSChar(c.Realm) {
		return errors.New("oauth2pw: Config.Realm must be printable ASCII")
	}
	header := http.CanonicalHeaderKey(c.ProxyHeader)
	if header == "" {
		header = headerForwardedFor
	}
	for _, p := range c.TrustedProxies {
		if !p.IsValid() {
			return errors.New("oauth2pw: Config.TrustedProxies holds an invalid prefix")
		}
		if p.Addr().Is4In6() {
			return fmt.Errorf("oauth2pw: Config.TrustedProxies: write %s as an IPv4 prefix", p)
		}
	}
	c.transport = transport{trusted: slices.Clone(c.TrustedProxies), header: header, allowHTTP: c.InsecureAllowHTTP}
	c.answers = answerer{realm: c.Realm, body: c.ErrorBody, emit: c.emit}
	return nil
}

var errWrongUser = errors.New("the store returned another user than it was asked for, or none and no error")

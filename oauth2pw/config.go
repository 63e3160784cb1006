package oauth2pw

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Config has every plug and every setting of an [Auth]. Issuer, Users, and one of
// Hasher and Authenticate are required; the zero value of any other field is the
// safe default that its comment names.
type Config struct {
	// Users finds users. Required with Hasher, Sessions or LoadUser. Nil: Authenticate and
	// Grants know the users, and no user is ever disabled or deleted here.
	Users UserStore
	// Hasher verifies passwords.
	Hasher PasswordHasher
	// Authenticate finds and checks a user in one step, instead of Hasher and the
	// stored hash: LDAP, an old system. An error that wraps ErrNotFound says
	// that name or password is wrong; any other that the check failed (503). It must
	// take as long for an unknown user as for a wrong password.
	Authenticate func(ctx context.Context, username, password string) (*User, error)
	// Issuer makes access tokens.
	Issuer TokenIssuer
	// Verifier checks access tokens. Nil: Issuer, if it is a TokenVerifier too. With a
	// Verifier, LoadUser and Sessions need an Issuer that is a NamedIssuer: users and
	// sessions are looked up for its own tokens alone.
	Verifier TokenVerifier
	// Clients finds clients. Nil: there are none, no client is needed, and a request
	// that names one is refused. With it every request must name one, unless one of
	// the next two is set.
	Clients ClientStore
	// DefaultClientID is the client of a request that names none, everywhere: its
	// tokens have a client_id then, which RFC 9068 requires. Sessions of no client are
	// its own. With Clients it must be there, and public; without, it is any id.
	// Empty: none.
	DefaultClientID string
	// AllowNoClient lets requests name no client although there are Clients: they have
	// every grant and every scope then. It is not for use with DefaultClientID.
	AllowNoClient bool
	// LaxForm reads the form of the token endpoint as FastAPI does: from
	// multipart/form-data too, and with a username and a password for the password
	// grant if no grant_type says else.
	LaxForm bool

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
	// Secrets are the server secrets that make refresh tokens, 32 random
	// bytes each at least: the first makes those of new sessions, all verify.
	// To rotate, put a new one first, and drop the old one RefreshMax later; its
	// sessions end then. They must not share a backup with the session store:
	// together they make every token, alone none. Required with Sessions, unless
	// DisableRefresh is set. See OpenSecrets.
	Secrets []Secret
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
	// SessionCache is how long a process remembers that a session is live, instead of
	// asking Sessions at every request. A session that this process ends is refused at
	// once, one that another process ends after this time at the latest. Zero: every
	// request asks.
	SessionCache time.Duration
	// StatelessTokens lets an access token live until it expires, whatever happens to its
	// session: no request asks Sessions. It excludes SessionCache.
	StatelessTokens bool
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
	// right. An *Error refuses the new one, and its description tells the user why;
	// the code should be "invalid_request", which answers 422. Any other error is a 503. Nil:
	// every password of 1 to 1,024 bytes is good. See hasher.Policy.
	CheckNewPassword func(ctx context.Context, u *User, password string) error

	// Grants are grant types of the app's own, by name. Each proves who the user
	// is and returns the user; the tokens are the endpoint's. An error that wraps
	// ErrNotFound is answered as a wrong password, an *Error as it says, and any
	// other as 503.
	//
	// A request counts for the address of the client, unless it is answered with
	// another code than invalid_grant, and no parameter of it counts for a user. A
	// grant that checks something that can be guessed, such as a code of six digits,
	// calls [TokenRequest.Guess] first.
	Grants map[string]GrantFunc
	// LoadUser reads the user again at every request that Auth verifies: one that
	// is missing, disabled, or whose SessionsValidFrom is later than the login is
	// refused, and Principal.User is set.
	LoadUser bool

	// FoldName writes a name as the store of users compares names: lower case, say,
	// where "JohnDoe" finds "johndoe". It is applied before the store is asked, or
	// Authenticate. Nil: names are as they were sent. Set it wherever the store takes
	// several names for one user (a collation, citext, sqlstore's
	// UserTable.FoldNames): attempts at one user count together without it too, but
	// those at names that are nobody's would not, and the throttle would tell which
	// names exist. EventNameFolding tells where it is missing.
	FoldName func(name string) string

	// Throttle bounds guessing. Nil: the built-in one, in memory, for one process.
	Throttle Throttle
	// ThrottleLimit is N, how many wrong passwords pass for one account from one
	// address in a ThrottleWindow W, before the answer is 429 for a while, for the
	// correct password too. The account is the user whom the password would open, or,
	// for a name that is nobody's, the name. The other limits of the built-in
	// throttle follow from it.
	//
	// An address is known to a user who has logged in from it within 30 days (8
	// addresses at most). From there N in W pass for the user, and 100 N in W for all
	// users to whom the address is known; beyond it, one in W for each of them. From
	// everywhere else 3 N in 4 W pass for a user, 10 N in W for an address, which for
	// IPv6 is a /64, and 100 N in W for a /48. The same wrong password of a user from
	// an address counts once in W for the user, up to 3 N repeats.
	//
	// Zero: 10; at most 100,000.
	ThrottleLimit int
	// ThrottleWindow is W, the time that ThrottleLimit counts in. Zero: 15 minutes; at
	// least a second, at most a week.
	ThrottleWindow time.Duration
	// InsecureNoThrottle lets everybody guess without a bound.
	InsecureNoThrottle bool

	// Realm names the protection space in challenges. Empty: "api".
	Realm string
	// TrustedProxies are the networks of the reverse proxies whose forwarding
	// headers are believed. Nil: none; the client is the peer. A prefix so short that
	// it holds strangers (under /8 of IPv4, under /7 of IPv6) is refused.
	TrustedProxies []netip.Prefix
	// TrustUnixSocket makes every peer on a Unix socket a trusted proxy. Without it
	// such a peer is local, as loopback is, and has no address.
	TrustUnixSocket bool
	// ProxyHeader is the one header in which they name the client. Empty:
	// X-Forwarded-For. The scheme is read from X-Forwarded-Proto, or from
	// Forwarded (RFC 7239) where that is the header.
	ProxyHeader string
	// TrustedOrigins are the origins of other sites whose pages may send forms to the
	// endpoints, as browsers write them in the header Origin: "https://app.example.com",
	// "capacitor://localhost". Nil: none, so that no page that a user visits can make
	// the user's browser guess passwords (Sec-Fetch-Site: cross-site is 403, and
	// counts for nothing). Other origins of the same site need no entry. This is not
	// CORS, which the app needs beside it.
	TrustedOrigins []string
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
	// block. See LogEvents. Nil: what broke (a plug that failed, a panic), and what the
	// configuration lacks, goes to slog.Default; an empty function is for silence.
	OnEvent func(ctx context.Context, e Event)
	// ErrorBody replaces the body of an error by what it returns, encoded as
	// JSON. It sees the public part of the error, and changes neither status nor
	// headers. Nil, or a nil result: the standard body.
	ErrorBody func(ctx context.Context, e *Error) any
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

const (
	grantPassword = "password"
	grantRefresh  = "refresh_token"
)

// grantTypes lists what the token endpoint accepts: the built-in grants first.
func grantTypes(c *Config) []string {
	types := []string{}
	if !c.DisablePasswordGrant {
		types = append(types, grantPassword)
	}
	if c.Sessions != nil && !c.DisableRefresh {
		types = append(types, grantRefresh)
	}
	return append(types, slices.Sorted(maps.Keys(c.Grants))...)
}

// withDefault returns v, or otherwise if v is zero.
func withDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

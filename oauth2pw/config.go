package oauth2pw

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Config has every plug and every setting of an [Auth]. Issuer is required. Hasher with
// Users, or Authenticate, is required unless DisablePasswordGrant is set. The zero value of
// every other field is the safe default in the comment of the field.
type Config struct {
	// Users finds users. Required with Hasher, Sessions or LoadUser. Nil: only Authenticate
	// and Grants know the users, and no user is ever disabled or deleted here.
	Users UserStore
	// Hasher hashes and verifies passwords. Excludes Authenticate.
	Hasher PasswordHasher
	// Authenticate finds and checks a user in one step, instead of Hasher and the stored
	// hash: for LDAP or an old system. An error that wraps ErrNotFound means: wrong name or
	// password. Any other error is a failure (503). Authenticate must take as long for an
	// unknown user as for a wrong password, and has no time limit except its own. Names and
	// passwords are never empty. Attempts are counted by FoldName of the name. The Scopes and
	// Disabled of the returned user apply.
	Authenticate func(ctx context.Context, username, password string) (*User, error)
	// Issuer makes access tokens. Required.
	Issuer TokenIssuer
	// Verifier checks access tokens. Nil: Issuer, which must then be a TokenVerifier too.
	// With a Verifier, LoadUser and Sessions need an Issuer that is a NamedIssuer, because
	// users and sessions are looked up only for tokens of the Issuer.
	Verifier TokenVerifier
	// Clients finds clients. Nil: no request needs a client, and only DefaultClientID is
	// known. Not nil: every request must name a client, unless DefaultClientID or
	// AllowNoClient is set. A request that names an unknown client is refused.
	Clients ClientStore
	// DefaultClientID is the client of each request that names no client, and of each
	// session without a client. Their tokens have a client_id then, which RFC 9068
	// requires. With Clients, DefaultClientID must be a public client there; without
	// Clients, any printable ASCII. Empty: no default.
	DefaultClientID string
	// AllowNoClient accepts requests without a client although Clients is set. Such
	// requests have every grant and every scope. Excludes DefaultClientID.
	AllowNoClient bool
	// LaxForm reads the form of the token endpoint as FastAPI does: from
	// multipart/form-data too, and as the password grant if grant_type is missing and
	// username and password are present.
	LaxForm bool

	// Scopes are all scopes of the app, each with its description. Nil: DefaultScopes.
	Scopes map[string]string
	// DefaultScopes are granted to a request without scopes, except scopes that are not
	// allowed for the user or the client. Nil: no scopes.
	DefaultScopes []string
	// GrantScopes decides the scopes of a login, instead of User.Scopes. asked is nil if
	// the request has no scopes; c is nil if the request has no client. The result may
	// contain scopes that Config.Scopes names and Client.Scopes allows. An *Error with the
	// code "invalid_scope" refuses the request; any other error is a failure (503). A
	// refresh calls GrantScopes again, with scopes of the login, and drops scopes that were
	// not in asked.
	GrantScopes func(ctx context.Context, u *User, c *Client, asked []string) ([]string, error)

	// Sessions stores one row for each login. Refresh tokens need Sessions. Nil: no
	// sessions, and an access token is valid until it expires. With Authenticate, Users
	// must find the same users by ID. Two Auths with different users must not share both
	// Sessions and Secrets: a refresh token of user 1 of one would be a token of user 1 of the
	// other.
	Sessions SessionStore
	// Secrets make the refresh tokens. Each has at least 32 random bytes. The first secret
	// makes the tokens of new sessions; every secret verifies. To rotate, put a new secret
	// first, and remove the old one RefreshMax later, when its sessions have expired.
	// Secrets and the session store must not share a backup: together they make every
	// refresh token, and neither makes one without the other. Required with Sessions,
	// unless DisableRefresh is set. See OpenSecrets.
	Secrets []Secret
	// RefreshIdle is the time after which a session without a refresh expires. Zero: 14
	// days; at least 1 second.
	RefreshIdle time.Duration
	// RefreshMax is the age at which a session expires in any case. Zero: 90 days; at least
	// 1 second.
	RefreshMax time.Duration
	// RefreshGrace is the grace period: the time in which a refresh token that was just
	// replaced gets the same successor again. A lost answer or two tabs do not end the
	// session then. In return, rotation does not stop a thief who has the replaced token
	// and follows each refresh within this time. Zero: 30 seconds; at most 2 minutes.
	// Negative: no grace period; of parallel requests with one token, all except the first
	// are reuse and end the session.
	RefreshGrace time.Duration
	// RefreshForgive is the time in which the last replaced refresh token is forgiven once,
	// after RefreshGrace, if its successor is unused: a phone that was killed before it saved
	// the answer, or a server-side page that lost its cookie, stays logged in. The unused
	// successor is replaced too. The cost: a thief with a copy of the replaced token gets in
	// within this time; the next refresh of the owner or the thief is then reuse, and ends
	// the session. Zero: not at all. Longer than RefreshGrace, which must be on, and at most
	// RefreshIdle; 24 to 72 hours are for phones.
	RefreshForgive time.Duration
	// OpenSession is called before the tokens of a login are made, and may change s.Idle,
	// s.ExpiresAt and s.Label: "remember me", a shorter session for one client, a name for a
	// page of devices. Other changes of s are ignored. Idle is RefreshIdle at most and at
	// least a second, ExpiresAt is at least a second and at most RefreshMax ahead, Label is cut to
	// 256 bytes. An *Error refuses the login; any other error, and a value out of bounds
	// below, is a 503. Nil: every session has RefreshIdle and RefreshMax.
	OpenSession func(ctx context.Context, u *User, r *TokenRequest, s *Session) error
	// SessionCache is the time for which a process remembers a live session, instead of
	// reading Sessions at every request. A session that this process ends is refused at
	// once; a session that another process ends is refused after this time at the latest.
	// Zero: every request reads Sessions.
	SessionCache time.Duration
	// StatelessTokens keeps an access token valid until it expires, even after its session
	// has ended: the check of a bearer token does not read Sessions. Excludes SessionCache.
	StatelessTokens bool
	// MaxSessions is the highest number of live sessions of a user. A login above this
	// number ends another session: a session without a refresh first, then the session that
	// is idle longest. Zero: 100.
	MaxSessions int
	// DisableRefresh switches refresh tokens off: a session expires with its access token.
	DisableRefresh bool

	// DisablePasswordGrant removes the password grant from the token endpoint and from
	// MetadataHandler. All other features stay.
	DisablePasswordGrant bool
	// KeepHashes leaves outdated hashes as they are, because another program reads the same
	// table. False: a login replaces an outdated hash.
	KeepHashes bool
	// CheckLogin has the last word on a login. The password grant and Grants call CheckLogin
	// after the identity of the user is proved, before any token is made.
	// TokenRequest.Param reads further parameters, such as the code of a second factor. Nil:
	// every such login succeeds.
	//
	// An *Error with the code "invalid_grant", and an error that wraps ErrNotFound, is answered
	// as a wrong password, and counted as a wrong password: return it for a wrong code, so that
	// codes are guessed no more often than passwords. Accept each code once: in one atomic
	// write, store the time step of the accepted code, and refuse this step and every earlier
	// one (examples/account, totp.go). An *Error with any other code ("mfa_required", "email_unverified") is the answer, with its Extra. The
	// attempt is uncounted then, clears no other failure, makes no address known and opens no
	// session. Any other error is a 503. CheckLogin is not called after a wrong password, and
	// not for an unknown, disabled or blocked user; and not by Login, CheckPassword,
	// ChangePassword and Reauthenticate.
	CheckLogin func(ctx context.Context, u *User, r *TokenRequest) error
	// CheckNewPassword checks every new password: of HashNewPassword, ResetPassword and
	// SetPassword, and of ChangePassword after the old password was correct. An *Error refuses the new password: its description is for the user, and
	// its code should be "invalid_request", which answers 422. Any other error is a failure
	// (503). Nil: every password of 1 to 1,024 bytes is accepted. See hasher.Policy.
	CheckNewPassword func(ctx context.Context, u *User, password string) error

	// Grants are the app's own grant types, by name. A grant proves the identity of a user
	// and returns the user; the endpoint makes the tokens. An error that wraps ErrNotFound
	// is answered as a wrong password, an *Error with its own code and status, and any
	// other error with 503.
	//
	// A request is counted for the client address, and uncounted if the grant succeeds, or
	// fails with a code other than invalid_grant. No parameter of the request is counted
	// for a user: a grant that checks a secret that can be guessed, such as a code of six
	// digits, calls [TokenRequest.Guess] first.
	Grants map[string]GrantFunc
	// LoadUser reads the user at every request that Auth verifies, and sets Principal.User.
	// A token is refused if its user is missing or disabled, or if its login is older than
	// User.SessionsValidFrom.
	LoadUser bool

	// FoldName returns a name in the form that the store of users compares: in lower case,
	// for example, if "JohnDoe" finds "johndoe". The store, or Authenticate, gets the
	// folded name: the table must have the folded names, too. Nil: names stay as sent. Set FoldName if the store accepts several names
	// for one user (a collation, citext, sqlstore's UserTable.FoldNames). Without FoldName,
	// attempts at one user are still counted together, but attempts at several spellings of
	// an unknown name are not: the throttle would then reveal existing names.
	// EventNameFolding reports a missing FoldName.
	FoldName func(name string) string

	// Throttle counts and blocks attempts. Nil: the built-in throttle, in memory, for one
	// process.
	Throttle Throttle
	// ThrottleLimit is N: the number of wrong passwords for one account from one address in
	// one ThrottleWindow W. Further attempts are blocked: the answer is 429 for a while,
	// even for the correct password. The account is the user of the name, in any spelling,
	// or the name itself if no user has it. All other limits of the built-in throttle
	// follow from N.
	//
	// An address is known to a user for 30 days after a login from it; a user has at most 8
	// known addresses. An IPv6 /64 is one address. The limits are:
	//
	//   - from a known address: N in W for the user; 100 N in W for all users who know the
	//     address, and then 1 in W for each of them
	//   - from any other address: N in W for the user; from all of them together: 3 N in 4 W
	//     for the user
	//   - from one such address, for all users who do not know it: 10 N in W; from an IPv6
	//     /48: 100 N in W
	//
	// The same wrong password of a user from an address is counted once in W for the user,
	// for up to 3 N repeats.
	//
	// Zero: 10; at most 100,000.
	ThrottleLimit int
	// ThrottleWindow is W, the window of ThrottleLimit. Zero: 15 minutes; at least 1
	// second, at most 1 week.
	ThrottleWindow time.Duration
	// InsecureNoThrottle switches the throttle off: no attempt is counted or blocked.
	InsecureNoThrottle bool

	// Realm is the realm of the header WWW-Authenticate, in printable ASCII. Auths that share
	// a Throttle, or Secrets, need different realms: attempts and tickets of one realm are
	// not those of another. Empty: "api".
	Realm string
	// TrustedProxies are the networks of the reverse proxies whose forwarding headers are
	// trusted. Nil: no proxy; the client address is the peer's. New refuses a prefix that
	// would include strangers: shorter than /8 of IPv4, or shorter than /7 of IPv6.
	TrustedProxies []netip.Prefix
	// TrustUnixSocket makes every peer on a Unix socket a trusted proxy. False: such a peer
	// is local, like loopback, and has no address.
	TrustUnixSocket bool
	// ProxyHeader is the header in which trusted proxies name the client. Empty:
	// X-Forwarded-For. The scheme is read from X-Forwarded-Proto, or from Forwarded (RFC
	// 7239) if ProxyHeader is Forwarded.
	ProxyHeader string
	// TrustedOrigins are the origins of other sites whose pages may send forms to the
	// endpoints, as in the header Origin: "https://app.example.com",
	// "capacitor://localhost". Nil: no other site, so that no page can make a visitor's
	// browser guess passwords. A request with Sec-Fetch-Site: cross-site from any other
	// origin gets 403 and is not counted. Other origins of the same site need no entry.
	// TrustedOrigins sets no CORS headers: the app adds them.
	TrustedOrigins []string
	// InsecureAllowHTTP accepts passwords over plain HTTP from other machines.
	InsecureAllowHTTP bool

	// StoreTimeout is the time limit of one call of a store or of a Throttle. At the limit
	// the context of the call ends, and the answer is 503. Zero: 5 seconds; negative: no
	// limit.
	StoreTimeout time.Duration

	// RequestID returns the app's ID of a request from its context, for events. Nil: no ID.
	RequestID func(ctx context.Context) string
	// OnEvent gets every event, in the goroutine of the request, and must not block. See
	// LogEvents. Nil: failures, panics and hints about the configuration go to
	// slog.Default. An empty function discards all events.
	OnEvent func(ctx context.Context, e Event)
	// ErrorBody returns the body of an error answer, which is encoded as JSON. ErrorBody
	// gets only the public part of the error, and cannot change the status or the headers.
	// Nil, or a nil result: the standard body.
	ErrorBody func(ctx context.Context, e *Error) any
	// Now is the clock. Nil: time.Now. A test that sets Now sets that of tokens.Config, too.
	Now func() time.Time
}

const (
	grantPassword = "password"
	grantRefresh  = "refresh_token"
)

// grantTypes returns the grant types of the token endpoint: the built-in grants first.
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

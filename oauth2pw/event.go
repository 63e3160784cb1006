package oauth2pw

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Event is a fact for the operators of the app. An Event has no password, no token, no
// secret and no hash. Err is the error of a plug, unchanged.
type Event struct {
	Kind   EventKind
	Reason EventReason // one of Kind.Reasons; "": the kind needs no reason
	Time   time.Time   // UTC
	Code   string      // the error code of the answer; "": nothing was refused
	Plug   string      // the plug that failed or refused, such as "UserStore.UserByName"; "": no plug

	Grant     string // the grant type of a token request
	UserID    string // "": no user was found
	NameTag   string // a keyed digest of the name, if no user was found; equal for equal names in one process
	ClientID  string // "": no known client was named
	SessionID string // "": no session
	RequestID string // the result of Config.RequestID
	Address   netip.Addr
	UserAgent string        // of the request; at most 256 bytes, without control characters
	Late      time.Duration // of EventRefreshForgiven: the age of the lost answer
	Err       error
}

// EventKind is the subject of an [Event]. The set may grow.
type EventKind string

// The kinds of [Event]. EventKind.Reasons lists the reasons of each.
const (
	EventLogin           EventKind = "login"            // a user logged in
	EventLoginFailed     EventKind = "login_failed"     // a login was refused
	EventScopeRefused    EventKind = "scope_refused"    // the credentials were correct, but a scope was not allowed
	EventClientFailed    EventKind = "client_failed"    // a client was not authenticated
	EventThrottled       EventKind = "throttled"        // an attempt was blocked; the reason is the AttemptKind
	EventUnknownProxy    EventKind = "unknown_proxy"    // a forwarding header came from a peer outside of Config.TrustedProxies: if the peer is a proxy, all its clients share one address. At most once an hour
	EventProxyHeader     EventKind = "proxy_header"     // a trusted proxy sent no readable Config.ProxyHeader: all its clients share one address. At most once an hour
	EventNameFolding     EventKind = "name_folding"     // Config.FoldName is missing, or folds fewer names than the store of users. At most once an hour
	EventTokenRefused    EventKind = "token_refused"    // a bearer token was refused; Code and Err have the cause
	EventHashUpgraded    EventKind = "hash_upgraded"    // a login replaced an outdated hash
	EventUpgradeFailed   EventKind = "upgrade_failed"   // a login failed to replace an outdated hash, and continued
	EventOverload        EventKind = "overload"         // the hasher had no free capacity
	EventUnavailable     EventKind = "unavailable"      // a plug failed
	EventPanic           EventKind = "panic"            // a plug panicked
	EventRequestRefused  EventKind = "request_refused"  // any other request was refused
	EventRefresh         EventKind = "refresh"          // a refresh token was replaced by its successor
	EventRefreshRepeat   EventKind = "refresh_repeat"   // the last replaced token was sent again within the grace period; the reason compares the request with the login
	EventRefreshReuse    EventKind = "refresh_reuse"    // a replaced token was sent again outside of the grace period, and its session has ended; the reason compares the request with the login
	EventRefreshFailed   EventKind = "refresh_failed"   // a refresh token was refused
	EventRefreshForgiven EventKind = "refresh_forgiven" // the last replaced token was sent after the grace period and got another successor, once (Config.RefreshForgive); the reason compares the request with the login
	EventStoreRollback   EventKind = "store_rollback"   // a refresh token was newer than its session in the store: the store has lost writes
	EventSessionEnded    EventKind = "session_ended"    // a session has ended; the reason may also be the app's own, from EndSession, EndOtherSessions or EndAllSessions
	EventPasswordChanged EventKind = "password_changed" // a password was changed, reset or set
	EventTicketRefused   EventKind = "ticket_refused"   // a ticket was refused
	EventReauthenticated EventKind = "reauthenticated"  // a user has proved the password again
	EventPasswordRefused EventKind = "password_refused" // ChangePassword, Reauthenticate, ResetPassword, SetPassword or HashNewPassword refused a request
)

// EventReason is the cause of an [Event]. The set may grow.
type EventReason string

// The reasons of [Event].
const (
	// Of passwords and users.
	ReasonUnknownUser     EventReason = "unknown_user" // no user has the name
	ReasonWrongPassword   EventReason = "wrong_password"
	ReasonNoPassword      EventReason = "no_password"       // the user has no password
	ReasonUnreadableHash  EventReason = "unreadable_hash"   // the hasher cannot read the stored hash
	ReasonTooLongForHash  EventReason = "too_long_for_hash" // the password is longer than the format of its hash allows
	ReasonMalformed       EventReason = "malformed"         // no valid name, password or token has this form
	ReasonRefused         EventReason = "refused"           // a grant of Config.Grants, or Config.Authenticate, refused the user
	ReasonUserDeleted     EventReason = "user_deleted"      // no user has the ID any more
	ReasonUserDisabled    EventReason = "user_disabled"
	ReasonPasswordChanged EventReason = "password_changed" // the password was changed after the user proved the old one
	ReasonUnacceptable    EventReason = "unacceptable"     // the new password was refused
	ReasonNoPrincipal     EventReason = "no_principal"     // the request carries no verified token
	ReasonNoSession       EventReason = "no_session"       // the token has no session
	ReasonSessionOver     EventReason = "session_over"     // the session of the token has ended or expired

	// Of clients and requests.
	ReasonUnknownClient   EventReason = "unknown_client"
	ReasonNoClient        EventReason = "no_client"    // the request names no client, but a client is required
	ReasonWrongClient     EventReason = "wrong_client" // the token belongs to another client
	ReasonWrongSecret     EventReason = "wrong_secret"
	ReasonUnknownScheme   EventReason = "unknown_scheme" // the Authorization header is not Basic
	ReasonMalformedBasic  EventReason = "malformed_basic"
	ReasonNotConfidential EventReason = "not_confidential" // the client has no secret, but a secret is required
	ReasonPlainHTTP       EventReason = "plain_http"
	ReasonCrossSite       EventReason = "cross_site" // a page of another site sent the form
	ReasonUnreadableBody  EventReason = "unreadable_body"
	ReasonInvalid         EventReason = "invalid"          // the verifier refused the token
	ReasonUntrustedPeer   EventReason = "untrusted_peer"   // the peer is not a trusted proxy
	ReasonUntrustedSocket EventReason = "untrusted_socket" // the peer is on a Unix socket; see Config.TrustUnixSocket
	ReasonUntrustedHop    EventReason = "untrusted_hop"    // the proxy in front of the trusted proxy is not a trusted proxy
	ReasonOtherHeader     EventReason = "other_header"     // the proxy sent no Config.ProxyHeader, but another forwarding header
	ReasonUnreadableHop   EventReason = "unreadable_hop"   // an entry of the header is not an address

	// Of refresh tokens and sessions.
	ReasonNewAddress               EventReason = "new_address"    // no other live session of the user has the client address
	ReasonNewUserAgent             EventReason = "new_user_agent" // no other live session of the user has the user agent
	ReasonNewPlace                 EventReason = "new_place"      // no other live session of the user has the client address or the user agent
	ReasonUnknownSession           EventReason = "unknown_session"
	ReasonUnknownSecret            EventReason = "unknown_secret" // Config.Secrets no longer has the secret that made the token
	ReasonExpired                  EventReason = "expired"        // the ticket has expired
	ReasonForged                   EventReason = "forged"
	ReasonEnded                    EventReason = "ended"      // the session had ended already
	ReasonIdle                     EventReason = "idle"       // the session expired after Config.RefreshIdle
	ReasonAge                      EventReason = "age"        // the session expired after Config.RefreshMax
	ReasonSuperseded               EventReason = "superseded" // the token is older than a change of the password
	ReasonEarly                    EventReason = "early"      // the token was replaced in the future: a clock was set back
	ReasonReuse                    EventReason = "reuse"      // a replaced token was sent outside of the grace period
	ReasonRevoked                  EventReason = "revoked"    // a client revoked the token
	ReasonLimit                    EventReason = "limit"      // the user had more than Config.MaxSessions live sessions
	ReasonAbandoned                EventReason = "abandoned"  // the login failed after its session was made
	ReasonSamePlace                EventReason = "same_place" // the request has the address and the user agent of the login
	ReasonOtherAddress             EventReason = "other_address"
	ReasonOtherUserAgent           EventReason = "other_user_agent"
	ReasonOtherAddressAndUserAgent EventReason = "other_address_and_user_agent"
)

// eventReasons maps each kind to its reasons.
var eventReasons = map[EventKind][]EventReason{
	EventLogin: {"", ReasonNewAddress, ReasonNewUserAgent, ReasonNewPlace},
	EventLoginFailed: {
		ReasonUnknownUser, ReasonWrongPassword, ReasonNoPassword, ReasonUserDisabled, ReasonUserDeleted, ReasonPasswordChanged,
		ReasonUnreadableHash, ReasonTooLongForHash, ReasonMalformed, ReasonRefused,
	},
	EventScopeRefused: {},
	EventClientFailed: {
		ReasonUnknownClient, ReasonNoClient, ReasonWrongSecret, ReasonUnknownScheme, ReasonMalformedBasic, ReasonNotConfidential,
	},
	EventThrottled: {
		EventReason(AttemptPassword), EventReason(AttemptCode), EventReason(AttemptGrant), EventReason(AttemptClient),
	},
	EventUnknownProxy:   {ReasonUntrustedPeer, ReasonUntrustedSocket, ReasonUntrustedHop},
	EventProxyHeader:    {ReasonOtherHeader, ReasonUnreadableHop},
	EventNameFolding:    {},
	EventTokenRefused:   {"", ReasonMalformed, ReasonInvalid},
	EventHashUpgraded:   {},
	EventUpgradeFailed:  {},
	EventOverload:       {},
	EventUnavailable:    {},
	EventPanic:          {},
	EventRequestRefused: {"", ReasonPlainHTTP, ReasonCrossSite, ReasonUnreadableBody, ReasonWrongClient},
	EventRefresh:        {},
	EventRefreshRepeat:  {ReasonSamePlace, ReasonOtherAddress, ReasonOtherUserAgent, ReasonOtherAddressAndUserAgent},
	EventRefreshReuse:   {ReasonSamePlace, ReasonOtherAddress, ReasonOtherUserAgent, ReasonOtherAddressAndUserAgent},
	EventRefreshFailed: {
		ReasonMalformed, ReasonUnknownSession, ReasonForged, ReasonUnknownSecret, ReasonEnded, ReasonIdle, ReasonAge, ReasonWrongClient,
		ReasonUserDeleted, ReasonUserDisabled, ReasonPasswordChanged, ReasonSuperseded, ReasonEarly,
	},
	EventRefreshForgiven: {ReasonSamePlace, ReasonOtherAddress, ReasonOtherUserAgent, ReasonOtherAddressAndUserAgent},
	EventStoreRollback:   {},
	EventSessionEnded: {
		ReasonRevoked, ReasonReuse, ReasonIdle, ReasonAge, ReasonLimit, ReasonUserDeleted, ReasonUserDisabled, ReasonPasswordChanged, ReasonAbandoned,
	},
	EventPasswordChanged: {},
	EventReauthenticated: {},
	EventTicketRefused: {
		ReasonMalformed, ReasonForged, ReasonUnknownSecret, ReasonExpired, ReasonUserDeleted, ReasonUserDisabled,
	},
	EventPasswordRefused: {
		ReasonRefused, ReasonWrongPassword, ReasonNoPassword, ReasonUserDisabled, ReasonUserDeleted, ReasonUnreadableHash, ReasonTooLongForHash, ReasonMalformed,
		ReasonUnacceptable, ReasonNoPrincipal, ReasonNoSession, ReasonSessionOver,
	},
}

// Reasons returns the reasons of events of the kind, for the labels of metrics. The result
// is empty if the kind has no reasons. The reason "" is in the result if some events of the
// kind have no reason; Event.Code has their cause.
func (k EventKind) Reasons() []EventReason { return slices.Clone(eventReasons[k]) }

// LogEvents returns a hook for [Config.OnEvent] that writes every event to l: normal events
// at Info, refusals at Warn, failures at Error.
func LogEvents(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		level := slog.LevelWarn
		switch e.Kind {
		case EventLogin, EventHashUpgraded, EventRefresh, EventRefreshRepeat, EventSessionEnded, EventPasswordChanged, EventReauthenticated:
			level = slog.LevelInfo
		case EventUnavailable, EventPanic, EventUpgradeFailed, EventStoreRollback:
			level = slog.LevelError
		}
		if !l.Enabled(ctx, level) {
			return
		}
		attrs := make([]slog.Attr, 0, 8)
		add := func(key, value string) {
			if value != "" {
				attrs = append(attrs, slog.String(key, value))
			}
		}
		add("reason", string(e.Reason))
		add("code", e.Code)
		add("plug", e.Plug)
		add("grant", e.Grant)
		add("user_id", e.UserID)
		add("name_tag", e.NameTag)
		add("client_id", e.ClientID)
		add("session_id", e.SessionID)
		add("request_id", e.RequestID)
		if e.Address.IsValid() {
			add("address", e.Address.String())
		}
		add("user_agent", e.UserAgent)
		if e.Late > 0 {
			add("late", e.Late.String())
		}
		if e.Err != nil {
			add("error", e.Err.Error())
		}
		l.LogAttrs(ctx, level, string(e.Kind), attrs...)
	}
}

// logBroken returns the default hook: failures and hints about the configuration go to
// slog.Default. A refusal of plain HTTP is a hint, at most once an hour.
func logBroken() func(context.Context, Event) {
	var plainHTTP, unreadable hourly
	return func(ctx context.Context, e Event) {
		switch e.Kind {
		case EventUnavailable, EventPanic, EventUpgradeFailed, EventStoreRollback, EventUnknownProxy, EventProxyHeader, EventNameFolding:
		case EventLoginFailed:
			if e.Reason != ReasonUnreadableHash || !unreadable.due(e.Time) {
				return
			}
		case EventRequestRefused:
			if e.Reason != ReasonPlainHTTP || !plainHTTP.due(e.Time) {
				return
			}
		default:
			return
		}
		LogEvents(slog.Default())(ctx, e)
	}
}

// reporter completes events and sends them to the hook of the app.
type reporter struct {
	clock     clock
	hook      func(ctx context.Context, e Event)
	requestID func(ctx context.Context) string // nil: no ID
	nameTag   func(name string) string
}

func newReporter(hook func(context.Context, Event), requestID func(context.Context) string, now clock) *reporter {
	r := &reporter{clock: now, hook: hook, requestID: requestID, nameTag: newNameTag()}
	if r.hook == nil {
		r.hook = logBroken()
	}
	return r
}

func (r *reporter) emit(ctx context.Context, e Event) {
	e.Time = r.clock().UTC()
	s := stateFrom(ctx)
	e.Address = s.address
	if s.request != nil {
		e.UserAgent = cleanUserAgent(s.request.UserAgent())
	}
	if r.requestID != nil {
		e.RequestID = r.requestID(ctx)
	}
	r.hook(ctx, e)
}

// newNameTag returns a function that makes the tag of a name of no user. The name itself is
// not reported, because people type passwords into the name field.
func newNameTag() func(name string) string {
	mac := newMAC(randomKey())
	return func(name string) string {
		sum := mac(func(b []byte) []byte { return append(b, name...) })
		return hex.EncodeToString(sum[:4])
	}
}

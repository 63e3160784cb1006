package oauth2pw

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Event is something that an operator may want to know. It holds no password, no
// token, no secret and no hash. Err is what a plug returned, as it returned it.
type Event struct {
	Kind   EventKind
	Reason EventReason // one of Kind.Reasons; "" where the kind says all
	Time   time.Time   // UTC
	Code   string      // the error code of the answer; "" where nothing was refused
	Plug   string      // the plug that failed or refused, as "UserStore.UserByName"; "" where none did

	Grant     string // the grant type of a token request
	UserID    string // where a user was found
	NameTag   string // of a name that is no user's: a keyed digest, equal for equal names in one process
	ClientID  string // where a client was named and known
	SessionID string // where there is a session
	RequestID string // what Config.RequestID says
	Address   netip.Addr
	Err       error
}

// EventKind says what an [Event] is about. The set may grow.
type EventKind string

// The kinds of [Event]. EventKind.Reasons lists the reasons of each.
const (
	EventLogin           EventKind = "login"            // a user has logged in
	EventLoginFailed     EventKind = "login_failed"     // a user could not log in
	EventScopeRefused    EventKind = "scope_refused"    // the credentials were right, the scope was not allowed
	EventClientFailed    EventKind = "client_failed"    // a client could not be authenticated
	EventThrottled       EventKind = "throttled"        // there were too many attempts; the reason is the AttemptKind
	EventUnknownProxy    EventKind = "unknown_proxy"    // a forwarding header came from a peer that Config.TrustedProxies does not name: if it is a proxy, all its clients share one address. Once an hour at most
	EventProxyHeader     EventKind = "proxy_header"     // a trusted proxy sent no readable Config.ProxyHeader: all its clients share one address. Once an hour at most
	EventNameFolding     EventKind = "name_folding"     // Config.FoldName is missing, or folds less than the store of users. Once an hour at most
	EventTokenRefused    EventKind = "token_refused"    // a bearer token was refused; Err says why
	EventHashUpgraded    EventKind = "hash_upgraded"    // a login replaced an outdated hash
	EventUpgradeFailed   EventKind = "upgrade_failed"   // a login could not replace an outdated hash, and went on
	EventOverload        EventKind = "overload"         // the hasher had no room
	EventUnavailable     EventKind = "unavailable"      // a plug failed
	EventPanic           EventKind = "panic"            // a plug panicked
	EventRequestRefused  EventKind = "request_refused"  // any other refusal of a request to an endpoint
	EventRefresh         EventKind = "refresh"          // a refresh token was exchanged for its successor
	EventRefreshRepeat   EventKind = "refresh_repeat"   // a replaced refresh token came again within the grace period; the reason compares the request with the login
	EventRefreshReuse    EventKind = "refresh_reuse"    // a replaced refresh token came again after the grace period, and its session has ended; the same reasons
	EventRefreshFailed   EventKind = "refresh_failed"   // a refresh token was refused
	EventStoreRollback   EventKind = "store_rollback"   // a refresh token was newer than its session in the store, which must have lost writes
	EventSessionEnded    EventKind = "session_ended"    // a session has ended; the reason may be the app's own, too: that of EndSession and the like
	EventPasswordChanged EventKind = "password_changed" // ChangePassword has changed a password
	EventPasswordRefused EventKind = "password_refused" // ChangePassword has refused
)

// EventReason says why an [Event] happened. The set may grow.
type EventReason string

// The reasons of [Event].
const (
	// Of passwords and users.
	ReasonUnknownUser     EventReason = "unknown_user" // no user has the name
	ReasonWrongPassword   EventReason = "wrong_password"
	ReasonNoPassword      EventReason = "no_password"       // the user has no password
	ReasonUnreadableHash  EventReason = "unreadable_hash"   // the hasher cannot read the stored hash
	ReasonTooLongForHash  EventReason = "too_long_for_hash" // the password is longer than the format of its hash allows
	ReasonMalformed       EventReason = "malformed"         // no name, password or token looks like this
	ReasonRefused         EventReason = "refused"           // a grant of the app's own, or Config.Authenticate, said no
	ReasonUserDeleted     EventReason = "user_deleted"      // no user has the ID any more
	ReasonUserDisabled    EventReason = "user_disabled"
	ReasonPasswordChanged EventReason = "password_changed" // after the user last proved the old password
	ReasonUnacceptable    EventReason = "unacceptable"     // the new password was refused
	ReasonNoPrincipal     EventReason = "no_principal"     // the request carries no verified token
	ReasonNoSession       EventReason = "no_session"       // the token has no session
	ReasonSessionOver     EventReason = "session_over"     // the session of the token has ended or expired

	// Of clients and requests.
	ReasonUnknownClient   EventReason = "unknown_client"
	ReasonNoClient        EventReason = "no_client"    // the request names no client, and must
	ReasonWrongClient     EventReason = "wrong_client" // the token belongs to another client
	ReasonWrongSecret     EventReason = "wrong_secret"
	ReasonUnknownScheme   EventReason = "unknown_scheme" // the Authorization header is not Basic
	ReasonMalformedBasic  EventReason = "malformed_basic"
	ReasonNotConfidential EventReason = "not_confidential" // the client has no secret, and must
	ReasonPlainHTTP       EventReason = "plain_http"
	ReasonCrossSite       EventReason = "cross_site" // a page of another site has sent the form
	ReasonUnreadableBody  EventReason = "unreadable_body"
	ReasonInvalid         EventReason = "invalid"          // the verifier refused the token
	ReasonUntrustedPeer   EventReason = "untrusted_peer"   // the peer is no trusted proxy
	ReasonUntrustedSocket EventReason = "untrusted_socket" // the peer is on a Unix socket; see Config.TrustUnixSocket
	ReasonUntrustedHop    EventReason = "untrusted_hop"    // a proxy before the trusted one is no trusted proxy
	ReasonOtherHeader     EventReason = "other_header"     // the proxy sent another header than Config.ProxyHeader
	ReasonUnreadableHop   EventReason = "unreadable_hop"   // the header holds something that is no address

	// Of refresh tokens and sessions.
	ReasonUnknownSession           EventReason = "unknown_session"
	ReasonUnknownSecret            EventReason = "unknown_secret" // Config.Secrets has lost the one that made the token
	ReasonForged                   EventReason = "forged"
	ReasonEnded                    EventReason = "ended"      // the session had ended before
	ReasonIdle                     EventReason = "idle"       // Config.RefreshIdle
	ReasonAge                      EventReason = "age"        // Config.RefreshMax
	ReasonSuperseded               EventReason = "superseded" // the token is from before a change of the password
	ReasonEarly                    EventReason = "early"      // the token was replaced in the future: a clock was set back
	ReasonReuse                    EventReason = "reuse"      // a replaced refresh token came again
	ReasonRevoked                  EventReason = "revoked"    // by RevokeHandler
	ReasonLimit                    EventReason = "limit"      // Config.MaxSessions
	ReasonAbandoned                EventReason = "abandoned"  // the login of the session failed at its end
	ReasonSamePlace                EventReason = "same_place" // the address and the user agent of the login
	ReasonOtherAddress             EventReason = "other_address"
	ReasonOtherUserAgent           EventReason = "other_user_agent"
	ReasonOtherAddressAndUserAgent EventReason = "other_address_and_user_agent"
)

// eventReasons is the one table of kinds and their reasons.
var eventReasons = map[EventKind][]EventReason{
	EventLogin: {},
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
	EventStoreRollback: {},
	EventSessionEnded: {
		ReasonRevoked, ReasonReuse, ReasonIdle, ReasonAge, ReasonLimit, ReasonUserDeleted, ReasonUserDisabled, ReasonPasswordChanged, ReasonAbandoned,
	},
	EventPasswordChanged: {},
	EventPasswordRefused: {
		ReasonWrongPassword, ReasonNoPassword, ReasonUserDisabled, ReasonUserDeleted, ReasonUnreadableHash, ReasonTooLongForHash, ReasonMalformed,
		ReasonUnacceptable, ReasonNoPrincipal, ReasonNoSession, ReasonSessionOver,
	},
}

// Reasons returns the reasons that events of the kind have, for the labels of metrics.
// It is empty where the kind says all. "" is among them where some events have none:
// Event.Code says more then.
func (k EventKind) Reasons() []EventReason { return slices.Clone(eventReasons[k]) }

// LogEvents returns a hook for [Config.OnEvent] that writes every event to l: at
// Info what is everyday, at Warn what was refused, at Error what broke.
func LogEvents(l *slog.Logger) func(context.Context, Event) {
	return func(ctx context.Context, e Event) {
		level := slog.LevelWarn
		switch e.Kind {
		case EventLogin, EventHashUpgraded, EventRefresh, EventRefreshRepeat, EventSessionEnded, EventPasswordChanged:
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
		if e.Err != nil {
			add("error", e.Err.Error())
		}
		l.LogAttrs(ctx, level, string(e.Kind), attrs...)
	}
}

// logBroken is the hook where the app has none: what broke, and what the configuration
// lacks, goes to slog.Default.
func logBroken() func(context.Context, Event) {
	var plainHTTP hourly
	return func(ctx context.Context, e Event) {
		switch e.Kind {
		case EventUnavailable, EventPanic, EventUpgradeFailed, EventStoreRollback, EventUnknownProxy, EventProxyHeader, EventNameFolding:
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

// reporter completes events and hands them to the hook of the app.
type reporter struct {
	clock     clock
	hook      func(ctx context.Context, e Event)
	requestID func(ctx context.Context) string // nil: there is none
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
	e.Address = ClientAddress(ctx)
	if r.requestID != nil {
		e.RequestID = r.requestID(ctx)
	}
	r.hook(ctx, e)
}

// newNameTag returns a function that makes the tag of a name that belongs to
// nobody: people type passwords into the name field.
func newNameTag() func(name string) string {
	mac := newMAC(randomKey())
	return func(name string) string {
		sum := mac(func(b []byte) []byte { return append(b, name...) })
		return hex.EncodeToString(sum[:4])
	}
}

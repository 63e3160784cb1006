package oauth2pw

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"time"
)

// Event is something that an operator may want to know. It holds no password, no
// token, no secret and no hash. Err is what a plug returned, as it returned it.
type Event struct {
	Kind   string    // one of the Event constants
	Time   time.Time // UTC
	Reason string    // why, where there is more than one why; a stable word, or the plug that failed

	Grant     string // the grant type of a token request
	UserID    string // where a user was found
	NameTag   string // of a name that is no user's: a keyed digest, equal for equal names in one process
	ClientID  string // where a client was named and known
	SessionID string // where there is a session
	RequestID string // what Config.RequestID says
	Address   netip.Addr
	Err       error
}

// The kinds of [Event], each with its reasons.
const (
	EventLogin          = "login"           // tokens were issued to a user who proved who he is
	EventLoginFailed    = "login_failed"    // unknown_user, wrong_password, no_password, disabled, stale, unreadable_hash, too_long_for_hash, malformed, refused
	EventScopeRefused   = "scope_refused"   // the credentials were right, the scope was not allowed
	EventClientFailed   = "client_failed"   // a client could not be authenticated
	EventThrottled      = "throttled"       // there were too many failures: the AttemptKind
	EventUnknownProxy   = "unknown_proxy"   // Address may be that of many clients: a proxy is not configured, or not right; Err says how. Told once an hour at most
	EventNameFolding    = "name_folding"    // Config.FoldName is missing, or folds less than the store of users. Told once an hour at most
	EventTokenRefused   = "token_refused"   // a bearer token was refused; Err says why
	EventHashUpgraded   = "hash_upgraded"   // a login replaced an outdated hash
	EventUpgradeFailed  = "upgrade_failed"  // it could not; the login went on
	EventOverload       = "overload"        // the hasher had no room
	EventUnavailable    = "unavailable"     // a plug failed; Reason names it
	EventPanic          = "panic"           // a plug panicked
	EventRequestRefused = "request_refused" // any other refusal of a request to an endpoint: plain_http, cross_site, or the error code

	EventRefresh         = "refresh"          // a refresh token was exchanged for its successor
	EventRefreshRepeat   = "refresh_repeat"   // it came again within the grace period: same_place, other_address, other_user_agent, other_address_and_user_agent, than the login's
	EventRefreshReuse    = "refresh_reuse"    // it came again after that, and its session is over; the same reasons
	EventRefreshFailed   = "refresh_failed"   // malformed, unknown, forged, unknown_secret, ended, idle, age, wrong_client, user_deleted, user_disabled, password_changed
	EventStoreRollback   = "store_rollback"   // a refresh token was newer than its session in the store, which must have lost writes
	EventSessionEnded    = "session_ended"    // revoked, reuse, idle, age, limit, user_deleted, user_disabled, password_changed, abandoned, or what EndSession and the like were given
	EventPasswordChanged = "password_changed" // by ChangePassword
	EventPasswordRefused = "password_refused" // wrong_password and the others of login_failed, unacceptable, session_over, no_session, no_principal
)

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
		add("reason", e.Reason)
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
		l.LogAttrs(ctx, level, e.Kind, attrs...)
	}
}

// logBroken is the hook where Config.OnEvent is nil: what broke, and what the
// configuration lacks, goes to slog.Default.
func logBroken() func(context.Context, Event) {
	var plainHTTP hourly
	return func(ctx context.Context, e Event) {
		switch e.Kind {
		case EventUnavailable, EventPanic, EventUpgradeFailed, EventStoreRollback, EventUnknownProxy, EventNameFolding:
		case EventRequestRefused:
			if e.Reason != "plain_http" || !plainHTTP.due(e.Time) {
				return
			}
		default:
			return
		}
		LogEvents(slog.Default())(ctx, e)
	}
}

// emit completes an event and hands it to the hook.
func (c *config) emit(ctx context.Context, e Event) {
	e.Time = c.now().UTC()
	e.Address = ClientAddress(ctx)
	if c.RequestID != nil {
		e.RequestID = c.RequestID(ctx)
	}
	c.OnEvent(ctx, e)
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

// panicError describes a panic by its type and its place. Its value may hold a
// secret and is not shown, except for what the runtime itself says.
func panicError(value any) error {
	what := fmt.Sprintf("%T", value)
	if e, ok := value.(runtime.Error); ok {
		what = e.Error()
	}
	return fmt.Errorf("panic (%s) at %s", what, panicPlace())
}

// panicPlace returns the innermost frame outside the runtime below a panic. It is
// called from a deferred function.
func panicPlace() string {
	var pcs [64]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for panicked := false; ; {
		f, more := frames.Next()
		switch {
		case strings.HasPrefix(f.Function, "runtime."):
			panicked = panicked || f.Function == "runtime.gopanic"
		case panicked:
			return fmt.Sprintf("%s (%s:%d)", f.Function, f.File, f.Line)
		}
		if !more {
			return "an unknown place"
		}
	}
}

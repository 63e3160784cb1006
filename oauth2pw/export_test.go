package oauth2pw

import (
	"context"
	"maps"
	"net/http"
	"slices"
)

// KnownSessions returns how many sessions an Auth remembers to live.
func KnownSessions(a *Auth) int {
	a.sessions.live.mu.Lock()
	defer a.sessions.live.mu.Unlock()
	return len(a.sessions.live.sessions)
}

// ContextOf returns the context that an Auth makes of a request.
func ContextOf(a *Auth, r *http.Request) context.Context { return a.proxies.withAddress(r) }

// EventKinds returns the kinds of the table of events.
func EventKinds() []EventKind { return slices.Sorted(maps.Keys(eventReasons)) }

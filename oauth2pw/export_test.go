package oauth2pw

import (
	"context"
	"net/http"
)

// KnownSessions returns how many sessions an Auth remembers to live.
func KnownSessions(a *Auth) int {
	a.c.live.mu.Lock()
	defer a.c.live.mu.Unlock()
	return len(a.c.live.sessions)
}

// ContextOf returns the context that an Auth makes of a request.
func ContextOf(a *Auth, r *http.Request) context.Context { return a.c.withAddress(r) }

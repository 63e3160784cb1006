package oauth2pw

// KnownSessions returns how many sessions an Auth remembers to live.
func KnownSessions(a *Auth) int {
	a.c.live.mu.Lock()
	defer a.c.live.mu.Unlock()
	return len(a.c.live.sessions)
}

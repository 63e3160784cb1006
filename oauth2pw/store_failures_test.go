package oauth2pw_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// storeFlow is a request, in a test in which each of its calls of a store fails.
type storeFlow struct {
	name  string
	edit  func(*oauth2pw.Config)   // nil: none
	setUp func(a *sessionApp) pair // nil: a login
	try   func(a *sessionApp, p pair) answer
	// status is that of a try that works.
	status int
	// worked requires the outcome of a try that works.
	worked func(a *sessionApp, p pair, got answer)
	// seen is the call whose lost answer does not fail the flow, because the flow looks again.
	seen string
	// last is the call after which the work is done, although the answer is 503. A failure of a
	// later call does not fail the flow.
	last string
}

// A flow leaves one of these behind: the session of its answer lives, the session from before
// has ended, the token is active.

func nowLives(a *sessionApp, _ pair, got answer) { a.lives(pairOf(got), true) }
func hasEnded(a *sessionApp, p pair, _ answer)   { a.lives(p, false) }
func isActive(a *sessionApp, _ pair, got answer) {
	require.Equal(a, true, got.json["active"])
}

// liveSessions requires how many sessions live.
func liveSessions(n int) func(*sessionApp, pair, answer) {
	return func(a *sessionApp, _ pair, _ answer) { require.Equal(a, n, a.live("u1")) }
}

var storeFlows = []storeFlow{
	{
		name:   "login",
		setUp:  func(*sessionApp) pair { return pair{} },
		try:    func(a *sessionApp, _ pair) answer { return a.post(login, basic("backend", "backend-secret")) },
		status: 200, worked: liveSessions(1),
	},
	{
		name:   "login beyond the limit",
		edit:   func(c *oauth2pw.Config) { c.MaxSessions = 2 },
		setUp:  func(a *sessionApp) pair { p := a.login(); a.clock.Advance(time.Second); a.login(); return p },
		try:    func(a *sessionApp, _ pair) answer { return a.post(login) },
		status: 200, worked: func(a *sessionApp, p pair, got answer) { liveSessions(2)(a, p, got); hasEnded(a, p, got) },
	},
	{
		name:   "refresh",
		try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh, "scope=me") },
		status: 200, worked: func(a *sessionApp, p pair, got answer) {
			require.Equal(a, uint64(2), a.session("u1").Generation)
			nowLives(a, p, got)
		},
	},
	{
		name:   "repeat",
		setUp:  func(a *sessionApp) pair { p := a.login(); a.refreshed(p.refresh); return p },
		try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
		status: 200, worked: nowLives,
	},
	{
		name:   "reuse",
		setUp:  func(a *sessionApp) pair { p := a.login(); a.refreshed(a.refreshed(p.refresh).refresh); return p },
		try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
		status: 400, worked: liveSessions(0),
	},
	{
		name: "refresh of a disabled user",
		setUp: func(a *sessionApp) pair {
			p := a.login()
			require.NoError(a, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
			return p
		},
		try:    func(a *sessionApp, p pair) answer { return a.refresh(p.refresh) },
		status: 400, worked: liveSessions(0),
	},
	{
		name:   "revoke a refresh token",
		try:    func(a *sessionApp, p pair) answer { return a.revoke("token=" + p.refresh) },
		status: 200, worked: hasEnded,
	},
	{
		name:   "revoke an access token",
		try:    func(a *sessionApp, p pair) answer { return a.revoke("token=" + p.access) },
		status: 200, worked: hasEnded,
	},
	{
		name:   "introspect",
		try:    func(a *sessionApp, p pair) answer { return a.introspect(p.access) },
		status: 200, worked: isActive,
	},
	{
		name:   "introspect a refresh token",
		setUp:  func(a *sessionApp) pair { return a.login("client_id=backend&client_secret=backend-secret") },
		try:    func(a *sessionApp, p pair) answer { return a.introspect(p.refresh) },
		status: 200, worked: isActive,
	},
	{
		name:   "a protected route",
		try:    func(a *sessionApp, p pair) answer { return a.get("/items", p.access) },
		status: 200, worked: liveSessions(1),
	},
	{
		name:   "a protected route after a change of the password",
		setUp:  func(a *sessionApp) pair { return a.changed(a.login(), "secret", "changed") },
		try:    func(a *sessionApp, p pair) answer { return a.get("/me", p.access) },
		status: 200, worked: liveSessions(1),
	},
	{
		name:   "change of the password",
		setUp:  func(a *sessionApp) pair { a.login(); return a.login() },
		try:    func(a *sessionApp, p pair) answer { return a.change(p.access, "secret", "changed") },
		status: 200, worked: nowLives,
		seen: "PasswordUpdater.UpdatePasswordHash", last: "SessionStore.Advance",
	},
}

// TestEveryStoreCallFailsOnce: at each call of each flow the store fails once, before or
// after its work. The answer is 503, nothing is half done, and the next try works.
//
// Conformance 30.
func TestEveryStoreCallFailsOnce(t *testing.T) {
	for _, f := range storeFlows {
		for _, mode := range []string{"before", "after"} {
			t.Run(f.name+" "+mode, func(t *testing.T) {
				const most = 20 // a flow has fewer calls
				n := 1
				for n < most && f.failAt(t, n, mode) {
					n++
				}
				require.Greater(t, n, 1, "no call was made")
				require.Less(t, n, most, "it does not end")
			})
		}
	}
}

// failAt tries a flow whose nth call of a store fails. It reports false if the flow has fewer
// calls.
func (f storeFlow) failAt(t *testing.T, n int, mode string) bool {
	t.Helper()
	edit := func(*oauth2pw.Config) {}
	if f.edit != nil {
		edit = f.edit
	}
	a, s := newScriptedApp(t, edit)
	var p pair
	if f.setUp != nil {
		p = f.setUp(a)
	} else {
		p = a.login("scope=me+items")
	}
	failed, calls := "", 0
	last, settled := "", false // settled: the call after f.last, or a later one, failed
	fail := func(_ context.Context, call string) error {
		settled = settled || failed == "" && f.last != "" && last == f.last
		last = call
		if calls++; calls == n {
			failed = call
			return fmt.Errorf("%s: the disk is on fire", call)
		}
		return nil
	}
	for _, call := range storeCalls {
		if mode == "before" {
			s.before(call, fail)
		} else {
			s.after(call, fail)
		}
	}
	got := f.try(a, p)
	s.end()
	what := fmt.Sprintf("call %d, %s: %s", n, failed, got.body)
	switch {
	case failed == "":
		require.Equal(t, f.status, got.StatusCode, got.body)
		f.worked(a, p, got)
		return false
	case settled && failed != "", failed == f.seen && mode == "after":
		require.Equal(t, f.status, got.StatusCode, what)
		f.worked(a, p, got)
		return true
	}
	require.Equal(t, 503, got.StatusCode, what)
	require.NotContains(t, got.body, "fire")
	a.clock.Advance(time.Millisecond)
	got = f.try(a, p)
	if failed == f.last { // the work is done, and the token of the caller is dead
		require.Equal(t, 401, got.StatusCode, what)
		require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=changed").StatusCode)
		return true
	}
	require.Equal(t, f.status, got.StatusCode, what+got.body)
	f.worked(a, p, got)
	return true
}

package oauth2pw_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance135 holds the boundaries of a lost answer: grace G = 30 s, forgiveness
// F = 24 h.
func TestConformance135(t *testing.T) {
	const grace, forgive = 30 * time.Second, 24 * time.Hour
	start := func(t *testing.T, f time.Duration) (a *sessionApp, lost, unused string) {
		a = newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshForgive = f })
		lost = a.login().refresh
		return a, lost, a.refreshed(lost).refresh
	}
	over := func(t *testing.T, a *sessionApp) {
		t.Helper()
		a.saw(oauth2pw.EventRefreshReuse, "same_place")
		require.Zero(t, a.live("u1"))
	}
	t.Run("135_at G - 1 µs the same successor", func(t *testing.T) {
		a, lost, unused := start(t, forgive)
		a.clock.Advance(grace - time.Microsecond)
		require.Equal(t, unused, a.refreshed(lost).refresh)
	})
	t.Run("135_at G forgiven, and the unused successor is reuse", func(t *testing.T) {
		a, lost, unused := start(t, forgive)
		a.clock.Advance(grace)
		a.takeEvents()
		next := a.refreshed(lost).refresh
		require.NotEqual(t, unused, next)
		require.Equal(t, grace, a.saw(oauth2pw.EventRefreshForgiven, "same_place").Late)
		a.refreshed(next)
		a.refresh(unused).isError(t, 400, "invalid_grant")
		over(t, a)
	})
	t.Run("135_at F - 1 µs forgiven", func(t *testing.T) {
		a, lost, _ := start(t, forgive)
		a.clock.Advance(forgive - time.Microsecond)
		a.refreshed(lost)
	})
	t.Run("135_at F reuse", func(t *testing.T) {
		a, lost, _ := start(t, forgive)
		a.clock.Advance(forgive)
		a.refresh(lost).isError(t, 400, "invalid_grant")
		over(t, a)
	})
	t.Run("135_once", func(t *testing.T) {
		a, lost, _ := start(t, forgive)
		a.clock.Advance(time.Hour)
		next := a.refreshed(lost).refresh
		a.clock.Advance(grace - time.Microsecond)
		require.Equal(t, next, a.refreshed(lost).refresh, "within the grace period it is a repeat")
		a.clock.Advance(time.Microsecond)
		a.refresh(lost).isError(t, 400, "invalid_grant")
		over(t, a)
	})
	t.Run("135_a later answer may be lost too", func(t *testing.T) {
		a, lost, _ := start(t, forgive)
		for range 5 {
			a.clock.Advance(time.Hour)
			lost = a.refreshed(lost).refresh // forgiven, and saved
			a.refreshed(lost)                // lost again
		}
		require.Equal(t, 1, a.live("u1"))
	})
	t.Run("135_the successor was used", func(t *testing.T) {
		a, lost, unused := start(t, forgive)
		a.clock.Advance(time.Hour)
		a.refreshed(unused)
		a.refresh(lost).isError(t, 400, "invalid_grant")
		over(t, a)
	})
	t.Run("135_50 late at once", func(t *testing.T) {
		a, lost, _ := start(t, forgive)
		a.clock.Advance(time.Hour)
		var wg sync.WaitGroup
		answers := make([]answer, 50)
		for i := range answers {
			wg.Go(func() { answers[i] = a.refresh(lost) })
		}
		wg.Wait()
		for _, got := range answers {
			require.Equal(t, a.granted(answers[0]).refresh, a.granted(got).refresh)
		}
		require.Equal(t, 1, a.live("u1"))
		require.Equal(t, uint64(3), a.session("u1").Generation)
		a.refreshed(a.granted(answers[0]).refresh)
	})
	t.Run("135_off", func(t *testing.T) {
		a, lost, _ := start(t, 0)
		a.clock.Advance(grace)
		a.refresh(lost).isError(t, 400, "invalid_grant")
		over(t, a)
	})
	t.Run("136_not after a change of the password", func(t *testing.T) {
		a, lost, unused := start(t, forgive)
		now := a.changed(pair{access: a.refreshed(unused).access}, "secret", "correct horse")
		a.clock.Advance(time.Hour)
		for _, old := range []string{lost, unused} {
			b := a.again()
			b.refresh(old).isError(t, 400, "invalid_grant")
		}
		a.refresh(now.refresh).isError(t, 400, "invalid_grant") // reuse has ended the session
	})
}

// TestThiefAndForgiveness: of two holders of copies one is left with a replaced token, and
// the next refresh of either side ends the session.
func TestThiefAndForgiveness(t *testing.T) {
	for _, thief := range []struct {
		name string
		// run returns the tokens that the owner and the thief have at the end.
		run func(a *sessionApp, stolen string) (owner, thief string)
	}{
		{"the thief is first", func(a *sessionApp, stolen string) (string, string) {
			theirs := a.refreshed(stolen).refresh
			a.clock.Advance(time.Hour)
			return a.refreshed(stolen).refresh, theirs // forgiven: the owner's copy was the last replaced token
		}},
		{"the thief comes late", func(a *sessionApp, stolen string) (string, string) {
			mine := a.refreshed(stolen).refresh
			a.clock.Advance(time.Hour)
			return mine, a.refreshed(stolen).refresh
		}},
	} {
		t.Run(thief.name, func(t *testing.T) {
			a := newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshForgive = 24 * time.Hour })
			owner, theirs := thief.run(a, a.login().refresh)
			a.clock.Advance(time.Hour)
			first, second := a.refresh(owner), a.refresh(theirs)
			require.False(t, first.StatusCode == 200 && second.StatusCode == 200, "one of them is refused")
			require.Zero(t, a.live("u1"))
		})
	}
}

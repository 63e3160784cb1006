package oauth2pw_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestThief: a thief has a copy of a refresh token, and uses it and its successors at other
// times than the owner, who refreshes every ten minutes. Each thief is detected in the given
// period of the owner. A thief inside every grace period is not, as the comment of
// Config.RefreshGrace says.
func TestThief(t *testing.T) {
	const period, rounds = 10 * time.Minute, 50
	random := rand.New(rand.NewPCG(1, 2))
	atRandom := func() time.Duration {
		return 31*time.Second + time.Duration(random.Int64N(int64(period-62*time.Second)))
	}
	after := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	for _, test := range []struct {
		name  string
		spent bool                 // the copy is of the token that the owner uses first, not of its successor
		comes func() time.Duration // how long after each refresh of the owner
		grace time.Duration
		found int // the period; 0: never
	}{
		{"after the owner", true, after(time.Minute), 0, 1},
		{"after the owner, at half-period offset", true, after(period / 2), 0, 1},
		{"after the owner, at random times", true, atRandom, 0, 1},
		{"after the owner, at the end of each grace period", true, after(30 * time.Second), 0, 1},
		{"after the owner, at once, without grace", true, after(0), -1, 1},
		{"before the owner", false, after(time.Minute), 0, 2},
		{"before the owner, at half-period offset", false, after(period / 2), 0, 2},
		{"before the owner, at random times", false, atRandom, 0, 2},
		{"before the owner, at the end of each grace period", false, after(period - 30*time.Second), 0, 2},
		{"before the owner, just before, without grace", false, after(period - time.Second), -1, 2},
		{"inside every grace period, after the owner", true, after(29 * time.Second), 0, 0},
		{"inside every grace period, before the owner", false, after(period - 29*time.Second), 0, 0},
		{"inside every grace period, beside the owner", true, after(0), 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newSessionApp(t, func(c *oauth2pw.Config) { c.RefreshGrace = test.grace })
			owner := a.login()
			thief := owner
			over := func() bool {
				list, err := a.sessions.List(t.Context(), "u1", a.clock.Now())
				require.NoError(t, err)
				return len(list) == 0
			}
			found := 0
			for round := 1; round <= rounds && found == 0; round++ {
				if got := a.refresh(owner.refresh); got.StatusCode == 200 {
					owner = pairOf(got)
				}
				if round == 1 && !test.spent {
					thief = owner
				}
				if over() {
					found = round
				}
				wait := test.comes()
				a.clock.Advance(wait)
				if got := a.refresh(thief.refresh); got.StatusCode == 200 {
					thief = pairOf(got)
				}
				if found == 0 && over() {
					found = round
				}
				a.clock.Advance(period - wait)
			}
			t.Logf("%-50s found out in period %d of %d (0: never)", test.name, found, rounds)
			require.Equal(t, test.found, found)
		})
	}
	t.Run("before the owner ever comes", func(t *testing.T) {
		a := newSessionApp(t)
		owner := a.login()
		a.clock.Advance(time.Minute)
		thief := a.refreshed(a.refreshed(owner.refresh).refresh)
		a.clock.Advance(period)
		a.refresh(owner.refresh).isError(t, 400, "invalid_grant") // reuse: both are out
		a.lives(thief, false)
	})
	t.Run("beside the owner, both at once", func(t *testing.T) {
		a := newSessionApp(t)
		owner := a.login()
		thief := a.refreshed(owner.refresh)
		require.Equal(t, thief.refresh, a.refreshed(owner.refresh).refresh, "one chain, no fork")
		a.clock.Advance(period)
		next := a.refreshed(thief.refresh)
		a.clock.Advance(period)
		a.refresh(thief.refresh).isError(t, 400, "invalid_grant") // whoever is second is found out
		a.lives(next, false)
	})
}

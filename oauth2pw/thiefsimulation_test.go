package oauth2pw

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// holder is somebody with a copy of a refresh token: the owner, a second tab, or a thief.
type holder struct {
	generation uint64
	out        bool // the holder was refused
}

// simulated is a session as the refresh_token grant treats it: Session.use decides, and
// refreshSimulated has the effects of refresher.once.
type simulated struct {
	Session
	ended   bool
	forgive time.Duration
}

const simulatedGrace = 30 * time.Second

// refresh sends the token of a holder. lost: the holder does not get the answer.
func (s *simulated) refresh(h *holder, now time.Time, lost bool) {
	if h.out || s.ended {
		h.out = true
		return
	}
	switch use := s.use(h.generation, now, simulatedGrace, s.forgive); use {
	case useNext, useForgive:
		s.Generation++
		s.RefreshedAt = now
		if use == useForgive {
			s.Forgiven = s.Generation
		}
	case useRepeat:
	default:
		s.ended, h.out = true, true
		return
	}
	if !lost {
		h.generation = s.Generation
	}
}

// TestThiefSimulation runs random schedules of an owner and a second holder of a copy, with
// and without forgiveness. No schedule ends with two holders who can both refresh, except
// that of a thief inside every grace period, and two holders are found out after at most two
// further refreshes of each.
//
// Conformance 135.
func TestThiefSimulation(t *testing.T) {
	const schedules, hours = 10_000, 48
	for _, scenario := range []struct {
		name string
		// begin has the first steps, and returns the second holder; nil: there is none.
		begin  func(s *simulated, owner *holder, now *time.Time, later func()) *holder
		inside bool // the second holder follows each refresh of the owner within the grace period
	}{
		{name: "the owner's answer is lost", begin: func(s *simulated, owner *holder, now *time.Time, _ func()) *holder {
			s.refresh(owner, *now, true)
			return nil
		}},
		{name: "the owner loses two answers", begin: func(s *simulated, owner *holder, now *time.Time, later func()) *holder {
			s.refresh(owner, *now, true)
			later()
			s.refresh(owner, *now, true)
			return nil
		}},
		{name: "the thief is first", begin: func(s *simulated, owner *holder, now *time.Time, _ func()) *holder {
			thief := *owner
			s.refresh(&thief, *now, false)
			return &thief
		}},
		{name: "the thief is second", begin: func(s *simulated, owner *holder, now *time.Time, later func()) *holder {
			thief := *owner
			s.refresh(owner, *now, false)
			later()
			s.refresh(&thief, *now, false)
			return &thief
		}},
		{name: "the thief has read the lost answer", begin: func(s *simulated, owner *holder, now *time.Time, _ func()) *holder {
			s.refresh(owner, *now, true)
			return &holder{generation: s.Generation}
		}},
		{name: "two generations late", begin: func(s *simulated, owner *holder, now *time.Time, later func()) *holder {
			thief := *owner
			s.refresh(owner, *now, false)
			later()
			s.refresh(owner, *now, false)
			return &thief
		}},
		{name: "inside every grace period", inside: true, begin: func(_ *simulated, owner *holder, _ *time.Time, _ func()) *holder {
			thief := *owner
			return &thief
		}},
	} {
		for _, forgive := range []time.Duration{0, 24 * time.Hour} {
			random := rand.New(rand.NewPCG(1, 2))
			found, ownerIn, secondIn, after := 0, 0, 0, 0
			for range schedules {
				now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
				later := func() { now = now.Add(time.Minute + time.Duration(random.Int64N(int64(hours*time.Hour)/24))) }
				s := &simulated{Session: Session{Generation: 1, CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now}, forgive: forgive}
				owner := &holder{generation: 1}
				second := scenario.begin(s, owner, &now, later)
				steps := 0
				for steps < 12 && !s.ended && !owner.out {
					steps++
					later()
					switch {
					case scenario.inside:
						s.refresh(owner, now, false)
						now = now.Add(time.Duration(random.Int64N(int64(simulatedGrace))))
						s.refresh(second, now, false)
					case second != nil && random.IntN(2) == 0:
						s.refresh(second, now, false)
					default:
						s.refresh(owner, now, false)
					}
				}
				canRefresh := func(h *holder) bool {
					if h == nil || h.out || s.ended {
						return false
					}
					use := s.use(h.generation, now, simulatedGrace, forgive)
					return use == useNext || use == useRepeat || use == useForgive
				}
				if s.ended {
					found++
					after += steps
				}
				if canRefresh(owner) {
					ownerIn++
				}
				if canRefresh(second) {
					secondIn++
				}
				if !scenario.inside && second != nil && steps == 12 {
					require.False(t, canRefresh(owner) && canRefresh(second) && owner.generation != second.generation, "two holders after 12 refreshes")
				}
			}
			if second := scenario.begin(&simulated{Session: Session{Generation: 1}}, &holder{generation: 1}, new(time.Time), func() {}); second != nil && !scenario.inside {
				require.Greater(t, found, schedules*99/100, "two holders are found out: %s", scenario.name)
			}
			t.Logf("%s, forgiveness %s: found out %.1f%%, after %.1f refreshes; the owner is in %.1f%%, the other %.1f%%",
				scenario.name, forgive, 100*float64(found)/schedules, float64(after)/float64(max(found, 1)), 100*float64(ownerIn)/schedules, 100*float64(secondIn)/schedules)
		}
	}
}

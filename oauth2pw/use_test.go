package oauth2pw

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSessionUse: what a genuine refresh token is good for, at every boundary.
//
// Conformance 54, 55, 136.
func TestSessionUse(t *testing.T) {
	const grace = 30 * time.Second
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	refreshed := Session{Generation: 5, CreatedAt: now, RefreshedAt: now, AuthenticatedAt: now}
	changed := Session{Generation: 5, RefreshedAt: now, AuthenticatedAt: now.Add(time.Second), CreatedAt: now.Add(-time.Hour)}
	since := Session{Generation: 5, RefreshedAt: now.Add(time.Second), AuthenticatedAt: now, CreatedAt: now.Add(-time.Hour)} // a refresh since
	lifted := since                                                                                                          // a login by a clock behind
	lifted.AuthenticatedAt = now.Add(time.Microsecond)
	for _, test := range []struct {
		session    Session
		generation uint64
		age, grace time.Duration
		want       refreshUse
	}{
		{refreshed, 5, 0, grace, useNext},
		{refreshed, 5, -time.Hour, 0, useNext},
		{refreshed, 6, 0, grace, useAhead},
		{changed, 99, 0, grace, useAhead},
		{refreshed, 4, 0, grace, useRepeat},
		{refreshed, 4, grace - 1, grace, useRepeat},
		{refreshed, 4, grace, grace, useReuse},
		{refreshed, 4, grace + 1, grace, useReuse},
		{refreshed, 4, -grace, grace, useRepeat},
		{refreshed, 4, -grace - 1, grace, useEarly},
		{refreshed, 4, 0, 0, useReuse},
		{refreshed, 4, -1, 0, useReuse}, // of parallel requests all but one, whose clock was read before
		{refreshed, 3, 0, grace, useReuse},
		{refreshed, 3, -time.Hour, grace, useReuse},
		{refreshed, 1, 0, grace, useReuse},
		{changed, 4, 0, grace, useSuperseded}, // which nobody was given
		{changed, 3, 0, grace, useSuperseded},
		{changed, 3, grace - 1, grace, useSuperseded},
		{changed, 3, grace, grace, useReuse},
		{changed, 3, -grace, grace, useSuperseded},
		{changed, 3, -grace - 1, grace, useEarly},
		{changed, 3, 0, 0, useReuse},
		{changed, 2, 0, grace, useSuperseded},
		{changed, 1, grace, grace, useReuse},
		{since, 4, 0, grace, useRepeat},
		{since, 3, 0, grace, useSuperseded},
		{since, 1, grace - 1, grace, useSuperseded},
		{since, 3, grace, grace, useReuse},
		{since, 3, -grace - 1, grace, useReuse},
		{since, 3, 0, 0, useReuse},
		{lifted, 3, 0, grace, useReuse},
		{refreshed, 4, -time.Second, 500 * time.Millisecond, useRepeat}, // a refresh in the second after a change
		{changed, 3, -time.Second, 500 * time.Millisecond, useSuperseded},
	} {
		got := test.session.use(test.generation, now.Add(test.age), test.grace, 0)
		require.Equal(t, test.want, got, "%+v", test)
	}
}

// TestChangeTimes: whole seconds, and what is later than what.
func TestChangeTimes(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
	require.Equal(t, at(5000), wholeSecond(at(5000)))
	require.Equal(t, at(6000), wholeSecond(at(5001)))
	require.Equal(t, time.Time{}, wholeSecond(time.Time{}))
	// The caller's session is of the first whole second after the change.
	for validFrom, want := range map[int64]int64{5500: 6000, 5001: 6000, 6000: 6000} {
		require.Equal(t, at(want), change{validFrom: at(validFrom)}.authenticated())
	}
}

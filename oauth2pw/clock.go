package oauth2pw

import (
	"sync/atomic"
	"time"
)

// clock returns the current time.
type clock func() time.Time

// time returns the current time in the form of sessions: UTC, in whole microseconds.
func (c clock) time() time.Time { return c().UTC().Truncate(time.Microsecond) }

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// maxTime is later than any SessionsValidFrom.
var maxTime = time.Unix(1<<40, 0)

// hourly is due at most once an hour.
type hourly struct{ last atomic.Int64 } // in nanoseconds; 0: never

func (h *hourly) due(now time.Time) bool {
	at, last := now.UnixNano(), h.last.Load()
	return (last == 0 || at-last >= int64(time.Hour) || at < last) && h.last.CompareAndSwap(last, at)
}

package attempts

import "time"

// Time is the time of a [Clock], in nanoseconds.
type Time int64

// Clock turns a clock that may be set back into one that never falls: while the
// other goes back, it stands still; from there both go on together.
type Clock struct {
	now     func() time.Time
	last    time.Time
	elapsed Time
}

// NewClock returns a Clock over now. It begins at zero.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now, last: now()} }

// longestStep bounds the time that passes between two questions. Everything that is
// counted is forgotten by then, and a clock that jumps for ever does not run over.
const longestStep = 60 * 24 * time.Hour

// Now returns the time since the Clock was made.
func (c *Clock) Now() Time {
	t := c.now()
	if step := t.Sub(c.last); step > 0 {
		c.elapsed += Time(min(step, longestStep))
	}
	c.last = t
	return c.elapsed
}

package attempts

import "time"

// Time is the time of a [Clock], in nanoseconds.
type Time int64

// Clock makes a time that never goes back from a clock that can be set back. A step back of
// the other clock adds nothing; each later step forward is added.
type Clock struct {
	now     func() time.Time
	last    time.Time
	elapsed Time
}

// NewClock returns a Clock over now. The first time is about zero.
func NewClock(now func() time.Time) *Clock { return &Clock{now: now, last: now()} }

// longestStep limits the time that one call of Now adds. Every count expires within one
// such step, and one wrong reading of the other clock does not overflow Time.
const longestStep = 60 * 24 * time.Hour

// Now returns the time since NewClock.
func (c *Clock) Now() Time {
	t := c.now()
	if step := t.Sub(c.last); step > 0 {
		c.elapsed += Time(min(step, longestStep))
	}
	c.last = t
	return c.elapsed
}

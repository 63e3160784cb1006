package attempts

import (
	"slices"
	"time"
)

// Counter counts attempts by key in a sliding window. A limited number of keys is counted
// exactly; all other keys are counted in a sketch, which never counts too few. A key that
// is counted exactly is never displaced by another key.
type Counter struct {
	limit int
	rows  table[[]Time] // the oldest first
	over  sketch
}

// NewCounter returns a Counter that lets limit attempts pass in a window. keys is the
// number of keys that are counted exactly. width, a power of two, is the number of cells in
// each row of the sketch.
func NewCounter(limit int, window time.Duration, keys, width int) *Counter {
	return &Counter{
		limit: limit,
		rows:  newTable[[]Time](Time(window), keys),
		over:  sketch{window: Time(window), width: width},
	}
}

// Count is one counted attempt. The zero Count is no attempt.
type Count struct {
	in   *Counter
	key  uint64
	row  *row[[]Time] // nil: counted in the sketch
	when Time         // the time; in the sketch, the number of the generation
}

// Add counts an attempt.
func (c *Counter) Add(key uint64, now Time) Count {
	r := c.rows.touch(key, now)
	if r == nil {
		return Count{in: c, key: key, when: Time(c.over.add(key, now))}
	}
	r.value = append(c.within(r.value, now), now)
	return Count{in: c, key: key, row: r, when: now}
}

// Remove uncounts an attempt, if the attempt is still counted.
func (n Count) Remove(now Time) {
	switch c := n.in; {
	case c == nil:
	case n.row == nil:
		c.over.remove(n.key, uint64(n.when), now)
	case c.rows.find(n.key, now) == n.row: // the row is still there
		if i, found := slices.BinarySearch(n.row.value, n.when); found {
			n.row.value = slices.Delete(n.row.value, i, i+1)
		}
		if len(n.row.value) == 0 {
			c.rows.drop(n.key)
		}
	}
}

// Clear forgets the exact counts of a key. Counts in the sketch stay.
func (c *Counter) Clear(key uint64) { c.rows.drop(key) }

// Len returns the number of counted attempts of a key.
func (c *Counter) Len(key uint64, now Time) int {
	return len(c.exactly(key, now)) + c.over.count(key, now)
}

// Wait returns the time until an attempt for a key may pass. Zero: now.
func (c *Counter) Wait(key uint64, now Time) time.Duration {
	times, more := c.exactly(key, now), c.over.count(key, now)
	first := len(times) + more - c.limit // the index of the first attempt that must expire
	switch {
	case first < 0:
		return 0
	case more >= c.limit:
		return time.Duration(c.over.wait(key, c.limit, now))
	default:
		return time.Duration(times[first] + c.rows.window - now)
	}
}

// WaitExactly is Wait without the sketch: no other key changes the result.
func (c *Counter) WaitExactly(key uint64, now Time) time.Duration {
	times := c.exactly(key, now)
	if first := len(times) - c.limit; first >= 0 {
		return time.Duration(times[first] + c.rows.window - now)
	}
	return 0
}

// exactly returns the times of the attempts of a key that are counted exactly.
func (c *Counter) exactly(key uint64, now Time) []Time {
	r := c.rows.find(key, now)
	if r == nil {
		return nil
	}
	r.value = c.within(r.value, now)
	return r.value
}

// within removes the times outside of the window.
func (c *Counter) within(times []Time, now Time) []Time {
	n := 0
	for n < len(times) && times[n] <= now-c.rows.window {
		n++
	}
	return slices.Delete(times, 0, n)
}

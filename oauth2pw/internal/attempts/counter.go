package attempts

import (
	"slices"
	"time"
)

// Counter counts attempts by key in a sliding window: exactly for as many keys at a
// time as it has room for, and for the others in a sketch, which never counts too few.
// A key that is counted exactly makes room for no other.
type Counter struct {
	limit int
	rows  table[[]Time] // the oldest first
	over  sketch
}

// NewCounter returns a Counter that lets limit attempts pass in a window. keys is how
// many keys are counted exactly, width, a power of two, the size of the sketch.
func NewCounter(limit int, window time.Duration, keys, width int) *Counter {
	return &Counter{
		limit: limit,
		rows:  newTable[[]Time](Time(window), keys),
		over:  sketch{window: Time(window), width: width},
	}
}

// Count is one attempt where it was counted. The zero Count is none.
type Count struct {
	in   *Counter
	key  uint64
	row  *row[[]Time] // nil: in the sketch
	when Time         // or, in the sketch, the number of the generation
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

// Remove takes an attempt back, if it still counts.
func (n Count) Remove(now Time) {
	switch c := n.in; {
	case c == nil:
	case n.row == nil:
		c.over.remove(n.key, uint64(n.when), now)
	case c.rows.find(n.key, now) == n.row: // neither forgotten nor cleared
		if i, found := slices.BinarySearch(n.row.value, n.when); found {
			n.row.value = slices.Delete(n.row.value, i, i+1)
		}
		if len(n.row.value) == 0 {
			c.rows.drop(n.key)
		}
	}
}

// Clear forgets what was counted exactly for a key.
func (c *Counter) Clear(key uint64) { c.rows.drop(key) }

// Len is how many attempts count for a key.
func (c *Counter) Len(key uint64, now Time) int {
	return len(c.exactly(key, now)) + c.over.count(key, now)
}

// Wait is how long it takes until an attempt for a key passes; zero: it does now.
func (c *Counter) Wait(key uint64, now Time) time.Duration {
	times, more := c.exactly(key, now), c.over.count(key, now)
	first := len(times) + more - c.limit // the first that must expire
	switch {
	case first < 0:
		return 0
	case more >= c.limit:
		return time.Duration(c.over.wait(key, c.limit, now))
	default:
		return time.Duration(times[first] + c.rows.window - now)
	}
}

// WaitExactly is Wait by what was counted exactly: no other key has a part in it.
func (c *Counter) WaitExactly(key uint64, now Time) time.Duration {
	times := c.exactly(key, now)
	if first := len(times) - c.limit; first >= 0 {
		return time.Duration(times[first] + c.rows.window - now)
	}
	return 0
}

// exactly returns the attempts that are counted exactly for a key.
func (c *Counter) exactly(key uint64, now Time) []Time {
	r := c.rows.find(key, now)
	if r == nil {
		return nil
	}
	r.value = c.within(r.value, now)
	return r.value
}

// within removes the times that are older than the window.
func (c *Counter) within(times []Time, now Time) []Time {
	n := 0
	for n < len(times) && times[n] <= now-c.rows.window {
		n++
	}
	return slices.Delete(times, 0, n)
}

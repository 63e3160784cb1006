package attempts

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const minute = Time(time.Minute)

// mix spreads small numbers over all bits, as the caller's hash does.
func mix(i uint64) uint64 { i *= 0x9e3779b97f4a7c15; return i ^ i>>29 }

func TestClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := NewClock(func() time.Time { return now })
	require.Zero(t, c.Now())
	for _, step := range []struct{ by, then time.Duration }{
		{time.Second, time.Second},
		{-time.Hour, time.Second}, // it stands still
		{time.Second, 2 * time.Second},
		{0, 2 * time.Second},
		{time.Hour, time.Hour + 2*time.Second},
	} {
		now = now.Add(step.by)
		require.Equal(t, Time(step.then), c.Now())
	}
	for range 1000 { // centuries do not run over
		now = now.Add(290 * 365 * 24 * time.Hour)
		before := c.elapsed
		require.Equal(t, before+Time(longestStep), c.Now())
		now = now.Add(-290 * 365 * 24 * time.Hour)
		c.Now()
	}
	require.Positive(t, c.Now())
}

// TestCounter: it counts exactly, for as many keys as it has room for, and the others in a
// sketch, where nothing is forgotten; a key at its limit stays, and one that is over makes
// room.
func TestCounter(t *testing.T) {
	c := NewCounter(3, time.Minute, 100, 1<<12)
	now := Time(0)
	for key := range uint64(50) {
		for range 3 {
			require.Zero(t, c.Wait(mix(key), now))
			c.Add(mix(key), now)
		}
	}
	for i := range uint64(1000) { // more than there is room for, each once
		c.Add(mix(1000+i), now)
	}
	require.Len(t, c.rows.rows, 100)
	for key := range uint64(50) {
		require.Equal(t, time.Minute, c.Wait(mix(key), now), "still at its limit")
		require.Equal(t, time.Minute, c.WaitExactly(mix(key), now))
	}
	for i := range uint64(1000) { // twice more is what each may
		c.Add(mix(1000+i), now)
		c.Add(mix(1000+i), now)
		require.Positive(t, c.Wait(mix(1000+i), now), "nothing is forgotten")
		require.LessOrEqual(t, c.Wait(mix(1000+i), now), 2*time.Minute)
	}
	blocked := 0
	for i := range uint64(1000) {
		if c.Wait(mix(1_000_000+i), now) > 0 {
			blocked++
		}
		require.Zero(t, c.WaitExactly(mix(1_000_000+i), now), "no other key has a part in it")
	}
	require.Less(t, blocked, 150, "of those who did nothing")
	require.Len(t, c.rows.rows, 100)
	now += 2 * minute
	for i := range uint64(2000) {
		require.Zero(t, c.Wait(mix(i), now))
	}
	require.Empty(t, c.rows.rows)
	for i := range uint64(10) {
		c.Add(mix(i), now)
	}
	require.Len(t, c.rows.rows, 10, "and there is room again")
}

// TestCounterRemove: what is removed is removed once, wherever it was counted; nothing
// right is left counted, and nothing wrong is removed with it.
func TestCounterRemove(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 30 {
		c := NewCounter(1_000_000, time.Minute, 20, 1<<16)
		type counted struct {
			n   Count
			key uint64
			at  Time
		}
		var open []counted
		wrong := map[uint64][]Time{} // what must count
		now := Time(0)
		for range 3000 {
			now += Time(random.Int64N(int64(minute) / 50))
			key := mix(random.Uint64N(40))
			switch random.IntN(4) {
			case 0:
				c.Add(key, now)
				wrong[key] = append(wrong[key], now)
			case 1, 2:
				open = append(open, counted{c.Add(key, now), key, now})
			}
			for len(open) > 10 || len(open) > 0 && random.IntN(3) == 0 {
				k := random.IntN(len(open))
				open[k].n.Remove(now)
				open = append(open[:k], open[k+1:]...)
			}
			want := 0
			for _, at := range wrong[key] {
				if now-at < minute {
					want++
				}
			}
			for _, o := range open {
				if o.key == key && now-o.at < minute {
					want++
				}
			}
			require.GreaterOrEqual(t, c.Len(key, now), want, "round %d: never too few", round)
		}
		for _, o := range open {
			o.n.Remove(now)
		}
		now += 2 * minute
		for key := range uint64(40) {
			require.Zero(t, c.Len(mix(key), now))
		}
	}

	c := NewCounter(10, time.Minute, 2, 1<<10)
	var all []Count
	for range 5 {
		for key := range uint64(5) { // two have room
			all = append(all, c.Add(mix(key), 0))
		}
	}
	c.Clear(mix(0))
	after := c.Add(mix(0), 1)
	for _, n := range all {
		n.Remove(1)
	}
	require.Equal(t, 1, c.Len(mix(0), 1), "what was cleared is not removed once more")
	for key := range uint64(5) {
		if key > 0 {
			require.Zero(t, c.Len(mix(key), 1), key)
		}
	}
	after.Remove(1)
	require.Empty(t, c.rows.rows)
	Count{}.Remove(1) // the zero Count is none
}

// TestSketch: it counts at least what was counted within a window and was not removed, and
// nothing that is older than two windows.
func TestSketch(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	s := &sketch{window: 1000, width: 1 << 10}
	type event struct {
		key  uint64
		at   Time
		turn uint64
	}
	var events []event
	now := Time(1)
	for range 20_000 {
		now += Time(random.Int64N(5))
		if random.IntN(2000) == 0 {
			now += Time(random.Int64N(5000))
		}
		key := mix(random.Uint64N(200))
		n := 0
		for i := len(events) - 1; i >= 0 && now-events[i].at < 1000; i-- {
			if events[i].key == key {
				n++
			}
		}
		got := s.count(key, now)
		require.GreaterOrEqual(t, got, n)
		if got >= 3 {
			wait := s.wait(key, 3, now)
			require.True(t, 0 < wait && wait <= 2000)
		}
		if len(events) > 0 && random.IntN(4) == 0 {
			k := len(events) - 1 - random.IntN(min(len(events), 500))
			s.remove(events[k].key, events[k].turn, now)
			events = append(events[:k], events[k+1:]...)
		}
		events = append(events, event{key, now, s.add(key, now)})
	}
	now += 2000
	for i := range uint64(200) {
		require.Zero(t, s.count(mix(i), now))
	}
	for round := range uint64(50) { // what one round has counted is gone two windows later
		for key := range uint64(500) {
			require.Zero(t, s.count(mix(key), now), round)
		}
		var turns []uint64
		for key := range uint64(500) {
			turns = append(turns, s.add(mix(key), now))
		}
		now += 999
		require.Positive(t, s.count(mix(1), now))
		now++
		require.Positive(t, s.count(mix(1), now), "the generation before still counts")
		for key := range uint64(250) { // of the generation before
			s.remove(mix(key), turns[key], now)
		}
		require.Positive(t, s.count(mix(400), now))
		now += 1000
		s.remove(mix(400), turns[400], now) // forgotten already: it takes nothing from anybody
	}
	turn := uint64(0)
	for range 1 << 17 { // it does not run over
		turn = s.add(7, now)
	}
	require.Greater(t, s.count(7, now), 1<<30, "nor does it count too few")
	s.remove(7, turn, now)
	require.Greater(t, s.count(7, now), 1<<30, "a full cell has lost count")
}

// TestGuesses: the same secret is one guess in a window, up to so many repeats.
func TestGuesses(t *testing.T) {
	const key = 1
	g := NewGuesses(3, time.Minute, 2)
	c := NewCounter(100, 4*time.Minute, 10, 1<<10)
	try := func(tag uint32, now Time) *Guess {
		if again := g.Repeat(key, tag, now); again != nil {
			return again
		}
		t := g.Try(key, tag, now)
		t.Counts[0] = c.Add(key, now)
		return t
	}
	first := try(7, 0)
	for range 3 {
		require.Same(t, first, try(7, 1))
	}
	require.NotSame(t, first, try(7, 2), "the fourth repeat is a guess")
	require.Equal(t, 2, c.Len(key, 2))
	require.Nil(t, g.Repeat(2, 7, 2), "of another key")

	// While any use is left the guess counts; with the last one it goes.
	g.Clear(key)
	c.Clear(key)
	one := try(8, 10)
	two, three := try(8, 10), try(8, 10)
	g.TakeBack(key, one, 10)
	g.TakeBack(key, two, 10)
	require.Equal(t, 1, c.Len(key, 10), "the third was looked at")
	require.Same(t, one, try(8, 11), "and both repeats are free again")
	g.TakeBack(key, three, 11)
	g.TakeBack(key, one, 11)
	require.Zero(t, c.Len(key, 11))
	require.NotSame(t, one, try(8, 12))

	// A window begins with the first use.
	g.Clear(key)
	first = try(9, 100)
	require.Same(t, first, try(9, 100+minute-1))
	require.NotSame(t, first, try(9, 100+minute))

	require.False(t, g.Proven(key, 9, 200))
	g.Prove(key, 9, 200)
	require.True(t, g.Proven(key, 9, 200+minute-1))
	require.False(t, g.Proven(key, 9, 200+minute))
	g.Prove(key, 9, 200+minute)
	require.False(t, g.Proven(key, 10, 200+minute))
	require.False(t, g.Proven(2, 9, 200+minute))
	g.Prove(key, 10, 201+minute)
	require.False(t, g.Proven(key, 9, 201+minute), "the last one alone")

	// There is room for two keys.
	now := 1000 * minute
	require.NotNil(t, g.Try(1, 1, now))
	require.NotNil(t, g.Try(2, 1, now))
	require.Nil(t, g.Try(3, 1, now))
	g.Prove(3, 1, now)
	require.False(t, g.Proven(3, 1, now))
	require.NotNil(t, g.Try(3, 1, now+minute))
}

// TestPlaces: the latest places of the latest keys.
func TestPlaces(t *testing.T) {
	p := NewPlaces(2, time.Minute, 3)
	p.Add(1, 10, 0)
	p.Add(1, 11, 1)
	require.True(t, p.Has(1, 10, 2))
	require.True(t, p.Has(1, 11, 2))
	require.False(t, p.Has(2, 10, 2))
	p.Add(1, 10, 3) // the latest again
	p.Add(1, 12, 4)
	require.True(t, p.Has(1, 10, 5))
	require.False(t, p.Has(1, 11, 5))
	require.True(t, p.Has(1, 10, 3+minute-1))
	require.False(t, p.Has(1, 10, 3+minute))
	require.True(t, p.Has(1, 12, 3+minute))
	require.False(t, p.Has(1, 12, 4+minute))
	p.Add(1, 10, 5)
	p.Add(2, 10, 6)
	p.Add(3, 10, 7)
	p.Add(1, 10, 8)
	p.Add(4, 10, 9) // in place of 2, which is the oldest
	for key, want := range map[uint64]bool{1: true, 2: false, 3: true, 4: true} {
		require.Equal(t, want, p.Has(key, 10, 10), key)
	}
	require.Len(t, p.rows.rows, 3)
}

// TestTable: the list of rows keeps the order of touches, whatever is dropped.
func TestTable(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	table := newTable[int](100, 10)
	touched := map[uint64]Time{}
	now := Time(0)
	for i := range 20_000 {
		now += Time(random.Int64N(20))
		for key, at := range touched {
			if at <= now-100 {
				delete(touched, key)
			}
		}
		key := random.Uint64N(15)
		if random.IntN(5) == 0 {
			table.drop(key)
			delete(touched, key)
		} else {
			r := table.touch(key, now)
			_, there := touched[key]
			require.Equal(t, there || len(touched) < 10, r != nil, i)
			if r != nil {
				touched[key] = now
			}
		}
		table.expire(now)
		require.Len(t, table.rows, len(touched))
		n, last := 0, Time(-1)
		for r := table.oldest; r != nil; r = r.newer {
			require.GreaterOrEqual(t, r.touched, last)
			require.Equal(t, touched[r.key], r.touched)
			require.Same(t, r, table.rows[r.key], fmt.Sprint(i))
			n, last = n+1, r.touched
		}
		require.Equal(t, len(touched), n)
	}
}

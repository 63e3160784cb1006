package attempts

import (
	"slices"
	"time"
)

// Guesses remembers the tried secrets of a key within a window, by a tag of each. A known
// secret is a repeat and no new guess.
type Guesses struct {
	repeats int // the highest number of repeats of a key in a window
	rows    table[guesses]
}

type guesses struct {
	tried    []*Guess
	repeated []Time
	right    *proof // the last correct secret; nil: no correct secret
}

type proof struct {
	tag uint32
	at  Time
}

// NewGuesses returns a memory of at most keys keys. repeats is the highest number of
// repeats of a key in a window, over all its secrets.
func NewGuesses(repeats int, window time.Duration, keys int) *Guesses {
	return &Guesses{repeats: repeats, rows: newTable[guesses](Time(window), keys)}
}

// Guess is one secret of one key. Counts are the counts of its first use, and stay until
// every use is taken back.
type Guess struct {
	Counts [2]Count
	tag    uint32
	at     Time
	uses   int
}

// Proven reports whether the tag is that of the last correct secret, within the window.
func (g *Guesses) Proven(key uint64, tag uint32, now Time) bool {
	r := g.rows.find(key, now)
	return r != nil && r.value.right != nil && r.value.right.tag == tag && r.value.right.at > now-g.rows.window
}

// Repeat notes a repeat of a secret and returns its guess. Nil: the secret is new, or the
// key has no repeats left.
func (g *Guesses) Repeat(key uint64, tag uint32, now Time) *Guess {
	r := g.rows.find(key, now)
	if r == nil {
		return nil
	}
	v := &r.value
	v.forget(now - g.rows.window)
	i := slices.IndexFunc(v.tried, func(t *Guess) bool { return t.tag == tag })
	if i < 0 || len(v.repeated) >= g.repeats {
		return nil
	}
	v.repeated = append(v.repeated, now)
	v.tried[i].uses++
	g.rows.touch(key, now)
	return v.tried[i]
}

// Try notes the first use of a secret. Nil: no room.
func (g *Guesses) Try(key uint64, tag uint32, now Time) *Guess {
	r := g.rows.touch(key, now)
	if r == nil {
		return nil
	}
	r.value.forget(now - g.rows.window)
	t := &Guess{tag: tag, at: now, uses: 1}
	r.value.tried = append(r.value.tried, t)
	return t
}

// TakeBack takes one use of a guess back. With the last use the guess is forgotten, and its
// counts are removed.
func (g *Guesses) TakeBack(key uint64, t *Guess, now Time) {
	r := g.rows.find(key, now)
	if t.uses--; t.uses > 0 {
		if r != nil && len(r.value.repeated) > 0 { // any of the repeats: all are equal
			r.value.repeated = slices.Delete(r.value.repeated, len(r.value.repeated)-1, len(r.value.repeated))
		}
		return
	}
	for _, n := range t.Counts {
		n.Remove(now)
	}
	if r != nil {
		r.value.tried = slices.DeleteFunc(r.value.tried, func(other *Guess) bool { return other == t })
	}
}

// Prove notes a correct secret, and forgets the tried secrets of the key.
func (g *Guesses) Prove(key uint64, tag uint32, now Time) {
	if r := g.rows.touch(key, now); r != nil {
		r.value = guesses{right: &proof{tag, now}}
	}
}

// Clear forgets the tried secrets and the correct secret of a key.
func (g *Guesses) Clear(key uint64) { g.rows.drop(key) }

// forget removes the tries up to a time.
func (v *guesses) forget(until Time) {
	v.tried = slices.DeleteFunc(v.tried, func(t *Guess) bool { return t.at <= until })
	v.repeated = slices.DeleteFunc(v.repeated, func(at Time) bool { return at <= until })
}

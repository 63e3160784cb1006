package attempts

import (
	"slices"
	"time"
)

// Places remembers where a key has succeeded within a time: the latest few places of
// each key, for as many keys as there is room for, the latest ones.
type Places struct {
	most int
	rows table[[]place]
}

type place struct {
	key uint64
	at  Time
}

// NewPlaces returns a memory for so many keys, of so many places each.
func NewPlaces(places int, window time.Duration, keys int) *Places {
	return &Places{most: places, rows: newTable[[]place](Time(window), keys)}
}

// Has reports whether a key has succeeded at a place.
func (p *Places) Has(key, at uint64, now Time) bool {
	r := p.rows.find(key, now)
	return r != nil && slices.ContainsFunc(r.value, func(l place) bool {
		return l.key == at && l.at > now-p.rows.window
	})
}

// Add notes that a key has succeeded at a place.
func (p *Places) Add(key, at uint64, now Time) {
	r := p.rows.touch(key, now)
	if r == nil {
		p.rows.drop(p.rows.oldest.key)
		r = p.rows.touch(key, now)
	}
	r.value = slices.DeleteFunc(r.value, func(l place) bool { return l.key == at })
	if len(r.value) == p.most {
		r.value = slices.Delete(r.value, 0, 1) // the oldest stands first
	}
	r.value = append(r.value, place{at, now})
}

package attempts

import (
	"slices"
	"time"
)

// Places remembers the places where a key has succeeded within a window: the latest places
// of each key, for the latest keys. Both numbers are limited.
type Places struct {
	most int
	rows table[[]place]
}

type place struct {
	key uint64
	at  Time
}

// NewPlaces returns a memory of at most keys keys, with at most places places each.
func NewPlaces(places int, window time.Duration, keys int) *Places {
	return &Places{most: places, rows: newTable[[]place](Time(window), keys)}
}

// Has reports whether a key has succeeded at a place within the window.
func (p *Places) Has(key, at uint64, now Time) bool {
	r := p.rows.find(key, now)
	return r != nil && slices.ContainsFunc(r.value, func(l place) bool {
		return l.key == at && l.at > now-p.rows.window
	})
}

// Add notes the success of a key at a place. Without room, the key whose last success is
// oldest is forgotten.
func (p *Places) Add(key, at uint64, now Time) {
	r := p.rows.touch(key, now)
	if r == nil {
		p.rows.drop(p.rows.oldest.key)
		r = p.rows.touch(key, now)
	}
	r.value = slices.DeleteFunc(r.value, func(l place) bool { return l.key == at })
	if len(r.value) == p.most {
		r.value = slices.Delete(r.value, 0, 1) // the oldest is first
	}
	r.value = append(r.value, place{at, now})
}

package attempts

import "math"

// sketch counts for any number of keys in fixed memory, and never counts too few. A
// generation is one window long; the sketch has the current and the previous generation.
// Each generation has two rows of cells, and the count of a key is the smaller one of its
// two cells. The memory is allocated at the first add.
type sketch struct {
	window Time
	width  int // a power of two
	began  Time
	turn   uint64         // the number of the current generation
	cells  [2][2][]uint16 // of the current and of the previous generation
}

// add counts an attempt, and returns its generation.
func (s *sketch) add(key uint64, now Time) (turn uint64) {
	if s.cells[0][0] == nil {
		s.began = now
		for g := range s.cells {
			for r := range s.cells[g] {
				s.cells[g][r] = make([]uint16, s.width)
			}
		}
	}
	s.advance(now)
	for _, cell := range s.at(0, key) {
		if *cell < math.MaxUint16 {
			*cell++
		}
	}
	return s.turn
}

// remove uncounts an attempt of a generation.
func (s *sketch) remove(key, turn uint64, now Time) {
	s.advance(now)
	if s.turn-turn > 1 {
		return // already forgotten
	}
	for _, cell := range s.at(int(s.turn-turn), key) {
		if *cell < math.MaxUint16 { // the number of a full cell is unknown
			*cell--
		}
	}
}

// count returns at least the number of attempts within one window, and at most the number
// within two windows, of this key and of the keys that share its cells.
func (s *sketch) count(key uint64, now Time) int {
	if s.cells[0][0] == nil {
		return 0
	}
	s.advance(now)
	return s.generation(0, key) + s.generation(1, key)
}

// wait returns the longest time for which the count can stay at a limit.
func (s *sketch) wait(key uint64, limit int, now Time) Time {
	next := s.began + s.window - now
	if s.generation(0, key) >= limit {
		next += s.window
	}
	return next
}

func (s *sketch) generation(g int, key uint64) int {
	cells := s.at(g, key)
	n := int(min(*cells[0], *cells[1]))
	if n == math.MaxUint16 { // full: the number is unknown
		return math.MaxInt32
	}
	return n
}

func (s *sketch) at(g int, key uint64) [2]*uint16 {
	mask := uint64(s.width - 1)
	return [2]*uint16{&s.cells[g][0][key&mask], &s.cells[g][1][key>>32&mask]}
}

// advance begins each generation that is due.
func (s *sketch) advance(now Time) {
	due := (now - s.began) / s.window
	for range min(due, 2) {
		s.cells[0], s.cells[1] = s.cells[1], s.cells[0]
		clear(s.cells[0][0])
		clear(s.cells[0][1])
	}
	s.began += due * s.window
	s.turn += uint64(due)
}

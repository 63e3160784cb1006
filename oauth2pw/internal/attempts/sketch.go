package attempts

import "math"

// sketch counts for any number of keys in fixed memory, and never too few: in two
// generations of a window each, in two rows of cells, of which the lesser counts. It
// takes its memory when it is first needed.
type sketch struct {
	window Time
	width  int // a power of two
	began  Time
	turn   uint64         // the number of the present generation
	cells  [2][2][]uint16 // of the present generation, and of the one before
}

// add counts, and returns the generation in which it did.
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

// remove takes one count of a generation back.
func (s *sketch) remove(key, turn uint64, now Time) {
	s.advance(now)
	if s.turn-turn > 1 {
		return // forgotten already
	}
	for _, cell := range s.at(int(s.turn-turn), key) {
		if *cell < math.MaxUint16 { // a full one has lost count
			*cell--
		}
	}
}

// count is at least what was counted within a window, and at most what was counted
// within two, for this key and for those that share its cells.
func (s *sketch) count(key uint64, now Time) int {
	if s.cells[0][0] == nil {
		return 0
	}
	s.advance(now)
	return s.generation(0, key) + s.generation(1, key)
}

// wait is how long a count stays at a limit at most.
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
	if n == math.MaxUint16 { // or more: it has lost count
		return math.MaxInt32
	}
	return n
}

func (s *sketch) at(g int, key uint64) [2]*uint16 {
	mask := uint64(s.width - 1)
	return [2]*uint16{&s.cells[g][0][key&mask], &s.cells[g][1][key>>32&mask]}
}

// advance begins as many generations as are due.
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

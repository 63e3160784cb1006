package attempts

// table has one row for each key that was touched within a window, and at most max rows.
type table[V any] struct {
	window         Time
	max            int
	rows           map[uint64]*row[V]
	oldest, newest *row[V] // in the order of their touches
}

type row[V any] struct {
	key          uint64
	touched      Time
	older, newer *row[V]
	value        V
}

func newTable[V any](window Time, most int) table[V] {
	return table[V]{window: window, max: most, rows: make(map[uint64]*row[V])}
}

// find returns the row of a key, or nil.
func (t *table[V]) find(key uint64, now Time) *row[V] {
	t.expire(now)
	return t.rows[key]
}

// touch makes the row of a key the newest and returns it. A missing row is made; nil: no
// room.
func (t *table[V]) touch(key uint64, now Time) *row[V] {
	r := t.find(key, now)
	switch {
	case r != nil:
		t.unlink(r)
	case len(t.rows) >= t.max:
		return nil
	default:
		r = &row[V]{key: key}
		t.rows[key] = r
	}
	r.touched, r.older, r.newer = now, t.newest, nil
	if t.newest != nil {
		t.newest.newer = r
	} else {
		t.oldest = r
	}
	t.newest = r
	return r
}

// drop removes the row of a key.
func (t *table[V]) drop(key uint64) {
	if r := t.rows[key]; r != nil {
		t.unlink(r)
		delete(t.rows, key)
	}
}

func (t *table[V]) expire(now Time) {
	for t.oldest != nil && t.oldest.touched <= now-t.window {
		t.drop(t.oldest.key)
	}
}

func (t *table[V]) unlink(r *row[V]) {
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		t.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		t.newest = r.older
	}
}

package oauth2pw

import (
	"sync"
	"time"
)

// liveMemory remembers for a bounded time which sessions live: that one does, and
// never that it does not. Nil remembers nothing.
type liveMemory struct {
	keep time.Duration

	mu       sync.Mutex
	epoch    uint64 // moves whenever a session ends here
	sessions map[string]knownSession
}

type knownSession struct {
	userID, clientID string
	authenticated    time.Time
	from, until      time.Time // when it was remembered, and how long; before, a clock was set back
}

// maxKnown is the number of sessions that are remembered at most.
const maxKnown = 1 << 16

func newLiveMemory(keep time.Duration) *liveMemory {
	if keep <= 0 {
		return nil
	}
	return &liveMemory{keep: keep, sessions: make(map[string]knownSession)}
}

// recall returns what is known of a session, and the epoch to remember it in.
func (m *liveMemory) recall(id string, now time.Time) (known knownSession, epoch uint64, found bool) {
	if m == nil {
		return knownSession{}, 0, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, found = m.sessions[id]
	return known, m.epoch, found && !now.Before(known.from) && now.Before(known.until)
}

// remember notes that a session lives, if none has ended here since epoch: what
// was read before then may be what has ended.
func (m *liveMemory) remember(epoch uint64, s *Session, now time.Time) {
	if m == nil {
		return
	}
	until := now.Add(m.keep)
	if end := s.end(); end.Before(until) {
		until = end
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		return
	}
	if len(m.sessions) >= maxKnown {
		m.makeRoom(now)
	}
	m.sessions[s.ID] = knownSession{s.UserID, s.ClientID, s.AuthenticatedAt, now, until}
}

// makeRoom forgets what is out of date among some of the sessions, and one in any
// case.
func (m *liveMemory) makeRoom(now time.Time) {
	looked := 0
	for id, known := range m.sessions {
		if looked == 0 || !now.Before(known.until) {
			delete(m.sessions, id)
		}
		if looked++; looked == 64 {
			return
		}
	}
}

// forget is called after sessions have ended, or have changed otherwise; all of
// them, where it is not known which.
func (m *liveMemory) forget(ids []string, all bool) {
	if m == nil || len(ids) == 0 && !all {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	if all {
		clear(m.sessions)
	}
	for _, id := range ids {
		delete(m.sessions, id)
	}
}

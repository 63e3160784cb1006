package oauth2pw

import (
	"sync"
	"time"
)

// liveMemory remembers live sessions for a limited time. Only live sessions are remembered.
// A nil liveMemory remembers nothing.
type liveMemory struct {
	keep time.Duration

	mu       sync.Mutex
	epoch    uint64 // grows when a session ends or changes in this process
	sessions map[string]knownSession
}

type knownSession struct {
	userID, clientID string
	authenticated    time.Time
	from, until      time.Time // the time of the read, and its limit; a time before from shows that a clock was set back
}

// maxKnown is the highest number of remembered sessions.
const maxKnown = 1 << 16

func newLiveMemory(keep time.Duration) *liveMemory {
	if keep <= 0 {
		return nil
	}
	return &liveMemory{keep: keep, sessions: make(map[string]knownSession)}
}

// recall returns a remembered session, and the epoch for a call of remember.
func (m *liveMemory) recall(id string, now time.Time) (known knownSession, epoch uint64, found bool) {
	if m == nil {
		return knownSession{}, 0, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, found = m.sessions[id]
	return known, m.epoch, found && !now.Before(known.from) && now.Before(known.until)
}

// remember notes a live session, unless a session has ended in this process since epoch:
// the session may have been read before its end.
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

// makeRoom looks at 64 sessions, and deletes the first and all outdated ones.
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

// forget is called after sessions have ended or changed. all is set if the ids are not
// known.
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

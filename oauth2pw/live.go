package oauth2pw

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// own reports whether a token is of our own issuer: its subject is one of our
// users, and its sid one of our sessions.
func (c *config) own(p Principal) bool {
	return c.onlyOwn || c.ownIssuer != "" && p.Issuer == c.ownIssuer
}

// Verify checks a bearer token, so that an *Auth is a [TokenVerifier]: the token
// itself; its session, unless Config.StatelessTokens is set; with Config.LoadUser, its user.
func (a *Auth) Verify(ctx context.Context, token string) (Principal, error) {
	c := a.c
	p, err := c.Verifier.Verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	p.User = nil
	if !c.own(p) {
		return p, nil
	}
	if c.Sessions != nil && !c.StatelessTokens && p.SessionID != "" {
		if err := c.liveSession(ctx, p); err != nil {
			return Principal{}, err
		}
	}
	if !c.LoadUser {
		return p, nil
	}
	u, reason, err := c.standing(ctx, p.Subject, p.AuthTime)
	if err != nil {
		return Principal{}, err
	}
	if reason != "" {
		return Principal{}, deadToken(reason)
	}
	p.User = u
	return p, nil
}

func deadToken(reason string) error {
	return fmt.Errorf("oauth2pw: %s: %w", reason, ErrInvalidToken)
}

// sessionOf reads the session of an own token, which must live, and the token must be
// of a login, or of a change of the password, that still holds in it.
func (c *config) sessionOf(ctx context.Context, p Principal) (*Session, error) {
	s, err := c.getSession(ctx, p.SessionID)
	switch {
	case err != nil:
		return nil, err
	case s == nil || s.UserID != p.Subject || c.owner(s.ClientID) != c.owner(p.ClientID):
		return nil, deadToken("session_unknown")
	case s.over(c.time()) != "":
		return nil, deadToken("session_over")
	case superseded(p, s.AuthenticatedAt):
		return nil, deadToken("superseded")
	}
	return s, nil
}

// superseded reports whether a token is from before the user last proved who he is in
// its session. A token says whole seconds.
func superseded(p Principal, authenticated time.Time) bool {
	return p.AuthTime.Before(authenticated.Truncate(time.Second))
}

// liveSession refuses a token whose session does not live.
func (c *config) liveSession(ctx context.Context, p Principal) error {
	known, epoch, found := c.live.recall(p.SessionID, c.time())
	if found && known.userID == p.Subject && c.owner(known.clientID) == c.owner(p.ClientID) && !superseded(p, known.authenticated) {
		return nil
	}
	s, err := c.sessionOf(ctx, p)
	if err != nil {
		return err
	}
	c.live.remember(epoch, s, c.time())
	return nil
}

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

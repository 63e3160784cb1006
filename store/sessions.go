package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.SessionStore = (*Sessions)(nil)

// Sessions are sessions in memory: they end with the process. The zero value is empty and ready.
//
// Memory is bounded: a new session removes some of those that ended or expired a day ago, and
// beside MaxSessions others it is an error.
type Sessions struct {
	// MaxSessions is the highest number of sessions, of about 500 bytes each. Zero: 1,000,000.
	// Set it before the first use.
	MaxSessions int

	mu     sync.RWMutex
	calls  int // of Create
	byID   map[string]*session
	byUser map[string]*session // the newest of each user that was not ended; the others hang on it
}

// session is a row: a smaller oauth2pw.Session, with its times as Unix microseconds, because
// there may be a million rows.
type session struct {
	next, prev *session // the same user's that were not ended, older and newer

	id, userID, clientID, scope        string
	keyID, endReason, userAgent, label string
	address                            netip.Addr
	salt                               [16]byte
	generation, forgiven               uint64
	idle                               time.Duration

	createdAt, authenticatedAt, refreshedAt, idleExpiresAt, expiresAt int64
	endedAt                                                           int64 // 0: not ended
}

func (r *session) session() *oauth2pw.Session {
	s := &oauth2pw.Session{
		ID: r.id, UserID: r.userID, ClientID: r.clientID, Scope: r.scope,
		Salt: r.salt, KeyID: r.keyID, Generation: r.generation, Forgiven: r.forgiven,
		CreatedAt: fromMicro(r.createdAt), AuthenticatedAt: fromMicro(r.authenticatedAt), RefreshedAt: fromMicro(r.refreshedAt),
		IdleExpiresAt: fromMicro(r.idleExpiresAt), ExpiresAt: fromMicro(r.expiresAt),
		EndReason: r.endReason, Address: r.address, UserAgent: r.userAgent, Idle: r.idle, Label: r.label,
	}
	if r.endedAt != 0 {
		s.EndedAt = fromMicro(r.endedAt)
	}
	return s
}

func fromMicro(t int64) time.Time { return time.UnixMicro(t).UTC() }

// deadline is when a session expires, or was ended.
func (r *session) deadline() int64 {
	d := min(r.idleExpiresAt, r.expiresAt)
	if r.endedAt != 0 {
		d = min(d, r.endedAt)
	}
	return d
}

func (r *session) lives(now int64) bool { return r.endedAt == 0 && now < r.deadline() }

// Create implements oauth2pw.SessionStore. The error for an ID that is there already wraps
// oauth2pw.ErrExists.
func (s *Sessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	if err := ended(ctx); err != nil {
		return err
	}
	if n.ID == "" || n.UserID == "" {
		return errors.New("store: a session needs an ID and a UserID")
	}
	r := &session{
		id: n.ID, userID: n.UserID, clientID: n.ClientID, scope: n.Scope,
		keyID: n.KeyID, endReason: n.EndReason, userAgent: n.UserAgent, label: n.Label, address: n.Address,
		salt: n.Salt, generation: n.Generation, forgiven: n.Forgiven, idle: n.Idle,
		createdAt: n.CreatedAt.UnixMicro(), authenticatedAt: n.AuthenticatedAt.UnixMicro(), refreshedAt: n.RefreshedAt.UnixMicro(),
		idleExpiresAt: n.IdleExpiresAt.UnixMicro(), expiresAt: n.ExpiresAt.UnixMicro(),
	}
	if !n.EndedAt.IsZero() {
		r.endedAt = n.EndedAt.UnixMicro()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.byID[r.id]; taken {
		return fmt.Errorf("store: the session %w", oauth2pw.ErrExists)
	}
	if s.byID == nil {
		s.byID, s.byUser = make(map[string]*session), make(map[string]*session)
	}
	if err := s.makeRoom(n.CreatedAt); err != nil {
		return err
	}
	s.byID[r.id] = r
	if r.endedAt != 0 {
		return nil
	}
	if r.next = s.byUser[r.userID]; r.next != nil {
		r.userID = r.next.userID // one string for all of them
		r.next.prev = r
	}
	s.byUser[r.userID] = r
	return nil
}

const (
	defaultMaxSessions = 1_000_000
	keptEnded          = 24 * time.Hour // as Auth.SweepSessions does
	sweepEvery         = 16             // calls of Create
	sweepLook          = 8 * sweepEvery // sessions: those of a random part of the map
)

// makeRoom removes old sessions from a random part of the map, and reports that there is no room.
// With 8 sessions looked at for each new one, few old ones stay. The caller holds the lock.
func (s *Sessions) makeRoom(now time.Time) error {
	limit := cmp.Or(s.MaxSessions, defaultMaxSessions)
	s.calls++
	if s.calls%sweepEvery != 0 && len(s.byID) < limit {
		return nil
	}
	seen := 0
	for _, r := range s.byID {
		if seen++; seen > sweepLook {
			break
		}
		s.sweep(r, now.Add(-keptEnded).UnixMicro())
	}
	if len(s.byID) >= limit {
		return fmt.Errorf("store: there are %d sessions already, which is Sessions.MaxSessions", limit)
	}
	return nil
}

// sweep removes a session that ended or expired before a time. The caller holds the lock.
func (s *Sessions) sweep(r *session, before int64) (swept bool) {
	if r.deadline() >= before {
		return false
	}
	delete(s.byID, r.id)
	if r.endedAt == 0 {
		s.unlink(r)
	}
	return true
}

// Get implements oauth2pw.SessionStore.
func (s *Sessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, found := s.byID[id]
	if !found {
		return nil, errNoSession
	}
	return r.session(), nil
}

var errNoSession = fmt.Errorf("store: session: %w", oauth2pw.ErrNotFound)

// Advance implements oauth2pw.SessionStore.
func (s *Sessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	if err := ended(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, found := s.byID[n.ID]
	if !found || r.generation != from || !r.lives(now.UnixMicro()) {
		return false, nil
	}
	r.generation, r.forgiven = n.Generation, n.Forgiven
	r.authenticatedAt, r.refreshedAt, r.idleExpiresAt = n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro()
	return true, nil
}

// List implements oauth2pw.SessionStore.
func (s *Sessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*oauth2pw.Session
	for r := s.byUser[userID]; r != nil; r = r.next {
		if r.lives(now.UnixMicro()) {
			list = append(list, r.session())
		}
	}
	slices.SortStableFunc(list, func(a, b *oauth2pw.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// End implements oauth2pw.SessionStore.
func (s *Sessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	if err := ended(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	var next *session
	for r := s.byUser[f.UserID]; r != nil; r = next {
		next = r.next
		if (f.ID == "" || r.id == f.ID) && (f.Except == "" || r.id != f.Except) &&
			(f.AuthenticatedBefore.IsZero() || r.authenticatedAt < f.AuthenticatedBefore.UnixMicro()) {
			s.unlink(r)
			r.endedAt, r.endReason = now.UnixMicro(), reason
			ids = append(ids, r.id)
		}
	}
	return ids, nil
}

// Sweep implements oauth2pw.SessionStore. Sweep reads all sessions, and lets other calls in
// between.
func (s *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	const stretch = 1024 // sessions that are looked at before others get their turn
	if err := ended(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	swept, seen := 0, 0
	for _, r := range s.byID {
		if swept >= limit {
			break
		}
		if s.sweep(r, before.UnixMicro()) {
			swept++
		}
		if seen++; seen%stretch == 0 {
			if err := ended(ctx); err != nil {
				return swept, err
			}
			s.mu.Unlock()
			s.mu.Lock()
		}
	}
	return swept, nil
}

func (s *Sessions) unlink(r *session) {
	if r.next != nil {
		r.next.prev = r.prev
	}
	switch {
	case r.prev != nil:
		r.prev.next = r.next
	case r.next != nil:
		s.byUser[r.userID] = r.next
	default:
		delete(s.byUser, r.userID)
	}
	r.next, r.prev = nil, nil
}

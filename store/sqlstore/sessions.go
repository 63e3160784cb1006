package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.SessionStore = (*Sessions)(nil)

// Sessions is an oauth2pw.SessionStore over the table of this package.
type Sessions struct {
	db                          database
	create, get, list           string // statements
	advance, end, endAll, sweep string
}

func newSessions(db database, table string) *Sessions {
	const columns = "id, user_id, client_id, scopes, salt, key_id, generation, forgiven, " +
		"created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, idle, label"
	const lives = "ended_at IS NULL AND expires_at > ? AND idle_expires_at > ?"
	table = quote(table)
	end := "UPDATE " + table + " SET ended_at = ?, end_reason = ? WHERE ended_at IS NULL AND user_id = ?"
	return &Sessions{
		db:     db,
		create: "INSERT INTO " + table + " (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
		get:    "SELECT " + columns + " FROM " + table + " WHERE id = ?",
		list:   "SELECT " + columns + " FROM " + table + " WHERE user_id = ? AND " + lives + " ORDER BY created_at DESC, id",
		advance: "UPDATE " + table + " SET generation = ?, forgiven = ?, authenticated_at = ?, advanced_at = ?, idle_expires_at = ?" +
			" WHERE id = ? AND generation = ? AND " + lives,
		end:    end + " AND id = ? AND id <> ? AND authenticated_at < ? RETURNING id",
		endAll: end + " AND id <> ? AND authenticated_at < ? RETURNING id", // no session has the id ''
		// Each half has an index, and is bounded.
		sweep: "DELETE FROM " + table + " WHERE id IN (" +
			"SELECT id FROM (SELECT id FROM " + table + " WHERE ended_at < ? LIMIT ?)" +
			" UNION SELECT id FROM (SELECT id FROM " + table + " WHERE idle_expires_at < ? LIMIT ?) LIMIT ?)",
	}
}

// Check reports that a Sessions was not made by New; see oauth2pw.Checker.
func (s *Sessions) Check() error {
	if s.get == "" {
		return errZeroStore
	}
	return nil
}

// Create implements oauth2pw.SessionStore. The error for an ID that is there already wraps
// oauth2pw.ErrExists.
func (s *Sessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	if n.ID == "" || n.UserID == "" {
		return errors.New("sqlstore: a session needs an ID and a UserID")
	}
	ended := sql.NullInt64{Int64: n.EndedAt.UnixMicro(), Valid: !n.EndedAt.IsZero()}
	address := ""
	if n.Address.IsValid() {
		address = n.Address.String()
	}
	created, err := s.db.exec(ctx, s.create, n.ID, n.UserID, n.ClientID, n.Scope, n.Salt[:], n.KeyID, int64(n.Generation), int64(n.Forgiven),
		n.CreatedAt.UnixMicro(), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro(), n.ExpiresAt.UnixMicro(),
		ended, n.EndReason, address, n.UserAgent, n.Idle.Microseconds(), n.Label)
	if err != nil {
		return fmt.Errorf("sqlstore: creating a session: %w", err)
	}
	if created == 0 {
		return fmt.Errorf("sqlstore: the session %w", oauth2pw.ErrExists)
	}
	return nil
}

// Get implements oauth2pw.SessionStore.
func (s *Sessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	n, err := scanSession(s.db.QueryRowContext(ctx, s.get, id))
	if errors.Is(err, sql.ErrNoRows) || err == nil && n.ID != id {
		return nil, fmt.Errorf("sqlstore: session: %w", oauth2pw.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: reading a session: %w", scanError(err))
	}
	return n, nil
}

// scanSession reads the columns of a row.
func scanSession(row interface{ Scan(dest ...any) error }) (*oauth2pw.Session, error) {
	var (
		s                                                      oauth2pw.Session
		salt                                                   []byte
		generation, forgiven, idle                             int64
		created, authenticated, advanced, idleExpires, expires int64
		ended                                                  sql.NullInt64
		address                                                string
	)
	err := row.Scan(&s.ID, &s.UserID, &s.ClientID, &s.Scope, &salt, &s.KeyID, &generation, &forgiven,
		&created, &authenticated, &advanced, &idleExpires, &expires, &ended, &s.EndReason, &address, &s.UserAgent, &idle, &s.Label)
	if err != nil {
		return nil, err
	}
	if copy(s.Salt[:], salt) != len(s.Salt) || len(salt) != len(s.Salt) {
		return nil, errors.New("the salt has a wrong length")
	}
	if address != "" {
		if s.Address, err = netip.ParseAddr(address); err != nil {
			return nil, err
		}
	}
	s.Generation, s.Forgiven = uint64(generation), uint64(forgiven)
	s.CreatedAt, s.AuthenticatedAt, s.RefreshedAt = fromMicro(created), fromMicro(authenticated), fromMicro(advanced)
	s.IdleExpiresAt, s.ExpiresAt = fromMicro(idleExpires), fromMicro(expires)
	s.Idle = time.Duration(idle) * time.Microsecond
	if ended.Valid {
		s.EndedAt = fromMicro(ended.Int64)
	}
	return &s, nil
}

func fromMicro(t int64) time.Time { return time.UnixMicro(t).UTC() }

// Advance implements oauth2pw.SessionStore.
func (s *Sessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	changed, err := s.db.exec(ctx, s.advance,
		int64(n.Generation), int64(n.Forgiven), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro(),
		n.ID, int64(from), now.UnixMicro(), now.UnixMicro())
	if err != nil {
		return false, fmt.Errorf("sqlstore: advancing a session: %w", err)
	}
	return changed == 1, nil
}

// List implements oauth2pw.SessionStore.
func (s *Sessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	var list []*oauth2pw.Session
	err := s.db.each(ctx, func(rows *sql.Rows) error {
		n, err := scanSession(rows)
		list = append(list, n)
		return err
	}, s.list, userID, now.UnixMicro(), now.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("sqlstore: listing sessions: %w", scanError(err))
	}
	return list, nil
}

// End implements oauth2pw.SessionStore.
func (s *Sessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	before := int64(math.MaxInt64)
	if !f.AuthenticatedBefore.IsZero() {
		before = f.AuthenticatedBefore.UnixMicro()
	}
	query, args := s.endAll, []any{now.UnixMicro(), reason, f.UserID, f.Except, before}
	if f.ID != "" {
		query, args = s.end, []any{now.UnixMicro(), reason, f.UserID, f.ID, f.Except, before}
	}
	var ids []string
	err := s.db.inTurn(ctx, func() error {
		return s.db.each(ctx, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		}, query, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("sqlstore: ending sessions: %w", err)
	}
	return ids, nil
}

// Sweep implements oauth2pw.SessionStore.
func (s *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.db.exec(ctx, s.sweep, before.UnixMicro(), limit, before.UnixMicro(), limit, limit)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: sweeping sessions: %w", err)
	}
	return int(n), nil
}

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
	toEnd                       string // without RETURNING: the sessions that endAll would end
	sweepIdle                   string // the second half of sweep, where each half is a statement
}

func newSessions(db database, table string) *Sessions {
	const columns = "id, user_id, client_id, scopes, salt, key_id, generation, forgiven, " +
		"created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, idle, label"
	const lives = "ended_at IS NULL AND expires_at > ? AND idle_expires_at > ?"
	table = db.quote(table)
	const others = " WHERE ended_at IS NULL AND user_id = ? AND id <> ? AND authenticated_at < ?" // no session has the id ''
	end, returning := "UPDATE "+table+" SET ended_at = ?, end_reason = ?", ""
	if db.returning {
		returning = " RETURNING id"
	}
	s := &Sessions{
		db:     db,
		create: db.sql("INSERT INTO " + table + " (" + columns + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" + db.onConflict),
		get:    db.sql("SELECT " + columns + " FROM " + table + " WHERE id = ?"),
		list:   db.sql("SELECT " + columns + " FROM " + table + " WHERE user_id = ? AND " + lives + " ORDER BY created_at DESC, id"),
		advance: db.sql("UPDATE " + table + " SET generation = ?, forgiven = ?, authenticated_at = ?, advanced_at = ?, idle_expires_at = ?" +
			" WHERE id = ? AND generation = ? AND " + lives),
		end:    db.sql(end + others + " AND id = ?" + returning),
		endAll: db.sql(end + others + returning),
		// Each half has an index, and is bounded.
		sweep: db.sql("DELETE FROM " + table + " WHERE id IN (" +
			"SELECT id FROM (SELECT id FROM " + table + " WHERE ended_at < ? LIMIT ?) AS a" +
			" UNION SELECT id FROM (SELECT id FROM " + table + " WHERE idle_expires_at < ? LIMIT ?) AS b LIMIT ?)"),
	}
	if !db.returning {
		s.toEnd = "SELECT id FROM " + table + others
		if !db.pool() {
			s.toEnd += " FOR UPDATE" // a transaction reads its old snapshot otherwise
		}
	}
	if db.deletesSome {
		s.sweep = "DELETE FROM " + table + " WHERE ended_at < ? LIMIT ?"
		s.sweepIdle = "DELETE FROM " + table + " WHERE idle_expires_at < ? LIMIT ?"
	}
	return s
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
	created, err := s.db.insert(ctx, s.create, n.ID, n.UserID, n.ClientID, n.Scope, n.Salt[:], n.KeyID, int64(n.Generation), int64(n.Forgiven),
		n.CreatedAt.UnixMicro(), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro(), n.ExpiresAt.UnixMicro(),
		ended, n.EndReason, address, n.UserAgent, n.Idle.Microseconds(), n.Label)
	if err != nil {
		return fmt.Errorf("sqlstore: creating a session: %w", err)
	}
	if !created {
		return fmt.Errorf("sqlstore: the session %w", oauth2pw.ErrExists)
	}
	return nil
}

// Get implements oauth2pw.SessionStore.
func (s *Sessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	n, err := scanSession(s.db.QueryRowContext(ctx, s.get, id))
	if errors.Is(err, sql.ErrNoRows) || s.db.isImpossible(err) || err == nil && n.ID != id {
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
	changed, err := s.db.change(ctx, s.advance,
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
	if s.db.isImpossible(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: listing sessions: %w", scanError(err))
	}
	return list, nil
}

// End implements oauth2pw.SessionStore.
func (s *Sessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	if err := s.db.storable(f.Except, reason); err != nil {
		return nil, fmt.Errorf("sqlstore: ending sessions: %w", err)
	}
	before := int64(math.MaxInt64)
	if !f.AuthenticatedBefore.IsZero() {
		before = f.AuthenticatedBefore.UnixMicro()
	}
	whose := []any{f.UserID, f.Except, before}
	query := s.endAll
	if f.ID != "" {
		query, whose = s.end, append(whose, f.ID)
	}
	args := append([]any{now.UnixMicro(), reason}, whose...)
	var ids []string
	var err error
	switch {
	case s.db.returning:
		err = s.db.inTurn(ctx, func() error {
			ids, err = s.db.ids(ctx, query, args...)
			return err
		})
	case f.ID != "":
		ids, err = s.endOne(ctx, f.ID, args)
	default:
		ids, err = s.endEach(ctx, args, whose)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: ending sessions: %w", err)
	}
	return ids, nil
}

// ids returns the ids of a query.
func (d database) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	err = d.retry(ctx, func() error {
		ids = nil
		return d.each(ctx, func(rows *sql.Rows) error {
			var id string
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		}, query, args...)
	})
	if d.isImpossible(err) {
		return nil, nil
	}
	return ids, err
}

// endEach ends one session after the other, because the database does not say which sessions
// an UPDATE has ended. Each UPDATE compares again, so that no session is ended twice.
func (s *Sessions) endEach(ctx context.Context, args, whose []any) (ended []string, err error) {
	ids, err := s.db.ids(ctx, s.toEnd, whose...)
	for _, id := range ids {
		one, err := s.endOne(ctx, id, append(args[:len(args):len(args)], id))
		if err != nil {
			return nil, err
		}
		ended = append(ended, one...)
	}
	return ended, err
}

func (s *Sessions) endOne(ctx context.Context, id string, args []any) ([]string, error) {
	n, err := s.db.change(ctx, s.end, args...)
	if err != nil || n == 0 {
		return nil, err
	}
	return []string{id}, nil
}

// Sweep implements oauth2pw.SessionStore.
func (s *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	var n int64
	var err error
	if s.sweepIdle == "" {
		n, err = s.db.exec(ctx, s.sweep, before.UnixMicro(), limit, before.UnixMicro(), limit, limit)
	} else if n, err = s.db.exec(ctx, s.sweep, before.UnixMicro(), limit); err == nil && int(n) < limit {
		var idle int64
		idle, err = s.db.exec(ctx, s.sweepIdle, before.UnixMicro(), limit-int(n))
		n += idle
	}
	if err != nil {
		return 0, fmt.Errorf("sqlstore: sweeping sessions: %w", err)
	}
	return int(n), nil
}

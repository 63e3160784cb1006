package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.SessionStore = (*Sessions)(nil)

// Sessions is an oauth2pw.SessionStore over the table of this package.
type Sessions struct {
	db                                  database
	create, get, list                   string // statements
	advance, advanceSooner, end, endAll string
	toEnd                               string // without RETURNING: the sessions that endAll would end
	sweepEnded, postpone, sweepExpired  string
}

func newSessions(db database, table string) *Sessions {
	const columns = "id, user_id, client_id, scopes, salt, key_id, generation, forgiven, " +
		"created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, idle, label"
	const lives = "ended_at IS NULL AND expires_at > ? AND idle_expires_at > ?"
	table = db.quote(table)
	const others = " WHERE ended_at IS NULL AND user_id = ? AND id <> ? AND authenticated_at < ?" // no session has the id ''
	advance := "UPDATE " + table + " SET generation = ?, forgiven = ?, authenticated_at = ?, advanced_at = ?, idle_expires_at = ?"
	first := "SELECT id FROM " + table + " WHERE sweep_at < ? ORDER BY sweep_at, id LIMIT ?" + db.locks
	end, returning := "UPDATE "+table+" SET ended_at = ?, end_reason = ?", ""
	if db.returning {
		returning = " RETURNING id"
	}
	s := &Sessions{
		db:     db,
		create: db.sql("INSERT INTO " + table + " (" + columns + ", sweep_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)" + db.onConflict),
		get:    db.sql("SELECT " + columns + " FROM " + table + " WHERE id = ?"),
		list:   db.sql("SELECT " + columns + " FROM " + table + " WHERE user_id = ? AND " + lives + " ORDER BY created_at DESC, id"),
		// No index has a column that advance sets: a refresh writes one page.
		advance:       db.sql(advance + " WHERE id = ? AND generation = ? AND " + lives + " AND sweep_at <= ?"),
		advanceSooner: db.sql(advance + ", sweep_at = ? WHERE id = ? AND generation = ? AND " + lives + " AND sweep_at > ?"),
		end:           db.sql(end + others + " AND id = ?" + returning),
		endAll:        db.sql(end + others + returning),
		// Each statement of a sweep has an index, and changes at most a batch of rows.
		sweepEnded:   db.sql("DELETE FROM " + table + " WHERE id IN (SELECT id FROM (SELECT id FROM " + table + " WHERE ended_at < ? LIMIT ?) AS a)"),
		postpone:     db.sql("UPDATE " + table + " SET sweep_at = idle_expires_at WHERE id IN (" + first + ") AND idle_expires_at >= ?"),
		sweepExpired: db.sql("DELETE FROM " + table + " WHERE id IN (" + first + ") AND idle_expires_at < ?"),
	}
	if !db.returning {
		s.toEnd = "SELECT id FROM " + table + others
		if !db.pool() {
			s.toEnd += " FOR UPDATE" // a transaction reads its old snapshot otherwise
		}
	}
	if db.joins {
		join := table + " JOIN (" + first + ") AS a ON a.id = " + table + ".id"
		s.sweepEnded = "DELETE FROM " + table + " WHERE ended_at < ? LIMIT ?"
		s.postpone = "UPDATE " + join + " SET sweep_at = idle_expires_at WHERE idle_expires_at >= ?"
		s.sweepExpired = "DELETE " + table + " FROM " + join + " WHERE idle_expires_at < ?"
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
		ended, n.EndReason, address, n.UserAgent, n.Idle.Microseconds(), n.Label, n.IdleExpiresAt.UnixMicro())
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
	idleExpires := n.IdleExpiresAt.UnixMicro()
	set := []any{int64(n.Generation), int64(n.Forgiven), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), idleExpires}
	where := []any{n.ID, int64(from), now.UnixMicro(), now.UnixMicro(), idleExpires}
	changed, err := s.db.change(ctx, s.advance, slices.Concat(set, where)...)
	if err == nil && changed == 0 { // an idle time that is now shorter; else another call has advanced or ended the session
		changed, err = s.db.change(ctx, s.advanceSooner, slices.Concat(set, []any{idleExpires}, where)...)
	}
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
	n, err := s.sweep(ctx, before.UnixMicro(), int64(limit))
	if err != nil {
		return 0, fmt.Errorf("sqlstore: sweeping sessions: %w", err)
	}
	return int(n), nil
}

// sweep looks at the sessions in the order of sweep_at. Sessions that refreshes have prolonged are
// postponed, a batch a statement, until the first ones have all expired. These are deleted.
func (s *Sessions) sweep(ctx context.Context, before, limit int64) (int64, error) {
	ended, err := s.db.exec(ctx, s.sweepEnded, before, limit)
	if err != nil || ended == limit {
		return ended, err
	}
	for postponed := int64(1); postponed > 0; {
		if postponed, err = s.db.exec(ctx, s.postpone, before, limit, before); err != nil {
			return 0, err
		}
	}
	expired, err := s.db.exec(ctx, s.sweepExpired, before, limit-ended, before)
	return ended + expired, err
}

package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The statements of the session store of the program whose tables have version 2. They are
// copies, and never change.
const (
	version2Create = `INSERT INTO "oauth2pw_sessions" (id, user_id, client_id, scopes, salt, key_id, generation, ` +
		`created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, data) ` +
		`VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`
	version2Select = `SELECT id, user_id, client_id, scopes, salt, key_id, generation, ` +
		`created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, data FROM "oauth2pw_sessions" WHERE `
	version2Get     = version2Select + `id = ?`
	version2List    = version2Select + `user_id = ? AND ended_at IS NULL AND expires_at > ? AND idle_expires_at > ? ORDER BY created_at DESC, id`
	version2Advance = `UPDATE "oauth2pw_sessions" SET generation = ?, authenticated_at = ?, advanced_at = ?, idle_expires_at = ?` +
		` WHERE id = ? AND generation = ? AND ended_at IS NULL AND expires_at > ? AND idle_expires_at > ?`
	version2End    = `UPDATE "oauth2pw_sessions" SET ended_at = ?, end_reason = ? WHERE ended_at IS NULL AND user_id = ? AND id = ? AND id <> ? AND authenticated_at < ? RETURNING id`
	version2EndAll = `UPDATE "oauth2pw_sessions" SET ended_at = ?, end_reason = ? WHERE ended_at IS NULL AND user_id = ? AND id <> ? AND authenticated_at < ? RETURNING id`
	version2Sweep  = `DELETE FROM "oauth2pw_sessions" WHERE id IN (` +
		`SELECT id FROM (SELECT id FROM "oauth2pw_sessions" WHERE ended_at < ? LIMIT ?)` +
		` UNION SELECT id FROM (SELECT id FROM "oauth2pw_sessions" WHERE idle_expires_at < ? LIMIT ?) LIMIT ?)`
)

// version2 is the session store of that program.
type version2 struct{ db *sql.DB }

func (s version2) Create(ctx context.Context, n *oauth2pw.Session) error {
	result, err := s.db.ExecContext(ctx, version2Create, n.ID, n.UserID, n.ClientID, n.Scope, n.Salt[:], n.KeyID, int64(n.Generation),
		n.CreatedAt.UnixMicro(), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro(), n.ExpiresAt.UnixMicro(),
		sql.NullInt64{}, n.EndReason, n.Address.String(), n.UserAgent, []byte(nil))
	if err != nil {
		return err
	}
	if created, err := result.RowsAffected(); err != nil || created == 0 {
		return errors.Join(err, oauth2pw.ErrExists)
	}
	return nil
}

func (s version2) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	n, err := version2Scan(s.db.QueryRowContext(ctx, version2Get, id))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, oauth2pw.ErrNotFound
	}
	return n, err
}

func version2Scan(row interface{ Scan(dest ...any) error }) (*oauth2pw.Session, error) {
	var (
		s                                               oauth2pw.Session
		salt, data                                      []byte
		created, authenticated, advanced, idle, expires int64
		ended                                           sql.NullInt64
		address                                         string
	)
	err := row.Scan(&s.ID, &s.UserID, &s.ClientID, &s.Scope, &salt, &s.KeyID, &s.Generation,
		&created, &authenticated, &advanced, &idle, &expires, &ended, &s.EndReason, &address, &s.UserAgent, &data)
	if err != nil {
		return nil, err
	}
	copy(s.Salt[:], salt)
	if ended.Valid {
		s.EndedAt = time.UnixMicro(ended.Int64).UTC()
	}
	s.CreatedAt, s.AuthenticatedAt, s.RefreshedAt = time.UnixMicro(created).UTC(), time.UnixMicro(authenticated).UTC(), time.UnixMicro(advanced).UTC()
	s.IdleExpiresAt, s.ExpiresAt = time.UnixMicro(idle).UTC(), time.UnixMicro(expires).UTC()
	s.Address, err = netip.ParseAddr(address)
	return &s, err
}

func (s version2) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	result, err := s.db.ExecContext(ctx, version2Advance,
		int64(n.Generation), n.AuthenticatedAt.UnixMicro(), n.RefreshedAt.UnixMicro(), n.IdleExpiresAt.UnixMicro(),
		n.ID, int64(from), now.UnixMicro(), now.UnixMicro())
	if err != nil {
		return false, err
	}
	changed, err := result.RowsAffected()
	return changed == 1, err
}

func (s version2) List(ctx context.Context, userID string, now time.Time) (list []*oauth2pw.Session, err error) {
	rows, err := s.db.QueryContext(ctx, version2List, userID, now.UnixMicro(), now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		n, err := version2Scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}

func (s version2) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) (ids []string, err error) {
	before := int64(math.MaxInt64)
	if !f.AuthenticatedBefore.IsZero() {
		before = f.AuthenticatedBefore.UnixMicro()
	}
	query, args := version2EndAll, []any{now.UnixMicro(), reason, f.UserID, f.Except, before}
	if f.ID != "" {
		query, args = version2End, []any{now.UnixMicro(), reason, f.UserID, f.ID, f.Except, before}
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (s version2) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	result, err := s.db.ExecContext(ctx, version2Sweep, before.UnixMicro(), limit, before.UnixMicro(), limit, limit)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// twoEditions returns the session stores of both programs over one file that has begun with
// version 2. The older program has opened the file, and used it, before the newer migrates.
func twoEditions(t *testing.T) (db *sql.DB, before version2, after *sqlstore.Store) {
	db = openSQLite(t)
	runFile(t, db, "version-2.sql")
	var file string
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT file FROM pragma_database_list").Scan(&file))
	own, err := sql.Open("sqlite", sqliteDSN(file))
	require.NoError(t, err)
	own.SetMaxOpenConns(1) // the connection that has read the tables of version 2
	t.Cleanup(func() { own.Close() })
	before = version2{own}
	_, err = before.Get(t.Context(), older[3].session)
	require.NoError(t, err)
	after = newStore(t, db)
	require.NoError(t, after.Migrate(t.Context()))
	return db, before, after
}

// TestSQLiteVersion2Refreshes: while a program of version 2 and a newer one serve the same
// users, every login, refresh and end counts in both of them.
func TestSQLiteVersion2Refreshes(t *testing.T) {
	db, before, after := twoEditions(t)
	now := func() time.Time { return olderRefresh.Add(time.Hour) }
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api", Now: now})
	require.NoError(t, err)
	programs := make(map[string]*oauth2pw.Auth)
	urls := make(map[string]string)
	for name, sessions := range map[string]oauth2pw.SessionStore{"older": before, "newer": after.Sessions} {
		programs[name], err = oauth2pw.New(oauth2pw.Config{
			Users: after.Users, Clients: after.Clients, Hasher: plainHasher{}, Issuer: jwt,
			Sessions: sessions, Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
			DefaultScopes: []string{"me"}, Now: now,
		})
		require.NoError(t, err)
		server := httptest.NewServer(programs[name].TokenHandler())
		t.Cleanup(server.Close)
		urls[name] = server.URL
	}
	request := func(program string, form url.Values) string {
		form.Set("client_id", "webapp")
		token, err := tokenFrom(http.PostForm(urls[program], form))
		require.NoError(t, err)
		return token
	}
	login := func(program string) string {
		token := request(program, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
		require.NotEmpty(t, token)
		return token
	}
	refresh := func(program, token string) string {
		return request(program, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	}
	for name, token := range map[string]string{"migrated": older[3].token, "of the older": login("older"), "of the newer": login("newer")} {
		for _, program := range []string{"older", "newer", "newer", "older", "older", "newer"} {
			next := refresh(program, token)
			require.NotEmpty(t, next, name)
			require.Equal(t, next, refresh("older", token), "the same successor")
			require.Equal(t, next, refresh("newer", token), "the same successor")
			token = next
		}
		for _, s := range []oauth2pw.SessionStore{before, after.Sessions} {
			list, err := s.List(t.Context(), "1", now())
			require.NoError(t, err)
			require.Len(t, list, 3)
		}
	}
	require.Equal(t, []string{"7", "7", "8"}, lines(t, db, `SELECT generation FROM oauth2pw_sessions ORDER BY 1`))
	for ends, other := range map[string]string{"older": "newer", "newer": "older"} {
		token := login(other)
		ended, err := programs[ends].EndAllSessions(t.Context(), "1", "test")
		require.NoError(t, err)
		require.Positive(t, ended)
		require.Empty(t, refresh(other, token), "the session has ended")
		require.NotEmpty(t, login(other))
	}
}

// TestSQLiteVersion2Fields: neither program loses a field of the other. The older program
// leaves the columns that it does not know, and the newer one leaves the column data.
func TestSQLiteVersion2Fields(t *testing.T) {
	db, before, after := twoEditions(t)
	now := olderRefresh
	full := oauth2pw.Session{
		ID: "full", UserID: "2", ClientID: "webapp", Scope: "me", Salt: [16]byte{1}, KeyID: "k", Generation: 3, Forgiven: 3,
		CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
		Address: netip.MustParseAddr("192.0.2.1"), UserAgent: "x", Idle: time.Hour, Label: "Zoë's phone",
	}
	known := full // as the older program reads it
	known.Forgiven, known.Idle, known.Label = 0, 0, ""
	require.NoError(t, after.Sessions.Create(t.Context(), &full))
	requireSession := func(s oauth2pw.SessionStore, want oauth2pw.Session) {
		t.Helper()
		got, err := s.Get(t.Context(), want.ID)
		require.NoError(t, err)
		require.Equal(t, want, *got)
	}
	advance := func(s oauth2pw.SessionStore, n *oauth2pw.Session) {
		t.Helper()
		n.Generation++
		n.RefreshedAt = n.RefreshedAt.Add(time.Second)
		ok, err := s.Advance(t.Context(), n.Generation-1, n, now)
		require.NoError(t, err)
		require.True(t, ok)
	}
	requireSession(before, known)
	advance(before, &known)
	full.Generation, full.RefreshedAt = known.Generation, known.RefreshedAt
	requireSession(after.Sessions, full)
	full.Forgiven = 5
	advance(after.Sessions, &full)
	requireSession(after.Sessions, full)
	known.Generation, known.RefreshedAt = full.Generation, full.RefreshedAt
	advance(before, &known)
	full.Generation, full.RefreshedAt = known.Generation, known.RefreshedAt
	for _, s := range []oauth2pw.SessionStore{before, after.Sessions} {
		ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: "2"}, "because", now)
		require.NoError(t, err)
		if s == before {
			require.Equal(t, []string{"full"}, ids)
		} else {
			require.Empty(t, ids)
		}
	}
	full.EndedAt, full.EndReason = now, "because"
	requireSession(after.Sessions, full)

	created := known
	created.ID, created.UserID = "created", "3"
	require.NoError(t, before.Create(t.Context(), &created))
	run(t, db, `UPDATE oauth2pw_sessions SET data = x'00ff' WHERE id = 'created'`)
	requireSession(after.Sessions, created)
	advance(after.Sessions, &created)
	requireSession(before, created)
	ids, err := after.Sessions.End(t.Context(), oauth2pw.SessionFilter{UserID: "3", ID: "created"}, "because", now)
	require.NoError(t, err)
	require.Equal(t, []string{"created"}, ids)
	require.Equal(t, []string{"00FF"}, lines(t, db, `SELECT hex(data) FROM oauth2pw_sessions WHERE id = 'created'`))

	// Each program sweeps the rows of both.
	full.ID, full.EndedAt = "again", time.Time{}
	require.NoError(t, after.Sessions.Create(t.Context(), &full))
	n, err := before.Sweep(t.Context(), now.Add(time.Microsecond), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = after.Sessions.Sweep(t.Context(), olderLogin.Add(365*24*time.Hour), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"0"}, lines(t, db, `SELECT count(*) FROM oauth2pw_sessions`))
}

// TestSQLiteVersion2Races: of concurrent refreshes in both programs one is written.
func TestSQLiteVersion2Races(t *testing.T) {
	_, before, after := twoEditions(t)
	first, err := after.Sessions.Get(t.Context(), older[3].session)
	require.NoError(t, err)
	for round := range uint64(20) {
		var won atomic.Int32
		var wg sync.WaitGroup
		for _, s := range []oauth2pw.SessionStore{before, after.Sessions} {
			for range 4 {
				wg.Go(func() {
					next := *first
					next.Generation += round + 1
					ok, err := s.Advance(t.Context(), first.Generation+round, &next, olderRefresh)
					assert.NoError(t, err)
					if ok {
						won.Add(1)
					}
				})
			}
		}
		wg.Wait()
		require.EqualValues(t, 1, won.Load(), fmt.Sprint("round ", round))
	}
}

package integration

import (
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// PostgreSQL and MySQL have had no schema before version 3: there is no program and no database
// of an older version on these engines. These tests make a later version by the rule of
// schema.go: a step adds columns with a default, and indexes.

// later are the statements of such a step.
var later = []string{
	"ALTER TABLE oauth2pw_sessions ADD COLUMN later BIGINT NOT NULL DEFAULT 7",
	"ALTER TABLE oauth2pw_users ADD COLUMN later VARCHAR(9) NOT NULL DEFAULT 'x'",
	"ALTER TABLE oauth2pw_clients ADD COLUMN later BIGINT",
	"CREATE INDEX oauth2pw_sessions_later ON oauth2pw_sessions (user_id, later, idle_expires_at)",
	"UPDATE oauth2pw_schema SET version = 5",
}

// TestEngineLaterSchema: a program that runs already continues while the tables get a later
// version, and loses no refresh. A program that starts afterwards refuses the tables, and leaves
// them as they are.
func TestEngineLaterSchema(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		st, db := e.store(t)
		ctx, now := t.Context(), olderLogin
		full := oauth2pw.Session{
			ID: "full", UserID: "1", ClientID: "webapp", Scope: "me", Salt: [16]byte{1}, KeyID: "k", Generation: 3, Forgiven: 2,
			CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour), Idle: time.Hour, Label: "phone",
		}
		require.NoError(t, st.Sessions.Create(ctx, &full))
		var stop atomic.Bool
		var wg sync.WaitGroup
		var advanced [4]uint64
		for i := range advanced {
			n := sessionOf(fmt.Sprint("s", i), now)
			n.UserID = "2"
			require.NoError(t, st.Sessions.Create(ctx, n))
			wg.Go(func() {
				for !stop.Load() {
					n.Generation++
					ok, err := st.Sessions.Advance(ctx, n.Generation-1, n, now)
					if !assert.NoError(t, err) || !assert.True(t, ok) {
						return
					}
					got, err := st.Sessions.Get(ctx, n.ID)
					if !assert.NoError(t, err) || !assert.Equal(t, n.Generation, got.Generation) {
						return
					}
					advanced[i] = n.Generation
				}
			})
		}
		for _, statement := range later {
			run(t, db, statement)
		}
		time.Sleep(20 * time.Millisecond)
		stop.Store(true)
		wg.Wait()
		for i, n := range advanced {
			require.Positive(t, n, "session %d", i)
		}

		// The running program reads and writes all its fields.
		got, err := st.Sessions.Get(ctx, "full")
		require.NoError(t, err)
		require.Equal(t, full, *got)
		run(t, db, "UPDATE oauth2pw_sessions SET later = 8 WHERE id = 'full'")
		full.Generation, full.Forgiven = 4, 4
		ok, err := st.Sessions.Advance(ctx, 3, &full, now)
		require.NoError(t, err)
		require.True(t, ok)
		list, err := st.Sessions.List(ctx, "1", now)
		require.NoError(t, err)
		require.Equal(t, []*oauth2pw.Session{&full}, list)
		other := full
		other.ID = "other"
		require.NoError(t, st.Sessions.Create(ctx, &other))
		require.Equal(t, []string{"8", "7"}, lines(t, db, "SELECT later FROM oauth2pw_sessions WHERE user_id = '1' ORDER BY id"), "a value of the later program stays, and a new row has the default")
		ids, err := st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: "1"}, "test", now)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"full", "other"}, ids)
		n, err := st.Sessions.Sweep(ctx, now.Add(time.Microsecond), 10)
		require.NoError(t, err)
		require.Equal(t, 2, n)
		user := oauth2pw.User{ID: "1", Username: "john", PasswordHash: "h"}
		require.NoError(t, st.Users.Add(ctx, user))
		run(t, db, "UPDATE oauth2pw_users SET later = 'y'")
		require.NoError(t, st.Users.Update(ctx, "1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
		user.Disabled = true
		requireUser(t, st.Users, user)
		require.Equal(t, []string{"y"}, lines(t, db, "SELECT later FROM oauth2pw_users"))
		client := oauth2pw.Client{ID: "webapp", Grants: []string{"password"}}
		require.NoError(t, st.Clients.Add(ctx, client))
		requireClient(t, st.Clients, client)

		// A start refuses.
		const refusal = "sqlstore: the database has schema version 5; this program knows 4: update the program"
		starts, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
		require.NoError(t, err)
		require.EqualError(t, starts.Migrate(ctx), refusal)
		require.EqualError(t, starts.CheckSchema(ctx), refusal)
		conn, err := db.Conn(ctx)
		require.NoError(t, err)
		defer conn.Close()
		starts, err = sqlstore.New(conn, sqlstore.Config{Dialect: e.dialect})
		require.NoError(t, err)
		require.EqualError(t, starts.Migrate(ctx), refusal)
		require.Equal(t, []string{"5"}, lines(t, db, "SELECT version FROM oauth2pw_schema"))
		require.Equal(t, []string{"4"}, lines(t, db, "SELECT count(*) FROM oauth2pw_sessions"))
	})
}

// TestEngineOtherVersions: a version that no program has written on these engines is refused by
// Migrate and by CheckSchema, and its tables stay as they are. A store over tables that lack a
// column fails, and finds no miss.
func TestEngineOtherVersions(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		st, db := e.store(t)
		ctx, now := t.Context(), olderLogin
		require.NoError(t, st.Sessions.Create(ctx, sessionOf("a", now)))
		run(t, db, "ALTER TABLE oauth2pw_sessions DROP COLUMN label")
		for version, errs := range map[int][2]string{
			-1: {"the database has schema version -1", "the database has schema version -1"},
			1:  {"no step begins at this version", "the database has schema version 1; this program needs 4: call Migrate"},
			2:  {"no step begins at this version", "the database has schema version 2; this program needs 4: call Migrate"},
		} {
			run(t, db, fmt.Sprint("UPDATE oauth2pw_schema SET version = ", version))
			require.ErrorContains(t, st.Migrate(ctx), errs[0])
			require.ErrorContains(t, st.CheckSchema(ctx), errs[1])
			require.Equal(t, []string{fmt.Sprint(version)}, lines(t, db, "SELECT version FROM oauth2pw_schema"))
		}
		_, getErr := st.Sessions.Get(ctx, "a")
		_, listErr := st.Sessions.List(ctx, "1", now)
		for _, err := range []error{getErr, listErr, st.Sessions.Create(ctx, sessionOf("b", now))} {
			require.ErrorContains(t, err, "label")
			require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
			require.NotErrorIs(t, err, oauth2pw.ErrExists)
		}
		// An older program knew no label: the rest of the row is as before.
		require.Equal(t, []string{"a"}, lines(t, db, "SELECT id FROM oauth2pw_sessions"))
	})
}

// runEach runs the statements of a text, one a call.
func runEach(t *testing.T, db *sql.DB, text string) {
	t.Helper()
	for statement := range strings.SplitSeq(text, ";\n") {
		if strings.TrimSpace(statement) != "" {
			run(t, db, statement)
		}
	}
}

// version3 makes the tables of version 3, and returns the stores of the newer program.
func version3(t *testing.T, e engine, db *sql.DB) *sqlstore.Store {
	t.Helper()
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
	require.NoError(t, err)
	statements, found := strings.CutSuffix(st.Schema(0), st.Schema(3))
	require.True(t, found)
	runEach(t, db, statements)
	run(t, db, "UPDATE oauth2pw_schema SET version = 3")
	return st
}

// TestPostgreSQLLockTimeout: with lock_timeout in the DSN, Migrate does not wait for an open
// transaction without end, and changes nothing. After the transaction Migrate succeeds.
func TestPostgreSQLLockTimeout(t *testing.T) {
	withPostgreSQL(t, "lock_timeout=100ms")
	for _, e := range engines[:2] {
		t.Run(e.name, func(t *testing.T) {
			db := e.open(t)
			st := version3(t, e, db)
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer tx.Rollback()
			run(t, tx, "SELECT id FROM oauth2pw_sessions")
			require.ErrorContains(t, st.Migrate(t.Context()), "lock timeout")
			require.Equal(t, []string{"3"}, lines(t, db, "SELECT version FROM oauth2pw_schema"))
			require.NoError(t, tx.Rollback())
			require.NoError(t, st.Migrate(t.Context()))
		})
	}
}

// TestEngineVersion3: the tables of version 3, with a session of that program, get the later version
// by ten processes at once. In MySQL, which does not undo a change of a table, the step has run
// before, and not the statement of its version.
func TestEngineVersion3(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		ctx, db := t.Context(), e.open(t)
		st := version3(t, e, db)
		now := olderLogin
		run(t, db, fmt.Sprintf(`INSERT INTO oauth2pw_sessions (id, user_id, client_id, scopes, salt, key_id, generation, created_at, authenticated_at, advanced_at, idle_expires_at, expires_at)
			VALUES ('a', '1', '', 'me', %s, 'k', 1, %d, %[2]d, %[2]d, %d, %d)`,
			of(e.dialect, "zeroblob(16)", `'\x00000000000000000000000000000000'::bytea`, "REPEAT('x', 16)"), now.UnixMicro(), now.Add(time.Hour).UnixMicro(), now.Add(9*time.Hour).UnixMicro()))
		require.ErrorContains(t, st.CheckSchema(ctx), "schema version 3; this program needs 4: call Migrate, or run Schema(3)")
		if e.dialect == sqlstore.MySQL {
			step, _, _ := strings.Cut(st.Schema(3), "UPDATE ")
			runEach(t, db, step)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { assert.NoError(t, st.Migrate(ctx)) })
		}
		wg.Wait()
		require.NoError(t, st.CheckSchema(ctx))
		list, err := st.Sessions.List(ctx, "1", now)
		require.NoError(t, err)
		require.Len(t, list, 1)
		n := list[0]
		n.Generation, n.IdleExpiresAt = 2, now.Add(3*time.Hour)
		ok, err := st.Sessions.Advance(ctx, 1, n, now)
		require.NoError(t, err)
		require.True(t, ok)
		for want, before := range []time.Duration{2 * time.Hour, 4 * time.Hour} { // none, and then one
			swept, err := st.Sessions.Sweep(ctx, now.Add(before), 10)
			require.NoError(t, err)
			require.Equal(t, want, swept)
		}
	})
}

// TestAdvanceChangesNoIndex: a refresh writes the page of its row. In SQLite it opens one tree for
// writing, and in PostgreSQL the new row is heap-only.
func TestAdvanceChangesNoIndex(t *testing.T) {
	for _, e := range everyEngine {
		if e.dialect == sqlstore.MySQL {
			continue // no statement shows it
		}
		t.Run(e.name, func(t *testing.T) {
			st, db := e.store(t)
			n := sessionOf("a", olderLogin)
			require.NoError(t, st.Sessions.Create(t.Context(), n))
			n.Generation, n.IdleExpiresAt = 1, n.IdleExpiresAt.Add(time.Minute)
			tx, err := db.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer tx.Rollback()
			r := recorder{tx, make(map[string][]any)}
			inTx, err := sqlstore.New(r, sqlstore.Config{Dialect: e.dialect})
			require.NoError(t, err)
			ok, err := inTx.Sessions.Advance(t.Context(), 0, n, olderLogin)
			require.NoError(t, err)
			require.True(t, ok)
			require.Len(t, r.statements, 1)
			if e.dialect == sqlstore.PostgreSQL {
				require.Equal(t, []string{"1"}, lines(t, tx, "SELECT pg_stat_get_xact_tuples_hot_updated('oauth2pw_sessions'::regclass)"))
				return
			}
			for query, args := range r.statements {
				trees := 0
				for _, step := range explainAs(t, "EXPLAIN ", tx, query, args) {
					if step[1] == "OpenWrite" {
						trees++
					}
				}
				require.Equal(t, 1, trees)
			}
		})
	}
}

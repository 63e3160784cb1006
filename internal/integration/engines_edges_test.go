package integration

import (
	"database/sql"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

func sessionOf(id string, now time.Time) *oauth2pw.Session {
	return &oauth2pw.Session{ID: id, UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)}
}

// TestEngineTx: in a transaction that has read already, End ends a session that another
// connection has made since.
func TestEngineTx(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		_, db := e.store(t)
		var options *sql.TxOptions
		if e.dialect == sqlstore.MySQL && isMariaDB(t, db) { // TestMariaDBSnapshotIsolation has the other isolations
			options = &sql.TxOptions{Isolation: sql.LevelReadCommitted}
		}
		ids, err := endAfterRead(t, e, options)
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, ids)
	})
}

// TestMariaDBSnapshotIsolation: with this setting, the default from 11.6, a transaction with the
// isolation REPEATABLE READ gets an error where it would end the session: no session is left out
// in silence. Without the setting End ends it.
func TestMariaDBSnapshotIsolation(t *testing.T) {
	e := engines[2]
	if !isMariaDB(t, e.open(t)) {
		t.Skip("a setting of MariaDB")
	}
	for setting, snapshot := range map[string]bool{"OFF": false, "ON": true} {
		t.Run(setting, func(t *testing.T) {
			withMySQL(t, "innodb_snapshot_isolation="+setting)
			ids, err := endAfterRead(t, e, nil)
			if snapshot {
				require.ErrorContains(t, err, "Error 1020")
				return
			}
			require.NoError(t, err)
			require.Equal(t, []string{"a"}, ids)
		})
	}
}

// endAfterRead calls End in a transaction that has read before another connection makes the
// session a.
func endAfterRead(t *testing.T, e engine, options *sql.TxOptions) (ids []string, err error) {
	t.Helper()
	st, db := e.store(t)
	now := time.Now().Truncate(time.Microsecond)
	tx, err := db.BeginTx(t.Context(), options)
	require.NoError(t, err)
	defer tx.Rollback()
	inTx, err := sqlstore.New(tx, sqlstore.Config{Dialect: e.dialect})
	require.NoError(t, err)
	_, err = inTx.Sessions.List(t.Context(), "1", now)
	require.NoError(t, err)
	require.NoError(t, st.Sessions.Create(t.Context(), sessionOf("a", now)))
	if ids, err = inTx.Sessions.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "x", now); err != nil {
		return nil, err
	}
	require.NoError(t, tx.Commit())
	list, err := st.Sessions.List(t.Context(), "1", now)
	require.NoError(t, err)
	require.Empty(t, list)
	return ids, nil
}

// TestEngineImpossible: a key that no column can hold is a miss in every method.
func TestEngineImpossible(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		st, db := e.store(t)
		charset := ""
		if e.dialect == sqlstore.MySQL {
			charset = " CHARACTER SET latin1"
		}
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email VARCHAR(99)"+charset+" UNIQUE, pw VARCHAR(200)"+charset+")")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw"})
		require.NoError(t, err)
		now := time.Now()
		for _, key := range []string{"abc", "a\x00b", "\xff", "😀", "日本", "99999999999999999999", "'\"`;--"} {
			_, err := users.UserByName(t.Context(), key)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
			_, err = users.UserByID(t.Context(), key)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
			ok, err := users.UpdatePasswordHash(t.Context(), key, "a", "b", now)
			require.NoError(t, err, "%q", key)
			require.False(t, ok)
			require.ErrorIs(t, users.Delete(t.Context(), key), oauth2pw.ErrNotFound, "%q", key)
			_, err = st.Sessions.Get(t.Context(), key)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
			ok, err = st.Sessions.Advance(t.Context(), 0, sessionOf(key, now), now)
			require.NoError(t, err, "%q", key)
			require.False(t, ok)
			list, err := st.Sessions.List(t.Context(), key, now)
			require.NoError(t, err, "%q", key)
			require.Empty(t, list)
			for _, f := range []oauth2pw.SessionFilter{{UserID: key}, {UserID: "1", ID: key}} {
				ids, err := st.Sessions.End(t.Context(), f, "x", now)
				require.NoError(t, err, "%q", key)
				require.Empty(t, ids)
			}
			_, err = st.Clients.ClientByID(t.Context(), key)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound, "%q", key)
		}
	})
}

// TestEngineDeleted: the mark of a deleted row does not hide a change of the column Disabled.
func TestEngineDeleted(t *testing.T) {
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), off BOOLEAN, gone VARCHAR(9))")
		run(t, db, "INSERT INTO accounts VALUES (1, 'john', 'h', FALSE, 'x')")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off", DeletedAt: "gone"})
		require.NoError(t, err)
		require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error {
			require.False(t, u.Disabled)
			u.Disabled = true
			return nil
		}))
		run(t, db, "UPDATE accounts SET gone = NULL")
		u, err := users.UserByName(t.Context(), "john")
		require.NoError(t, err)
		require.True(t, u.Disabled)
	})
}

// TestPostgreSQLIsolation: with a stricter isolation, conflicts run again, and ten processes
// migrate.
func TestPostgreSQLIsolation(t *testing.T) {
	for _, isolation := range []string{"repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			e := engines[0]
			withPostgreSQL(t, "default_transaction_isolation="+url.PathEscape(isolation))
			db := e.open(t)
			var got string
			require.NoError(t, db.QueryRowContext(t.Context(), "SHOW default_transaction_isolation").Scan(&got))
			require.Equal(t, isolation, got)
			st, err := sqlstore.New(db, sqlstore.Config{Dialect: e.dialect})
			require.NoError(t, err)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { assert.NoError(t, st.Migrate(t.Context())) })
			}
			wg.Wait()
			now := time.Now().Truncate(time.Microsecond)
			require.NoError(t, st.Sessions.Create(t.Context(), sessionOf("a", now)))
			won := 0
			var mu sync.Mutex
			for range 20 {
				s, err := st.Sessions.Get(t.Context(), "a")
				require.NoError(t, err)
				for range 8 {
					wg.Go(func() {
						next := *s
						next.Generation++
						ok, err := st.Sessions.Advance(t.Context(), s.Generation, &next, now)
						assert.NoError(t, err)
						mu.Lock()
						defer mu.Unlock()
						if ok {
							won++
						}
					})
				}
				wg.Wait()
			}
			require.Equal(t, 20, won, isolation)
		})
	}
}

// TestMySQLStrict: a server that cuts long values is refused at the start.
func TestMySQLStrict(t *testing.T) {
	withMySQL(t, "sql_mode=%27%27")
	st, err := sqlstore.New(openMySQL(t), sqlstore.Config{Dialect: sqlstore.MySQL})
	require.NoError(t, err)
	require.ErrorContains(t, st.Migrate(t.Context()), "sql_mode is not strict")
	_, err = sqlstore.New(openMySQL(t), sqlstore.Config{Dialect: sqlstore.MySQL, Prefix: strings.Repeat("x", 41)})
	require.ErrorContains(t, err, "Prefix")
}

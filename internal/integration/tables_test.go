package integration

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// onDatabases runs a test on SQLite and on every server.
func onDatabases(t *testing.T, test func(t *testing.T, e engine)) {
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) { test(t, e) })
	}
}

// of returns the text for a dialect: SQLite, PostgreSQL, MySQL.
func of(d sqlstore.Dialect, texts ...string) string { return texts[d-1] }

// TestTableIDs: ids that are kept as bytes.
func TestTableIDs(t *testing.T) {
	const one, two = "0190b0a0-0000-7000-8000-00000000000a", "0190b0a0-0000-7000-8000-00000000000b"
	onDatabases(t, func(t *testing.T, e engine) {
		db := e.open(t)
		run(t, db, "CREATE TABLE accounts (id "+of(e.dialect, "BLOB", "BYTEA", "BINARY(16)")+" PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), off BOOLEAN)")
		table := sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off"}
		_, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "a", ID: "b", Username: "c", PasswordHash: "d", IDFormat: 7})
		require.ErrorContains(t, err, "IDFormat")
		for _, test := range []struct {
			format sqlstore.IDFormat
			id     func(uuid string) string
		}{
			{sqlstore.UUIDBytes, func(uuid string) string { return uuid }},
			{sqlstore.HexBytes, func(uuid string) string { return strings.ReplaceAll(uuid, "-", "") }},
		} {
			table.IDFormat = test.format
			users, err := sqlstore.NewUsers(db, e.dialect, table)
			require.NoError(t, err)
			for _, uuid := range []string{one, two} {
				require.NoError(t, users.Add(t.Context(), oauth2pw.User{ID: test.id(uuid), Username: uuid, PasswordHash: "h"}))
			}
			require.ErrorIs(t, users.Add(t.Context(), oauth2pw.User{ID: test.id(one), Username: "x"}), oauth2pw.ErrExists)
			require.ErrorContains(t, users.Add(t.Context(), oauth2pw.User{ID: "7", Username: "x"}), "IDFormat")
			u, err := users.UserByName(t.Context(), one)
			require.NoError(t, err)
			require.Equal(t, test.id(one), u.ID)
			u, err = users.UserByID(t.Context(), test.id(two))
			require.NoError(t, err)
			require.Equal(t, two, u.Username)
			for _, other := range []string{"", "7", strings.ToUpper(test.id(one)), test.id(one) + "0", test.id(one)[1:], strings.Replace(test.id(one), "0", "0-", 1), strings.Repeat("0", 32), one + "-", "{" + one + "}"} {
				if other == test.id(one) {
					continue
				}
				_, err = users.UserByID(t.Context(), other)
				require.ErrorIs(t, err, oauth2pw.ErrNotFound, other)
				changed, err := users.UpdatePasswordHash(t.Context(), other, "h", "stolen", time.Time{})
				require.NoError(t, err)
				require.False(t, changed, other)
				require.ErrorIs(t, users.Delete(t.Context(), other), oauth2pw.ErrNotFound)
				require.ErrorIs(t, users.Update(t.Context(), other, func(*oauth2pw.User) error { return nil }), oauth2pw.ErrNotFound)
			}
			changed, err := users.UpdatePasswordHash(t.Context(), test.id(one), "h", "new", time.Time{})
			require.NoError(t, err)
			require.True(t, changed)
			require.NoError(t, users.Update(t.Context(), test.id(two), func(u *oauth2pw.User) error { u.Username, u.Disabled = "renamed", true; return nil }))
			u, err = users.UserByID(t.Context(), test.id(two))
			require.NoError(t, err)
			require.Equal(t, []any{"renamed", true, oauth2pw.Secret("h")}, []any{u.Username, u.Disabled, u.PasswordHash})
			found, err := users.Inspect(t.Context(), func(string) bool { return true }, 10)
			require.NoError(t, err)
			require.Equal(t, 2, found.Users)
			require.NoError(t, users.Delete(t.Context(), test.id(one)))
			require.NoError(t, users.Delete(t.Context(), test.id(two)))
		}
		// Without the format the column is an error that says what to set.
		bytes, err := hex.DecodeString("ff90b0a0000070008000000000000001")
		require.NoError(t, err)
		run(t, db, fmt.Sprintf("INSERT INTO accounts VALUES (%s, 'john', 'h', FALSE)", of(e.dialect, fmt.Sprintf("x'%x'", bytes), fmt.Sprintf("'\\x%x'", bytes), fmt.Sprintf("x'%x'", bytes))))
		table.IDFormat = sqlstore.PlainID
		users, err := sqlstore.NewUsers(db, e.dialect, table)
		require.NoError(t, err)
		_, err = users.Inspect(t.Context(), func(string) bool { return true }, 10)
		require.ErrorContains(t, err, "IDFormat")
		require.ErrorContains(t, err, `"id"`)
	})
}

// TestTableUUIDs: a type of the database whose text is not its bytes.
func TestTableUUIDs(t *testing.T) {
	const one = "0190b0a0-0000-7000-8000-00000000000a"
	onEngines(t, func(t *testing.T, e engine) {
		db := e.open(t)
		if e.dialect == sqlstore.MySQL && !isMariaDB(t, db) {
			t.Skip("MySQL has no type UUID, only MariaDB")
		}
		run(t, db, "CREATE TABLE accounts (id UUID PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200))")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw"})
		require.NoError(t, err)
		require.NoError(t, users.Add(t.Context(), oauth2pw.User{ID: one, Username: "john", PasswordHash: "h"}))
		u, err := users.UserByID(t.Context(), one)
		require.NoError(t, err)
		require.Equal(t, "john", u.Username)
		changed, err := users.UpdatePasswordHash(t.Context(), strings.ToUpper(one), "h", "stolen", time.Time{})
		require.NoError(t, err)
		require.False(t, changed)
		changed, err = users.UpdatePasswordHash(t.Context(), one, "h", "new", time.Time{})
		require.NoError(t, err)
		require.True(t, changed)
		require.NoError(t, users.Update(t.Context(), one, func(u *oauth2pw.User) error { u.Username = "renamed"; return nil }))
		u, err = users.UserByName(t.Context(), "renamed")
		require.NoError(t, err)
		require.Equal(t, oauth2pw.User{ID: one, Username: "renamed", PasswordHash: "new"}, *u)
		require.NoError(t, users.Delete(t.Context(), one))
	})
}

// TestTableScopes: lists of scopes in other formats.
func TestTableScopes(t *testing.T) {
	onDatabases(t, func(t *testing.T, e engine) {
		db := e.open(t)
		json := of(e.dialect, "TEXT", "JSONB", "JSON")
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), spaces VARCHAR(99), commas VARCHAR(99), list "+json+")")
		run(t, db, `INSERT INTO accounts VALUES (1, 'john', 'h', 'me items', 'me, items', '["me", "items"]'), (2, 'none', 'h', '', '', '[]'), (3, 'null', 'h', NULL, NULL, NULL)`)
		columns := map[string]sqlstore.ListFormat{"spaces": sqlstore.SpacesBetween, "commas": sqlstore.CommasBetween, "list": sqlstore.JSONArray}
		table := func(column string, f sqlstore.ListFormat) *sqlstore.Users {
			users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Scopes: column, ScopesFormat: f})
			require.NoError(t, err)
			return users
		}
		for column, format := range columns {
			users := table(column, format)
			for name, want := range map[string][]string{"john": {"me", "items"}, "none": {}, "null": nil} {
				u, err := users.UserByName(t.Context(), name)
				require.NoError(t, err, column)
				require.Equal(t, want, u.Scopes, "%s of %s", column, name)
			}
			for _, scopes := range [][]string{{"a:b"}, {}, {"x", "y", "z"}, nil, {"me", "items"}} {
				require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Scopes = scopes; return nil }), column)
				u, err := users.UserByID(t.Context(), "1")
				require.NoError(t, err)
				require.Equal(t, scopes, u.Scopes, column)
			}
			found, err := users.Inspect(t.Context(), func(string) bool { return true }, 10)
			require.NoError(t, err)
			require.Equal(t, []string{"items", "me"}, found.Scopes)
		}
		for column, format := range map[string]sqlstore.ListFormat{"spaces": sqlstore.CommasBetween, "list": sqlstore.SpacesBetween, "commas": sqlstore.JSONArray} {
			_, err := table(column, format).UserByName(t.Context(), "john")
			require.ErrorContains(t, err, fmt.Sprintf("the column %q", column))
			require.ErrorContains(t, err, "ScopesFormat")
			require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
		}
		_, err := table("list", sqlstore.SpacesBetween).UserByName(t.Context(), "none")
		require.ErrorContains(t, err, "ScopesFormat", "the text [] is no scope")
	})
}

// TestTableNulls: users without a name, of whom a table may have many.
func TestTableNulls(t *testing.T) {
	onDatabases(t, func(t *testing.T, e engine) {
		db := e.open(t)
		run(t, db, "CREATE TABLE accounts (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200))")
		run(t, db, "INSERT INTO accounts VALUES (1, NULL, NULL), (2, NULL, 'h'), (3, 'john', NULL)")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw"})
		require.NoError(t, err)
		u, err := users.UserByID(t.Context(), "2")
		require.NoError(t, err)
		require.Equal(t, oauth2pw.User{ID: "2", PasswordHash: "h"}, *u)
		_, err = users.UserByName(t.Context(), "")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		found, err := users.Inspect(t.Context(), func(string) bool { return true }, 10)
		require.NoError(t, err)
		require.Equal(t, []int{3, 2}, []int{found.Users, found.NoPassword})
	})
}

// TestTableView: a view over the table, with the names that the store wants.
func TestTableView(t *testing.T) {
	onDatabases(t, func(t *testing.T, e engine) {
		db := e.open(t)
		run(t, db, "CREATE TABLE people (nr BIGINT PRIMARY KEY, mail VARCHAR(99) UNIQUE, pw VARCHAR(200), state VARCHAR(9))")
		run(t, db, "INSERT INTO people VALUES (1, 'john', 'h', 'ok'), (2, 'jane', 'h', 'locked')")
		run(t, db, "CREATE VIEW accounts AS SELECT nr AS id, mail AS email, pw, state <> 'ok' AS off FROM people")
		users, err := sqlstore.NewUsers(db, e.dialect, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "pw", Disabled: "off"})
		require.NoError(t, err)
		for id, name := range map[string]string{"1": "john", "2": "jane"} {
			u, err := users.UserByName(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, oauth2pw.User{ID: id, Username: name, PasswordHash: "h", Disabled: name == "jane"}, *u)
		}
		changed, err := users.UpdatePasswordHash(t.Context(), "1", "h", "new", time.Time{})
		if e.dialect == sqlstore.SQLite { // whose views are not written
			require.Error(t, err)
			require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
			return
		}
		require.NoError(t, err)
		require.True(t, changed)
		u, err := users.UserByID(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, oauth2pw.Secret("new"), u.PasswordHash)
	})
}

// TestTableFlags: Update writes a flag in the manner of the stored one.
func TestTableFlags(t *testing.T) {
	onDatabases(t, func(t *testing.T, e engine) {
		db := e.open(t)
		types := map[string][2]string{
			"BOOLEAN": {"FALSE", "TRUE"}, "INTEGER": {"0", "1"}, "SMALLINT": {"0", "1"}, "VARCHAR(9)": {"'N'", "'Y'"}, "VARCHAR(8)": {"'no'", "'yes'"}, "VARCHAR(7)": {"'False'", "'True'"}, "CHAR(1)": {"'f'", "'t'"}, "VARCHAR(6)": {"'0'", "'1'"},
		}
		if e.dialect == sqlstore.SQLite {
			types[""], types["BLOB"] = [2]string{"0", "1"}, [2]string{"0", "1"}
		}
		if e.dialect == sqlstore.MySQL {
			types["BIT(1)"] = [2]string{"b'0'", "b'1'"}
		}
		n := 0
		for kind, values := range types {
			n++
			name := fmt.Sprint("accounts", n)
			run(t, db, fmt.Sprintf("CREATE TABLE %s (id BIGINT PRIMARY KEY, email VARCHAR(99) UNIQUE, pw VARCHAR(200), flag %s)", name, kind))
			run(t, db, fmt.Sprintf("INSERT INTO %s VALUES (1, 'john', 'h', %s)", name, values[0]))
			for _, table := range []sqlstore.UserTable{{Disabled: "flag"}, {Active: "flag"}} {
				table.Table, table.ID, table.Username, table.PasswordHash = name, "id", "email", "pw"
				users, err := sqlstore.NewUsers(db, e.dialect, table)
				require.NoError(t, err)
				for i, disabled := range []bool{true, false, true, false} {
					if table.Active != "" {
						disabled = !disabled
					}
					require.NoError(t, users.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Disabled = disabled; return nil }), kind)
					u, err := users.UserByID(t.Context(), "1")
					require.NoError(t, err, kind)
					require.Equal(t, disabled, u.Disabled, kind)
					var rows int
					require.NoError(t, db.QueryRowContext(t.Context(), fmt.Sprintf("SELECT count(*) FROM %s WHERE flag = %s", name, values[(i+1)%2])).Scan(&rows))
					require.Equal(t, 1, rows, "%s is written as %s", kind, values[(i+1)%2])
				}
			}
		}
	})
}

// TestPostgreSQLNames: a type that folds, and one that adds spaces.
func TestPostgreSQLNames(t *testing.T) {
	db := openPostgreSQL(t, "pgx")
	db.SetMaxOpenConns(1)
	run(t, db, "SELECT set_config('search_path', current_schema() || ', public', false)") // the extension is in public
	run(t, db, "CREATE EXTENSION IF NOT EXISTS citext SCHEMA public")
	for kind, want := range map[string]string{"CITEXT": "", "CHAR(20)": "adds spaces"} {
		name := "accounts_" + strings.ToLower(kind[:2])
		run(t, db, "CREATE TABLE "+name+" (id BIGINT PRIMARY KEY, email "+kind+" UNIQUE, pw TEXT)")
		run(t, db, "INSERT INTO "+name+" VALUES (1, 'John', 'h')")
		for _, folds := range []bool{false, true} {
			users, err := sqlstore.NewUsers(db, sqlstore.PostgreSQL, sqlstore.UserTable{Table: name, ID: "id", Username: "email", PasswordHash: "pw", FoldNames: folds})
			require.NoError(t, err)
			found, err := users.Inspect(t.Context(), func(string) bool { return true }, 10)
			if want != "" {
				require.ErrorContains(t, err, want)
				continue
			}
			require.NoError(t, err)
			require.True(t, found.FoldsNames)
			_, err = users.UserByName(t.Context(), "JOHN")
			require.Equal(t, folds, err == nil)
			u, err := users.UserByName(t.Context(), "John")
			require.NoError(t, err)
			require.Equal(t, "1", u.ID)
		}
	}
}

package integration

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// recorder is a database that remembers its statements, and the arguments of each.
type recorder struct {
	sqlstore.DB
	statements map[string][]any
}

func (r recorder) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	r.statements[query] = args
	return r.DB.ExecContext(ctx, query, args...)
}

func (r recorder) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	r.statements[query] = args
	return r.DB.QueryContext(ctx, query, args...)
}

func (r recorder) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	r.statements[query] = args
	return r.DB.QueryRowContext(ctx, query, args...)
}

// explain returns the plan of a statement: the fields of each of its rows.
func explain(t testing.TB, d sqlstore.Dialect, db sqlstore.DB, query string, args []any) (plan [][]string) {
	t.Helper()
	return explainAs(t, map[sqlstore.Dialect]string{sqlstore.SQLite: "EXPLAIN QUERY PLAN ", sqlstore.PostgreSQL: "EXPLAIN ", sqlstore.MySQL: "EXPLAIN FORMAT=TRADITIONAL "}[d], db, query, args)
}

// explainAs returns the rows of a statement with a word before it.
func explainAs(t testing.TB, word string, db sqlstore.DB, query string, args []any) (plan [][]string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), word+query, args...)
	require.NoError(t, err, query)
	defer rows.Close()
	columns, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		fields := make([]sql.NullString, len(columns))
		dest := make([]any, len(columns))
		for i := range fields {
			dest[i] = &fields[i]
		}
		require.NoError(t, rows.Scan(dest...))
		var texts []string
		for _, f := range fields {
			texts = append(texts, f.String)
		}
		plan = append(plan, texts)
	}
	require.NoError(t, rows.Err())
	return plan
}

// plan returns the plan of a statement of SQLite, a line a step.
func plan(t *testing.T, db *sql.DB, query string, args []any) (steps []string) {
	t.Helper()
	for _, fields := range explain(t, sqlstore.SQLite, db, query, args) {
		steps = append(steps, fields[len(fields)-1])
	}
	return steps
}

// TestSQLitePlans: every statement of the session store finds its rows by an index. List reads
// the live sessions of one user, and End those that are not ended: whatever else the table
// has, and whatever the statistics of ANALYZE say.
func TestSQLitePlans(t *testing.T) {
	const (
		byID = "SEARCH oauth2pw_sessions USING PRIMARY KEY (id=?)"
		live = "SEARCH oauth2pw_sessions USING INDEX oauth2pw_sessions_user_lifetime (user_id=? AND expires_at>?)"
		user = "SEARCH oauth2pw_sessions USING INDEX oauth2pw_sessions_user_lifetime (user_id=?)"
		next = "SEARCH oauth2pw_sessions USING COVERING INDEX oauth2pw_sessions_sweep (sweep_at<?)"
		over = "SEARCH oauth2pw_sessions USING COVERING INDEX oauth2pw_sessions_ended (ended_at<?)"
	)
	db := openSQLite(t)
	openStore(t, db)
	now := olderLogin
	r := recorder{db, make(map[string][]any)}
	s := newStore(t, r).Sessions
	n := oauth2pw.Session{ID: "x", UserID: "1", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(24 * time.Hour)}
	want := make(map[string][]string) // the steps by statement
	record := func(err error, steps ...string) {
		t.Helper()
		require.NoError(t, err)
		added := 0
		for query := range r.statements {
			if _, known := want[query]; !known {
				want[query] = steps
				added++
			}
		}
		require.Equal(t, 1, added, "one statement a call")
	}
	record(s.Create(t.Context(), &n))
	_, err := s.Get(t.Context(), "x")
	record(err, byID)
	_, err = s.Advance(t.Context(), 0, &n, now)
	record(err, byID)
	n.IdleExpiresAt = now.Add(time.Minute)
	_, err = s.Advance(t.Context(), 0, &n, now) // two statements, because the idle time is shorter
	record(err, byID)
	_, err = s.List(t.Context(), "1", now)
	record(err, live)
	_, err = s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1", ID: "x"}, "", now)
	record(err, byID)
	_, err = s.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "", now)
	record(err, user)
	_, err = s.Sweep(t.Context(), now, 10)
	require.NoError(t, err)
	for query := range r.statements {
		switch _, known := want[query]; {
		case known:
		case strings.Contains(query, "ended_at < ?"):
			want[query] = []string{byID, over}
		default:
			want[query] = []string{byID, next}
		}
	}
	fields := reflect.ValueOf(*s)
	statements := 0
	for i := range fields.NumField() {
		if fields.Field(i).Kind() == reflect.String && fields.Field(i).String() != "" { // SQLite needs no statement toEnd
			statements++
			require.Contains(t, want, fields.Field(i).String(), "this statement of the store has no plan in this test")
		}
	}
	require.Equal(t, statements, len(want))
	// The statements of a program of version 2, which runs beside this one. Its sweeps read all
	// sessions.
	for query, steps := range map[string][]string{
		version2Create: nil, version2Get: {byID}, version2Advance: {byID}, version2List: {live}, version2End: {byID}, version2EndAll: {user},
	} {
		want[query] = steps
		r.statements[query] = make([]any, strings.Count(query, "?"))
	}

	check := func(state string) {
		for query, steps := range want {
			got := plan(t, db, query, r.statements[query])
			for _, step := range steps {
				assert.Contains(t, got, step, "%s: %s", state, query)
			}
			found := 0
			for _, step := range got {
				if strings.Contains(step, "oauth2pw_sessions") {
					found++
				}
			}
			assert.Equal(t, len(steps), found, "%s: %s: %q", state, query, got)
		}
	}
	check("an empty table")
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	many := newStore(t, tx)
	for i := range 20_000 {
		n.ID, n.EndedAt, n.IdleExpiresAt = fmt.Sprint(i), time.Time{}, now.Add(time.Duration(i-10_000)*time.Second)
		if i%2 == 0 {
			n.EndedAt = now
		}
		require.NoError(t, many.Sessions.Create(t.Context(), &n))
	}
	require.NoError(t, tx.Commit())
	check("many sessions of one user")
	run(t, db, "ANALYZE")
	check("many sessions of one user, and statistics")
}

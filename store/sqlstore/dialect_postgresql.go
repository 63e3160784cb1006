package sqlstore

import (
	"context"
	"database/sql"
	_ "embed"
)

var (
	//go:embed schema_postgresql_3.sql
	postgreSQL3 string
	//go:embed schema_postgresql_4.sql
	postgreSQL4 string
)

var postgreSQL = dialect{
	quoted: `"`, numbers: true,
	onConflict: " ON CONFLICT DO NOTHING", same: "IS NOT DISTINCT FROM", textOf: "CAST(%s AS TEXT)", returning: true, rereads: true, locks: " FOR NO KEY UPDATE",
	code:       sqlState,
	exists:     []string{"23505"},                   // unique_violation
	conflicts:  []string{"40001", "40P01"},          // serialization_failure, deadlock_detected
	impossible: []string{"22P02", "22003", "22021"}, // a text that is no number or UUID, a number out of range, a NUL or invalid UTF-8

	noNUL:  true,
	padded: "BPCHAR", zoneless: "TIMESTAMP",

	steps: []step{{0, 3, postgreSQL3, ""}, {3, 4, postgreSQL4, ""}},
	versionTable: `CREATE TABLE IF NOT EXISTS {schema} (version INTEGER NOT NULL);
`,
	hasVersion: `SELECT to_regclass('{schema}') IS NOT NULL`,
	locked:     postgreSQLLocked,
}

// postgreSQLLocked holds an advisory lock until the end of a transaction. The lock is of the
// name of the tables, because two programs may have tables of their own. The snapshot of the
// transaction must not be older than the lock.
func postgreSQLLocked(ctx context.Context, s schema, work func(DB) error) error {
	return inTransaction(ctx, s.db.DB, &sql.TxOptions{Isolation: sql.LevelReadCommitted}, func(db DB) error {
		for _, statement := range []string{`SELECT pg_advisory_xact_lock(hashtextextended('{prefix}schema', 0))`, s.db.versionTable, versionRow} {
			if _, err := db.ExecContext(ctx, s.sql(statement)); err != nil {
				return err
			}
		}
		return work(db)
	})
}

package sqlstore

import (
	"context"
	_ "embed"
)

var (
	//go:embed schema_sqlite_1.sql
	sqlite1 string
	//go:embed schema_sqlite_2.sql
	sqlite2 string
	//go:embed schema_sqlite_3.sql
	sqlite3 string
	//go:embed schema_sqlite_4.sql
	sqlite4 string
)

var sqlite = dialect{
	quoted: `"`, turns: true, prepares: true,
	onConflict: " ON CONFLICT DO NOTHING", same: "IS", textOf: "CAST(%s AS TEXT) COLLATE BINARY", returning: true, rereads: true,
	code: func(error) string { return "" }, // no error is expected
	// Declared or not, every table has these columns, and SQLite uses their numbers again. With
	// "oid", a typo of "uid", every user would have another ID.
	rowNumbers: []string{"oid", "rowid", "_rowid_"},

	before: sqliteBefore,
	steps:  []step{{0, 1, sqlite1, ""}, {1, 2, sqlite2, ""}, {2, 3, sqlite3, ""}, {3, 4, sqlite4, ""}},
	versionTable: `CREATE TABLE IF NOT EXISTS {schema} (version INTEGER NOT NULL) STRICT;
`,
	hasVersion: `SELECT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}schema'))`,
	locked:     sqliteLocked,
}

// sqliteLocked begins a transaction whose first statement is a write, even where the row of the
// version exists. Such a transaction waits for the writes of other processes, and then reads
// their result. SQLite refuses the write of a transaction that has read before them.
func sqliteLocked(ctx context.Context, s schema, work func(DB) error) error {
	if _, err := s.db.ExecContext(ctx, s.sql(s.db.versionTable)); err != nil {
		return err
	}
	return inTransaction(ctx, s.db.DB, nil, func(db DB) error {
		if _, err := db.ExecContext(ctx, s.sql(versionRow)); err != nil {
			return err
		}
		return work(db)
	})
}

// The first table of sessions had no version and no created_at.
const (
	sqliteLacksCreatedAt = `SELECT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}sessions'))
		AND NOT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}sessions') WHERE name = 'created_at')`
	sqliteAddCreatedAt = `ALTER TABLE "{prefix}sessions" ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
		UPDATE "{prefix}sessions" SET created_at = authenticated_at;`
)

// sqliteBefore returns the statements that the oldest tables need before a step.
func sqliteBefore(ctx context.Context, s schema, db DB, version int) (statements string, err error) {
	if version != 0 {
		return "", nil
	}
	var lacks bool
	if err := db.QueryRowContext(ctx, s.sql(sqliteLacksCreatedAt)).Scan(&lacks); err != nil || !lacks {
		return "", err
	}
	return sqliteAddCreatedAt, nil
}

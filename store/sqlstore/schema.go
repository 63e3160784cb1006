package sqlstore

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"strings"
)

// SchemaVersion is the version of the tables that this program knows. A database has its
// version in the one row of the table "{prefix}schema".
const SchemaVersion = 3

var (
	//go:embed schema_sqlite_1.sql
	sqlite1 string
	//go:embed schema_sqlite_2.sql
	sqlite2 string
	//go:embed schema_sqlite_3.sql
	sqlite3 string
)

// sqliteSteps[n] brings the tables from version n to version n+1.
//
// A released step never changes. A step only adds: columns with a default, and indexes. An
// index may replace another index under a new name. So an older program that runs already can
// continue with the tables. A column keeps its name when its Go field gets another name.
var sqliteSteps = [SchemaVersion]string{sqlite1, sqlite2, sqlite3}

const (
	sqliteVersionTable = `CREATE TABLE IF NOT EXISTS "{prefix}schema" (version INTEGER NOT NULL) STRICT;
`
	sqliteVersionRow = `INSERT INTO "{prefix}schema" (version) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM "{prefix}schema");
`

	// The first table of sessions had no version and no created_at.
	sqliteLacksCreatedAt = `SELECT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}sessions'))
		AND NOT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}sessions') WHERE name = 'created_at')`
	sqliteAddCreatedAt = `ALTER TABLE "{prefix}sessions" ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
		UPDATE "{prefix}sessions" SET created_at = authenticated_at;`
)

// schema is the tables of a Store, and their version.
type schema struct {
	db     database
	prefix string
}

func (s schema) sql(statements string) string {
	return strings.ReplaceAll(statements, "{prefix}", s.prefix)
}

func (s schema) setVersion(version int) string {
	return s.sql(fmt.Sprintf("UPDATE \"{prefix}schema\" SET version = %d;\n", version))
}

// Schema returns the statements that bring the tables from a version to
// [SchemaVersion], for people who run their own tool: 0 is a database without these
// tables. From SchemaVersion on the result is empty. Run the statements once, in one
// transaction. Tables that are older than the table "{prefix}schema" need Migrate.
func (s *Store) Schema(from int) string {
	from = max(from, 0)
	if from >= SchemaVersion {
		return ""
	}
	statements := ""
	if from == 0 {
		statements = sqliteVersionTable + sqliteVersionRow
	}
	statements += strings.Join(sqliteSteps[from:], "\n")
	return s.schema.sql(statements) + s.schema.setVersion(SchemaVersion)
}

// CheckSchema returns an error if the tables have another version than
// [SchemaVersion]. The error names the remedy. CheckSchema reads one row, and changes
// nothing.
func (s *Store) CheckSchema(ctx context.Context) error {
	version, err := s.schema.version(ctx, s.db)
	if err == nil && version < SchemaVersion {
		err = fmt.Errorf("the database has schema version %d; this program needs %d: call Migrate, or run Schema(%d)", version, SchemaVersion, version)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	return nil
}

// Migrate makes the tables, or brings older ones to [SchemaVersion], one version a
// transaction. Call Migrate at every start. Of several processes that call Migrate at once, one
// migrates, and the others wait. After a failure or a crash the next call continues from the
// last version that was reached. Sessions stay live. A newer version than SchemaVersion
// is an error, and changes nothing.
//
// A *sql.DB or a *sql.Conn begins these transactions. Any other DB must be a transaction
// itself, as a *sql.Tx is: all changes are part of it. In SQLite, begin it with BEGIN
// IMMEDIATE; otherwise it may fail with SQLITE_BUSY where another process migrates.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.db.inTurn(ctx, func() error { return s.schema.migrate(ctx) }); err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	return nil
}

func (s schema) migrate(ctx context.Context) error {
	version, err := s.version(ctx, s.db)
	if err != nil || version == SchemaVersion {
		return err
	}
	if _, err := s.db.ExecContext(ctx, s.sql(sqliteVersionTable)); err != nil {
		return fmt.Errorf("migrating: %w", err)
	}
	for version < SchemaVersion {
		if version, err = s.inTransaction(ctx, s.step); err != nil {
			return err
		}
	}
	return nil
}

// version reads the version of the tables: 0 if the database has none. An unknown version
// is an error.
func (s schema) version(ctx context.Context, db DB) (version int, err error) {
	var written bool
	err = db.QueryRowContext(ctx, s.sql(`SELECT EXISTS (SELECT 1 FROM pragma_table_info('{prefix}schema'))`)).Scan(&written)
	if err == nil && written {
		err = db.QueryRowContext(ctx, s.sql(`SELECT COALESCE(max(version), 0) FROM "{prefix}schema"`)).Scan(&version)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the schema version: %w", err)
	}
	if version < 0 || version > SchemaVersion {
		return 0, fmt.Errorf("the database has schema version %d; this program knows %d: update the program", version, SchemaVersion)
	}
	return version, nil
}

// inTransaction runs step in a transaction, and returns the version of the tables after it.
func (s schema) inTransaction(ctx context.Context, step func(context.Context, DB) (int, error)) (version int, err error) {
	pool, ok := s.db.DB.(interface {
		BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
	})
	if !ok {
		return step(ctx, s.db)
	}
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("migrating: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	if version, err = step(ctx, tx); err != nil {
		return 0, err
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("migrating to schema version %d: %w", version, err)
	}
	return version, nil
}

// step brings the tables to the next version, unless another process has done it
// meanwhile, and returns their version.
func (s schema) step(ctx context.Context, db DB) (version int, err error) {
	// The first statement is a write even where the row exists. A transaction that begins
	// with a write waits for the writes of other processes, and then reads their result.
	// SQLite refuses the write of a transaction that has read before them.
	if _, err := db.ExecContext(ctx, s.sql(sqliteVersionRow)); err != nil {
		return 0, fmt.Errorf("migrating: %w", err)
	}
	if version, err = s.version(ctx, db); err != nil || version == SchemaVersion {
		return version, err
	}
	statements := sqliteSteps[version]
	if version == 0 {
		var lacks bool
		if err := db.QueryRowContext(ctx, s.sql(sqliteLacksCreatedAt)).Scan(&lacks); err != nil {
			return 0, fmt.Errorf("migrating: %w", err)
		}
		if lacks {
			statements = sqliteAddCreatedAt + statements
		}
	}
	version++
	if _, err := db.ExecContext(ctx, s.sql(statements)+s.setVersion(version)); err != nil {
		return 0, fmt.Errorf("migrating to schema version %d: %w", version, err)
	}
	return version, nil
}

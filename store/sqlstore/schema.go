package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// SchemaVersion is the version of the tables that this program knows. A database has its
// version in the one row of the table "{prefix}schema".
const SchemaVersion = 4

// A released step never changes. A step only adds: columns with a default, and indexes. An
// index may replace another index under a new name. So an older program that runs already can
// continue with the tables. A column keeps its name when its Go field gets another name.

const versionRow = `INSERT INTO {schema} (version) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM {schema});
`

// schema is the tables of a Store, and their version.
type schema struct {
	db     database
	prefix string
}

func (s schema) sql(statements string) string {
	return strings.NewReplacer("{prefix}", s.prefix, "{schema}", s.db.quote(s.prefix+"schema")).Replace(statements)
}

func (s schema) setVersion(version int) string {
	return s.sql(fmt.Sprintf("UPDATE {schema} SET version = %d;\n", version))
}

// run runs the statements of a text, one a call, because some drivers run only the first.
func (s schema) run(ctx context.Context, db DB, text string) error {
	for statement := range strings.SplitSeq(s.sql(text), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// Schema returns the statements that bring the tables from a version to
// [SchemaVersion], for people who run their own tool: 0 is a database without these
// tables. From SchemaVersion on, and for a version that no such database ever had, the result
// is empty. Run the statements once, in one
// transaction where the database has transactions for them. Tables that are older than the
// table "{prefix}schema" need Migrate.
func (s *Store) Schema(from int) string {
	from = max(from, 0)
	if from >= SchemaVersion {
		return ""
	}
	if !slices.ContainsFunc(s.db.steps, func(p step) bool { return p.from == from }) {
		return ""
	}
	text := ""
	if from == 0 {
		text = s.db.versionTable + versionRow
	}
	for _, step := range s.db.steps {
		if step.from >= from {
			text += step.statements + "\n"
		}
	}
	return s.schema.sql(strings.TrimSuffix(text, "\n")) + s.schema.setVersion(SchemaVersion)
}

// CheckSchema returns an error if the tables have another version than
// [SchemaVersion]. The error names the remedy. CheckSchema reads one row, and changes
// nothing. In MySQL it also checks the settings of the connection, by an UPDATE that writes the
// version as it is.
func (s *Store) CheckSchema(ctx context.Context) error {
	version, err := s.schema.version(ctx, s.db)
	if err == nil && version < SchemaVersion {
		err = fmt.Errorf("the database has schema version %d; this program needs %d: call Migrate, or run Schema(%d)", version, SchemaVersion, version)
	}
	if err == nil && s.db.check != nil {
		err = s.db.check(ctx, s.schema)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	return nil
}

// Migrate makes the tables, or brings older ones to [SchemaVersion], one version after the
// other. Call Migrate at every start. Of several processes that call Migrate at once, one
// migrates, and the others wait. After a failure or a crash the next call continues from the
// last version that was reached. Sessions stay live. A newer version than SchemaVersion
// is an error, and changes nothing.
//
// Each version is a transaction, which a *sql.DB or a *sql.Conn begins. Any other DB must be a
// transaction itself, as a *sql.Tx is: all changes are part of it. In SQLite, begin it with
// BEGIN IMMEDIATE; otherwise it may fail with SQLITE_BUSY where another process migrates.
// PostgreSQL waits for others by an advisory lock. MySQL has no transactions for tables, and a
// *sql.Tx is an error there: Migrate holds a named lock of its connection.
func (s *Store) Migrate(ctx context.Context) error {
	err := s.db.inTurn(ctx, func() error { return s.schema.migrate(ctx) })
	if err == nil && s.db.check != nil {
		err = s.db.check(ctx, s.schema)
	}
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	return nil
}

func (s schema) migrate(ctx context.Context) error {
	version, err := s.version(ctx, s.db)
	if err != nil || version == SchemaVersion {
		return err
	}
	for version < SchemaVersion {
		var failed error // the error of a step begins with "migrating"
		err := s.db.locked(ctx, s, func(db DB) error {
			version, failed = s.step(ctx, db)
			return failed
		})
		switch {
		case failed != nil:
			return err
		case err != nil:
			return fmt.Errorf("migrating: %w", err)
		}
	}
	return nil
}

// version reads the version of the tables: 0 if the database has none. An unknown version
// is an error.
func (s schema) version(ctx context.Context, db DB) (version int, err error) {
	var written bool
	err = db.QueryRowContext(ctx, s.sql(s.db.hasVersion)).Scan(&written)
	if err == nil && written {
		err = db.QueryRowContext(ctx, s.sql(`SELECT COALESCE(max(version), 0) FROM {schema}`)).Scan(&version)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the schema version: %w", err)
	}
	if version < 0 || version > SchemaVersion {
		return 0, fmt.Errorf("the database has schema version %d; this program knows %d: update the program", version, SchemaVersion)
	}
	return version, nil
}

// step brings the tables to the next version, unless another process has done it
// meanwhile, and returns their version.
func (s schema) step(ctx context.Context, db DB) (version int, err error) {
	if version, err = s.version(ctx, db); err != nil || version == SchemaVersion {
		return version, err
	}
	i := slices.IndexFunc(s.db.steps, func(step step) bool { return step.from == version })
	if i < 0 {
		return version, errors.New("no step begins at this version")
	}
	before := ""
	if s.db.before != nil {
		if before, err = s.db.before(ctx, s, db, version); err != nil {
			return version, err
		}
	}
	step := s.db.steps[i]
	if step.hasRun != "" {
		var run bool
		if err := db.QueryRowContext(ctx, s.sql(step.hasRun)).Scan(&run); err != nil {
			return version, err
		}
		if run {
			step.statements = ""
		}
	}
	if err := s.run(ctx, db, before+step.statements+"\n"+s.setVersion(step.to)); err != nil {
		return version, fmt.Errorf("migrating to schema version %d: %w", step.to, err)
	}
	return step.to, nil
}

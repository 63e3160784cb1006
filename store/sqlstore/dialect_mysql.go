package sqlstore

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"regexp"
	"strings"
)

var (
	//go:embed schema_mysql_3.sql
	mySQL3 string
	//go:embed schema_mysql_4.sql
	mySQL4 string
)

var mySQL = dialect{
	quoted: "`",
	same:   "<=>", joins: true, locks: " FOR UPDATE", textOf: "CAST(%s AS BINARY)",
	idOf:      "CAST(CAST(%s AS CHAR) AS BINARY)", // the type UUID has 16 bytes
	code:      mySQLCode,
	exists:    []string{"1062"},         // ER_DUP_ENTRY
	conflicts: []string{"1213", "1205"}, // ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT
	impossible: []string{
		"1267", "3854", "3988", // a text that the character set of the column cannot hold
		"1292 Truncated", // ER_TRUNCATED_WRONG_VALUE: MySQL, not MariaDB, for an UPDATE or DELETE of a word for an integer
	},

	textTimes: errors.New("the DSN needs parseTime=true, so that the driver converts the zone both ways"),

	steps: []step{{0, 3, mySQL3, ""}, {3, 4, mySQL4,
		`SELECT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '{prefix}sessions' AND column_name = 'sweep_at')`}},
	versionTable: `CREATE TABLE IF NOT EXISTS {schema} (version INTEGER NOT NULL) ENGINE=InnoDB;
`,
	hasVersion: `SELECT EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '{prefix}schema')`,
	check:      mySQLCheck,
	locked:     mySQLLocked,
}

// mySQLCode returns the number of an error of the server. The driver has a field for it, and no
// method; its text begins with "Error 1062 (23000): ". The number 1292 has " Truncated" after it if
// the value is of a comparison, and not of the column that a statement sets.
func mySQLCode(err error) string {
	m := mySQLError.FindStringSubmatch(err.Error())
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

var mySQLError = regexp.MustCompile(`^Error (\d+)\b(?: \(\w+\):( Truncated)?)?`)

// longestLock is the longest wait for a lock, in seconds. At the end of a context the driver closes
// its connection, and the server continues with the statement: a refresh that waits for a lock would
// happen after its answer was 503, when the client's next try may be a reuse.
const longestLock = 5

// mySQLCheck requires that a value which is too long is an error, that a wait for a lock is short,
// and that an UPDATE counts the rows that it finds, as in every other database, and not only those
// that it changes.
func mySQLCheck(ctx context.Context, s schema) error {
	var (
		mode         string
		rows, tables int64
		wrong        []string
	)
	if err := s.db.QueryRowContext(ctx, "SELECT @@SESSION.sql_mode, @@SESSION.innodb_lock_wait_timeout, @@SESSION.lock_wait_timeout").Scan(&mode, &rows, &tables); err != nil {
		return err
	}
	if !strings.Contains(mode, "STRICT_TRANS_TABLES") && !strings.Contains(mode, "STRICT_ALL_TABLES") {
		wrong = append(wrong, "the sql_mode is not strict: the server would cut values that are too long, ids included")
	}
	if max(rows, tables) > longestLock {
		wrong = append(wrong, "the DSN needs innodb_lock_wait_timeout=2&lock_wait_timeout=2 (seconds): a refresh that waits longer for a lock would happen after its answer was 503")
	}
	result, err := s.db.ExecContext(ctx, s.sql("UPDATE {schema} SET version = version"))
	if err != nil {
		return err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		wrong = append(wrong, "the DSN needs clientFoundRows=true: otherwise an UPDATE does not count unchanged rows")
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// mySQLLocked holds a named lock on one connection. Locks are of the server, so that the name
// has the database. MySQL commits each change of a table by itself: the statements of a step must
// be able to run again after a crash, or the step has a query that finds their effect.
func mySQLLocked(ctx context.Context, s schema, work func(DB) error) error {
	conn, err := mySQLConn(ctx, s.db.DB)
	if err != nil {
		return err
	}
	if closer, ok := conn.(*sql.Conn); ok && s.db.DB != DB(closer) {
		defer closer.Close()
	}
	name := s.prefix + "schema"
	var locked sql.NullBool
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(SHA2(CONCAT(DATABASE(), ?), 256), 60)", name).Scan(&locked); err != nil {
		return err
	}
	if !locked.Bool {
		return errors.New("another process migrates for more than a minute")
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(SHA2(CONCAT(DATABASE(), ?), 256))", name)
	}()
	for _, statement := range []string{s.db.versionTable, versionRow} {
		if _, err := conn.ExecContext(ctx, s.sql(statement)); err != nil {
			return err
		}
	}
	return work(conn)
}

func mySQLConn(ctx context.Context, db DB) (DB, error) {
	switch pool := db.(type) {
	case *sql.Conn:
		return pool, nil
	case interface {
		Conn(ctx context.Context) (*sql.Conn, error)
	}:
		return pool.Conn(ctx)
	default:
		return nil, errors.New("MySQL cannot change tables in a transaction: Migrate needs a *sql.DB or a *sql.Conn")
	}
}

package program

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite"
)

// MemoryDB is the -db of a database in memory.
const MemoryDB = ":memory:"

// OpenDB opens a SQLite file, or a database in memory, and reads from it once, so that an
// unusable file is an error at the start.
func OpenDB(ctx context.Context, file string) (*sql.DB, error) {
	dsn := MemoryDB
	if file != MemoryDB {
		// Mode 0600, because the file has password hashes, and may have other secrets.
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the database: %w", err)
		}
		f.Close()
		path := url.URL{Path: file}
		dsn = "file:" + path.EscapedPath() + "?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"
	}
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("the database %s: %w", file, err)
	}
	if file == MemoryDB {
		db.SetMaxOpenConns(1) // each connection would be a database of its own
	}
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&n); err != nil {
		db.Close()
		return nil, fmt.Errorf("the database %s: %w", file, err)
	}
	return db, nil
}

//go:build cgo

package sqlitedriver

import (
	"testing"

	_ "github.com/mattn/go-sqlite3"
)

// TestMattn: mattn/go-sqlite3, which is SQLite compiled by the C compiler.
func TestMattn(t *testing.T) {
	Suite(t, Driver{Name: "sqlite3", Settings: "_busy_timeout=5000&_journal_mode=WAL&_synchronous=NORMAL"})
}

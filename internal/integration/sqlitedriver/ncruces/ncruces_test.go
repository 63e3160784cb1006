// Package ncruces tests store/sqlstore with ncruces/go-sqlite3.
package ncruces

import (
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/oauth2pw/passwordflow/internal/integration/sqlitedriver"
)

// TestNcruces: ncruces/go-sqlite3, which is SQLite as Wasm, translated to Go.
func TestNcruces(t *testing.T) {
	sqlitedriver.Suite(t, sqlitedriver.Driver{Name: "sqlite3", Settings: "_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)"})
}

//go:build linux

package integration

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestFullDisk: without room in the database a login is 503 and leaves no session, and no session
// is lost or forked. With room again the service returns by itself.
func TestFullDisk(t *testing.T) {
	t.Run("a database that cannot grow", func(t *testing.T) {
		db := openSQLite(t)
		db.SetMaxOpenConns(1) // the limit is that of a connection
		var pages int
		testFullDisk(t, db, func() {
			require.NoError(t, db.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&pages))
			run(t, db, fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		}, func() { run(t, db, "PRAGMA max_page_count = 1000000") })
	})
	t.Run("a file system without room", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
			t.Skipf("no small file system: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, 0)) })
		filler := filepath.Join(dir, "filler")
		db := opened(t, "sqlite", sqliteDSN(filepath.Join(dir, "test.db")))
		testFullDisk(t, db, func() {
			f, err := os.Create(filler)
			require.NoError(t, err)
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			require.ErrorIs(t, err, syscall.ENOSPC)
		}, func() { require.NoError(t, os.Remove(filler)) })
	})
}

func testFullDisk(t *testing.T, db *sql.DB, fill, free func()) {
	const devices = 50
	st := openStore(t, db)
	require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "john", PasswordHash: "secret"}))
	a := newDBApp(t, st, func(c *oauth2pw.Config) { c.MaxSessions = 1000 })
	type held struct {
		answer
		generation uint64
	}
	var list []*held
	login := func() int {
		got := a.login(t.Context(), "john", "secret")
		if got.status == 200 {
			list = append(list, &held{got, 1})
		}
		return got.status
	}
	for range devices {
		require.Equal(t, 200, login())
	}
	refreshes := make(map[int]int) // by status
	refresh := func(h *held) int {
		got := a.refresh(t.Context(), h.Refresh)
		refreshes[got.status]++
		if got.status == 200 {
			require.Equal(t, got.Refresh, a.refresh(t.Context(), h.Refresh).Refresh, "a fork")
			h.answer, h.generation = got, h.generation+1
		}
		return got.status
	}

	fill()
	for status := 200; status != 503; status = login() {
		require.Equal(t, 200, status)
		require.Less(t, len(list), 900, "the database does not fill")
	}
	for range 2 {
		for _, h := range list {
			require.Equal(t, 200, a.send(t.Context(), "/me", h.Access, nil).status, "a session can be read")
			require.Contains(t, []int{200, 503}, refresh(h))
		}
		require.Contains(t, []int{200, 503}, login()) // a refresh may have made room
	}
	t.Logf("%d logins without room, refreshes by status: %v", len(list)-devices, refreshes)

	free()
	want := make(map[uint64]int)
	for _, h := range list {
		require.Equal(t, 200, refresh(h), "the service returns by itself")
		want[h.generation]++
	}
	got := make(map[uint64]int)
	for _, s := range a.live(t, "1") {
		got[s.Generation]++
	}
	require.Equal(t, want, got, "sessions by generation: one live session for each login that was answered")
	require.Equal(t, 200, login())
}

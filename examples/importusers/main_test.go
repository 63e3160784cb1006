package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"database/sql"
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// bcrypt is a hash of "secret".
const bcrypt = "$2b$04$Qs5GysSQ8I.XK6mo9uLKzu4I4u4oo4kkrYWilYixsRF39pi04XJRO"

func open(t *testing.T) (*sql.DB, *sqlstore.Store) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "users.db")+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	return db, st
}

func TestImport(t *testing.T) {
	db, st := open(t)
	var log strings.Builder
	users := `1,alice,` + bcrypt + `
2,"bob ""the"" builder",` + bcrypt + `,me items
3,carol,md5$x$y
4,dave
5,alice,` + bcrypt + `
,eve,` + bcrypt + `
6,fr"ank,` + bcrypt + `
7,"gr
ace",` + bcrypt + `
`
	for i := range 2500 {
		users += fmt.Sprintf("u%d,user%d,%s\n", i, i, bcrypt)
	}
	err := importUsers(t.Context(), db, strings.NewReader(users), &log, io.Discard)
	require.ErrorContains(t, err, "some lines")
	for _, line := range []string{"line 3: user \"3\": the hash", "line 4: 2 fields", "line 5: ", "line 6: ", "line 7: ", "2503 users imported, 0 of them mended; 0 were there already; 5 lines not"} {
		require.Contains(t, log.String(), line)
	}
	require.NotContains(t, log.String(), bcrypt)
	bob, err := st.Users.UserByName(t.Context(), `bob "the" builder`)
	require.NoError(t, err)
	require.Equal(t, []string{"me", "items"}, bob.Scopes)
	require.True(t, hasher.Default().Reads(string(bob.PasswordHash)))
	_, err = st.Users.UserByID(t.Context(), "u2499")
	require.NoError(t, err)
	require.NoError(t, importUsers(t.Context(), db, strings.NewReader("new,new,"+bcrypt+"\n"), &log, io.Discard))
}

// faults are hashes of rows, with the report of each; "": imported without a word.
var faults = []struct{ hash, report string }{
	{bcrypt, ""},
	{bcrypt + "  ", "mended: spaces around"},
	{"\ufeff" + bcrypt, "mended: spaces around"},
	{"b'" + bcrypt + "'", "mended: Python's b'…'"},
	{`b"` + bcrypt + `" `, "mended: Python's b'…'"},
	{"b'" + bcrypt, "an unclosed b'…'"},
	{"{old}" + bcrypt, "mended: an unknown {old} before the hash"},
	{"{bcrypt}" + bcrypt, ""},
	{"{BLF-CRYPT}" + bcrypt, ""},
	{"{CRYPT}" + bcrypt, ""},
	{"{ARGON2ID}" + bcrypt, "mended: an unknown {ARGON2ID} before the hash"},
	{bcrypt[:59], "cut off: the old column was too short"},
	{"$2b$31$" + bcrypt[7:], "a cost over the cap"},
	{"", "mended: no password"},
	{"!", "mended: no password"},
	{"!Xy12", "mended: no password"},
	{"NULL", "mended: no password"},
	{"5ebe2294ecd0e0f08eab7690d2a6ee69", "looks like MD5 without a salt"},
	{"e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "looks like SHA-1 or SHA-2"},
	{"{noop}secret", "a password in clear text"},
	{"$1$salt$x", "an unknown format"},
	{"pbkdf2:md5:1$x$y", "an unknown format"},
	{"secret", "of no format"},
	{sshaOfSecret, ""},
	{"{SSHA}" + base64.StdEncoding.EncodeToString(make([]byte, 20)), "an unknown format"},
	{shaCryptOfSecret, ""},
	{"{SHA512-CRYPT}" + shaCryptOfSecret, ""},
	{strings.Replace(shaCryptOfSecret, "rounds=5000", "rounds=999999999", 1), "a cost over the cap"},
}

// TestEveryFault: 10^5 rows with every fault in them. The import is interrupted and run again:
// no user is lost, none is there twice, and each bad row is named with its line and reason.
func TestEveryFault(t *testing.T) {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	bad := 0
	for i := range rows {
		f := faults[i%len(faults)]
		require.NoError(t, w.Write([]string{fmt.Sprint("id", i), fmt.Sprint("user", i), f.hash}))
		if f.report != "" && !strings.HasPrefix(f.report, "mended") {
			bad++
		}
	}
	w.Flush()
	db, st := open(t)

	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var first strings.Builder
	err := importUsers(ctx, db, io.MultiReader(io.LimitReader(bytes.NewReader(text.Bytes()), int64(text.Len()/2)), interrupting(interrupt)), &first, io.Discard)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "which are stored")
	var stored int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM oauth2pw_users").Scan(&stored))
	require.Greater(t, stored, 0)
	require.Less(t, stored, rows)
	require.ErrorContains(t, err, fmt.Sprintf("after %d users", stored))

	var log, rejected strings.Builder
	require.ErrorContains(t, importUsers(t.Context(), db, bytes.NewReader(text.Bytes()), &log, &rejected), "some lines")
	require.Contains(t, log.String(), fmt.Sprintf("%d users imported", rows-bad-stored))
	require.Contains(t, log.String(), fmt.Sprintf("%d were there already; %d lines not imported", stored, bad))
	var total int
	require.NoError(t, db.QueryRow("SELECT count(*) FROM oauth2pw_users").Scan(&total))
	require.Equal(t, rows-bad, total)

	// Each line is reported once over both runs, and each bad line is kept.
	reports := make(map[string]string)
	for line := range strings.Lines(first.String() + log.String()) {
		if number, report, found := strings.Cut(strings.TrimPrefix(line, "line "), ": "); found && strings.HasPrefix(line, "line ") {
			reports[number] = report
		}
	}
	lost, err := csv.NewReader(strings.NewReader(rejected.String())).ReadAll()
	require.NoError(t, err)
	require.Len(t, lost, bad)
	next := 0
	for i := range rows {
		f := faults[i%len(faults)]
		report := reports[fmt.Sprint(i+1)]
		if f.report == "" {
			require.Empty(t, report, f.hash)
			continue
		}
		require.Contains(t, report, f.report, "%q", f.hash)
		require.Contains(t, report, fmt.Sprintf("%q", fmt.Sprint("id", i)))
		if !strings.HasPrefix(f.report, "mended") {
			require.Equal(t, []string{fmt.Sprint("id", i), fmt.Sprint("user", i), f.hash}, lost[next])
			next++
		}
	}
	require.NotContains(t, log.String(), bcrypt[10:])

	// The Hasher of the app verifies each imported hash.
	h, err := hasher.New(hasher.Config{Schemes: schemes()})
	require.NoError(t, err)
	for i, f := range faults {
		u, err := st.Users.UserByID(t.Context(), fmt.Sprint("id", i))
		if f.report != "" && !strings.HasPrefix(f.report, "mended") {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err, f.hash)
		ok, _, err := h.Verify(t.Context(), string(u.PasswordHash), "secret")
		require.NoError(t, err)
		require.Equal(t, f.report != "mended: no password", ok, f.hash)
	}
}

// interrupting is a reader that interrupts the import, and then reads nothing.
func interrupting(interrupt func()) io.Reader {
	return readerFunc(func([]byte) (int, error) { interrupt(); return 0, io.EOF })
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// sshaOfSecret is made here: a SHA-1 of "secret" and a salt.
var sshaOfSecret = func() string {
	sum := sha1.Sum([]byte("secretsalt"))
	return "{SSHA}" + base64.StdEncoding.EncodeToString(append(sum[:], "salt"...))
}()

// shaCryptOfSecret is made by crypt(3) of glibc.
const shaCryptOfSecret = "$6$rounds=5000$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1"

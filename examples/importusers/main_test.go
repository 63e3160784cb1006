package main

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

func TestImport(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "users.db"))
	require.NoError(t, err)
	defer db.Close()
	const hash = "$2b$04$YvZWYQYwMPSJHNvbjU6yO.tOTaS1tOEMNJrWIYGUx5kLQjK.fcCZO"
	var log strings.Builder
	users := `1,alice,` + hash + `
2,"bob ""the"" builder",` + hash + `,me items
3,carol,md5$x$y
4,dave
5,alice,` + hash + `
,eve,` + hash + `
6,fr"ank,` + hash + `
7,"gr
ace",` + hash + `
`
	for i := range 2500 {
		users += fmt.Sprintf("u%d,user%d,%s\n", i, i, hash)
	}
	err = importUsers(t.Context(), db, strings.NewReader(users), &log)
	require.ErrorContains(t, err, "some lines")
	for _, line := range []string{"line 3: the hash", "line 4: 2 fields", "line 5: ", "line 6: ", "line 7: ", "2503 users imported, 5 lines not"} {
		require.Contains(t, log.String(), line)
	}
	require.NotContains(t, log.String(), hash)
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	bob, err := st.Users.UserByName(t.Context(), `bob "the" builder`)
	require.NoError(t, err)
	require.Equal(t, []string{"me", "items"}, bob.Scopes)
	require.True(t, hasher.Default().Reads(string(bob.PasswordHash)))
	_, err = st.Users.UserByID(t.Context(), "u2499")
	require.NoError(t, err)
	require.NoError(t, importUsers(t.Context(), db, strings.NewReader("new,new,"+hash+"\n"), &log))
}

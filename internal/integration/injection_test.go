package integration

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// hostile are texts that a statement, a driver or a column may take for something else.
var hostile = map[string]string{
	"a quote":                    "'",
	"a condition":                "bystander' OR '1'='1",
	"a condition, double quotes": `bystander" OR "1"="1`,
	"a statement":                "x'; DELETE FROM oauth2pw_users; DELETE FROM oauth2pw_sessions; --",
	"backticks":                  "`id`",
	"a backslash":                `\`,
	"a backslash before a quote": `\' OR 1=1 -- `,
	"a quote of GBK":             "\xbf\x27 OR 1=1 -- ",
	"arguments":                  "$1 ? ?1 :a @a %s {prefix} {schema}",
	"dollar quotes":              "$$bystander$$",
	"NUL":                        "bystander\x00",
	"a line end":                 "bystander\r\n",
	"lines":                      "a\r\nb\rc\nd\te",
	"invalid UTF-8":              "bystander\xff",
	"a long form of UTF-8":       "\xc0\xa7 OR 1=1",
	"the start of a rune":        "bystander\xf0\x9f",
	"emoji":                      "👩🏽‍💻😀",
	"right to left":              "\u202erednatsyb\u202c\u200f",
	"a letter of width zero":     "by\u200bstander\ufeff",
	"an accent":                  "bysta\u0301nder",
	"any":                        "%",
	"any letter":                 "bystande_",
	"upper case":                 "BYSTANDER",
	"a space at the end":         "bystander ",
	"NULL":                       "NULL",
	"a number":                   "7",
	"a number with a fraction":   "7.0",
	"a number and a text":        "7bystander",
	"a big number":               "18446744073709551623",
	"256 bytes":                  strings.Repeat("x", 256),
	"2 KiB":                      strings.Repeat("😀", 512),
	"1 MiB":                      strings.Repeat("bystander ", 1<<20/10),
}

// bystanders are rows that no call of the test may touch.
var bystanderUser = oauth2pw.User{ID: "7", Username: "bystander", PasswordHash: "hash", Scopes: []string{"me"}, SessionsValidFrom: olderLogin}

func bystanderSession() *oauth2pw.Session {
	s := sessionOf("bystander", olderLogin)
	s.UserID, s.ClientID, s.Scope, s.KeyID, s.UserAgent, s.Label = "7", "bystander", "me", "k", "agent", "label"
	return s
}

// TestEngineInjection: each text, in each place for a text, is kept unchanged or refused with
// an error that is no miss. A lookup of the text is a miss. Other rows stay as they are.
func TestEngineInjection(t *testing.T) {
	for _, e := range everyEngine {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			st, db := e.store(t)
			require.NoError(t, st.Users.Add(t.Context(), bystanderUser))
			digest := sha256.Sum256([]byte("x"))
			client := oauth2pw.Client{ID: "bystander", SecretSHA256: digest[:], Grants: []string{"password"}, Scopes: []string{"me"}}
			require.NoError(t, st.Clients.Add(t.Context(), client))
			require.NoError(t, st.Sessions.Create(t.Context(), bystanderSession()))
			own := injectionTables(t, e, db)
			for name, text := range hostile {
				i := injection{t: t, st: st, name: name, text: text, dialect: e.dialect}
				i.misses()
				i.users("users", st.Users, true)
				i.clients()
				i.lists()
				i.sessions()
				if len(text) < 1<<16 { // lib/pq cannot read an error of a server that has the whole text
					i.users("own table with numbers", own["numbers"], false)
					i.users("own table with texts", own[oddName], true)
				}
				// The bystanders.
				for _, users := range append([]*sqlstore.Users{st.Users}, own["numbers"], own[oddName]) {
					requireUser(t, users, bystanderUser)
				}
				got, err := st.Clients.ClientByID(t.Context(), "bystander")
				require.NoError(t, err, name)
				require.Equal(t, &client, got, name)
				list, err := st.Sessions.List(t.Context(), "7", olderLogin)
				require.NoError(t, err, name)
				require.Equal(t, []*oauth2pw.Session{bystanderSession()}, list, name)
				for _, table := range []string{"oauth2pw_users", "oauth2pw_clients", "oauth2pw_sessions", "numbers"} {
					var rows int
					require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&rows))
					require.Equal(t, 1, rows, "%s: %s", name, table)
				}
			}
		})
	}
}

const oddName = "it's \"odd`?"

// injectionTables makes tables of another program: an id that is a number, an id that is a text,
// and names with quotes and question marks.
func injectionTables(t *testing.T, e engine, db *sql.DB) map[string]*sqlstore.Users {
	t.Helper()
	quote := func(name string) string {
		if e.dialect == sqlstore.MySQL {
			return "`" + strings.ReplaceAll(name, "`", "``") + "`"
		}
		return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	list := make(map[string]*sqlstore.Users)
	for name, idType := range map[string]string{"numbers": "BIGINT", oddName: "VARCHAR(99)"} {
		table := sqlstore.UserTable{Table: name, ID: "id", Username: "email", PasswordHash: "pw", Scopes: "roles", SessionsValidFrom: "since"}
		if name == oddName {
			table.ID, table.Username, table.PasswordHash, table.Scopes, table.SessionsValidFrom = "id"+oddName, "email"+oddName, "pw"+oddName, "roles"+oddName, "since"+oddName
		}
		run(t, db, fmt.Sprintf("CREATE TABLE %s (%s %s PRIMARY KEY, %s VARCHAR(99) UNIQUE, %s TEXT, %s TEXT, %s BIGINT)",
			quote(name), quote(table.ID), idType, quote(table.Username), quote(table.PasswordHash), quote(table.Scopes), quote(table.SessionsValidFrom)))
		users, err := sqlstore.NewUsers(db, e.dialect, table)
		require.NoError(t, err)
		require.NoError(t, users.Add(t.Context(), bystanderUser))
		list[name] = users
	}
	return list
}

// injection is one text.
type injection struct {
	t          *testing.T
	st         *sqlstore.Store
	dialect    sqlstore.Dialect
	name, text string
}

// done requires that a call did its work.
func (i injection) done(call string, done bool) {
	i.t.Helper()
	require.True(i.t, done, "%s: %s returned neither an error nor did its work", i.name, call)
}

// refused requires that an error of a write is no miss, and that the text has no row.
func (i injection) refused(what string, err error) {
	i.t.Helper()
	require.NotErrorIs(i.t, err, oauth2pw.ErrNotFound, "%s: %s", i.name, what)
	if !strings.HasPrefix(what, "own ") { // the app's own column may have another text for the same
		require.NotErrorIs(i.t, err, oauth2pw.ErrExists, "%s: %s", i.name, what)
	}
}

// user requires a stored user. A message has the start of a text only.
func (i injection) user(users *sqlstore.Users, what string, want oauth2pw.User) {
	i.t.Helper()
	for _, find := range []func() (*oauth2pw.User, error){
		func() (*oauth2pw.User, error) { return users.UserByID(i.t.Context(), want.ID) },
		func() (*oauth2pw.User, error) { return users.UserByName(i.t.Context(), want.Username) },
	} {
		got, err := find()
		require.True(i.t, err == nil, "%s: %.300v", what, err)
		same := got.ID == want.ID && got.Username == want.Username && got.PasswordHash == want.PasswordHash && slices.Equal(got.Scopes, want.Scopes)
		require.True(i.t, same, "%s: %.20q %.20q, and not %.20q %.20q", what, got.ID, got.Username, want.ID, want.Username)
	}
}

// misses: no lookup of the text finds a row.
func (i injection) misses() {
	i.t.Helper()
	ctx, now := i.t.Context(), olderLogin
	_, err := i.st.Sessions.Get(ctx, i.text)
	require.ErrorIs(i.t, err, oauth2pw.ErrNotFound, i.name)
	next := bystanderSession()
	next.ID, next.Generation = i.text, 9
	ok, err := i.st.Sessions.Advance(ctx, 0, next, now)
	require.NoError(i.t, err, i.name)
	require.False(i.t, ok, i.name)
	if i.text != "7" {
		list, err := i.st.Sessions.List(ctx, i.text, now)
		require.NoError(i.t, err, i.name)
		require.Empty(i.t, list, i.name)
		ids, err := i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: i.text}, "x", now)
		require.NoError(i.t, err, i.name)
		require.Empty(i.t, ids, i.name)
		ids, err = i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: i.text, ID: "bystander"}, "x", now)
		require.NoError(i.t, err, i.name)
		require.Empty(i.t, ids, i.name)
	}
	ids, err := i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: "7", ID: i.text}, "x", now)
	require.NoError(i.t, err, i.name)
	require.Empty(i.t, ids, i.name)
	_, err = i.st.Clients.ClientByID(ctx, i.text)
	require.ErrorIs(i.t, err, oauth2pw.ErrNotFound, i.name)
	require.ErrorIs(i.t, i.st.Clients.Update(ctx, i.text, func(*oauth2pw.Client) error { panic("called") }), oauth2pw.ErrNotFound, i.name)
}

// users writes the text to each field of a user.
func (i injection) users(table string, users *sqlstore.Users, textIDs bool) {
	i.t.Helper()
	ctx := i.t.Context()
	what := table
	what += " (" + i.name + ")"
	miss := func(err error) {
		i.t.Helper()
		require.True(i.t, errors.Is(err, oauth2pw.ErrNotFound), "%s: %.300v", what, err) // err may have the whole text
	}
	if i.text != bystanderUser.ID {
		_, err := users.UserByID(ctx, i.text)
		miss(err)
		ok, err := users.UpdatePasswordHash(ctx, i.text, "hash", "new", olderLogin)
		require.NoError(i.t, err, what)
		require.False(i.t, ok, what)
		miss(users.Update(ctx, i.text, func(*oauth2pw.User) error { panic("called") }))
		miss(users.Delete(ctx, i.text))
	}
	_, err := users.UserByName(ctx, i.text)
	miss(err)
	ok, err := users.UpdatePasswordHash(ctx, "7", i.text, "new", olderLogin)
	require.NoError(i.t, err, what)
	require.False(i.t, ok, what)

	for field, u := range map[string]oauth2pw.User{
		"ID":           {ID: i.text, Username: "john"},
		"Username":     {ID: "8", Username: i.text},
		"PasswordHash": {ID: "8", Username: "john", PasswordHash: oauth2pw.Secret(i.text)},
	} {
		if field == "ID" && (!textIDs || i.text == "7") {
			continue
		}
		if err := users.Add(ctx, u); err != nil {
			i.refused(what+" "+field, err)
			_, err = users.UserByID(ctx, u.ID)
			miss(err)
			continue
		}
		i.user(users, what+" "+field, u)
		if users == i.st.Users {
			require.NoError(i.t, users.Update(ctx, u.ID, func(u *oauth2pw.User) error { u.Scopes = []string{"me"}; return nil }), what)
			u.Scopes = []string{"me"}
			i.user(users, what+" "+field, u)
		}
		ok, err := users.UpdatePasswordHash(ctx, u.ID, string(u.PasswordHash), "next", olderLogin)
		require.NoError(i.t, err, what)
		require.True(i.t, ok, what)
		require.NoError(i.t, users.Delete(ctx, u.ID), what)
	}

	listed := oauth2pw.User{ID: "8", Username: "john", Scopes: []string{i.text}}
	if err := users.Add(ctx, listed); err != nil {
		i.refused(what+" Scopes", err)
	} else {
		got, err := users.UserByID(ctx, "8")
		require.NoError(i.t, err, what)
		i.done("Scopes", slices.Equal(got.Scopes, listed.Scopes))
		require.NoError(i.t, users.Delete(ctx, "8"))
	}

	// A change to the text.
	before := oauth2pw.User{ID: "8", Username: "john", PasswordHash: "h"}
	require.NoError(i.t, users.Add(ctx, before))
	renamed := before
	renamed.Username = i.text
	if err := users.Update(ctx, "8", func(u *oauth2pw.User) error { u.Username = i.text; return nil }); err != nil {
		i.refused(what+" Username", err)
		i.user(users, what, before)
	} else {
		i.user(users, what+", renamed", renamed)
		require.NoError(i.t, users.Update(ctx, "8", func(u *oauth2pw.User) error { u.Username = "john"; return nil }))
	}
	hashed := before
	hashed.PasswordHash = oauth2pw.Secret(i.text)
	switch ok, err := users.UpdatePasswordHash(ctx, "8", "h", i.text, time.Time{}); {
	case err != nil:
		i.refused(what+" PasswordHash", err)
		i.user(users, what, before)
	case !ok:
		i.user(users, what, before)
		require.Fail(i.t, "neither an error nor a change", what)
	default:
		i.user(users, what+", hashed", hashed)
	}
	require.NoError(i.t, users.Delete(ctx, "8"))
}

// clients writes the text to each field of a client.
func (i injection) clients() {
	i.t.Helper()
	ctx := i.t.Context()
	c := oauth2pw.Client{ID: i.text}
	if err := i.st.Clients.Add(ctx, c); err != nil {
		i.refused("client", err)
		_, err = i.st.Clients.ClientByID(ctx, c.ID)
		require.ErrorIs(i.t, err, oauth2pw.ErrNotFound, i.name)
		return
	}
	requireClient(i.t, i.st.Clients, c)
	require.NoError(i.t, i.st.Clients.Update(ctx, c.ID, func(c *oauth2pw.Client) error { c.Introspect = true; return nil }), i.name)
	c.Introspect = true
	requireClient(i.t, i.st.Clients, c)
	require.NoError(i.t, i.st.Clients.Delete(ctx, c.ID), i.name)
}

// lists writes the text to the lists of a client.
func (i injection) lists() {
	i.t.Helper()
	ctx := i.t.Context()
	c := oauth2pw.Client{ID: "8", Grants: []string{i.text}, Scopes: []string{i.text}}
	if err := i.st.Clients.Add(ctx, c); err != nil {
		i.refused("lists of a client", err)
		return
	}
	got, err := i.st.Clients.ClientByID(ctx, "8")
	require.NoError(i.t, err, i.name)
	i.done("Grants", slices.Equal(got.Grants, c.Grants))
	i.done("Scopes", slices.Equal(got.Scopes, c.Scopes))
	require.NoError(i.t, i.st.Clients.Delete(ctx, "8"), i.name)
}

// sessions writes the text to each field of a session, and ends a session with it.
func (i injection) sessions() {
	i.t.Helper()
	ctx, now := i.t.Context(), olderLogin
	fields := map[string]func(s *oauth2pw.Session){
		"ClientID":  func(s *oauth2pw.Session) { s.ClientID = i.text },
		"Scope":     func(s *oauth2pw.Session) { s.Scope = i.text },
		"KeyID":     func(s *oauth2pw.Session) { s.KeyID = i.text },
		"EndReason": func(s *oauth2pw.Session) { s.EndReason = i.text },
		"UserAgent": func(s *oauth2pw.Session) { s.UserAgent = i.text },
		"Label":     func(s *oauth2pw.Session) { s.Label = i.text },
	}
	if len(i.text) < 200 { // no column is too short for it
		each := fields
		fields = map[string]func(s *oauth2pw.Session){"all fields": func(s *oauth2pw.Session) {
			for _, set := range each {
				set(s)
			}
		}}
	}
	fields["ID"] = func(s *oauth2pw.Session) { s.ID = i.text }
	fields["UserID"] = func(s *oauth2pw.Session) { s.UserID = i.text }
	for field, set := range fields {
		n := sessionOf("new", now)
		n.UserID = "8"
		set(n)
		if n.UserID == "7" {
			continue
		}
		if err := i.st.Sessions.Create(ctx, n); err != nil {
			i.refused("session "+field, err)
			_, err = i.st.Sessions.Get(ctx, n.ID)
			require.ErrorIs(i.t, err, oauth2pw.ErrNotFound, "%s: %s", i.name, field)
			continue
		}
		got, err := i.st.Sessions.Get(ctx, n.ID)
		require.NoError(i.t, err, "%s: %s", i.name, field)
		require.True(i.t, *n == *got, "%s: %s: the session is not as it was stored", i.name, field)
		n.Generation++
		ok, err := i.st.Sessions.Advance(ctx, 0, n, now)
		require.NoError(i.t, err, "%s: %s", i.name, field)
		require.True(i.t, ok, "%s: %s", i.name, field)
		list, err := i.st.Sessions.List(ctx, n.UserID, now)
		require.NoError(i.t, err, "%s: %s", i.name, field)
		require.Len(i.t, list, 1, "%s: %s", i.name, field)
		require.Equal(i.t, n.ID, list[0].ID)
		ids, err := i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: n.UserID, ID: n.ID, Except: i.text + "x"}, "x", now.Add(-time.Hour))
		if err != nil {
			i.refused("End", err)
			ids, err = i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: n.UserID}, "x", now.Add(-time.Hour))
			require.NoError(i.t, err, "%s: %s", i.name, field)
		}
		require.Equal(i.t, []string{n.ID}, ids, "%s: %s", i.name, field)
		i.sweep(n.ID)
	}

	// End with the text as the exception, or as the reason.
	for call, end := range map[string]func() ([]string, error){
		"End, Except": func() ([]string, error) {
			return i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: "8", Except: i.text}, "x", now.Add(-time.Hour))
		},
		"End, reason": func() ([]string, error) {
			return i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: "8"}, i.text, now.Add(-time.Hour))
		},
	} {
		require.NoError(i.t, i.st.Sessions.Create(ctx, func() *oauth2pw.Session { s := sessionOf("new", now); s.UserID = "8"; return s }()))
		ids, err := end()
		got, getErr := i.st.Sessions.Get(ctx, "new")
		require.NoError(i.t, getErr, "%s: %s", i.name, call)
		switch {
		case err != nil:
			i.refused(call, err)
			i.done(call, true)
			require.Zero(i.t, got.EndedAt, "%s: %s", i.name, call)
		case len(ids) == 0:
			require.Zero(i.t, got.EndedAt, "%s: %s", i.name, call)
			i.done(call, false)
		default:
			i.done(call, true)
			require.Equal(i.t, []string{"new"}, ids, "%s: %s", i.name, call)
			require.NotZero(i.t, got.EndedAt, "%s: %s", i.name, call)
			if call == "End, reason" {
				require.True(i.t, got.EndReason == i.text, "%s: the reason is not as it was stored", i.name)
			}
		}
		if got.EndedAt.IsZero() {
			_, err := i.st.Sessions.End(ctx, oauth2pw.SessionFilter{UserID: "8"}, "x", now.Add(-time.Hour))
			require.NoError(i.t, err)
		}
		i.sweep("new")
	}
}

// sweep removes the one ended session.
func (i injection) sweep(id string) {
	i.t.Helper()
	n, err := i.st.Sessions.Sweep(i.t.Context(), olderLogin.Add(-time.Minute), 10)
	require.NoError(i.t, err, i.name)
	require.Equal(i.t, 1, n, i.name)
	_, err = i.st.Sessions.Get(i.t.Context(), id)
	require.True(i.t, errors.Is(err, oauth2pw.ErrNotFound), i.name)
}

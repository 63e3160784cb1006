package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// users has the common methods of store.Users and sqlstore.Users.
type users interface {
	oauth2pw.UserStore
	oauth2pw.PasswordUpdater
	Add(ctx context.Context, u oauth2pw.User) error
	Update(ctx context.Context, id string, change func(u *oauth2pw.User) error) error
	Delete(ctx context.Context, id string) error
}

// clients has the common methods of store.Clients and sqlstore.Clients.
type clients interface {
	oauth2pw.ClientStore
	Add(ctx context.Context, c oauth2pw.Client) error
	Update(ctx context.Context, id string, change func(c *oauth2pw.Client) error) error
	Delete(ctx context.Context, id string) error
}

// eachUsers runs a test with every store of users. It has the users 1, a, and 2, b.
func eachUsers(t *testing.T, test func(t *testing.T, s users)) {
	for name, open := range map[string]func(t *testing.T) users{
		"store":    func(*testing.T) users { return new(store.Users) },
		"sqlstore": func(t *testing.T) users { return openStore(t, openSQLite(t)).Users },
		"the app's table": func(t *testing.T) users {
			db := openSQLite(t)
			run(t, db, `CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, pw BLOB, active BOOLEAN, roles TEXT, since INTEGER, other TEXT DEFAULT 'x')`)
			s, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw", Active: "active", Scopes: "roles", SessionsValidFrom: "since"})
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			require.NoError(t, s.Add(t.Context(), oauth2pw.User{ID: "1", Username: "a", PasswordHash: "h1", Scopes: []string{}}))
			require.NoError(t, s.Add(t.Context(), oauth2pw.User{ID: "2", Username: "b", PasswordHash: "h2"}))
			test(t, s)
		})
	}
}

func requireUser(t *testing.T, s users, want oauth2pw.User) {
	t.Helper()
	for _, find := range []func() (*oauth2pw.User, error){
		func() (*oauth2pw.User, error) { return s.UserByID(t.Context(), want.ID) },
		func() (*oauth2pw.User, error) { return s.UserByName(t.Context(), want.Username) },
	} {
		got, err := find()
		require.NoError(t, err)
		require.Equal(t, want, *got)
	}
}

func TestAddUser(t *testing.T) {
	eachUsers(t, func(t *testing.T, s users) {
		require.ErrorIs(t, s.Add(t.Context(), oauth2pw.User{ID: "1", Username: "c"}), oauth2pw.ErrExists)
		require.ErrorIs(t, s.Add(t.Context(), oauth2pw.User{ID: "3", Username: "b"}), oauth2pw.ErrExists)
		require.ErrorContains(t, s.Add(t.Context(), oauth2pw.User{ID: "3"}), "needs an ID and a Username")
		require.ErrorContains(t, s.Add(t.Context(), oauth2pw.User{Username: "c"}), "needs an ID and a Username")
		for _, name := range []string{"", "c"} {
			_, err := s.UserByName(t.Context(), name)
			require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		}
		requireUser(t, s, oauth2pw.User{ID: "1", Username: "a", PasswordHash: "h1", Scopes: []string{}})
		requireUser(t, s, oauth2pw.User{ID: "2", Username: "b", PasswordHash: "h2"})
		full := oauth2pw.User{ID: "3", Username: "c", PasswordHash: "h3", Disabled: true, Scopes: []string{"me", "items"}, SessionsValidFrom: olderLogin}
		require.NoError(t, s.Add(t.Context(), full))
		requireUser(t, s, full)
	})
}

func TestUpdateUser(t *testing.T) {
	eachUsers(t, func(t *testing.T, s users) {
		want := oauth2pw.User{ID: "1", Username: "c", PasswordHash: "new", Disabled: true, Scopes: []string{"me"}, SessionsValidFrom: olderLogin}
		require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { *u = want; return nil }))
		requireUser(t, s, want)
		_, err := s.UserByName(t.Context(), "a")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		require.NoError(t, s.Update(t.Context(), "1", func(*oauth2pw.User) error { return nil }))
		requireUser(t, s, want)

		errNo := errors.New("no")
		for name, test := range map[string]struct {
			change func(u *oauth2pw.User) error
			is     error
			text   string
		}{
			"a name that is taken": {func(u *oauth2pw.User) error { u.Username = "b"; return nil }, oauth2pw.ErrExists, `"b" exists already`},
			"no name":              {func(u *oauth2pw.User) error { u.Username = ""; return nil }, nil, "needs an ID and a Username"},
			"another ID":           {func(u *oauth2pw.User) error { u.ID = "9"; return nil }, nil, `the ID of the user "1" cannot change`},
			"an error":             {func(u *oauth2pw.User) error { return errNo }, errNo, "no"},
		} {
			err := s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Disabled = false; return test.change(u) })
			require.ErrorContains(t, err, test.text, name)
			if test.is != nil {
				require.ErrorIs(t, err, test.is, name)
			}
			requireUser(t, s, want)
		}
		for _, id := range []string{"", "9", "01", "1.0", "1 "} {
			err := s.Update(t.Context(), id, func(*oauth2pw.User) error { panic("called") })
			require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		}
		back := oauth2pw.User{ID: "1", Username: "a"}
		require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { *u = back; return nil }))
		requireUser(t, s, back)
		requireUser(t, s, oauth2pw.User{ID: "2", Username: "b", PasswordHash: "h2"})
	})
}

// TestUpdateUserBeside: while Update calls the app's function, another change is written.
// Neither is lost.
func TestUpdateUserBeside(t *testing.T) {
	for _, test := range []struct {
		name   string
		beside func(t *testing.T, s users)
		change func(u *oauth2pw.User)
		want   oauth2pw.User
	}{
		{
			"a change of the password", func(t *testing.T, s users) {
				ok, err := s.UpdatePasswordHash(t.Context(), "1", "h1", "new", olderLogin)
				require.NoError(t, err)
				require.True(t, ok)
			},
			func(u *oauth2pw.User) { u.Disabled = true },
			oauth2pw.User{ID: "1", Username: "a", PasswordHash: "new", Disabled: true, Scopes: []string{}, SessionsValidFrom: olderLogin},
		},
		{
			"another hash beside a change of the password", func(t *testing.T, s users) {
				ok, err := s.UpdatePasswordHash(t.Context(), "1", "h1", "new", olderLogin)
				require.NoError(t, err)
				require.True(t, ok)
			},
			func(u *oauth2pw.User) { u.PasswordHash = "peppered:" + u.PasswordHash },
			oauth2pw.User{ID: "1", Username: "a", PasswordHash: "peppered:new", Scopes: []string{}, SessionsValidFrom: olderLogin},
		},
		{
			"another field", func(t *testing.T, s users) {
				require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Scopes = nil; return nil }))
			},
			func(u *oauth2pw.User) { u.Username = "c" },
			oauth2pw.User{ID: "1", Username: "c", PasswordHash: "h1"},
		},
		{
			"another spelling of the name", func(t *testing.T, s users) {
				require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Username = "A"; return nil }))
			},
			func(u *oauth2pw.User) { u.Username += "." },
			oauth2pw.User{ID: "1", Username: "A.", PasswordHash: "h1", Scopes: []string{}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachUsers(t, func(t *testing.T, s users) {
				calls := 0
				require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error {
					if calls++; calls == 1 {
						test.beside(t, s)
					}
					test.change(u)
					return nil
				}))
				require.Equal(t, 2, calls)
				requireUser(t, s, test.want)
			})
		})
	}
	t.Run("the name is taken", func(t *testing.T) {
		eachUsers(t, func(t *testing.T, s users) {
			err := s.Update(t.Context(), "1", func(u *oauth2pw.User) error {
				u.Username = "c"
				return s.Add(t.Context(), oauth2pw.User{ID: "3", Username: "c"})
			})
			require.ErrorIs(t, err, oauth2pw.ErrExists)
			requireUser(t, s, oauth2pw.User{ID: "1", Username: "a", PasswordHash: "h1", Scopes: []string{}})
		})
	})
	t.Run("the user is deleted", func(t *testing.T) {
		eachUsers(t, func(t *testing.T, s users) {
			err := s.Update(t.Context(), "1", func(u *oauth2pw.User) error {
				u.Disabled = true
				return s.Delete(t.Context(), "1")
			})
			require.ErrorIs(t, err, oauth2pw.ErrNotFound)
			_, err = s.UserByName(t.Context(), "a")
			require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		})
	})
	t.Run("each time", func(t *testing.T) {
		eachUsers(t, func(t *testing.T, s users) {
			calls := 0
			err := s.Update(t.Context(), "1", func(u *oauth2pw.User) error {
				calls++
				ok, err := s.UpdatePasswordHash(t.Context(), "1", string(u.PasswordHash), fmt.Sprint("h", calls+1), time.Time{})
				require.True(t, ok)
				u.Disabled = true
				return err
			})
			require.ErrorContains(t, err, `the user "1" changed each time it was read`)
			requireUser(t, s, oauth2pw.User{ID: "1", Username: "a", PasswordHash: oauth2pw.Secret(fmt.Sprint("h", calls+1)), Scopes: []string{}})
		})
	})
	t.Run("five at once", func(t *testing.T) {
		eachUsers(t, func(t *testing.T, s users) {
			// Each can be overtaken by the eight updates of the others, which is fewer than its
			// tries.
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					for j := range 2 {
						assert.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error {
							u.Scopes = append(u.Scopes, fmt.Sprintf("%d-%d", i, j))
							return nil
						}))
					}
				})
			}
			wg.Wait()
			u, err := s.UserByID(t.Context(), "1")
			require.NoError(t, err)
			require.Len(t, u.Scopes, 10)
		})
	})
}

func TestDeleteUser(t *testing.T) {
	eachUsers(t, func(t *testing.T, s users) {
		for _, id := range []string{"", "9", "01", "1.0", "1 "} {
			require.ErrorIs(t, s.Delete(t.Context(), id), oauth2pw.ErrNotFound)
		}
		requireUser(t, s, oauth2pw.User{ID: "1", Username: "a", PasswordHash: "h1", Scopes: []string{}})
		require.NoError(t, s.Delete(t.Context(), "1"))
		require.ErrorIs(t, s.Delete(t.Context(), "1"), oauth2pw.ErrNotFound)
		_, err := s.UserByID(t.Context(), "1")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
		require.NoError(t, s.Add(t.Context(), oauth2pw.User{ID: "3", Username: "a"}), "the name is free")
		requireUser(t, s, oauth2pw.User{ID: "2", Username: "b", PasswordHash: "h2"})
	})
}

// TestEditsWithoutContext: no method changes anything once its context has ended.
func TestEditsWithoutContext(t *testing.T) {
	ended := func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return ctx
	}
	eachUsers(t, func(t *testing.T, s users) {
		_, updateErr := s.UpdatePasswordHash(ended(t), "1", "h1", "new", time.Time{})
		ctx, cancel := context.WithCancel(t.Context())
		for name, err := range map[string]error{
			"Add": s.Add(ended(t), oauth2pw.User{ID: "3", Username: "c"}), "Delete": s.Delete(ended(t), "1"), "UpdatePasswordHash": updateErr,
			"Update": s.Update(ended(t), "1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }),
			"Update, later": s.Update(ctx, "1", func(u *oauth2pw.User) error {
				cancel()
				u.Disabled = true
				return nil
			}),
		} {
			require.ErrorIs(t, err, context.Canceled, name)
		}
		requireUser(t, s, oauth2pw.User{ID: "1", Username: "a", PasswordHash: "h1", Scopes: []string{}})
		_, err := s.UserByName(t.Context(), "c")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	})
	eachClients(t, func(t *testing.T, s clients) {
		for name, err := range map[string]error{
			"Add": s.Add(ended(t), oauth2pw.Client{ID: "c"}), "Delete": s.Delete(ended(t), "a"),
			"Update": s.Update(ended(t), "a", func(c *oauth2pw.Client) error { c.Introspect = true; return nil }),
		} {
			require.ErrorIs(t, err, context.Canceled, name)
		}
		requireClient(t, s, oauth2pw.Client{ID: "a", SecretSHA256: digest(1), Grants: []string{"password"}})
	})
}

// TestAppTableEdits: Add and Update write to the columns that the app's table has, and to
// those of changed fields alone.
func TestAppTableEdits(t *testing.T) {
	db := openSQLite(t)
	run(t, db, `CREATE TABLE u (id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, pw TEXT, off INTEGER, roles TEXT, other TEXT DEFAULT 'x');
		INSERT INTO u (id, name, pw, off, roles) VALUES (1, 'John', NULL, 2, ' me  items ')`)
	s, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw", Disabled: "off", Scopes: "roles"})
	require.NoError(t, err)
	row := func() string {
		return lines(t, db, `SELECT concat_ws('|', id, name, coalesce(pw, 'NULL'), off, coalesce(roles, 'NULL'), other) FROM u WHERE id = 1`)[0]
	}
	require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.PasswordHash = "h"; return nil }))
	require.Equal(t, "1|John|h|2| me  items |x", row())
	require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Username = "JOHN"; return nil }), "another spelling of the own name")
	require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Scopes = append(u.Scopes, "more"); return nil }))
	require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.Disabled = false; return nil }))
	require.Equal(t, "1|JOHN|h|0|me items more|x", row())
	require.ErrorContains(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.SessionsValidFrom = olderLogin; return nil }), "no column for the SessionsValidFrom")
	require.Equal(t, "1|JOHN|h|0|me items more|x", row())

	require.ErrorContains(t, s.Add(t.Context(), oauth2pw.User{ID: "2", Username: "b", SessionsValidFrom: olderLogin}), "no column for the SessionsValidFrom")
	require.ErrorIs(t, s.Add(t.Context(), oauth2pw.User{ID: "2", Username: "john"}), oauth2pw.ErrExists, "as the table compares")
	require.NoError(t, s.Add(t.Context(), oauth2pw.User{ID: "2", Username: "b"}))
	require.ErrorIs(t, s.Update(t.Context(), "2", func(u *oauth2pw.User) error { u.Username = "john"; return nil }), oauth2pw.ErrExists)

	without, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw"})
	require.NoError(t, err)
	require.ErrorContains(t, without.Add(t.Context(), oauth2pw.User{ID: "3", Username: "c", Disabled: true}), "no column for the Disabled")
	require.ErrorContains(t, without.Add(t.Context(), oauth2pw.User{ID: "3", Username: "c", Scopes: []string{}}), "no column for the Scopes")

	// A time between two microseconds becomes the later one.
	run(t, db, `ALTER TABLE u ADD COLUMN since INTEGER`)
	s, err = sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "u", ID: "id", Username: "name", PasswordHash: "pw", SessionsValidFrom: "since"})
	require.NoError(t, err)
	require.NoError(t, s.Update(t.Context(), "1", func(u *oauth2pw.User) error { u.SessionsValidFrom = olderLogin.Add(time.Nanosecond); return nil }))
	u, err := s.UserByID(t.Context(), "1")
	require.NoError(t, err)
	require.Equal(t, olderLogin.Add(time.Microsecond), u.SessionsValidFrom)
}

// eachClients runs a test with every store of clients. It has the clients a and b.
func eachClients(t *testing.T, test func(t *testing.T, s clients)) {
	for name, open := range map[string]func(t *testing.T) clients{
		"store":    func(*testing.T) clients { return new(store.Clients) },
		"sqlstore": func(t *testing.T) clients { return openStore(t, openSQLite(t)).Clients },
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			require.NoError(t, s.Add(t.Context(), oauth2pw.Client{ID: "a", SecretSHA256: digest(1), Grants: []string{"password"}}))
			require.NoError(t, s.Add(t.Context(), oauth2pw.Client{ID: "b"}))
			test(t, s)
		})
	}
}

func digest(begin ...byte) []byte { return slices.Concat(begin, make([]byte, 32-len(begin))) }

func requireClient(t *testing.T, s clients, want oauth2pw.Client) {
	t.Helper()
	got, err := s.ClientByID(t.Context(), want.ID)
	require.NoError(t, err)
	require.Equal(t, want, *got)
}

func TestEditClients(t *testing.T) {
	eachClients(t, func(t *testing.T, s clients) {
		a, b := oauth2pw.Client{ID: "a", SecretSHA256: digest(1), Grants: []string{"password"}}, oauth2pw.Client{ID: "b"}
		require.ErrorIs(t, s.Add(t.Context(), oauth2pw.Client{ID: "a", Introspect: true}), oauth2pw.ErrExists)
		require.Error(t, s.Add(t.Context(), oauth2pw.Client{}))
		require.ErrorContains(t, s.Add(t.Context(), oauth2pw.Client{ID: "c", SecretSHA256: []byte("short")}), "SecretSHA256")
		requireClient(t, s, a)

		errNo := errors.New("no")
		for text, change := range map[string]func(c *oauth2pw.Client) error{
			"SecretSHA256":                         func(c *oauth2pw.Client) error { c.SecretSHA256 = []byte{}; return nil },
			"no":                                   func(*oauth2pw.Client) error { return errNo },
			`the ID of the client "a" cannot chan`: func(c *oauth2pw.Client) error { c.ID = "c"; return nil },
		} {
			err := s.Update(t.Context(), "a", func(c *oauth2pw.Client) error { c.Introspect = true; return change(c) })
			require.ErrorContains(t, err, text)
			requireClient(t, s, a)
		}
		require.ErrorIs(t, s.Update(t.Context(), "c", func(*oauth2pw.Client) error { panic("called") }), oauth2pw.ErrNotFound)
		want := oauth2pw.Client{ID: "a", Scopes: []string{}, Introspect: true}
		require.NoError(t, s.Update(t.Context(), "a", func(c *oauth2pw.Client) error { *c = want; return nil }))
		requireClient(t, s, want)
		requireClient(t, s, b)

		// Beside another change.
		for _, beside := range []func(c *oauth2pw.Client){
			func(c *oauth2pw.Client) { c.SecretSHA256 = digest(7) },
			func(c *oauth2pw.Client) { c.Scopes = nil },
			func(c *oauth2pw.Client) { c.Scopes = []string{"me"} },
			func(c *oauth2pw.Client) { c.Introspect = false },
			func(c *oauth2pw.Client) { c.SecretSHA256 = nil },
		} {
			calls := 0
			require.NoError(t, s.Update(t.Context(), "a", func(c *oauth2pw.Client) error {
				if calls++; calls == 1 {
					require.NoError(t, s.Update(t.Context(), "a", func(c *oauth2pw.Client) error { beside(c); return nil }))
				}
				c.Grants = append(c.Grants, "x")
				return nil
			}))
			require.Equal(t, 2, calls)
			beside(&want)
			want.Grants = append(want.Grants, "x")
			requireClient(t, s, want)
		}
		require.ErrorContains(t, s.Update(t.Context(), "a", func(c *oauth2pw.Client) error {
			c.Scopes = []string{"lost"}
			return s.Update(t.Context(), "a", func(c *oauth2pw.Client) error { c.Introspect = !c.Introspect; return nil })
		}), `the client "a" changed each time it was read`)
		requireClient(t, s, want)

		require.ErrorIs(t, s.Update(t.Context(), "b", func(*oauth2pw.Client) error { return s.Delete(t.Context(), "b") }), oauth2pw.ErrNotFound)
		require.ErrorIs(t, s.Delete(t.Context(), "b"), oauth2pw.ErrNotFound)
		_, err := s.ClientByID(t.Context(), "b")
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	})
}

// TestDuplicateSession: the error for a session that is there already is ErrExists.
func TestDuplicateSession(t *testing.T) {
	for _, s := range []oauth2pw.SessionStore{new(store.Sessions), openStore(t, openSQLite(t)).Sessions} {
		n := oauth2pw.Session{ID: "x", UserID: "1", CreatedAt: olderLogin}
		require.NoError(t, s.Create(t.Context(), &n))
		require.ErrorIs(t, s.Create(t.Context(), &n), oauth2pw.ErrExists)
	}
}

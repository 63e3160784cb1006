package oauth2pw_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// foldingUsers takes names in any case, with spaces at the end, as a column with the
// collation RTRIM and lower() would.
type foldingUsers struct{ *store.Users }

func fold(name string) string { return strings.ToLower(strings.TrimRight(name, " ")) }

func (s foldingUsers) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return s.Users.UserByName(ctx, fold(name))
}

// oneUserOf takes every name for that of one user.
type oneUserOf struct{ user oauth2pw.User }

func (o oneUserOf) UserByName(context.Context, string) (*oauth2pw.User, error) {
	return o.UserByID(context.Background(), o.user.ID)
}

func (o oneUserOf) UserByID(context.Context, string) (*oauth2pw.User, error) {
	u := o.user
	return &u, nil
}

// TestConformance144: one account has one set of limits for all spellings that the store
// accepts; two accounts have two.
func TestConformance144(t *testing.T) {
	spellings := func(name string) (all []string) {
		for i := range 11 {
			s := []byte(name + strings.Repeat(" ", i/4))
			if i%2 == 1 {
				s[0] -= 'a' - 'A'
			}
			if i%4 > 1 {
				s[1] -= 'a' - 'A'
			}
			all = append(all, strings.ReplaceAll(string(s), " ", "+"))
		}
		return all
	}
	for _, folds := range []bool{false, true} {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Users = foldingUsers{c.Users.(*store.Users)}
			if folds {
				c.FoldName = fold
			}
		})
		for i, name := range spellings("johndoe") {
			got := a.serve(post(wrong(name, i), from(home)))
			if i < 10 {
				got.isError(t, 400, "invalid_grant")
			} else {
				got.isThrottled(t)
			}
		}
		told := 0
		for _, e := range a.takeEvents() {
			if e.Kind == oauth2pw.EventNameFolding {
				told++
				require.Equal(t, "u1", e.UserID)
				require.ErrorContains(t, e.Err, "Config.FoldName")
			}
		}
		if folds {
			require.Zero(t, told)

			for i, name := range spellings("nobody") { // a name that is nobody's gets the same answers
				got := a.serve(post(wrong(name, i), from(home)))
				if i < 10 {
					got.isError(t, 400, "invalid_grant")
				} else {
					got.isThrottled(t)
				}
			}
		} else {
			require.Equal(t, 1, told, "once an hour")
			a.clock.Advance(time.Hour)
			a.serve(post(wrong("JOHNDOE", 0), from(home))).isError(t, 400, "invalid_grant")
			require.Equal(t, oauth2pw.EventNameFolding, a.event().Kind)
		}
	}

	t.Run("names that differ in case are two users", func(t *testing.T) {
		a := newApp(t)
		require.NoError(t, a.users.Add(context.Background(), oauth2pw.User{ID: "m", Username: "JohnDoe", PasswordHash: "new:mallory"}))
		for i := range 9 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		for range 3 {
			require.Equal(t, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(home))).StatusCode)
		}
		a.serve(post(wrong("johndoe", 9), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post("grant_type=password&username=JohnDoe&password=mallory", from(home))).StatusCode)
	})
	t.Run("an ID and a name are two accounts", func(t *testing.T) {
		a := newApp(t)
		for i := range 10 {
			a.serve(post(wrong("u1", i), from(home))).isError(t, 400, "invalid_grant") // nobody's name, and johndoe's ID
		}
		a.serve(post(wrong("u1", 10), from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("Authenticate", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) {
			c.Hasher, c.FoldName = nil, fold
			c.Authenticate = func(_ context.Context, name, password string) (*oauth2pw.User, error) {
				if name != "johndoe" || password != "secret" {
					return nil, oauth2pw.ErrNotFound
				}
				return &oauth2pw.User{ID: "u1", Username: name}, nil
			}
		})
		require.Equal(t, 200, a.serve(post(right("JohnDoe++"), from(home))).StatusCode)
		a.attackAccount("JOHNDOE")
		require.Equal(t, 200, a.serve(post(right("johnDOE"), from(home))).StatusCode, "the address is known to the account")
		for i, name := range spellings("johndoe")[:10] {
			a.serve(post(wrong(name, i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
	t.Run("a FoldName that folds less than the store", func(t *testing.T) {
		for username, want := range map[string]bool{"JOHNDOE": false, "john doe": true} {
			a := newApp(t, func(c *oauth2pw.Config) {
				c.Users = oneUserOf{oauth2pw.User{ID: "u1", Username: username, PasswordHash: "new:secret"}}
				c.FoldName = strings.ToLower
			})
			require.Equal(t, 200, a.serve(post(right("JohnDoe"), from(home))).StatusCode)
			require.Equal(t, want, a.event().Kind == oauth2pw.EventNameFolding, username)
		}
	})
	t.Run("FoldName that panics, or leaves nothing", func(t *testing.T) {
		a := newApp(t, func(c *oauth2pw.Config) { c.FoldName = func(string) string { panic("secret") } })
		a.serve(post(right("johndoe"), from(home))).isError(t, 500, "server_error")
		a = newApp(t, func(c *oauth2pw.Config) { c.FoldName = func(string) string { return "" } })
		a.serve(post(right("johndoe"), from(home))).isError(t, 400, "invalid_grant")
		require.Equal(t, 1, a.hasher.take())
	})
}

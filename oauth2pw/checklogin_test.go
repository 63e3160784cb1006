package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// withTOTP asks for the code 123456, and counts the codes that it has looked at.
func withTOTP(checked *int) func(*oauth2pw.Config) {
	return func(c *oauth2pw.Config) {
		c.CheckLogin = func(_ context.Context, u *oauth2pw.User, r *oauth2pw.TokenRequest) error {
			switch code := r.Param("totp"); {
			case u.ID == "":
				return errors.New("no user")
			case code == "":
				return &oauth2pw.Error{Code: "mfa_required", Extra: map[string]any{"mfa": "totp"}}
			case code == "panic":
				panic("secret")
			case code == "down":
				return errors.New("the code service is down")
			case code != "123456":
				*checked++
				return &oauth2pw.Error{Code: "invalid_grant", Description: "The code is wrong.", Extra: map[string]any{"x": 1}}
			}
			return nil
		}
	}
}

// TestConformance138: see docs/conformance.md.
func TestConformance138(t *testing.T) {
	t.Run("138_never asked without a correct password", func(t *testing.T) {
		asked := 0
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.CheckLogin = func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error { asked++; return nil }
		})
		for _, form := range []string{wrong("johndoe", 1), wrong("nobody", 1), right("alice"), "grant_type=password&username=alice&password=secret2", wrong("nopassword", 1)} {
			a.post(form).isError(t, 400, "invalid_grant")
		}
		for i := range 10 {
			a.post(wrong("johndoe", i+10))
		}
		a.post(right("johndoe")).isError(t, 429, "slow_down")
		require.Zero(t, asked)
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
		require.Equal(t, 1, asked)
	})
	t.Run("138_its invalid_grant is that of a wrong password", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		wrongPassword := a.post(wrong("johndoe", 1))
		wrongCode := a.post(right("johndoe") + "&totp=000000")
		require.Equal(t, wrongPassword.StatusCode, wrongCode.StatusCode)
		require.Equal(t, wrongPassword.body, wrongCode.body)
		for _, h := range []http.Header{wrongPassword.Header, wrongCode.Header} {
			h.Del("Date")
		}
		require.Equal(t, wrongPassword.Header, wrongCode.Header)
		require.Equal(t, "Config.CheckLogin", a.saw(oauth2pw.EventLoginFailed, oauth2pw.ReasonRefused).Plug)
	})
	t.Run("138_another code is the answer, and takes the attempt back", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		for range 100 { // no failure, however often
			got := a.serve(post(right("johndoe"), from(home)))
			got.isError(t, 400, "mfa_required")
			require.Equal(t, "totp", got.json["mfa"])
		}
		require.Zero(t, a.live("u1"), "no session")
		require.Equal(t, 200, a.serve(post(right("johndoe")+"&totp=123456", from(home))).StatusCode)
		for i := range 8 {
			a.serve(post(wrong("johndoe", i), from(away))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(away))).isError(t, 400, "mfa_required")
		a.serve(post(wrong("johndoe", 8), from(away))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(away))).isError(t, 429, "slow_down") // the code would be the eleventh guess
		a.serve(post(wrong("johndoe", 9), from(away))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(away))).isError(t, 429, "slow_down") // it cleared no failure
	})
	t.Run("138_another code makes no address known", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		a.serve(post(right("johndoe"), from(home))).isError(t, 400, "mfa_required")
		a.attackAccount("johndoe")
		a.serve(post(right("johndoe")+"&totp=123456", from(home))).isError(t, 429, "slow_down")
		a.clock.Advance(2 * time.Hour)
		require.Equal(t, 200, a.serve(post(right("johndoe")+"&totp=123456", from(home))).StatusCode)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.serve(post(right("johndoe")+"&totp=123456", from(home))).StatusCode, "now it is known")
	})
	t.Run("138_a failure takes the attempt back", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		for range 20 {
			a.serve(post(right("johndoe")+"&totp=down", from(home))).isError(t, 503, "temporarily_unavailable")
			a.serve(post(right("johndoe")+"&totp=panic", from(home))).isError(t, 500, "server_error")
		}
		require.Equal(t, 200, a.serve(post(right("johndoe")+"&totp=123456", from(home))).StatusCode)
	})
	t.Run("138_a client that disconnects has no free guess", func(t *testing.T) {
		asked := 0
		var hangUp context.CancelFunc
		a := newSessionApp(t, func(c *oauth2pw.Config) {
			c.CheckLogin = func(ctx context.Context, _ *oauth2pw.User, _ *oauth2pw.TokenRequest) error {
				asked++
				hangUp()
				return ctx.Err()
			}
		})
		for range 30 {
			var ctx context.Context
			ctx, hangUp = context.WithCancel(t.Context())
			a.serve(post(right("johndoe"), from(home), during(ctx)))
			hangUp()
		}
		require.LessOrEqual(t, asked, 10)
	})
	t.Run("138_codes are guessed no more often than the limit", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		for i := range 10_000 {
			a.serve(post(fmt.Sprintf("%s&totp=%06d", right("johndoe"), 200_000+i), from(home)))
		}
		require.LessOrEqual(t, checked, 10)
		t.Logf("of 10,000 wrong codes beside the correct password %d were checked", checked)
		a.serve(post(right("johndoe")+"&totp=123456", from(home))).isError(t, 429, "slow_down")

		checked = 0
		b := newSessionApp(t, withTOTP(&checked))
		for i := range 2_000 { // from a hundred addresses, with a right password that has no code in between
			from := from(fmt.Sprintf("198.51.100.%d", i%100))
			b.serve(post(fmt.Sprintf("%s&totp=%06d", right("johndoe"), 200_000+i), from))
			b.serve(post(right("johndoe"), from))
		}
		require.LessOrEqual(t, checked, 30)
		t.Logf("from 100 addresses %d were checked", checked)
	})
	t.Run("138_the same code again is a guess again", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		for range 50 {
			a.serve(post(right("johndoe")+"&totp=000000", from(home)))
		}
		require.LessOrEqual(t, checked, 10)
	})
	t.Run("138_a grant of the app's own", func(t *testing.T) {
		checked := 0
		var users oauth2pw.UserStore
		a := newSessionApp(t, withTOTP(&checked), func(c *oauth2pw.Config) {
			users = c.Users
			c.Grants = map[string]oauth2pw.GrantFunc{"otp": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				return users.UserByID(ctx, r.Param("code"))
			}}
		})
		a.post("grant_type=otp&code=u1").isError(t, 400, "mfa_required")
		require.Equal(t, 200, a.post("grant_type=otp&code=u1&totp=123456").StatusCode)
		for i := range 100 {
			a.serve(post(fmt.Sprintf("grant_type=otp&code=u1&totp=%06d", i), from(fmt.Sprintf("198.51.100.%d", i))))
		}
		require.LessOrEqual(t, checked, 30)
	})
	t.Run("138_Authenticate", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked), func(c *oauth2pw.Config) {
			users := c.Users
			c.Hasher = nil
			c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
				if password != "secret" {
					return nil, oauth2pw.ErrNotFound
				}
				return users.UserByName(ctx, name)
			}
		})
		a.post(login).isError(t, 400, "mfa_required")
		require.Equal(t, 200, a.post(login+"&totp=123456").StatusCode)
		for i := range 50 {
			a.serve(post(fmt.Sprintf("%s&totp=%06d", right("johndoe"), i), from(away)))
		}
		require.LessOrEqual(t, checked, 10)
	})
	t.Run("138_an outdated hash is replaced after CheckLogin has said yes", func(t *testing.T) {
		checked := 0
		a := newSessionApp(t, withTOTP(&checked))
		hash := func() string {
			u, err := a.users.UserByID(t.Context(), "u3")
			require.NoError(t, err)
			return string(u.PasswordHash)
		}
		a.post("grant_type=password&username=old&password=secret").isError(t, 400, "mfa_required")
		require.True(t, strings.HasPrefix(hash(), "old:"))
		require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret&totp=123456").StatusCode)
		require.True(t, strings.HasPrefix(hash(), "new:"))
	})
}

// TestKeepHashes: another program reads the same table.
func TestKeepHashes(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) { c.KeepHashes = true })
	require.Equal(t, 200, a.post("grant_type=password&username=old&password=secret").StatusCode)
	u, err := a.users.UserByID(t.Context(), "u3")
	require.NoError(t, err)
	require.Equal(t, "old:secret", string(u.PasswordHash))
}

// TestCheckPassword: throttled together with logins, the same work for every user, and no
// address becomes known by it.
func TestCheckPassword(t *testing.T) {
	a := newSessionApp(t)
	check := func(name, password string, options ...option) error {
		_, err := a.auth.CheckPassword(post("", append([]option{from(home)}, options...)...), name, password)
		return err
	}
	code := func(err error) string {
		e := (*oauth2pw.Error)(nil)
		require.ErrorAs(t, err, &e)
		return e.Code
	}
	u, err := a.auth.CheckPassword(post("", from(home)), "johndoe", "secret")
	require.NoError(t, err)
	require.Equal(t, "u1", u.ID)
	for _, bad := range [][2]string{{"johndoe", "x"}, {"nobody", "x"}, {"alice", "secret2"}, {"nopassword", "x"}, {"", "x"}, {"johndoe", ""}} {
		a.hasher.take()
		require.Equal(t, "invalid_grant", code(check(bad[0], bad[1])))
		require.Equal(t, 1, a.hasher.take(), "the same work")
	}
	require.Equal(t, "access_denied", code(check("johndoe", "secret", with("Sec-Fetch-Site: cross-site"))))

	b := newSessionApp(t)
	a = b
	for i := range 5 {
		require.Equal(t, "invalid_grant", code(check("johndoe", fmt.Sprint("x", i))))
		b.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
	}
	require.Equal(t, "slow_down", code(check("johndoe", "secret")))
	b.serve(post(right("johndoe"), from(home))).isError(t, 429, "slow_down")

	c := newSessionApp(t)
	a = c
	require.NoError(t, check("johndoe", "secret"))
	c.attackAccount("johndoe")
	c.serve(post(right("johndoe"), from(home))).isError(t, 429, "slow_down") // CheckPassword made nothing known
}

package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// directory is a Config.Authenticate that takes an empty password, as an LDAP server does by
// an unauthenticated bind.
func directory(c *oauth2pw.Config) {
	users := c.Users
	c.Hasher = nil
	c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
		if password != "" && password != "secret" {
			return nil, oauth2pw.ErrNotFound
		}
		return users.UserByName(ctx, name)
	}
}

// TestEmptyPassword: an empty password never reaches Config.Authenticate.
func TestEmptyPassword(t *testing.T) {
	a := newSessionApp(t, directory)
	mine := a.login()
	_, err := a.auth.CheckPassword(post("", from(home)), "johndoe", "")
	require.ErrorContains(t, err, "invalid_grant")
	_, err = a.auth.CheckPassword(post("", from(home)), "", "")
	require.ErrorContains(t, err, "invalid_grant")
	_, err = a.reauthenticate(mine.access, "")
	require.ErrorContains(t, err, "invalid_grant")
	_, err = a.auth.CheckPassword(post("", from(home)), "johndoe", "secret")
	require.NoError(t, err)
}

// TestReauthenticateRules: what Config.Authenticate says counts as it does at a login.
func TestReauthenticateRules(t *testing.T) {
	t.Run("a user whom the directory calls disabled", func(t *testing.T) {
		disabled := false
		a := newSessionApp(t, directory, func(c *oauth2pw.Config) {
			authenticate := c.Authenticate
			c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
				u, err := authenticate(ctx, name, password)
				if u != nil {
					u.Disabled = disabled
				}
				return u, err
			}
		})
		mine := a.login()
		disabled = true
		_, err := a.reauthenticate(mine.access, "secret")
		require.ErrorContains(t, err, "invalid_grant")
	})
	t.Run("the directory refuses", func(t *testing.T) {
		refuse := false
		a := newSessionApp(t, directory, func(c *oauth2pw.Config) {
			authenticate := c.Authenticate
			c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
				if refuse {
					return nil, &oauth2pw.Error{Code: "invalid_grant"}
				}
				return authenticate(ctx, name, password)
			}
		})
		mine := a.login()
		refuse = true
		_, err := a.reauthenticate(mine.access, "secret")
		require.ErrorContains(t, err, "invalid_grant")
		a.saw(oauth2pw.EventPasswordRefused, oauth2pw.ReasonRefused)
	})
}

// TestReauthenticateBesideChange: a password that was verified while the user changed proves
// nothing, where Config.Authenticate knows the passwords, too.
func TestReauthenticateBesideChange(t *testing.T) {
	for name, change := range map[string]func(a *sessionApp, u *oauth2pw.User){
		"disabled": func(a *sessionApp, _ *oauth2pw.User) {
			require.NoError(a, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
		},
		"SessionsValidFrom": func(a *sessionApp, _ *oauth2pw.User) {
			require.NoError(a, a.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error {
				u.SessionsValidFrom = a.clock.Now().Add(-time.Hour) // earlier than the proof, later than the password
				return nil
			}))
		},
		"the directory means another user": func(_ *sessionApp, u *oauth2pw.User) { u.ID = "u2" },
	} {
		t.Run(name, func(t *testing.T) {
			var beside func(u *oauth2pw.User)
			a := newSessionApp(t, directory, func(c *oauth2pw.Config) {
				authenticate := c.Authenticate
				c.Authenticate = func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
					u, err := authenticate(ctx, name, password)
					if beside != nil && u != nil {
						beside(u)
					}
					return u, err
				}
			})
			mine := a.login()
			beside = func(u *oauth2pw.User) { change(a, u) }
			tokens, err := a.reauthenticate(mine.access, "secret")
			require.Error(t, err)
			require.Nil(t, tokens)
		})
	}
}

// TestReauthenticateStorm: proofs that come faster than the clock do not date a session into
// the future.
func TestReauthenticateStorm(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	blocked := false
	for range 120 {
		tokens, err := a.reauthenticate(p.access, "secret")
		if err != nil {
			require.ErrorContains(t, err, "slow_down")
			blocked = true
			break
		}
		p = pair{access: string(tokens.AccessToken), refresh: string(tokens.RefreshToken)}
	}
	require.True(t, blocked)
	require.LessOrEqual(t, a.sessionOf(p).AuthenticatedAt.Sub(a.clock.Now()), 33*time.Second)
	a.clock.Advance(time.Minute)
	_, err := a.reauthenticate(p.access, "secret")
	require.NoError(t, err)
}

// TestResetWhoseEndFails: a session that is later than the change, and could not be ended,
// makes the answer a failure: nobody is told that it has ended.
func TestResetWhoseEndFails(t *testing.T) {
	for _, call := range []string{"SessionStore.End", "SessionStore.List", "UserStore.UserByID"} {
		a, s := newScriptedApp(t)
		mine := a.login()
		ticket := a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
		var inBetween pair
		s.before("PasswordUpdater.UpdatePasswordHash", once(func() { // a proof between the list and the new hash
			s.before("PasswordUpdater.UpdatePasswordHash", nil)
			for range 3 {
				tokens, err := a.reauthenticate(mine.access, "secret")
				if err != nil {
					break
				}
				mine = pair{access: string(tokens.AccessToken), refresh: string(tokens.RefreshToken)}
			}
			inBetween = mine
			s.before(call, func(context.Context, string) error { return errors.New("down") })
		}))
		err := a.auth.ResetPassword(post(""), ticket, "correct horse")
		s.before(call, nil)
		if err == nil {
			a.lives(inBetween, false)
		}
	}
}

// TestNewPlaceBesideAnother: two logins from a new place do not hide each other.
func TestNewPlaceBesideAnother(t *testing.T) {
	a, s := newScriptedApp(t)
	require.Equal(t, 200, a.serve(post(right("johndoe"), from(home), with("User-Agent: phone"))).StatusCode)
	a.clock.Advance(time.Second)
	s.before("SessionStore.List", once(func() {
		a.clock.Advance(time.Second)
		a.serve(post(right("johndoe"), from(away), with("User-Agent: script")))
	}))
	a.takeEvents()
	a.serve(post(right("johndoe"), from(away), with("User-Agent: script")))
	places := 0
	for _, e := range a.takeEvents() {
		if e.Kind == oauth2pw.EventLogin && e.Reason == oauth2pw.ReasonNewPlace {
			places++
		}
	}
	require.Equal(t, 1, places, "the first of the two tells")
}

// TestTicketOfAnotherServer: servers that share a secret share no ticket.
func TestTicketOfAnotherServer(t *testing.T) {
	a := newSessionApp(t)
	ticket := a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: "verify", ExpiresAt: a.clock.Now().Add(time.Hour)})
	b := newSessionApp(t, func(c *oauth2pw.Config) { c.Realm = "other" })
	_, _, err := b.auth.RedeemTicket(t.Context(), ticket, "verify")
	b.refused(err, oauth2pw.ReasonForged)
}

// TestPanicsAround: a plug that panics outside of the endpoints is an error.
func TestPanicsAround(t *testing.T) {
	a, s := newScriptedApp(t)
	panics := func(context.Context, string) error { panic("secret") }
	s.before("UserStore.UserByID", panics)
	_, err := a.auth.NewTicket(t.Context(), oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
	require.Error(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v", err, errors.Unwrap(err)), "secret\"")
	_, err = a.auth.Sessions(t.Context(), "u1")
	require.Error(t, err)
}

// TestWiringAround: calls that the Config does not allow say so.
func TestWiringAround(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) { c.Hasher, c.DisablePasswordGrant = nil, true })
	_, err := a.auth.CheckPassword(post("", from(home)), "johndoe", "secret")
	require.ErrorContains(t, err, "server_error")
	require.ErrorContains(t, a.event().Err, "CheckPassword needs")
	c := a.config()
	c.CheckLogin, c.ThrottleLimit, c.Hasher = func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error { return nil }, 1, a.hasher
	_, err = oauth2pw.New(c)
	require.ErrorContains(t, err, "Config.ThrottleLimit")
}

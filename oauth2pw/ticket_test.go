package oauth2pw_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

func (a *sessionApp) ticket(t oauth2pw.Ticket) string {
	a.Helper()
	ticket, err := a.auth.NewTicket(a.Context(), t)
	require.NoError(a, err)
	require.NotContains(a, fmt.Sprintf("%v %+v", ticket, ticket), string(ticket))
	return string(ticket)
}

func (a *sessionApp) refused(err error, reason oauth2pw.EventReason) {
	a.Helper()
	e := (*oauth2pw.Error)(nil)
	require.ErrorAs(a, err, &e)
	require.Equal(a, "invalid_ticket", e.Code)
	a.saw(oauth2pw.EventTicketRefused, reason)
	w := httptest.NewRecorder()
	a.auth.WriteError(w, post(""), err)
	read(a.T, w.Result()).isError(a.T, 400, "invalid_ticket")
}

// TestConformance137: when a ticket is refused.
func TestConformance137(t *testing.T) {
	verify := func(a *sessionApp) oauth2pw.Ticket {
		return oauth2pw.Ticket{UserID: "u1", Purpose: "verify", Data: "jane@example.com", ExpiresAt: a.clock.Now().Add(time.Hour)}
	}
	t.Run("137_a good one, until it expires", func(t *testing.T) {
		a := newSessionApp(t)
		ticket := a.ticket(verify(a))
		a.clock.Advance(time.Hour - time.Microsecond)
		for range 2 {
			got, u, err := a.auth.RedeemTicket(t.Context(), ticket, "verify")
			require.NoError(t, err)
			require.Equal(t, "jane@example.com", got.Data)
			require.Equal(t, "u1", got.UserID)
			require.Equal(t, "verify", got.Purpose)
			require.Equal(t, "johndoe", u.Username)
			require.True(t, got.ExpiresAt.Equal(a.clock.Now().Add(time.Microsecond)))
		}
		a.clock.Advance(time.Microsecond)
		_, _, err := a.auth.RedeemTicket(t.Context(), ticket, "verify")
		a.refused(err, oauth2pw.ReasonExpired)
	})
	t.Run("137_forged in any byte", func(t *testing.T) {
		a := newSessionApp(t)
		for _, ticket := range []string{a.ticket(verify(a)), a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})} {
			purpose := map[bool]string{true: "verify", false: oauth2pw.PurposeReset}[strings.Contains(decodedTicket(t, ticket), "jane")]
			raw := []byte(decodedTicket(t, ticket))
			for i := range raw {
				for _, bit := range []byte{1, 0x80} {
					forged := append([]byte{}, raw...)
					forged[i] ^= bit
					_, _, err := a.auth.RedeemTicket(t.Context(), "tk1."+base64.RawURLEncoding.EncodeToString(forged), purpose)
					e := (*oauth2pw.Error)(nil)
					require.ErrorAs(t, err, &e, "byte %d", i)
					require.Equal(t, "invalid_ticket", e.Code)
				}
			}
			for _, other := range []string{"", "tk1.", "tk2." + ticket[4:], ticket[4:], ticket[:len(ticket)-1], ticket + "A", ticket + "=", ticket[:20] + "\n" + ticket[20:], strings.Repeat("A", 5000), "rt1." + ticket[4:]} {
				_, _, err := a.auth.RedeemTicket(t.Context(), other, purpose)
				require.Error(t, err, other)
			}
			_, _, err := a.auth.RedeemTicket(t.Context(), ticket, purpose)
			require.NoError(t, err)
		}
	})
	t.Run("137_of another purpose", func(t *testing.T) {
		a := newSessionApp(t)
		_, _, err := a.auth.RedeemTicket(t.Context(), a.ticket(verify(a)), "verify2")
		a.refused(err, oauth2pw.ReasonForged)
		_, _, err = a.auth.RedeemTicket(t.Context(), a.ticket(verify(a)), oauth2pw.PurposeReset)
		a.refused(err, oauth2pw.ReasonForged)
		a.refused(a.auth.ResetPassword(post(""), a.ticket(verify(a)), "correct horse"), oauth2pw.ReasonForged)
	})
	t.Run("137_the fields do not run into each other", func(t *testing.T) {
		a := newSessionApp(t)
		one := a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: "p", Data: "ab", ExpiresAt: a.clock.Now().Add(time.Hour)})
		raw := []byte(decodedTicket(t, one))
		raw[21]++ // the length of the ID
		_, _, err := a.auth.RedeemTicket(t.Context(), "tk1."+base64.RawURLEncoding.EncodeToString(raw), "p")
		a.refused(err, oauth2pw.ReasonForged)
	})
	t.Run("137_of a deleted or disabled user", func(t *testing.T) {
		a := newSessionApp(t)
		for _, purpose := range []string{"verify", oauth2pw.PurposeReset} {
			ticket := a.ticket(oauth2pw.Ticket{UserID: "u3", Purpose: purpose, ExpiresAt: a.clock.Now().Add(time.Hour)})
			require.NoError(t, a.users.Update(t.Context(), "u3", func(u *oauth2pw.User) error { u.Disabled = true; return nil }))
			_, _, err := a.auth.RedeemTicket(t.Context(), ticket, purpose)
			a.refused(err, oauth2pw.ReasonUserDisabled)
			require.NoError(t, a.users.Update(t.Context(), "u3", func(u *oauth2pw.User) error { u.Disabled = false; return nil }))
		}
		ticket := a.ticket(oauth2pw.Ticket{UserID: "u3", Purpose: "verify", ExpiresAt: a.clock.Now().Add(time.Hour)})
		require.NoError(t, a.users.Delete(t.Context(), "u3"))
		_, _, err := a.auth.RedeemTicket(t.Context(), ticket, "verify")
		a.refused(err, oauth2pw.ReasonUserDeleted)
		_, err = a.auth.NewTicket(t.Context(), oauth2pw.Ticket{UserID: "u3", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
		require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	})
	t.Run("137_a reset dies with the password and with SessionsValidFrom", func(t *testing.T) {
		for name, change := range map[string]func(u *oauth2pw.User) error{
			"the hash":          func(u *oauth2pw.User) error { u.PasswordHash = "new:other"; return nil },
			"the name":          func(u *oauth2pw.User) error { u.Username = "johndoe2"; return nil },
			"SessionsValidFrom": func(u *oauth2pw.User) error { u.SessionsValidFrom = time.Unix(1_700_000_000, 0); return nil },
		} {
			a := newSessionApp(t)
			reset := oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)}
			ticket, other := a.ticket(reset), a.ticket(verify(a))
			require.NoError(t, a.users.Update(t.Context(), "u1", change), name)
			a.refused(a.auth.ResetPassword(post(""), ticket, "correct horse"), oauth2pw.ReasonForged)
			_, _, err := a.auth.RedeemTicket(t.Context(), other, "verify")
			require.NoError(t, err, "other tickets are the app's to compare")
		}
	})
	t.Run("137_of a dropped secret", func(t *testing.T) {
		a := newSessionApp(t)
		ticket := a.ticket(verify(a))
		b := a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second"), secret("first")} })
		_, _, err := b.auth.RedeemTicket(t.Context(), ticket, "verify")
		require.NoError(t, err)
		c := a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second")} })
		_, _, err = c.auth.RedeemTicket(t.Context(), ticket, "verify")
		c.refused(err, oauth2pw.ReasonUnknownSecret)
	})
	t.Run("137_of two resets with one ticket one succeeds", func(t *testing.T) {
		for range 20 {
			a := newSessionApp(t)
			ticket := a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() { errs[i] = a.auth.ResetPassword(post(""), ticket, fmt.Sprintf("password %d", i)) })
			}
			wg.Wait()
			won := 0
			for i, err := range errs {
				if err == nil {
					won++
					a.post(fmt.Sprintf("grant_type=password&username=johndoe&password=password+%d", i)).Body.Close()
				}
			}
			require.Equal(t, 1, won)
		}
	})
}

func decodedTicket(t *testing.T, ticket string) string {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(ticket, "tk1."))
	require.NoError(t, err)
	return string(raw)
}

// TestResetPassword: every session ends, what was counted is forgotten, and the owner logs in
// at once; a refused password leaves the ticket as it is.
func TestResetPassword(t *testing.T) {
	a := newSessionApp(t, func(c *oauth2pw.Config) {
		c.CheckNewPassword = func(_ context.Context, _ *oauth2pw.User, password string) error {
			if len(password) < 8 {
				return &oauth2pw.Error{Code: "invalid_request", Description: "Too short."}
			}
			return nil
		}
	})
	mine := a.login()
	for i := range 10 {
		a.post(wrong("johndoe", i)).isError(t, 400, "invalid_grant")
	}
	a.post(right("johndoe")).isError(t, 429, "slow_down")
	ticket := a.ticket(oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
	err := a.auth.ResetPassword(post(""), ticket, "short")
	e := (*oauth2pw.Error)(nil)
	require.ErrorAs(t, err, &e)
	require.Equal(t, 422, e.Status)
	a.lives(mine, true)

	require.NoError(t, a.auth.ResetPassword(post(""), ticket, "correct horse"))
	a.saw(oauth2pw.EventPasswordChanged, "")
	a.refused(a.auth.ResetPassword(post(""), ticket, "correct horse 2"), oauth2pw.ReasonForged)
	a.lives(mine, false)
	require.Zero(t, a.live("u1"))
	require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=correct+horse").StatusCode, "at once")
	a.post(login).isError(t, 400, "invalid_grant")
}

// TestFirstPassword: an invited user has no password, and sets the first one by a ticket.
func TestFirstPassword(t *testing.T) {
	a := newSessionApp(t)
	ticket := a.ticket(oauth2pw.Ticket{UserID: "u5", Purpose: oauth2pw.PurposeReset, ExpiresAt: a.clock.Now().Add(time.Hour)})
	require.NoError(t, a.auth.ResetPassword(post(""), ticket, "correct horse"))
	require.Equal(t, 200, a.post("grant_type=password&username=nopassword&password=correct+horse").StatusCode)
}

// TestSetPassword: by an administrator, also for a disabled user, who stays disabled.
func TestSetPassword(t *testing.T) {
	a := newSessionApp(t)
	mine := a.login()
	require.NoError(t, a.auth.SetPassword(t.Context(), "u1", "correct horse"))
	a.lives(mine, false)
	require.Equal(t, 200, a.post("grant_type=password&username=johndoe&password=correct+horse").StatusCode)
	require.NoError(t, a.auth.SetPassword(t.Context(), "u2", "correct horse"))
	a.post("grant_type=password&username=alice&password=correct+horse").isError(t, 400, "invalid_grant")
	require.ErrorIs(t, a.auth.SetPassword(t.Context(), "nobody", "x"), oauth2pw.ErrNotFound)
	e := (*oauth2pw.Error)(nil)
	require.ErrorAs(t, a.auth.SetPassword(t.Context(), "u1", ""), &e)
	require.Equal(t, 422, e.Status)
}

// TestNewTicket: what is refused, and by which name.
func TestNewTicket(t *testing.T) {
	a := newSessionApp(t)
	good := oauth2pw.Ticket{UserID: "u1", Purpose: "verify", ExpiresAt: a.clock.Now().Add(time.Hour)}
	for names, edit := range map[string]func(*oauth2pw.Ticket){
		"Ticket.UserID":           func(k *oauth2pw.Ticket) { k.UserID = "" },
		"Ticket.Purpose":          func(k *oauth2pw.Ticket) { k.Purpose = "" },
		"more than 512 bytes":     func(k *oauth2pw.Ticket) { k.Data = strings.Repeat("x", 513) },
		"not in the future":       func(k *oauth2pw.Ticket) { k.ExpiresAt = a.clock.Now() },
		"Ticket.ExpiresAt is not": func(k *oauth2pw.Ticket) { k.ExpiresAt = time.Time{} },
		"more than 30 days ahead": func(k *oauth2pw.Ticket) { k.ExpiresAt = a.clock.Now().Add(30*24*time.Hour + 1) },
		"must have 1 to 1,024":    func(k *oauth2pw.Ticket) { k.UserID = strings.Repeat("x", 1025) },
	} {
		k := good
		edit(&k)
		_, err := a.auth.NewTicket(t.Context(), k)
		require.ErrorContains(t, err, names)
	}
	for _, data := range []string{"", strings.Repeat("\x00", 512), "ü €"} {
		good.Data = data
		got, _, err := a.auth.RedeemTicket(t.Context(), a.ticket(good), "verify")
		require.NoError(t, err)
		require.Equal(t, data, got.Data)
	}
	without := newApp(t)
	_, err := without.auth.NewTicket(t.Context(), good)
	require.ErrorContains(t, err, "Config.Secrets")
	_, _, err = without.auth.RedeemTicket(t.Context(), a.ticket(good), "verify")
	require.ErrorContains(t, err, "server_error")
	secretsAlone := newApp(t, func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("first")} })
	_, err = secretsAlone.auth.NewTicket(t.Context(), good)
	require.NoError(t, err, "tickets need no sessions")
}

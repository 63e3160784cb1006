package oauth2pw_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestStoreTimeout: a plug that hangs is a 503 after Config.StoreTimeout, by default
// 5 seconds.
func TestStoreTimeout(t *testing.T) {
	for _, call := range []string{
		"PasswordUpdater.UpdatePasswordHash", // an upgrade: the login works without it
		"UserStore.UserByName", "UserStore.UserByID", "ClientStore.ClientByID", "SessionStore.Create", "SessionStore.List", "Throttle.Begin",
	} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var event oauth2pw.Event
				users, err := store.NewUsers(oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "old:secret"})
				require.NoError(t, err)
				clients, err := store.NewClients(oauth2pw.Client{ID: "webapp", Grants: []string{"password"}})
				require.NoError(t, err)
				key, err := tokens.ParseKeys([]byte(testKey))
				require.NoError(t, err)
				ring, err := tokens.New(tokens.Config{Keys: key, Issuer: issuer, Audience: audience})
				require.NoError(t, err)
				c := oauth2pw.Config{
					Users: users, Hasher: new(plainHasher), Clients: clients, Issuer: ring, Throttle: new(recorder),
					RequestID: func(context.Context) string { return "r-1" },
					OnEvent: func(_ context.Context, e oauth2pw.Event) {
						if e.Kind != oauth2pw.EventLogin && e.Kind != oauth2pw.EventHashUpgraded {
							event = e
						}
					},
				}
				withSessions(&c)
				s := new(script)
				s.wrap(&c)
				s.before(call, hangs)
				auth, err := oauth2pw.New(c)
				require.NoError(t, err)
				began := time.Now()
				late, cancel := context.WithTimeout(t.Context(), time.Minute) // the client gives up
				defer cancel()
				got := serve(t, auth.TokenHandler(), post(login+"&client_id=webapp", during(late)))
				if call == "PasswordUpdater.UpdatePasswordHash" {
					require.Equal(t, 200, got.StatusCode)
				} else {
					got.isError(t, 503, "temporarily_unavailable")
				}
				require.Equal(t, 5*time.Second, time.Since(began))
				require.Equal(t, call, event.Plug)
				require.ErrorIs(t, event.Err, context.DeadlineExceeded)
				require.Equal(t, "r-1", event.RequestID)
			})
		})
	}
}

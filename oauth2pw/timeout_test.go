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

// slowUsers and the like are plugs that answer when their context ends.
type slowUsers struct{ oauth2pw.UserStore }

func (slowUsers) UserByName(ctx context.Context, _ string) (*oauth2pw.User, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type slowUpdater struct{ *store.Users }

func (slowUpdater) UpdatePasswordHash(ctx context.Context, _, _, _ string, _ time.Time) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

type slowClients struct{}

func (slowClients) ClientByID(ctx context.Context, _ string) (*oauth2pw.Client, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type slowSessions struct{ oauth2pw.SessionStore }

func (slowSessions) Create(ctx context.Context, _ *oauth2pw.Session) error {
	<-ctx.Done()
	return ctx.Err()
}

type slowThrottle struct{ oauth2pw.Throttle }

func (slowThrottle) Begin(ctx context.Context, _ oauth2pw.Attempt) (time.Duration, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestStoreTimeout: a plug that hangs is a 503 after Config.StoreTimeout, by default
// 5 seconds.
func TestStoreTimeout(t *testing.T) {
	for name, edit := range map[string]func(c *oauth2pw.Config){
		"PasswordUpdater.UpdatePasswordHash": func(c *oauth2pw.Config) { c.Users = slowUpdater{c.Users.(*store.Users)} }, // an upgrade: the login goes on
		"UserStore.UserByName":               func(c *oauth2pw.Config) { c.Users = slowUsers{c.Users} },
		"ClientStore.ClientByID":             func(c *oauth2pw.Config) { c.Clients = slowClients{} },
		"SessionStore.Create":                func(c *oauth2pw.Config) { withSessions(c); c.Sessions = slowSessions{c.Sessions} },
		"Throttle.Begin":                     func(c *oauth2pw.Config) { c.Throttle = slowThrottle{} },
	} {
		t.Run(name, func(t *testing.T) {
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
					Users: users, Hasher: new(plainHasher), Clients: clients, Issuer: ring,
					RequestID: func(context.Context) string { return "r-1" },
					OnEvent: func(_ context.Context, e oauth2pw.Event) {
						if e.Kind != oauth2pw.EventLogin && e.Kind != oauth2pw.EventHashUpgraded {
							event = e
						}
					},
				}
				edit(&c)
				auth, err := oauth2pw.New(c)
				require.NoError(t, err)
				began := time.Now()
				got := serve(t, auth.TokenHandler(), post(login+"&client_id=webapp"))
				if name == "PasswordUpdater.UpdatePasswordHash" {
					require.Equal(t, 200, got.StatusCode)
				} else {
					got.isError(t, 503, "temporarily_unavailable")
				}
				require.Equal(t, 5*time.Second, time.Since(began))
				require.Equal(t, name, event.Plug)
				require.ErrorIs(t, event.Err, context.DeadlineExceeded)
				require.Equal(t, "r-1", event.RequestID)
			})
		})
	}
}

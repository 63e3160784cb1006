package guides

import (
	"context"
	"expvar"
	"log/slog"
	"net/http"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// passwordLogins counts the logins of the password grant, by client; "" is no client.
var passwordLogins = expvar.NewMap("password_logins")

func countPasswordLogins(_ context.Context, e oauth2pw.Event) {
	if e.Kind == oauth2pw.EventLogin && e.Grant == "password" {
		passwordLogins.Add(e.ClientID, 1)
	}
}

func remote() (*tokens.Remote, error) {
	provider, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer:   "https://login.example.com",
		Audience: "https://api.example.com",
		Scopes:   map[string]string{"read:items": "items", "openid": "me"}, // the rest is dropped
	})
	return provider, err
}

// duringTheMove accepts the tokens of the provider beside those of the app.
func duringTheMove(c oauth2pw.Config, jwt *tokens.Ring, provider *tokens.Remote) (*oauth2pw.Auth, error) {
	both, err := tokens.ByIssuer(jwt, provider)
	if err != nil {
		return nil, err
	}
	c.Verifier = both
	return oauth2pw.New(c)
}

func afterTheClients(c oauth2pw.Config) (*oauth2pw.Auth, error) {
	c.DisablePasswordGrant = true
	return oauth2pw.New(c)
}

// onlyTheProvider has no tokens of its own any more.
func onlyTheProvider(mux *http.ServeMux, provider *tokens.Remote, items http.HandlerFunc) {
	bearer := oauth2pw.PasswordBearer{OnEvent: oauth2pw.LogEvents(slog.Default())}
	mux.Handle("GET /items", bearer.Require(provider.Verify, "items")(items))
}

func userOfBoth(r *http.Request) (issuer, subject string) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	return p.Issuer, p.Subject
}

// The functions are here to be compiled.
var _ = []any{countPasswordLogins, remote, duringTheMove, afterTheClients, onlyTheProvider, userOfBoth}

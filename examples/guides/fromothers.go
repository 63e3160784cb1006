package guides

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// afterTheMove is the wiring instead of a middleware written by hand.
func afterTheMove(users oauth2pw.UserStore, h http.HandlerFunc) (http.Handler, error) {
	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{Users: users, Hasher: hasher.Default(), Issuer: jwt, DefaultScopes: []string{"me"}})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /hello", auth.RequireBearer("me")(h))
	return mux, nil
}

// oldTokens accepts the tokens that parse verifies, the code of the old app.
type oldTokens struct {
	issuer string // of the new tokens: LoadUser reads the user then
	parse  func(token string) (subject string, expires time.Time, err error)
}

func (oldTokens) Issuer() string { return "" } // the iss of the old tokens; here: no iss

func (o oldTokens) Verify(_ context.Context, token string) (oauth2pw.Principal, error) {
	subject, expires, err := o.parse(token)
	if err != nil {
		return oauth2pw.Principal{}, fmt.Errorf("%w: %w", oauth2pw.ErrInvalidToken, err)
	}
	return oauth2pw.Principal{Issuer: o.issuer, Subject: subject, Scope: "me", ExpiresAt: expires}, nil
}

func withOldTokens(c oauth2pw.Config, jwt *tokens.Ring, parse func(token string) (subject string, expires time.Time, err error)) (*oauth2pw.Auth, error) {
	both, err := tokens.ByIssuer(jwt, oldTokens{jwt.Issuer(), parse})
	if err != nil {
		return nil, err
	}
	c.Issuer, c.Verifier, c.LoadUser = jwt, both, true
	return oauth2pw.New(c)
}

func insteadOfGoOAuth2(c *oauth2pw.Config, keys []tokens.Key) (err error) {
	secret, sum := oauth2pw.NewClientSecret()
	c.Clients, err = store.NewClients(oauth2pw.Client{ID: "webapp", SecretSHA256: sum, Grants: []string{"password", "refresh_token"}})
	if err != nil {
		return fmt.Errorf("the client with the secret %s: %w", secret, err)
	}
	c.Sessions = new(store.Sessions)
	c.RefreshIdle = 24 * time.Hour
	c.Issuer, err = tokens.New(tokens.Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api", TTL: 15 * time.Minute})
	return err
}

func insteadOfCalls(ctx context.Context, mux *http.ServeMux, auth *oauth2pw.Auth, r *http.Request) (*http.Request, error) {
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	ended, err := auth.EndSession(ctx, p.Subject, p.SessionID, "logout")
	if err != nil || !ended {
		return nil, err
	}
	r, err = auth.CheckBearer(r, "me")
	return r, err
}

func insteadOfGinJWT(c *oauth2pw.Config, auth *oauth2pw.Auth, r *http.Request, claimsOf tokens.ClaimsFunc) error {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	var claims struct {
		Role string `json:"role"`
	}
	err := p.Claims(&claims)
	if err != nil {
		return err
	}
	answer, err := auth.Login(r, p.Subject, "", "me")
	if err != nil {
		return err
	}
	c.Realm = "api " + claims.Role + answer.Scope
	c.Issuer, err = tokens.New(tokens.Config{Issuer: "https://api.example.com", Audience: "api", Claims: claimsOf})
	return err
}

// The functions are here to be compiled.
var _ = []any{afterTheMove, withOldTokens, insteadOfGoOAuth2, insteadOfCalls, insteadOfGinJWT}

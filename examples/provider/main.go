// Provider is an app on its way out of the password grant: the app accepts the tokens of an
// OpenID provider beside its own, and the password grant is switched off by a flag.
//
//	go run ./examples/provider -provider https://login.example.com
//	go run ./examples/provider -provider https://login.example.com -no-passwords
//
// The middleware needs two settings:
//
//   - Config.Verifier is tokens.ByIssuer, with the own Ring and a Remote for the provider. A
//     token is checked only by the verifier of its issuer.
//   - RemoteConfig.Scopes maps the scopes of the provider to scopes of the app. Without an
//     entry a scope is dropped, so that the provider cannot grant more than the app allows.
//
// First both logins work; next the clients move to the provider; last DisablePasswordGrant
// removes the password grant. No handler changes: sessions are refreshed and end as before.
//
// A handler must not use Subject without Issuer: user 1 of the provider is not user 1 of the
// app. Principal.User is set only for own tokens.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net/http"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

func main() {
	provider := flag.String("provider", "https://login.example.com", "the issuer, a `URL`")
	noPasswords := flag.Bool("no-passwords", false, "switch the password grant off")
	flag.Parse()
	passwords := hasher.Default()
	hash, err := passwords.Hash(context.Background(), "secret") // as in your table of users
	if err != nil {
		log.Fatal(err)
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.Open("signing.jwk", "http://127.0.0.1:8000", "api")
	if err != nil {
		log.Fatal(err)
	}
	secrets, err := oauth2pw.OpenSecrets("refresh.secret")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := routes(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, Sessions: new(store.Sessions), Secrets: secrets,
		DisablePasswordGrant: *noPasswords,
	}, jwt, tokens.RemoteConfig{Issuer: *provider, Audience: "https://api.example.com"})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler))
}

// routes adds the provider to the Config of the app.
func routes(c oauth2pw.Config, jwt *tokens.Ring, p tokens.RemoteConfig) (http.Handler, error) {
	p.Scopes = map[string]string{"read:items": "items", "openid": "me"}
	provider, err := tokens.NewRemote(p)
	if err != nil {
		return nil, err
	}
	if c.Verifier, err = tokens.ByIssuer(jwt, provider); err != nil {
		return nil, err
	}
	c.Scopes = map[string]string{"me": "Read your name.", "items": "Read items.", "admin": "Administer the app."}
	c.DefaultScopes = []string{"me"}
	c.LoadUser = true // for own tokens: a disabled user is refused at once
	auth, err := oauth2pw.New(c)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("/.well-known/oauth-authorization-server", auth.MetadataHandler(oauth2pw.Metadata{
		TokenEndpoint: jwt.Issuer() + "/token", RevocationEndpoint: jwt.Issuer() + "/revoke",
	}))
	mux.Handle("GET /me", auth.RequireBearer("me")(http.HandlerFunc(me)))
	mux.Handle("GET /items", auth.RequireBearer("items")(http.HandlerFunc(me)))
	mux.Handle("GET /admin", auth.RequireBearer("admin")(http.HandlerFunc(me)))
	return mux, nil
}

func me(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	if p.User != nil {
		fmt.Fprintf(w, "%s, with the scopes %q\n", p.User.Username, p.Scope)
		return
	}
	fmt.Fprintf(w, "user %s of %s, with the scopes %q\n", p.Subject, p.Issuer, p.Scope)
}

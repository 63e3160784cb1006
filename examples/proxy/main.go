// Proxy is an app under a path prefix, behind a reverse proxy that ends TLS. The proxy serves
// https://www.example.com, and sends these paths to the app by plain HTTP, unchanged:
//
//	/api/…
//	/.well-known/oauth-authorization-server/api
//
// The library needs three things:
//
//   - Config.TrustedProxies has the address of the proxy. Only then X-Forwarded-Proto: https
//     allows a password, and X-Forwarded-For has the client address.
//   - The proxy sets both headers. Caddy does; nginx needs
//     "proxy_set_header X-Forwarded-For $remote_addr" and
//     "proxy_set_header X-Forwarded-Proto $scheme".
//   - The issuer and the URLs of the metadata are the URLs outside of the proxy, with the
//     prefix.
//
// First the proxy adds the headers, next http.StripPrefix removes the prefix, and last the
// handlers of the library decide about the request.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/netip"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

const prefix = "/api"

func main() {
	jwt, err := tokens.Open("signing.jwk", "https://www.example.com"+prefix, "api")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := routes(jwt, hasher.Default(), netip.MustParsePrefix("127.0.0.1/32"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler)) // only the proxy reaches this port
}

// routes returns the app. The handlers below the prefix know nothing of it.
func routes(jwt *tokens.Ring, passwords *hasher.Hasher, proxies ...netip.Prefix) (http.Handler, error) {
	hash, err := passwords.Hash(context.Background(), "secret") // as in your table of users
	if err != nil {
		return nil, err
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
		TrustedProxies: proxies,
	})
	if err != nil {
		return nil, err
	}
	app := http.NewServeMux()
	app.Handle("/token", auth.TokenHandler())
	app.Handle("/.well-known/jwks.json", jwt.JWKSHandler())
	app.Handle("GET /hello", auth.RequireBearer("me")(http.HandlerFunc(hello)))

	root := http.NewServeMux()
	root.Handle(prefix+"/", http.StripPrefix(prefix, app))
	// The path of the issuer follows the well-known path (RFC 8414, section 3): the metadata is
	// not below the prefix.
	root.Handle("/.well-known/oauth-authorization-server"+prefix, auth.MetadataHandler(oauth2pw.Metadata{
		TokenEndpoint: jwt.Issuer() + "/token",
		JWKSURI:       jwt.Issuer() + "/.well-known/jwks.json",
	}))
	return root, nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "hello, user %s at %s\n", p.Subject, oauth2pw.ClientAddress(r.Context()))
}

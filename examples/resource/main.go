// Resource is a service without users and without passwords: the service accepts the tokens of
// a login server, which is another process on another machine.
//
//	go run ./examples/resource -issuer https://login.example.com -audience https://api.example.com
//
// The middleware needs a verifier. tokens.NewRemote makes it from three facts: the issuer (its
// metadata names the URL of the public keys), the audience, and the scopes that this service
// knows. Every other scope is dropped.
//
// First the user logs in at the login server, next the client sends the access token to this
// service, and last Remote checks the token with the keys that it has fetched. No request calls
// the login server: a token is valid until it expires, even after a log-out there. A short
// tokens.Config.TTL at the login server bounds this time.
//
// A rotation of the keys needs no restart here: the login server publishes the next key five
// minutes before the key signs (see package tokens). After an unplanned change, tokens of the
// new key may be refused for up to 30 seconds.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

func main() {
	log.Fatal(run(os.Args[1:], time.Now, os.Stdout))
}

// run serves until the listener fails. now is the clock.
func run(args []string, now func() time.Time, stdout io.Writer) error {
	c := tokens.RemoteConfig{
		Scopes:  tokens.SameScopes("items"),
		OnError: func(err error) { log.Print(err) }, // the last fetched keys stay in use
		Now:     now,
	}
	f := flag.NewFlagSet("resource", flag.ExitOnError)
	addr := f.String("addr", "127.0.0.1:8001", "listen `address`")
	f.StringVar(&c.Issuer, "issuer", "http://127.0.0.1:8000", "the iss of the tokens, a `URL`")
	f.StringVar(&c.JWKSURL, "jwks", "", "the `URL` of the public keys (default: the issuer's metadata has it)")
	f.StringVar(&c.Audience, "audience", "api", "the aud of the tokens")
	if err := f.Parse(args); err != nil {
		return err
	}
	handler, err := routes(c)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "listening on http://%s\n", l.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second}
	return server.Serve(l)
}

func routes(c tokens.RemoteConfig) (http.Handler, error) {
	issuer, err := tokens.NewRemote(c) // fetches nothing yet
	if err != nil {
		return nil, err
	}
	bearer := oauth2pw.PasswordBearer{Realm: "items", OnEvent: oauth2pw.LogEvents(slog.Default())}
	mux := http.NewServeMux()
	mux.Handle("GET /items", bearer.Require(issuer.Verify, "items")(http.HandlerFunc(items)))
	return mux, nil
}

// items has no user record: the pair of Issuer and Subject identifies the user.
func items(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "items of user %s of %s, with the scopes %q\n", p.Subject, p.Issuer, p.Scope)
}

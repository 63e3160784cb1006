// Spa is a single-page app in plain JavaScript, without a build step, and its server: a
// browser that stays logged in.
//
//	go run ./examples/spa
//
// First web/session.js: the client of docs/clients.md, which keeps the tokens of a login for
// all tabs and refreshes once for all of them. Next web/app.js: the page. Last this file: the
// server of the page and of its API, from one origin. The library needs nothing special from
// a server of pages; the Content-Security-Policy keeps other scripts away from the tokens.
package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

//go:embed web
var web embed.FS

func main() { program.Main("spa", parseFlags, serve) }

func parseFlags(args []string, w io.Writer) (*program.Flags, error) {
	o := new(program.Flags)
	f := o.NewFlagSet("spa")
	o.DB = program.MemoryDB // there is no database, and the key is a new one at each start
	return o, o.Parse(f, args, w)
}

func serve(ctx context.Context, o *program.Flags, stdout, stderr io.Writer) error {
	listener, url, err := o.Listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	auth, err := newAuth(ctx, o, logger)
	if err != nil {
		return err
	}
	o.Warn(stderr)
	go auth.SweepSessions(ctx, time.Hour)
	fmt.Fprintf(stdout, "listening on %s\n\nOpen it in a browser: johndoe / secret. Stop: Ctrl-C\n", url)
	return program.Serve(ctx, listener, routes(auth), nil, logger)
}

func newAuth(ctx context.Context, o *program.Flags, logger *slog.Logger) (*oauth2pw.Auth, error) {
	h, err := hasher.New(o.Hash)
	if err != nil {
		return nil, err
	}
	hash, err := h.Hash(ctx, "secret")
	if err != nil {
		return nil, err
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		return nil, err
	}
	keys, err := o.OpenKeys()
	if err != nil {
		return nil, err
	}
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: o.Issuer, Audience: "spa", TTL: o.AccessTTL})
	if err != nil {
		return nil, err
	}
	secrets, err := o.OpenSecrets()
	if err != nil {
		return nil, err
	}
	return oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: secrets,
		RefreshGrace: o.Grace(), RefreshForgive: o.RefreshForgive,
		ThrottleLimit: o.Throttle.Limit, ThrottleWindow: o.Throttle.Window, InsecureNoThrottle: o.Throttle.Off,
		TrustedProxies: o.TrustedProxies,
		OnEvent:        oauth2pw.LogEvents(logger),
	})
}

func routes(auth *oauth2pw.Auth) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("GET /sessions", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		sessions, err := auth.Sessions(r.Context(), p.Subject)
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		fmt.Fprintf(w, "%d\n", len(sessions))
	})))
	page, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	files := http.FileServerFS(page)
	// Without a method: ServeMux refuses "GET /" beside "/token", which has all methods.
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		files.ServeHTTP(w, r)
	})
	return mux
}

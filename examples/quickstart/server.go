package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/tokens"
)

// serve runs the server until ctx ends, then lets requests in flight finish.
func serve(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	h, err := hasher.New(o.Hash)
	if err != nil {
		return fmt.Errorf("-hash: %w", err)
	}
	listener, url, err := o.Listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	db, err := o.Open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := seed(ctx, db, h); err != nil {
		return fmt.Errorf("the database %s: %w", db.Name, err)
	}
	shared, err := openShared(ctx, o, db)
	if err != nil {
		return err
	}
	defer shared.close()
	keys, err := o.OpenKeys()
	if err != nil {
		return err
	}
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: o.Issuer, Audience: o.audience, TTL: o.AccessTTL})
	if err != nil {
		return err
	}
	secrets, err := o.OpenSecrets()
	if err != nil {
		return err
	}
	app, err := newApp(ctx, o, db, shared, h, jwt, secrets, logger)
	if err != nil {
		return err
	}
	routes, err := app.routes(o.Issuer, !strings.HasPrefix(keys[0].Algorithm(), "HS"))
	if err != nil {
		return err
	}
	go app.auth.SweepSessions(ctx, time.Hour) // SweepSessions ends with ctx; a failure is an event

	warn(o, stderr)
	greet(stdout, url, o.TLSCert, demoUsers(ctx, db))
	return program.Serve(ctx, listener, allowOrigins(o.cors, routes), new(idleConns).changed, logger)
}

// warn prints the settings that weaken the app, or have no effect.
func warn(o *options, stderr io.Writer) {
	o.Warn(stderr)
	if o.proxyHeader != defaultProxyHeader && o.TrustedProxies == nil {
		fmt.Fprintln(stderr, "-proxy-header does nothing without -trusted-proxies")
	}
	if o.refreshIdle > o.refreshMax {
		fmt.Fprintln(stderr, "-refresh-idle does nothing beyond -refresh-max")
	}
}

// greet prints the URL, the demo users, and commands to copy.
func greet(w io.Writer, url, cert, users string) {
	curl := "curl -s"
	if cert != "" {
		curl += " --cacert '" + cert + "'"
	}
	login := curl + " -d grant_type=password -d username=johndoe -d password=secret -d 'scope=me items' " + url + "/token"
	fmt.Fprintf(w, `listening on %[1]s

log in with a browser:
  %[1]s/docs

%[4]s
log in:
  %[2]s

call a protected route:
  %[3]s -H "Authorization: Bearer $(%[2]s | sed 's/.*"access_token":"\([^"]*\)".*/\1/')" %[1]s/users/me

stop: Ctrl-C
`, url, login, curl, users)
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// drainTime is the time limit of the requests in flight when the server stops.
const drainTime = 30 * time.Second

// serve runs the server until ctx ends, then lets requests in flight finish.
func serve(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	h, err := hasher.New(o.hash)
	if err != nil {
		return fmt.Errorf("-hash: %w", err)
	}
	listener, url, err := listen(o)
	if err != nil {
		return err
	}
	defer listener.Close()
	db, err := openDB(ctx, o.db)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := seed(ctx, db, h); err != nil {
		return fmt.Errorf("the database %s: %w", o.db, err)
	}
	keys, err := openKeys(o)
	if err != nil {
		return err
	}
	issuer := o.issuer
	if issuer == "" {
		issuer = url
		if err := checkIssuer(issuer); err != nil {
			return fmt.Errorf("-issuer must be given, or -tls-cert, when -addr is not loopback: tokens of %s would be plain http's", issuer)
		}
	}
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: issuer, Audience: o.audience, TTL: o.accessTTL})
	if err != nil {
		return err
	}
	secrets, err := openSecrets(o)
	if err != nil {
		return err
	}
	app, err := newApp(o, db, h, jwt, secrets, logger)
	if err != nil {
		return err
	}
	go app.auth.SweepSessions(ctx, time.Hour) // SweepSessions ends with ctx; a failure is an event

	server := &http.Server{
		Handler:           allowOrigins(o.cors, app.routes(issuer, !strings.HasPrefix(keys[0].Algorithm(), "HS"))),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ConnState:         new(idleConns).changed,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	warn(o, stderr)
	greet(stdout, url, o.tlsCert, demoUsers(ctx, db))
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("requests were cut off after %s: %w", drainTime, err)
	}
	return nil
}

// warn prints the settings that weaken the app, or have no effect.
func warn(o *options, stderr io.Writer) {
	strong := o.hash
	strong.InsecureParams = false
	if _, err := hasher.New(strong); err != nil {
		fmt.Fprintln(stderr, "-hash is weaker than OWASP's minimum for argon2id: for tests only")
	}
	if o.proxyHeader != defaultProxyHeader && o.trustedProxies == nil {
		fmt.Fprintln(stderr, "-proxy-header does nothing without -trusted-proxies")
	}
	if o.refreshIdle > o.refreshMax {
		fmt.Fprintln(stderr, "-refresh-idle does nothing beyond -refresh-max")
	}
	if o.throttle.off {
		fmt.Fprintln(stderr, "-throttle=off: anybody may guess passwords without a bound")
	}
}

// listen opens the port and returns its URL.
func listen(o *options) (net.Listener, string, error) {
	scheme := "http"
	var config *tls.Config
	if o.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return nil, "", fmt.Errorf("the certificate: %w", err)
		}
		scheme, config = "https", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	}
	l, err := net.Listen("tcp", o.addr)
	if err != nil {
		return nil, "", fmt.Errorf("-addr %s: %w", o.addr, err)
	}
	url := scheme + "://" + l.Addr().String()
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && o.issuer == "" {
		l.Close()
		return nil, "", errors.New("-issuer must be given when -addr names no host")
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, url, nil
}

// openKeys returns the signing keys: from the file of -key, from the file beside the
// database, or, with a database in memory, a new key.
func openKeys(o *options) ([]tokens.Key, error) {
	switch {
	case o.key != "":
		return tokens.ReadKeys(o.key)
	case o.db == memoryDB:
		key, _, err := tokens.NewKey("")
		return []tokens.Key{key}, err
	default:
		return tokens.OpenKeys(o.db + ".jwk")
	}
}

// openSecrets returns the refresh secrets, in the same way as openKeys.
func openSecrets(o *options) ([]oauth2pw.Secret, error) {
	switch {
	case o.secret != "":
		return oauth2pw.ReadSecrets(o.secret)
	case o.db == memoryDB:
		return []oauth2pw.Secret{oauth2pw.NewSecret()}, nil
	default:
		return oauth2pw.OpenSecrets(o.db + ".secret")
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

%[4]s
log in:
  %[2]s

call a protected route:
  %[3]s -H "Authorization: Bearer $(%[2]s | sed 's/.*"access_token":"\([^"]*\)".*/\1/')" %[1]s/users/me

stop: Ctrl-C
`, url, login, curl, users)
}

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
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// First serve opens everything that can be missing or broken: the port, the database, the
// key, the secrets. Next the app answers requests, until ctx ends. Last the requests in
// flight finish, and then the mails that these requests have written.

// drainTime is the time limit of the requests in flight when the server stops.
const drainTime = 30 * time.Second

// serve runs the server until ctx ends.
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
	if o.issuer == "" {
		o.issuer = url
		if err := checkIssuer(o.issuer); err != nil {
			return fmt.Errorf("-issuer must be given, or -tls-cert, when -addr is not loopback: tokens of %s would be plain http's", o.issuer)
		}
	}
	keys, err := openKeys(o)
	if err != nil {
		return err
	}
	secrets, err := openSecrets(o)
	if err != nil {
		return err
	}
	mails := newOutbox(stdout, logger)
	app, err := newApp(o, parts{db, h, keys, secrets, mails, logger, time.Now})
	if err != nil {
		return err
	}

	server := &http.Server{
		Handler:           app.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	warn(o, stderr)
	fmt.Fprintf(stdout, "listening on %s\n\nThe mails follow, a line of JSON each. Stop: Ctrl-C\n\n", url)
	go mails.run()
	go app.auth.SweepSessions(ctx, time.Hour) // SweepSessions ends with ctx; a failure is an event
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = server.Shutdown(drain)
	mails.close()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("requests were cut off after %s: %w", drainTime, err)
	}
	return nil
}

// warn prints the settings that weaken the app.
func warn(o *options, stderr io.Writer) {
	strong := o.hash
	strong.InsecureParams = false
	if _, err := hasher.New(strong); err != nil {
		fmt.Fprintln(stderr, "-hash is weaker than OWASP's minimum for argon2id: for tests only")
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

// openSecrets returns the secrets of refresh tokens and tickets, in the same way as openKeys.
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

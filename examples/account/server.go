package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
)

// First serve opens everything that can be missing or broken: the port, the database, the
// key, the secrets. Next the app answers requests, until ctx ends. Last the requests in
// flight finish, and then the mails that these requests have written.

// serve runs the server until ctx ends.
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
	db, err := openDB(ctx, o.DB)
	if err != nil {
		return err
	}
	defer db.Close()
	keys, err := o.OpenKeys()
	if err != nil {
		return err
	}
	secrets, err := o.OpenSecrets()
	if err != nil {
		return err
	}
	mails := newOutbox(stdout, logger)
	app, err := newApp(o, parts{db, h, keys, secrets, mails, logger, time.Now})
	if err != nil {
		return err
	}

	o.Warn(stderr)
	fmt.Fprintf(stdout, "listening on %s\n\nThe mails follow, a line of JSON each. Stop: Ctrl-C\n\n", url)
	go mails.run()
	defer mails.close()
	go app.auth.SweepSessions(ctx, time.Hour) // SweepSessions ends with ctx; a failure is an event
	return program.Serve(ctx, listener, app.routes(), nil, logger)
}

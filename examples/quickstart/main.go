// Quickstart is an ordinary net/http app that gained a login by importing
// passwordflow: a token endpoint, protected routes, and a table of users of its
// own in an embedded SQLite file. Its users, routes and scopes are those of
// FastAPI's security tutorial.
//
//	go run ./examples/quickstart
//
// It is a demonstration: its passwords are public, and its signing key and the
// secret of its refresh tokens lie beside its database. An app of yours keeps them
// apart, and out of the same backup: who has the database and the secret can make
// every refresh token.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		complain(stderr, err)
		return 2
	}
	if o.admin != nil {
		err = administer(ctx, o, stdout)
	} else {
		err = serve(ctx, o, stdout, stderr)
	}
	if err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain prints an error on exactly one line.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "quickstart:", strings.Join(strings.Fields(err.Error()), " "))
}

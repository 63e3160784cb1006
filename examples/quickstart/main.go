// Quickstart is a net/http app with a login by passwordflow: a token endpoint, protected
// routes, and a table of users in an embedded SQLite file. The users, routes and scopes are
// those of FastAPI's security tutorial.
//
//	go run ./examples/quickstart
//
// Quickstart is a demonstration: the passwords are public, and the signing key and the
// refresh secret lie beside the database. In a real app keep the key and the secret apart
// from the database, and out of the same backup: the database and the refresh secret
// together can make every refresh token.
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
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the program and returns the exit status.
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

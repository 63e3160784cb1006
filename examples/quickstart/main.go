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
	"io"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
)

func main() { program.Main("quickstart", parseFlags, run) }

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	if o.admin != nil {
		return administer(ctx, o, stdout)
	}
	return serve(ctx, o, stdout, stderr)
}

// Account is a net/http app with everything around a password: sign-up, verified addresses,
// forgotten passwords, a second factor, a password proved again before something dangerous,
// devices and "remember me". Copy from it.
//
//	go run ./examples/account
//
// Read the files in this order. Each of them is short, and says its own order at the top:
//
//   - server.go: the program, from the flags to the last request
//   - app.go: the Config of the library, and the routes
//   - database.go: the table of users
//   - signup.go, verify.go: a new account, and its address
//   - login.go, totp.go: the checks after the password, and the second factor
//   - reset.go, email.go: a forgotten password, another address
//   - account.go, devices.go: the account and its sessions
//   - mail.go, limit.go, json.go, flags.go: the tools
//
// The program sends no mail: each mail is a line of JSON on stdout.
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
	if err := serve(ctx, o, stdout, stderr); err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain prints an error on exactly one line.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "account:", strings.Join(strings.Fields(err.Error()), " "))
}

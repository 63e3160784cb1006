//go:build linux || darwin

// Cli is a command-line client on golang.org/x/oauth2, which keeps its login in a file:
//
//	cli login https://api.example.com johndoe <password.txt
//	cli whoami
//	cli logout
//
// The server needs sessions (Config.Sessions and Config.Secrets), and serves /token, /revoke
// and /users/me, as the quickstart does.
//
// First login exchanges the password for tokens, next every command sends the saved access
// token, and refreshes it when it has expired, and last logout ends the session at the server.
// The client follows the rules of docs/clients.md:
//
//   - One refresh at a time: a lock on a file, with flock, which Linux and macOS have.
//   - Inside of the lock the file is read again, because another process may be done already.
//   - A new token is saved before its first use.
//   - Only the error invalid_grant removes the file. After every other failure the next command
//     sends the same refresh token again, which works within Config.RefreshGrace.
//
// The password comes from stdin, without an echo on a terminal: other users of the machine can
// read the arguments of a process.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "cli:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: cli [-file FILE] login URL NAME | whoami | logout")

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	dir, err := os.UserConfigDir()
	if err != nil {
		return err
	}
	f := flag.NewFlagSet("cli", flag.ContinueOnError)
	f.SetOutput(stderr)
	file := f.String("file", filepath.Join(dir, "passwordflow-cli", "session.json"), "the `file` of the tokens")
	if err := f.Parse(args); err != nil {
		return err
	}
	s := &session{*file}
	switch args := f.Args(); {
	case len(args) == 3 && args[0] == "login":
		server := strings.TrimSuffix(args[1], "/")
		if err := checkServer(server); err != nil {
			return err
		}
		password, err := readPassword(stdin, stderr)
		if err != nil {
			return err
		}
		return s.login(ctx, server, args[2], password)
	case len(args) == 1 && args[0] == "whoami":
		return whoami(ctx, s, stdout)
	case len(args) == 1 && args[0] == "logout":
		return s.logout(ctx)
	default:
		return errUsage
	}
}

// readPassword reads a line, without an echo if stdin is a terminal.
func readPassword(stdin io.Reader, stderr io.Writer) (string, error) {
	fmt.Fprint(stderr, "password: ")
	if f, ok := stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		defer fmt.Fprintln(stderr)
		password, err := term.ReadPassword(int(f.Fd()))
		return string(password), err
	}
	line, err := bufio.NewReader(stdin).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

// checkServer refuses a server that would get the password in plain text.
func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is no URL such as https://api.example.com", server)
	}
	a, err := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || err != nil || !a.IsLoopback()) {
		return fmt.Errorf("%s must be https, or http on a loopback address such as 127.0.0.1", server)
	}
	return nil
}

func whoami(ctx context.Context, s *session, stdout io.Writer) error {
	resp, err := s.get(ctx, "/users/me")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	_, err = io.Copy(stdout, io.LimitReader(resp.Body, 1<<20))
	return err
}

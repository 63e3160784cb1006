// Cluster is one service of three processes: three quickstarts behind a reverse proxy, on one
// PostgreSQL and one Redis. Cluster starts the processes, and starts each again that ends.
//
//	go run ./examples/cluster -db 'postgres://postgres@127.0.0.1:5432/test?sslmode=disable' -redis redis://127.0.0.1:6379
//
// The processes share four things: the database with the users and clients, the Redis with the
// sessions and the throttle, the signing key, and the secrets of refresh tokens. Their clocks
// agree, because they are on one machine; on several machines the clocks may differ by half of
// the grace period.
//
// Watch:
//
//   - A token of one process opens the routes of the others, and a refresh goes to any of them.
//   - Ten wrong passwords are ten, not thirty: after them every process answers 429.
//   - kill -9 of a process loses no session. A request that the process had accepted gets 503;
//     the client sends it again, and a refresh that had happened returns the same tokens.
//   - A Redis or a PostgreSQL that is down is 503, and no wrong password. When the server is back,
//     the service is, too.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

const processes = 3

type options struct{ addr, db, redis string }

func main() { program.Main("cluster", parseFlags, run) }

func parseFlags(args []string, w io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("cluster", flag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&o.addr, "addr", "127.0.0.1:8000", "listen `address` of the proxy")
	f.StringVar(&o.db, "db", "postgres://postgres@127.0.0.1:5432/test?sslmode=disable", "the database of all processes, as the quickstart has it")
	f.StringVar(&o.redis, "redis", "redis://127.0.0.1:6379", "the Redis of all processes")
	return o, f.Parse(args)
}

func run(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary, key, secret := filepath.Join(dir, "quickstart"), filepath.Join(dir, "signing.jwk"), filepath.Join(dir, "secret")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/oauth2pw/passwordflow/examples/quickstart")
	build.Stdout, build.Stderr = stderr, stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the quickstart: %w", err)
	}
	if _, err := tokens.OpenKeys(key); err != nil { // makes the file
		return err
	}
	if _, err := oauth2pw.OpenSecrets(secret); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.addr)
	if err != nil {
		return err
	}
	defer listener.Close()
	url := "http://" + listener.Addr().String()
	args := []string{"-addr=127.0.0.1:0", "-db=" + o.db, "-redis=" + o.redis, "-key=" + key, "-secret=" + secret, "-issuer=" + url, "-trusted-proxies=127.0.0.0/8"}

	c := new(cluster)
	stopped := make(chan struct{})
	for i := range processes {
		go func() {
			c.keep(ctx, i, binary, args, stdout, stderr)
			stopped <- struct{}{}
		}()
	}
	defer func() {
		for range processes {
			<-stopped
		}
	}()
	fmt.Fprintf(stdout, `listening on %[1]s

log in: each time another process answers
  curl -s -d grant_type=password -d username=johndoe -d password=secret -d 'scope=me items' %[1]s/token

stop: Ctrl-C
`, url)
	return program.Serve(ctx, listener, c.proxy(), nil, slog.New(slog.NewTextHandler(stderr, nil)))
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cluster is the processes, and the addresses of those that listen.
type cluster struct {
	mu    sync.Mutex
	ready [processes]string // "": does not listen
	next  int
}

func (c *cluster) set(i int, address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready[i] = address
}

// restartPause is the time before a process that has ended is started again.
const restartPause = time.Second

// keep runs process i, again and again, until ctx ends.
func (c *cluster) keep(ctx context.Context, i int, binary string, args []string, stdout, stderr io.Writer) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, binary, args...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // requests in flight finish
		cmd.Stderr = stderr
		lines, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			for scan := bufio.NewScanner(lines); scan.Scan(); {
				if address, found := strings.CutPrefix(scan.Text(), "listening on http://"); found {
					c.set(i, address)
					fmt.Fprintf(stdout, "process %d: %s, pid %d\n", i, address, cmd.Process.Pid)
				}
			}
			err = cmd.Wait()
		}
		c.set(i, "")
		if ctx.Err() == nil {
			fmt.Fprintf(stdout, "process %d has ended: %v\n", i, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(restartPause):
		}
	}
}

// proxy sends each request to the next process, with the Host of the client. X-Forwarded-For has
// only the address of the client.
func (c *cluster) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "cluster"})
			r.SetXForwarded()
			r.Out.Header.Del("X-Forwarded-Proto") // a proxy that ends TLS says https; http would be refused
			r.Out.Host = r.In.Host
		},
		// A connection for each request, so that a request never goes to a process that has ended.
		Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "no process answers", http.StatusServiceUnavailable)
		},
	}
}

// dial connects to the next process that listens.
func (c *cluster) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	failed := errors.New("no process listens")
	for range processes {
		c.mu.Lock()
		address := c.ready[c.next%processes]
		c.next++
		c.mu.Unlock()
		if address == "" {
			continue
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

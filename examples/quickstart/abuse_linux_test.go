package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dial opens a connection and sends the beginning of a request.
func (p *process) dial(begin string) net.Conn {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p, err)
	p.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, begin)
	require.NoError(p, err)
	return conn
}

// many is how many connections are opened: 10,000, if the machine allows as many
// open files.
func many(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.Greater(t, limit.Max, uint64(4096), "too few open files to show anything")
	n := int(min(limit.Max-2000, 10_000))
	t.Logf("%d connections", n)
	return n
}

// TestAbuse: slow clients, idle ones, and requests that are too large. An honest
// login still gets through, and the process stays small.
func TestAbuse(t *testing.T) {
	p := start(t, cheapHash)
	const headers = "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
	honest := func(during string) {
		t.Helper()
		status, body := p.login("johndoe", "secret", "")
		require.Equal(t, 200, status, "%s: %v", during, body)
	}
	var slow []net.Conn
	for range 500 {
		slow = append(slow, p.dial("POST /token HTTP/1.1\r\nHost: x\r\nX-Slow: "), p.dial(headers+"100\r\n\r\ngrant_type=pass"))
	}
	honest("slow headers and bodies")

	t.Run("a body of 1 GiB", func(t *testing.T) {
		for _, size := range []string{"1073741824\r\n\r\n", "1073741824\r\nExpect: 100-continue\r\n\r\n"} {
			conn := p.dial(headers + size)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			status, _ := readBody(t, resp)
			require.Equal(t, 413, status)
		}
		// Chunked, it does not say how long it is: it is cut off.
		resp, err := http.Post(p.url+"/token", "application/x-www-form-urlencoded", io.MultiReader(strings.NewReader("grant_type=password&x="), io.LimitReader(endless{}, 1<<30)))
		if err == nil {
			status, _ := readBody(t, resp)
			require.Equal(t, 413, status)
		}
	})
	t.Run("100,000 parameters", func(t *testing.T) {
		resp, err := http.Post(p.url+"/token", "application/x-www-form-urlencoded", strings.NewReader(strings.Repeat("a&", 30_000)))
		require.NoError(t, err)
		status, _ := readBody(t, resp)
		require.Equal(t, 400, status)
		resp, err = http.Post(p.url+"/token", "application/x-www-form-urlencoded", strings.NewReader(strings.Repeat("a&", 100_000)))
		require.NoError(t, err)
		status, _ = readBody(t, resp)
		require.Equal(t, 413, status)
		resp, err = http.PostForm(p.url+"/token?"+strings.Repeat("a&", 20_000), url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
		require.NoError(t, err)
		status, _ = readBody(t, resp)
		require.Equal(t, 200, status, "in the URL they mean nothing")
	})
	t.Run("a header of 1 MiB", func(t *testing.T) {
		conn := p.dial("")
		go func() {
			_, _ = io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+strings.Repeat("a", 1<<20)+"\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, 431, resp.StatusCode)
	})
	t.Run("10,000 idle connections", func(t *testing.T) {
		conns := make([]net.Conn, many(t))
		var wg sync.WaitGroup
		for worker := range 10 {
			wg.Go(func() {
				for i := worker; i < len(conns); i += 10 {
					conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
					if err != nil {
						t.Error(err)
						return
					}
					conns[i] = conn
					if _, err := io.WriteString(conn, "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
						t.Error(err)
						return
					}
					line := make([]byte, 12)
					if _, err := io.ReadFull(conn, line); err != nil || !bytes.Equal(line, []byte("HTTP/1.1 401")) {
						t.Errorf("%s %v", line, err)
						return
					}
				}
			})
		}
		wg.Wait()
		defer func() {
			for _, conn := range conns {
				if conn != nil {
					conn.Close()
				}
			}
		}()
		honest("idle connections")
	})
	t.Run("10,000 silent connections", func(t *testing.T) {
		for range many(t) - len(slow) {
			p.dial("")
		}
		honest("silent connections")
	})
	// A client that is slow with the headers is cut off after 10 seconds.
	require.NoError(t, slow[0].SetReadDeadline(time.Now().Add(time.Minute)))
	_, err := io.Copy(io.Discard, slow[0])
	require.NoError(t, err, "closed by the server")
	peak := p.peak()
	t.Logf("VmHWM %d MiB", peak)
	require.Less(t, peak, 200)
	honest("afterwards")
	p.stop()
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}

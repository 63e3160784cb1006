package redisstore

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// TestSentinel: a primary is killed while 100 sessions refresh by 16 apps.
func TestSentinel(t *testing.T) {
	t.Parallel()
	c := startSentinels(t)
	e := newEvents()
	senders, s := newApps(t, 16, e, func() redis.UniversalClient { return c.client(t) })
	f := newFleet(t, 100, senders...)
	c.primary.replicated()
	took := f.disturb(16, c.primary.kill)
	t.Logf("every call works again after %.1f s", took.Seconds())
	require.NotZero(t, f.answers[503], "no call has failed: the fault had no effect")
	f.finish(e, s)
	require.LessOrEqual(t, e.of(oauth2pw.EventStoreRollback), len(f.devices), "a fail-over loses the last writes, once")
	require.NoError(t, c.replica.contains("role:master", "INFO", "replication"))
}

// TestDemoted: a server that was the primary until now answers no read, and opens no session that
// has ended in the new primary.
func TestDemoted(t *testing.T) {
	t.Parallel()
	old := startServer(t)
	next := startServer(t, fmt.Sprint("replicaof 127.0.0.1 ", old.port))
	eventually(t, "the replica", func() error { return next.contains("master_link_status:up", "INFO", "replication") })
	store := func(s *server) *Sessions {
		client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { client.Close() })
		sessions, err := NewSessions(client, Config{})
		must(t, err)
		return sessions
	}
	before, after := store(old), store(next)
	now := time.Now()
	n := testSession("a", "1", now)
	must(t, before.Create(t.Context(), &n))
	must(t, before.client.Do(t.Context(), "WAIT", 1, 10000).Err())
	next.do("REPLICAOF", "NO", "ONE")
	old.do("REPLICAOF", "127.0.0.1", freePort(t)) // a primary that it does not reach yet
	ids, err := after.End(t.Context(), oauth2pw.SessionFilter{UserID: "1"}, "logout", now)
	must(t, err)
	require.Equal(t, []string{"a"}, ids)
	_, err = before.Get(t.Context(), "a")
	require.ErrorContains(t, err, "READONLY")
	require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
	_, err = before.List(t.Context(), "1", now)
	require.ErrorContains(t, err, "READONLY")
	throttle, err := NewThrottle(before.client, ThrottleConfig{})
	must(t, err)
	_, err = throttle.Begin(t.Context(), password("1", "192.0.2.1", 1))
	require.ErrorContains(t, err, "READONLY")
}

// TestCannotSave: a master that refuses all writes, because it cannot save, still reads.
func TestCannotSave(t *testing.T) {
	t.Parallel()
	server := startServer(t, "save 3600 1000000")
	client := redis.NewClient(&redis.Options{Addr: server.addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	s, err := NewSessions(client, Config{})
	must(t, err)
	now := time.Now()
	n := testSession("a", "1", now)
	must(t, s.Create(t.Context(), &n))
	must(t, os.RemoveAll(server.dir))
	server.do("BGSAVE")
	eventually(t, "the failure", func() error { return server.contains("rdb_last_bgsave_status:err", "INFO", "persistence") })
	other := testSession("b", "1", now)
	require.ErrorContains(t, s.Create(t.Context(), &other), "MISCONF")
	got, err := s.Get(t.Context(), "a")
	must(t, err)
	require.Equal(t, "1", got.UserID)
	_, err = s.Get(t.Context(), "none")
	require.ErrorIs(t, err, oauth2pw.ErrNotFound)
	list, err := s.List(t.Context(), "1", now)
	must(t, err)
	require.Len(t, list, 1)
}

// TestLostWrites: the claims of the package comment about a replica that has not the last writes
// of its primary.
func TestLostWrites(t *testing.T) {
	t.Parallel()
	primary := startServer(t)
	replica := startServer(t, fmt.Sprint("replicaof 127.0.0.1 ", primary.port))
	eventually(t, "the replica", func() error { return replica.contains("master_link_status:up", "INFO", "replication") })
	var address atomic.Value
	address.Store(primary.addr())
	client := redis.NewClient(&redis.Options{ContextTimeoutEnabled: true, Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address.Load().(string))
	}})
	t.Cleanup(func() { client.Close() })
	s, err := NewSessions(client, Config{})
	must(t, err)
	e := newEvents()
	a, err := newApp(s, e, nil)
	must(t, err)
	ok := func(form url.Values) string {
		t.Helper()
		got := a.post(form)
		require.Equal(t, 200, got.status, got.body)
		return got.token
	}
	refreshed, ended, hidden := ok(login("refreshed")), ok(login("ended")), ok(login("hidden"))
	must(t, client.Do(t.Context(), "WAIT", 1, 10000).Err())
	id, _ := decode(hidden)
	must(t, replica.admin.Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	replica.do("ZREM", s.keys.user("hidden"), id) // as if the login had lost its first write

	// No write from here on is in the replica.
	old := refreshed
	for range 3 {
		refreshed = ok(refresh(refreshed))
	}
	lost := ok(login("lost"))
	_, err = a.auth.EndAllSessions(t.Context(), "ended", "logout")
	must(t, err)
	require.Equal(t, 400, a.post(refresh(ended)).status)
	primary.kill()
	address.Store(replica.addr())

	// The first call may still have a connection to the primary.
	eventually(t, "the replica", func() error { return client.Ping(t.Context()).Err() })
	require.Equal(t, 400, a.post(refresh(lost)).status, "a lost session is a new login")
	ok(login("lost"))
	require.Zero(t, e.of(oauth2pw.EventStoreRollback))
	_, before := decode(refreshed)
	refreshed = ok(refresh(refreshed))
	_, after := decode(refreshed)
	require.Equal(t, before+1, after)
	require.Equal(t, 1, e.of(oauth2pw.EventStoreRollback))
	ok(refresh(refreshed))
	require.Equal(t, 1, e.of(oauth2pw.EventStoreRollback))
	require.Equal(t, 400, a.post(refresh(old)).status, "the oldest token is reuse, also after the loss")
	require.Equal(t, 400, a.post(refresh(refreshed)).status)

	ok(refresh(ended)) // a lost end
	list, err := s.List(t.Context(), "hidden", time.Now())
	must(t, err)
	require.Empty(t, list, "a lost entry")
	ok(refresh(hidden))
	list, err = s.List(t.Context(), "hidden", time.Now())
	must(t, err)
	require.Len(t, list, 1)
}

// processOf is set in the environment of this test binary when it is to be an app over the Redis
// at this address. processSkew is the error of its clock. The process prints its URL, and ends
// when its standard input ends.
const (
	processOf   = "PASSWORDFLOW_TEST_REDIS_APP"
	processSkew = "PASSWORDFLOW_TEST_REDIS_SKEW"
)

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	if address := os.Getenv(processOf); address != "" {
		if err := serve(address, os.Getenv(processSkew)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// quiet keeps the failed dials of the client out of the output.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func serve(address, skew string) error {
	offset, err := time.ParseDuration(skew)
	if err != nil {
		return err
	}
	s, err := NewSessions(redis.NewClient(&redis.Options{Addr: address, ContextTimeoutEnabled: true}), Config{})
	if err != nil {
		return err
	}
	e := newEvents()
	a, err := newApp(s, e, func() time.Time { return time.Now().Add(offset) })
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", a.auth.TokenHandler())
	mux.Handle("/revoke", a.auth.RevokeHandler())
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, e.of(oauth2pw.EventKind(r.FormValue("kind"))))
	})
	server := httptest.NewServer(mux)
	if _, err := fmt.Println(server.URL); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// process is an app in a process of its own.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
	http  *http.Client
}

func startProcess(t *testing.T, address string, skew time.Duration) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	p.cmd.Env = append(os.Environ(), processOf+"="+address, processSkew+"="+skew.String())
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	must(t, err)
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	p.url = strings.TrimSpace(line)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.http.CloseIdleConnections()
}

func (p *process) post(form url.Values) answer { return p.send("/token", form) }

func (p *process) send(path string, form url.Values) answer {
	resp, err := p.http.PostForm(p.url+path, form)
	if err != nil {
		return answer{body: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{body: err.Error()}
	}
	return answer{resp.StatusCode, refreshToken(body), string(body)}
}

// TestRestart: a Redis that writes every command to its file loses nothing. The server is shut
// down, and killed, while 16 processes refresh 100 sessions; then a process is killed, and
// another one starts. The clocks of the processes are up to 15 seconds apart.
func TestRestart(t *testing.T) {
	t.Parallel()
	const count = 16
	s := startServer(t, "appendonly yes", "appendfsync always")
	skew := func(i int) time.Duration { return time.Duration(i)*time.Second - 7500*time.Millisecond }
	processes := make([]atomic.Pointer[process], count)
	var senders []func(url.Values) answer
	for i := range processes {
		processes[i].Store(startProcess(t, s.addr(), skew(i)))
		senders = append(senders, func(form url.Values) answer { return processes[i].Load().post(form) })
	}
	f := newFleet(t, 100, senders...)

	// Other devices log in and out all the time. An answer of 200 must not be lost.
	var kept, ended []string
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		next := 0
		insist := func(path string, form url.Values) (answer, bool) {
			for {
				select {
				case <-stop:
					return answer{}, false
				default:
				}
				next++
				switch got := processes[next%count].Load().send(path, form); got.status {
				case 200:
					return got, true
				case 0, 503:
				default:
					t.Errorf("%s: status %d: %s", path, got.status, got.body)
					return answer{}, false
				}
			}
		}
		for n := 0; ; n++ {
			got, ok := insist("/token", login(fmt.Sprint("other", n)))
			if !ok {
				return
			}
			if n%2 == 0 {
				kept = append(kept, got.token)
				continue
			}
			if _, ok := insist("/revoke", url.Values{"token": {got.token}}); !ok {
				return
			}
			ended = append(ended, got.token)
		}
	}()

	times := 1
	if soak {
		times = 20
	}
	for i := range times {
		took := f.disturb(16, func() {
			s.shutdown()
			f.awaitFailure()
			s.begin()
			s.await()
		})
		t.Logf("SHUTDOWN: every call works again after %.2f s", took.Seconds())
		took = f.disturb(16, func() {
			s.kill()
			f.awaitFailure()
			s.begin()
			s.await()
		})
		t.Logf("kill -9: every call works again after %.2f s", took.Seconds())
		f.disturb(16, func() {
			n := i % count
			processes[n].Load().kill()
			processes[n].Store(startProcess(t, s.addr(), skew(n)))
		})
	}
	close(stop)
	<-stopped
	direct, err := NewSessions(s.admin, Config{})
	must(t, err)
	f.check(func(user string) ([]*oauth2pw.Session, error) { return direct.List(t.Context(), user, time.Now()) })
	for i := range processes {
		for _, kind := range []oauth2pw.EventKind{oauth2pw.EventStoreRollback, oauth2pw.EventRefreshReuse} {
			got := processes[i].Load().send("/events", url.Values{"kind": {string(kind)}})
			require.Equal(t, "0", got.body, kind)
		}
	}
	require.NotEmpty(t, ended)
	t.Logf("%d other sessions, %d of them ended", len(kept)+len(ended), len(ended))
	for _, token := range kept {
		got := senders[0](refresh(token))
		require.Equal(t, 200, got.status, got.body)
	}
	for _, token := range ended {
		require.Equal(t, 400, senders[0](refresh(token)).status)
	}
}

// certificates writes a certificate for 127.0.0.1 and its key, and returns a pool with its
// issuer.
func certificates(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		return k
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	issuerKey, leafKey := key(), key()
	write := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	der, err := x509.CreateCertificate(rand.Reader, issuer, issuer, issuerKey.Public(), issuerKey)
	must(t, err)
	write("issuer.pem", "CERTIFICATE", der)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "redis"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, parsed, leafKey.Public(), issuerKey)
	must(t, err)
	write("leaf.pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(leafKey)
	must(t, err)
	write("leaf.key", "PRIVATE KEY", der)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// TestTLS: the suite passes over TLS, and a server with another issuer is a failure.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pool := certificates(t, dir)
	s := newServer(t)
	s.args = append(s.args, "--port", "0", "--tls-port", strconv.Itoa(s.port), "--tls-auth-clients", "no",
		"--tls-ca-cert-file", filepath.Join(dir, "issuer.pem"), "--tls-cert-file", filepath.Join(dir, "leaf.pem"), "--tls-key-file", filepath.Join(dir, "leaf.key"))
	open := func(pool *x509.CertPool) *redis.Client {
		client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true, DialerRetries: 1, TLSConfig: &tls.Config{RootCAs: pool}})
		t.Cleanup(func() { client.Close() })
		return client
	}
	s.admin = open(pool)
	s.begin()
	s.await()
	number := 0
	storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore {
		number++
		sessions, err := NewSessions(s.admin, Config{Prefix: fmt.Sprint(number, ":")})
		must(t, err)
		return sessions
	})
	for name, client := range map[string]*redis.Client{
		"another issuer": open(certificates(t, t.TempDir())),
		"no TLS":         redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true, DialerRetries: 1, MaxRetries: -1}),
	} {
		sessions, err := NewSessions(client, Config{})
		must(t, err)
		_, err = sessions.Get(t.Context(), "a")
		require.Error(t, err, name)
		require.NotErrorIs(t, err, oauth2pw.ErrNotFound, name)
		if name == "another issuer" {
			unknown := x509.UnknownAuthorityError{}
			require.ErrorAs(t, err, &unknown)
		}
		n := testSession("a", "1", time.Now())
		require.Error(t, sessions.Create(t.Context(), &n), name)
		_, err = sessions.List(t.Context(), "1", time.Now())
		require.Error(t, err, name)
		must(t, client.Close())
	}
}

// TestReuseRacesRefresh: a replaced token is sent again, after the grace period, while the newest
// token is refreshed by another app. Then no token of the session refreshes.
func TestReuseRacesRefresh(t *testing.T) {
	rounds := 50
	if soak {
		rounds = 10_000
	}
	_, prefix := open(t)
	var clock atomic.Int64
	clock.Store(time.Now().UnixMicro())
	now := func() time.Time { return time.UnixMicro(clock.Load()) }
	var apps []*app
	var s *Sessions
	e := newEvents()
	for range 3 {
		client, _ := open(t)
		var err error
		s, err = NewSessions(client, Config{Prefix: prefix})
		must(t, err)
		a, err := newApp(s, e, now)
		must(t, err)
		apps = append(apps, a)
	}
	refreshed := 0
	for round := range rounds {
		got := apps[0].post(login(fmt.Sprint(round % 20)))
		require.Equal(t, 200, got.status, got.body)
		tokens := []string{got.token}
		got = apps[1].post(refresh(tokens[0]))
		require.Equal(t, 200, got.status, got.body)
		tokens = append(tokens, got.token)
		clock.Add((31 * time.Second).Microseconds())
		var answers [2]answer
		parallel := []func(){
			func() { answers[0] = apps[0].post(refresh(tokens[0])) },
			func() { answers[1] = apps[1].post(refresh(tokens[1])) },
		}
		if round%2 == 0 {
			slices.Reverse(parallel)
		}
		var wg sync.WaitGroup
		for _, f := range parallel {
			wg.Go(f)
		}
		wg.Wait()
		replayed, got := answers[0], answers[1]
		require.Equal(t, 400, replayed.status, "round %d: %s", round, replayed.body)
		if got.status == 200 {
			refreshed++
			tokens = append(tokens, got.token)
		} else {
			require.Equal(t, 400, got.status, "round %d: %s", round, got.body)
		}
		for i, token := range slices.Backward(tokens) {
			got := apps[2].post(refresh(token))
			require.Equal(t, 400, got.status, "round %d: token %d of %d refreshes after its session was reused", round, i+1, len(tokens))
		}
		id, _ := decode(tokens[0])
		n, err := s.Get(t.Context(), id)
		must(t, err)
		require.Equal(t, "reuse", n.EndReason)
	}
	t.Logf("%d rounds, in %d of them the refresh was first", rounds, refreshed)
	require.NotZero(t, refreshed)
	require.Less(t, refreshed, rounds)
	require.Equal(t, rounds, e.of(oauth2pw.EventRefreshReuse))
}

// proxy is between a client and a server. Armed, it lets some requests pass, and holds the next
// one or its answer, until the client closes the connection. A request is one write of the client.
type proxy struct {
	listener net.Listener
	target   string

	mu       sync.Mutex
	requests int // since the last arm
	at       int // the request to hold; 0: none
	answer   bool
	cut      bool // close the connection instead
	held     chan struct{}
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: l, target: target}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c) })
		}
	})
	return p
}

// arm counts requests from 0, and holds request number at, or its answer. The channel is closed
// when the request has come.
func (p *proxy) arm(at int, answer bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.at, p.answer, p.held = 0, at, answer, make(chan struct{})
	return p.held
}

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	var silent atomic.Bool
	executed := make(chan struct{}, 1)
	go func() {
		defer c.Close()
		b := make([]byte, 1<<16)
		for {
			n, err := up.Read(b)
			if err != nil {
				return
			}
			if silent.Load() {
				select {
				case executed <- struct{}{}:
				default:
				}
				continue
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 1<<16)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.requests++
		hold := p.at != 0 && p.requests == p.at
		if hold {
			silent.Store(true)
		}
		drop := hold && !p.answer
		if !drop {
			_, err = up.Write(b[:n])
		}
		if hold {
			close(p.held)
		}
		cut := hold && p.cut
		p.mu.Unlock()
		if cut && !drop {
			<-executed // a lost answer, and no lost request
		}
		if err != nil || cut {
			return
		}
	}
}

// TestCut: the connection is cut at each step of a login, a refresh and an end: before the
// request, or before its answer. The client sends the request again, and every call works.
func TestCut(t *testing.T) {
	direct, admin := newSessions(t)
	p := startProxy(t, admin.Options().Addr)
	p.cut = true
	client := redis.NewClient(&redis.Options{Addr: p.listener.Addr().String(), PoolSize: 1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	s, err := NewSessions(client, Config{Prefix: direct.keys.prefix})
	must(t, err)
	e := newEvents()
	a, err := newApp(s, e, nil)
	must(t, err)
	warm := func() {
		must(t, client.Ping(t.Context()).Err())
		_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
		must(t, err)
	}
	run := func(name string, call func(form url.Values) answer, form func() url.Values, want func(t *testing.T, sent url.Values, got answer)) {
		call(form()) // loads the scripts
		first := form()
		warm()
		p.arm(0, false)
		got := call(first)
		steps := p.count()
		want(t, first, got)
		for step := 1; step <= steps; step++ {
			for _, answer := range []bool{false, true} {
				t.Run(fmt.Sprint(name, step, answer), func(t *testing.T) {
					form := form()
					warm()
					held := p.arm(step, answer)
					got := call(form)
					select {
					case <-held:
					default:
						require.Fail(t, "the call has not come to this step")
					}
					p.arm(0, false)
					want(t, form, got)
				})
			}
		}
	}
	token := func() string { return a.post(login("1")).token }
	run("login", a.post, func() url.Values { return login("1") }, func(t *testing.T, _ url.Values, got answer) {
		require.Equal(t, 200, got.status, got.body)
		require.Equal(t, 200, a.post(refresh(got.token)).status)
	})
	run("refresh", a.post, func() url.Values { return refresh(token()) }, func(t *testing.T, sent url.Values, got answer) {
		require.Equal(t, 200, got.status, got.body)
		_, generation := decode(got.token)
		require.EqualValues(t, 2, generation)
		require.Equal(t, got.token, a.post(sent).token)
		require.Equal(t, 200, a.post(refresh(got.token)).status)
	})
	live := ""
	end := func(form url.Values) answer {
		n, err := a.auth.EndAllSessions(t.Context(), "1", "logout")
		must(t, err)
		return answer{status: n}
	}
	_, err = a.auth.EndAllSessions(t.Context(), "1", "logout")
	must(t, err)
	run("end", end, func() url.Values { live = token(); return nil }, func(t *testing.T, _ url.Values, got answer) {
		require.Equal(t, 1, got.status, "the session is one that this call has ended")
		require.Equal(t, 400, a.post(refresh(live)).status)
	})
	require.Zero(t, e.of(oauth2pw.EventRefreshReuse))
	require.Zero(t, e.of(oauth2pw.EventUnavailable))
}

// TestFull: a Redis without free memory refuses writes. Sessions are still read, and nothing is
// lost or half written.
func TestFull(t *testing.T) {
	server := startServer(t, "maxmemory-policy noeviction")
	s, err := NewSessions(server.admin, Config{})
	must(t, err)
	e := newEvents()
	a, err := newApp(s, e, nil)
	must(t, err)
	first := a.post(login("1")).token
	second := a.post(refresh(first)).token
	id, _ := decode(second)
	before := dump(t, server.admin, "oauth2pw:")
	server.do("CONFIG", "SET", "maxmemory", "1")
	for _, form := range []url.Values{login("1"), login("2"), refresh(second)} {
		require.Equal(t, 503, a.post(form).status)
	}
	_, err = a.auth.EndAllSessions(t.Context(), "1", "logout")
	require.Error(t, err, "an end is a write, too")
	_, err = s.Get(t.Context(), id)
	must(t, err)
	require.Equal(t, before, dump(t, server.admin, "oauth2pw:"))
	server.do("CONFIG", "SET", "maxmemory", "0")
	third := a.post(refresh(second))
	require.Equal(t, 200, third.status, third.body)
	n, err := a.auth.EndAllSessions(t.Context(), "1", "logout")
	must(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 400, a.post(refresh(third.token)).status)
}

// dump returns all keys of a prefix with their content. Every key must have an expiry.
func dump(t *testing.T, client *redis.Client, prefix string) map[string]string {
	t.Helper()
	state := make(map[string]string)
	scan := client.Scan(t.Context(), 0, escape(prefix)+"*", 1000).Iterator()
	for scan.Next(t.Context()) {
		key := scan.Val()
		kind, err := client.Type(t.Context(), key).Result()
		must(t, err)
		switch kind {
		case "hash":
			fields, err := client.HGetAll(t.Context(), key).Result()
			must(t, err)
			delete(fields, "ended_by") // random
			state[key] = fmt.Sprintf("%q", fields)
		case "zset":
			members, err := client.ZRangeWithScores(t.Context(), key, 0, -1).Result()
			must(t, err)
			state[key] = fmt.Sprint(members)
		default:
			require.Fail(t, "unexpected type", kind)
		}
		ttl, err := client.PTTL(t.Context(), key).Result()
		must(t, err)
		require.Positive(t, ttl, "%s has no expiry", key)
	}
	must(t, scan.Err())
	return state
}

// TestContext: the context of a call ends before the call, or while it waits for each of its
// answers. The state of every key is then that before the call or that after it, and the next
// call works.
func TestContext(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	created := testSession("created", "1", now)
	created.Salt = [16]byte{1}
	for _, test := range []struct {
		name string
		call func(context.Context, *Sessions) error
		half bool // a login writes the set of its user first
	}{
		{"Create", func(ctx context.Context, s *Sessions) error { return s.Create(ctx, &created) }, true},
		{"Get", func(ctx context.Context, s *Sessions) error { _, err := s.Get(ctx, "a"); return err }, false},
		{"List", func(ctx context.Context, s *Sessions) error {
			list, err := s.List(ctx, "1", now)
			if err == nil && len(list) == 0 {
				err = errors.New("an empty list")
			}
			return err
		}, false},
		{"Advance", func(ctx context.Context, s *Sessions) error {
			n := testSession("a", "1", now)
			n.Generation = 2
			_, err := s.Advance(ctx, 1, &n, now)
			return err
		}, false},
		{"End one", func(ctx context.Context, s *Sessions) error {
			_, err := s.End(ctx, oauth2pw.SessionFilter{UserID: "1", ID: "a"}, "x", now)
			return err
		}, false},
		{"End all", func(ctx context.Context, s *Sessions) error {
			_, err := s.End(ctx, oauth2pw.SessionFilter{UserID: "1"}, "x", now)
			return err
		}, false},
		{"Sweep", func(ctx context.Context, s *Sessions) error {
			_, err := s.Sweep(ctx, now.Add(time.Hour), 10)
			return err
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			direct, admin := newSessions(t)
			prefix := direct.keys.prefix
			p := startProxy(t, admin.Options().Addr)
			client := redis.NewClient(&redis.Options{Addr: p.listener.Addr().String(), PoolSize: 1, ReadTimeout: 500 * time.Millisecond, ContextTimeoutEnabled: true})
			t.Cleanup(func() { client.Close() })
			s, err := NewSessions(client, Config{Prefix: prefix})
			must(t, err)
			for _, script := range []*redis.Script{addToUser, create, advance, end} {
				must(t, script.Load(t.Context(), admin).Err())
			}
			// setup returns the state before the call: three live sessions and two ended ones.
			setup := func(t *testing.T) map[string]string {
				for key := range dump(t, admin, prefix) {
					must(t, admin.Del(t.Context(), key).Err())
				}
				for _, id := range []string{"a", "b", "c", "ended1", "ended2"} {
					n := testSession(id, "1", now)
					if strings.HasPrefix(id, "ended") {
						n.EndedAt, n.EndReason = now.Add(-time.Hour), "x"
					}
					must(t, direct.Create(t.Context(), &n))
				}
				// The connections are made before the call: pipelines have one of their own.
				must(t, client.Ping(t.Context()).Err())
				_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
				must(t, err)
				return dump(t, admin, prefix)
			}
			before := setup(t)
			p.arm(0, false)
			must(t, test.call(t.Context(), s))
			steps := p.count()
			require.NotZero(t, steps)
			after := dump(t, admin, prefix)
			// check compares the state after a call that was disturbed, and calls once more.
			check := func(t *testing.T, err error) {
				t.Helper()
				require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
				require.NotErrorIs(t, err, oauth2pw.ErrExists)
				state := dump(t, admin, prefix)
				for key, value := range state {
					require.Contains(t, []string{before[key], after[key]}, value, key)
				}
				for key := range before {
					require.Contains(t, []string{before[key], after[key]}, state[key], key)
				}
				set := direct.keys.user("1")
				if !test.half && test.name != "End all" && test.name != "Sweep" && state[direct.keys.session("a")] == before[direct.keys.session("a")] {
					require.Equal(t, before, state)
				}
				if test.half && state[set] == before[set] {
					require.Equal(t, before, state, "the set is written first")
				}
				hashes := func(state map[string]string) map[string]string {
					hashes := make(map[string]string)
					for key, value := range state {
						if key != set {
							hashes[key] = value
						}
					}
					return hashes
				}
				if err == nil {
					require.Equal(t, hashes(after), hashes(state), "a call without an error")
				}
				p.arm(0, false)
				must(t, test.call(t.Context(), s))
				require.Equal(t, hashes(after), hashes(dump(t, admin, prefix)), "the next call works")
			}

			ended, cancel := context.WithCancel(t.Context())
			cancel()
			late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
			defer cancel()
			for _, ctx := range []context.Context{ended, late} {
				before := setup(t)
				err := test.call(ctx, s)
				require.ErrorIs(t, err, ctx.Err())
				require.NotErrorIs(t, err, oauth2pw.ErrNotFound)
				require.Equal(t, before, dump(t, admin, prefix))
			}
			for step := 1; step <= steps; step++ {
				for _, answer := range []bool{false, true} {
					t.Run(fmt.Sprint(step, answer), func(t *testing.T) {
						var err error
						reached := false
						for limit := 200 * time.Millisecond; !reached; limit *= 2 { // longer on a slow machine
							require.Less(t, limit, 10*time.Second, "the call does not come to this step")
							setup(t)
							held := p.arm(step, answer)
							ctx, cancel := context.WithTimeout(t.Context(), limit)
							err = test.call(ctx, s)
							cancel()
							select {
							case <-held:
								reached = true
							default:
								p.arm(0, false)
							}
						}
						// The second step of Advance, and the last one of End, only write the set.
						if step == 1 {
							require.Error(t, err)
						}
						check(t, err)
					})
				}
			}
			t.Run("cancelled", func(t *testing.T) {
				setup(t)
				held := p.arm(1, true)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					<-held
					cancel()
				}()
				start := time.Now()
				err := test.call(ctx, s)
				t.Logf("returned %v after %v", err, time.Since(start).Round(time.Millisecond))
				require.Error(t, err)
				check(t, err)
			})
		})
	}
}

// hostile are texts that a store must keep, or refuse.
var hostile = map[string]string{
	"quotes": "'\"`\\", "NUL": "a\x00b", "CRLF": "a\r\nDEL x\r\n", "RESP": "*1\r\n$8\r\nFLUSHALL\r\n",
	"1 MiB": strings.Repeat("0123456789abcdef", 1<<16), "emoji": "😀👩‍👩‍👧‍👦", "right to left": "\u202eabc\u200f\u0627",
	"tag": "{a}", "open": "{", "close": "}", "empty tag": "{}", "nested": "}{a}{", "pattern": "*[?", "ranges": "[a-z]^\\*?*", "star": "*",
	"not UTF-8": "\xff\xfe", "spaces": "  \t ", "Lua": "']) redis.call('FLUSHALL') --", "number": "0", "separator": ":s:{x}",
}

// hostileSession has a text in every field.
func hostileSession(text, id string, now time.Time) oauth2pw.Session {
	n := testSession(id, text, now)
	n.ClientID, n.Scope, n.KeyID, n.EndReason, n.UserAgent, n.Label = text, text, text, "", text, text
	copy(n.Salt[:], text)
	return n
}

// testHostile stores texts in every field, also as ID and as prefix, and looks at a session
// beside them.
func testHostile(t *testing.T, client redis.UniversalClient, prefix string) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, name := range slices.Sorted(maps.Keys(hostile)) {
		text := hostile[name]
		if _, ok := client.(*redis.ClusterClient); ok && len(text) > 1024 {
			continue // slow, and not special in a cluster
		}
		for where, prefix := range map[string]string{"fields": prefix + name + ":", "prefix": prefix + text} {
			t.Run(name+" in the "+where, func(t *testing.T) {
				s, err := NewSessions(client, Config{Prefix: prefix})
				must(t, err)
				beside, err := NewSessions(client, Config{Prefix: prefix + "-beside"})
				must(t, err)
				bystander := testSession("bystander", "bystander", now)
				var stores []*Sessions
				for _, s := range []*Sessions{s, beside} {
					must(t, s.Create(t.Context(), &bystander))
					stores = append(stores, s)
				}
				checkBystanders := func() {
					t.Helper()
					for _, s := range stores {
						got, err := s.Get(t.Context(), bystander.ID)
						must(t, err)
						require.Equal(t, &bystander, got)
						list, err := s.List(t.Context(), bystander.UserID, now)
						must(t, err)
						require.Equal(t, []*oauth2pw.Session{&bystander}, list)
					}
				}
				check := func(want oauth2pw.Session) {
					t.Helper()
					got, err := s.Get(t.Context(), want.ID)
					must(t, err)
					require.True(t, want == *got, "%s is not returned as it is stored", name)
				}
				one, two := hostileSession(text, text, now), hostileSession(text, text+"2", now)
				must(t, s.Create(t.Context(), &one))
				must(t, s.Create(t.Context(), &two))
				again := one
				again.Salt[15]++
				require.ErrorIs(t, s.Create(t.Context(), &again), oauth2pw.ErrExists)
				check(one)
				check(two)
				checkBystanders()
				list, err := s.List(t.Context(), text, now)
				must(t, err)
				require.Len(t, list, 2)
				for _, id := range []string{text + "3", text[1:], strings.Trim(text, "{}"), "{" + text + "}"} {
					if id != text && id != text+"2" {
						_, err := s.Get(t.Context(), id)
						require.ErrorIs(t, err, oauth2pw.ErrNotFound)
					}
				}
				one.Generation = 2
				advanced, err := s.Advance(t.Context(), 1, &one, now)
				must(t, err)
				require.True(t, advanced)
				check(one)
				check(two)
				ids, err := s.End(t.Context(), oauth2pw.SessionFilter{UserID: text, Except: two.ID}, text, now)
				must(t, err)
				require.Equal(t, []string{one.ID}, ids)
				one.EndedAt, one.EndReason = now, text
				check(one)
				check(two)
				checkBystanders()
				swept, err := s.Sweep(t.Context(), now.Add(time.Second), 1000)
				must(t, err)
				require.Equal(t, 1, swept)
				check(two)
				checkBystanders()
				swept, err = s.Sweep(t.Context(), now.Add(24*time.Hour), 1000)
				must(t, err)
				require.Equal(t, 2, swept)
				stores = stores[1:]
				checkBystanders()
			})
		}
	}
}

// TestHostile, see testHostile; then logins of such users through an Auth.
func TestHostile(t *testing.T) {
	client, prefix := open(t)
	testHostile(t, client, prefix)

	s, err := NewSessions(client, Config{Prefix: prefix + "auth:"})
	must(t, err)
	a, err := newApp(s, newEvents(), nil)
	must(t, err)
	other := a.post(login("other"))
	require.Equal(t, 200, other.status)
	for name, text := range hostile {
		got := a.post(login(text))
		if got.status != 200 {
			require.Contains(t, []int{400, 413}, got.status, name)
			t.Logf("the user %s is refused: %s", name, got.body)
			continue
		}
		next := a.post(refresh(got.token))
		require.Equal(t, 200, next.status, "%s: %s", name, next.body)
		ended, err := a.auth.EndAllSessions(t.Context(), text, "logout")
		must(t, err)
		require.Equal(t, 1, ended, name)
		require.Equal(t, 400, a.post(refresh(next.token)).status, name)
	}
	for _, text := range hostile {
		for _, token := range []string{text, other.token + text} {
			require.Contains(t, []int{400, 413}, a.post(refresh(token)).status)
		}
	}
	require.Equal(t, 200, a.post(refresh(other.token)).status)
}

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
	"fmt"
	"io"
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
	c := startSentinels(t)
	e := newEvents()
	senders, s := newApps(t, 16, e, func() redis.UniversalClient { return c.client(t) })
	f := newFleet(t, 100, senders...)
	took := f.disturb(16, c.primary.kill)
	t.Logf("every call works again after %.1f s", took.Seconds())
	f.finish(e, s)
	require.NoError(t, c.replica.contains("role:master", "INFO", "replication"))
}

// TestLostWrites: the claims of the package comment about a replica that has not the last writes
// of its primary.
func TestLostWrites(t *testing.T) {
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
	dir := t.TempDir()
	pool := certificates(t, dir)
	s := newServer(t)
	s.args = append(s.args, "--port", "0", "--tls-port", strconv.Itoa(s.port), "--tls-auth-clients", "no",
		"--tls-ca-cert-file", filepath.Join(dir, "issuer.pem"), "--tls-cert-file", filepath.Join(dir, "leaf.pem"), "--tls-key-file", filepath.Join(dir, "leaf.key"))
	open := func(pool *x509.CertPool) *redis.Client {
		client := redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true, TLSConfig: &tls.Config{RootCAs: pool}})
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
		"no TLS":         redis.NewClient(&redis.Options{Addr: s.addr(), ContextTimeoutEnabled: true}),
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
		var replayed answer
		var wg sync.WaitGroup
		wg.Go(func() { replayed = apps[0].post(refresh(tokens[0])) })
		got = apps[1+round%2].post(refresh(tokens[1]))
		wg.Wait()
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
	require.Equal(t, rounds, e.of(oauth2pw.EventRefreshReuse))
}

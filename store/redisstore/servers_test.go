package redisstore

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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
)

// soak is true for the long form of a test.
var soak = os.Getenv("PASSWORDFLOW_SOAK") != ""

func must(t testing.TB, err error) {
	t.Helper()
	require.NoError(t, err)
}

// program returns the path of a program, or skips the test.
func program(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a test with servers of its own: not with -short")
	}
	path, err := exec.LookPath(name)
	if err != nil {
		require.Empty(t, os.Getenv("PASSWORDFLOW_TEST_REQUIRE_SERVICES"), err)
		t.Skipf("%s is not installed: apt-get install redis-server", name)
	}
	return path
}

// freePort returns a port of 127.0.0.1 that is free, and so is the port 10000 above, the bus of a
// cluster. Both are below the ports of outgoing connections.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10000 + rand.IntN(12000)
		if portIsFree(port) && portIsFree(port+10000) {
			return port
		}
	}
	require.Fail(t, "no free port")
	return 0
}

func portIsFree(port int) bool {
	l, err := net.Listen("tcp", local(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// server is a Redis in a process of its own.
type server struct {
	t      testing.TB
	path   string // of the program
	port   int
	dir    string
	args   []string
	admin  *redis.Client
	cmd    *exec.Cmd
	exited chan struct{}
}

// startServer starts a Redis with lines of configuration, and waits until it answers. The server
// ends with the test.
func startServer(t testing.TB, config ...string) *server {
	t.Helper()
	s := newServer(t, config...)
	s.begin()
	s.await()
	return s
}

// newServer returns a server that does not run yet.
func newServer(t testing.TB, config ...string) *server {
	t.Helper()
	s := &server{t: t, path: program(t, "redis-server"), port: freePort(t), dir: t.TempDir()}
	lines := append([]string{
		"port " + strconv.Itoa(s.port), "bind 127.0.0.1", "dir " + s.dir, "logfile " + s.file("log"), `save ""`, "repl-diskless-sync-delay 0",
	}, config...)
	must(t, os.WriteFile(s.file("conf"), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	s.args = []string{s.file("conf")}
	s.admin = redis.NewClient(&redis.Options{Addr: s.addr(), MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { s.admin.Close() })
	return s
}

func (s *server) addr() string            { return local(s.port) }
func (s *server) file(name string) string { return filepath.Join(s.dir, name) }

// begin starts the process.
func (s *server) begin() {
	s.t.Helper()
	s.cmd = exec.Command(s.path, s.args...)
	must(s.t, s.cmd.Start())
	exited := make(chan struct{})
	s.exited = exited
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd)
	s.t.Cleanup(s.kill)
}

// await waits until the server answers, and has read its files.
func (s *server) await() {
	s.t.Helper()
	eventually(s.t, "the server on port "+strconv.Itoa(s.port), func() error {
		select {
		case <-s.exited:
			log, _ := os.ReadFile(s.file("log"))
			require.FailNow(s.t, "the server has ended", "%s", log)
		default:
		}
		return s.admin.Ping(s.t.Context()).Err()
	})
}

// kill is kill -9, and waits for the end of the process.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.exited
}

// shutdown ends the server by its own command, and waits for the end of the process.
func (s *server) shutdown() {
	s.t.Helper()
	_ = s.admin.Do(s.t.Context(), "SHUTDOWN").Err() // the connection ends without an answer
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		require.FailNow(s.t, "SHUTDOWN did not end the server")
	}
}

// do runs a command on the server.
func (s *server) do(args ...any) any {
	s.t.Helper()
	v, err := s.admin.Do(s.t.Context(), args...).Result()
	require.NoError(s.t, err, args)
	return v
}

// replicated waits until a replica has every write of now. A fail-over right after a login may
// lose it, as the package comment says; the tests of a fail-over begin with logins that are safe.
func (s *server) replicated() {
	s.t.Helper()
	offset := func(field string) (n int64) {
		text, err := s.admin.Info(s.t.Context(), "replication").Result()
		must(s.t, err)
		if _, after, found := strings.Cut(text, field); found {
			_, _ = fmt.Sscan(after[:strings.IndexAny(after+",", ",\r")], &n)
		}
		return n
	}
	want := offset("master_repl_offset:")
	eventually(s.t, "the replica", func() error {
		if got := offset(",offset="); got < want {
			return fmt.Errorf("it has %d of %d", got, want)
		}
		return nil
	})
}

// eventually polls until f returns no error, for a minute.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			require.FailNow(t, what+" is not ready", "%v", err)
		case <-tick.C:
		}
	}
}

// contains returns an error if an answer of INFO has not a line.
func (s *server) contains(line string, args ...any) error {
	text, err := s.admin.Do(s.t.Context(), args...).Text()
	if err == nil && !hasLine(text, line) {
		err = fmt.Errorf("no %s", line)
	}
	return err
}

func hasLine(text, line string) bool { return slices.Contains(strings.Split(text, "\r\n"), line) }

// cluster is a Redis Cluster of three masters and three replicas.
type cluster []*server

// startCluster starts a cluster. A short nodeTimeout is for a fail-over: on a busy machine it is
// the cause of others.
func startCluster(t testing.TB, nodeTimeout time.Duration) cluster {
	t.Helper()
	cli := program(t, "redis-cli")
	c := make(cluster, 6)
	args := []string{"--cluster", "create"}
	for i := range c {
		c[i] = newServer(t, "cluster-enabled yes", "cluster-config-file nodes", fmt.Sprint("cluster-node-timeout ", nodeTimeout.Milliseconds()))
		c[i].begin()
	}
	for _, s := range c {
		s.await()
		args = append(args, s.addr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, cli, append(args, "--cluster-replicas", "1", "--cluster-yes")...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	eventually(t, "the cluster", func() error {
		masters := 0
		for _, s := range c {
			err := cmp.Or(s.contains("cluster_state:ok", "CLUSTER", "INFO"), s.contains("cluster_known_nodes:6", "CLUSTER", "INFO"))
			if err != nil {
				return err
			}
			if s.contains("role:master", "INFO", "replication") == nil {
				masters++
				err = s.contains("connected_slaves:1", "INFO", "replication")
			} else {
				err = s.contains("master_link_status:up", "INFO", "replication")
			}
			if err != nil {
				return err
			}
		}
		if masters != 3 {
			return fmt.Errorf("%d masters", masters)
		}
		return nil
	})
	return c
}

// client returns a client of a cluster.
func (c cluster) client(t testing.TB) *redis.ClusterClient {
	var addrs []string
	for _, s := range c {
		addrs = append(addrs, s.addr())
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// masterOf returns the master of a key.
func (c cluster) masterOf(t testing.TB, client *redis.ClusterClient, key string) *server {
	master, err := client.MasterForKey(t.Context(), key)
	must(t, err)
	for _, s := range c {
		if s.addr() == master.Options().Addr {
			return s
		}
	}
	require.FailNow(t, "no server is the master")
	return nil
}

// sentinels is a primary, its replica and three sentinels.
type sentinels struct {
	primary, replica *server
	watchers         []*server
}

func startSentinels(t testing.TB) sentinels {
	t.Helper()
	var c sentinels
	c.primary = startServer(t)
	c.replica = startServer(t, fmt.Sprint("replicaof 127.0.0.1 ", c.primary.port))
	eventually(t, "the replica", func() error { return c.replica.contains("master_link_status:up", "INFO", "replication") })
	for range 3 {
		s := newServer(t)
		must(t, os.WriteFile(s.file("conf"), []byte(fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nlogfile %s\n"+
			"sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
			s.port, s.dir, s.file("log"), c.primary.port)), 0o600))
		s.args = append(s.args, "--sentinel")
		s.begin()
		c.watchers = append(c.watchers, s)
	}
	for _, s := range c.watchers {
		s.await()
		eventually(t, "the sentinel", func() error {
			master, err := s.admin.Do(t.Context(), "SENTINEL", "MASTER", "main").Result()
			if err != nil {
				return err
			}
			fields := fmt.Sprint(master)
			for _, want := range []string{"num-slaves:1 ", "num-other-sentinels:2 "} {
				if !strings.Contains(fields, want) {
					return fmt.Errorf("no %q in %s", want, fields)
				}
			}
			return nil
		})
	}
	return c
}

func (c sentinels) client(t testing.TB) *redis.Client {
	var addrs []string
	for _, s := range c.watchers {
		addrs = append(addrs, s.addr())
	}
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: addrs, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	return client
}

// anyUser has every user, whose password is "a".
type anyUser struct{}

func (anyUser) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return anyUser{}.UserByID(ctx, name)
}

func (anyUser) UserByID(_ context.Context, id string) (*oauth2pw.User, error) {
	return &oauth2pw.User{ID: id, Username: id, PasswordHash: "a"}, nil
}

type plain struct{}

func (plain) Hash(_ context.Context, password string) (string, error) { return password, nil }

func (plain) Verify(_ context.Context, hash, password string) (ok, outdated bool, err error) {
	return hash == password, false, nil
}

type noToken struct{ now func() time.Time }

func (i noToken) Issue(_ context.Context, p oauth2pw.Principal) (string, oauth2pw.Principal, error) {
	p.IssuedAt = i.now()
	p.ExpiresAt = p.IssuedAt.Add(time.Minute)
	return "access", p, nil
}

func (noToken) Verify(context.Context, string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
}

// app is a process of an app: an Auth with a client of its own.
type app struct {
	auth   *oauth2pw.Auth
	events *events
}

// events counts events by their kind.
type events struct {
	mu     sync.Mutex
	counts map[oauth2pw.EventKind]int
}

func newEvents() *events { return &events{counts: make(map[oauth2pw.EventKind]int)} }

func (e *events) add(kind oauth2pw.EventKind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[kind]++
}

func (e *events) of(kind oauth2pw.EventKind) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.counts[kind]
}

// newApp returns an app with the secrets of all others. A nil clock is time.Now.
func newApp(s oauth2pw.SessionStore, e *events, now func() time.Time) (*app, error) {
	if now == nil {
		now = time.Now
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: anyUser{}, Hasher: plain{}, Issuer: noToken{now}, Sessions: s,
		Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))}, Now: now,
		OnEvent: func(_ context.Context, event oauth2pw.Event) { e.add(event.Kind) },
	})
	return &app{auth, e}, err
}

// answer is the answer of a token endpoint.
type answer struct {
	status int // 0: no answer
	token  string
	body   string
}

func (a *app) post(form url.Values) answer {
	r := httptest.NewRequest(http.MethodPost, "/token", strings.NewReader(form.Encode()))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	a.auth.TokenHandler().ServeHTTP(w, r)
	return answer{w.Code, refreshToken(w.Body.Bytes()), w.Body.String()}
}

func refreshToken(body []byte) string {
	var fields struct {
		Token string `json:"refresh_token"`
	}
	_ = json.Unmarshal(body, &fields)
	return fields.Token
}

func login(user string) url.Values {
	return url.Values{"grant_type": {"password"}, "username": {user}, "password": {"a"}}
}

func refresh(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// decode returns the session and the generation of a refresh token.
func decode(token string) (id string, generation uint64) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, "rt1."))
	if err != nil || len(raw) < 24 {
		return "", 0
	}
	return base64.RawURLEncoding.EncodeToString(raw[:16]), binary.BigEndian.Uint64(raw[16:24])
}

// device holds one session: the refresh token of its last answer.
type device struct {
	user, id string
	token    string
	next     map[string]string // the answer to each token
	epoch    int               // of the last success
}

// fleet is devices that refresh at the same time. Each request goes to a sender, which is an
// app, or a process with one.
type fleet struct {
	t       *testing.T
	devices []*device
	senders []func(url.Values) answer

	mu          sync.Mutex
	epoch       int // grows with every failure
	fresh       int // devices that have refreshed in this epoch
	answers     map[int]int
	lastFailure time.Time
}

const perUser = 10 // sessions

// newFleet logs devices in.
func newFleet(t *testing.T, devices int, senders ...func(url.Values) answer) *fleet {
	t.Helper()
	f := &fleet{t: t, senders: senders, answers: make(map[int]int)}
	for i := range devices {
		user := fmt.Sprint("user", i/perUser)
		got := senders[i%len(senders)](login(user))
		require.Equal(t, 200, got.status, got.body)
		id, generation := decode(got.token)
		require.EqualValues(t, 1, generation)
		f.devices = append(f.devices, &device{user: user, id: id, token: got.token, next: make(map[string]string), epoch: -1})
	}
	return f
}

// refresh sends the token of a device by each sender, at the same time. A device whose requests
// have all failed keeps its token.
func (f *fleet) refresh(d *device, senders ...int) {
	f.mu.Lock()
	epoch := f.epoch
	f.mu.Unlock()
	answers := make([]answer, len(senders))
	var wg sync.WaitGroup
	for i, sender := range senders {
		wg.Go(func() { answers[i] = f.senders[sender](refresh(d.token)) })
	}
	wg.Wait()

	f.mu.Lock()
	defer f.mu.Unlock()
	sent := d.token
	for _, a := range answers {
		f.answers[a.status]++
		switch a.status {
		case 200:
			d.answer(f.t, sent, a.token)
			d.token = a.token
			if d.epoch != epoch && f.epoch == epoch {
				d.epoch = epoch
				f.fresh++
			}
		case 0, 503:
			f.restart()
			f.lastFailure = time.Now()
		default:
			_, generation := decode(sent)
			f.t.Errorf("session %s: the status %d to the token of generation %d: %s", d.id, a.status, generation, a.body)
		}
	}
}

// restart forgets the devices that have refreshed. f.mu is locked.
func (f *fleet) restart() {
	f.epoch++
	f.fresh = 0
}

// answer checks an answer to a token: each token has one successor, of the next generation.
func (d *device) answer(t *testing.T, sent, got string) {
	if before := d.next[sent]; before != "" && before != got {
		t.Errorf("session %s has forked: two successors of one token", d.id)
	}
	d.next[sent] = got
	_, from := decode(sent)
	if id, next := decode(got); id != d.id || next != from+1 {
		t.Errorf("session %s, generation %d: the successor has the session %s and the generation %d", d.id, from, id, next)
	}
}

// run refreshes all devices by so many workers, until stop returns true. Every fourth request is
// sent twice at the same time, to two senders.
func (f *fleet) run(workers int, stop func() bool) {
	queue := make(chan *device, len(f.devices))
	for _, d := range f.devices {
		queue <- d
	}
	deadline := time.Now().Add(2 * time.Minute)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := w; !stop() && !f.t.Failed(); n++ {
				if time.Now().After(deadline) {
					f.t.Errorf("the devices do not refresh: %v", f.answers)
					return
				}
				d := <-queue
				senders := []int{n % len(f.senders)}
				if n%4 == 0 {
					senders = append(senders, (n+1+n/4%(len(f.senders)-1))%len(f.senders))
				}
				f.refresh(d, senders...)
				queue <- d
			}
		})
	}
	wg.Wait()
}

// disturb runs the devices, calls fault once every device has refreshed, and continues until
// every device has refreshed again, without a failure of any. The result is the time from the
// beginning of the fault until the last failure.
func (f *fleet) disturb(workers int, fault func()) time.Duration {
	f.t.Helper()
	begin, finished := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	var once sync.Once
	go func() {
		defer close(finished)
		f.run(workers, func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.fresh < len(f.devices) {
				return false
			}
			once.Do(func() {
				f.restart()
				close(begin)
			})
			return done.Load() && f.fresh == len(f.devices)
		})
	}()
	select {
	case <-begin:
	case <-finished: // the test has failed
	}
	defer func() { // also if fault has ended the test
		done.Store(true)
		<-finished
	}()
	start := time.Now()
	fault()
	f.mu.Lock()
	f.restart()
	f.mu.Unlock()
	done.Store(true)
	<-finished
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.Logf("answers by status: %v", f.answers)
	return max(f.lastFailure.Sub(start), 0)
}

// awaitFailure waits until one more call fails.
func (f *fleet) awaitFailure() {
	count := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.answers[503] + f.answers[0]
	}
	before := count()
	eventually(f.t, "a failure", func() error {
		if count() == before && !f.t.Failed() {
			return errors.New("no call has failed")
		}
		return nil
	})
}

// check refreshes every session with its newest token, sends the same token again, and compares
// the list of each user.
func (f *fleet) check(list func(user string) ([]*oauth2pw.Session, error)) {
	f.t.Helper()
	want := make(map[string]map[string]uint64)
	for i, d := range f.devices {
		for step := range 2 {
			sent := d.token
			got := f.senders[(i+step)%len(f.senders)](refresh(sent))
			require.Equal(f.t, 200, got.status, "session %s: %s", d.id, got.body)
			d.answer(f.t, sent, got.token)
			again := f.senders[(i+step+3)%len(f.senders)](refresh(sent))
			require.Equal(f.t, got.token, again.token, "the same token has the same successor: %s", again.body)
			d.token = got.token
		}
		if want[d.user] == nil {
			want[d.user] = make(map[string]uint64)
		}
		_, want[d.user][d.id] = decode(d.token)
	}
	for _, user := range slices.Sorted(maps.Keys(want)) {
		sessions, err := list(user)
		must(f.t, err)
		got := make(map[string]uint64)
		for _, s := range sessions {
			got[s.ID] = s.Generation
		}
		require.Equal(f.t, want[user], got, "the live sessions of %s and their generations", user)
	}
}

// newApps returns apps, each with a client of its own.
func newApps(t *testing.T, n int, e *events, open func() redis.UniversalClient) (senders []func(url.Values) answer, s *Sessions) {
	t.Helper()
	for range n {
		var err error
		s, err = NewSessions(open(), Config{})
		must(t, err)
		a, err := newApp(s, e, nil)
		must(t, err)
		senders = append(senders, a.post)
	}
	return senders, s
}

// finish checks the fleet after a fail-over: no token was reuse, no session has ended, and every
// session continues.
func (f *fleet) finish(e *events, s *Sessions) {
	f.t.Helper()
	f.check(func(user string) ([]*oauth2pw.Session, error) { return s.List(f.t.Context(), user, time.Now()) })
	f.t.Logf("events: refresh %d, refresh_repeat %d, store_rollback %d", e.of(oauth2pw.EventRefresh), e.of(oauth2pw.EventRefreshRepeat), e.of(oauth2pw.EventStoreRollback))
	for _, kind := range []oauth2pw.EventKind{oauth2pw.EventRefreshReuse, oauth2pw.EventRefreshFailed, oauth2pw.EventSessionEnded} {
		require.Zero(f.t, e.of(kind), kind)
	}
}

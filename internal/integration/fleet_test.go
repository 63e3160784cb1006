//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// fleet is many processes over one database, and many devices that refresh at all of them.
type fleet struct {
	t       *testing.T
	set     member // of every process, except the clock
	client  *http.Client
	devices []*device
	pause   time.Duration  // of a device between two refreshes
	wg      sync.WaitGroup // devices that refresh
	halt    func()         // lets the devices stop, and waits for them

	mu      sync.Mutex
	changed *sync.Cond // after each answer
	members []*fleetMember
	back    time.Time // the database answers since
	broken  bool      // a device has got a wrong answer
	answers map[int]int
	dropped int // connections of killed processes
}

// fleetMember is a process of a fleet.
type fleetMember struct {
	*process
	offset time.Duration
	killed bool
	served time.Time // the first success since fleet.back
}

// device is a client that keeps one session.
type device struct {
	token, replaced string    // the newest refresh token, and the one before
	sent            time.Time // the newest token, for the first time
	successors      int
}

// newFleet starts so many processes, and logs so many devices in. The clocks of the processes
// differ by the spread.
func newFleet(t *testing.T, s *dbServer, processes, devices int, spread time.Duration) *fleet {
	t.Helper()
	f := &fleet{
		t: t, answers: make(map[int]int),
		set: member{Driver: s.driver, DSN: s.dsn, Dialect: s.dialect, Keys: filepath.Join(t.TempDir(), "keys"), Limit: 2 * time.Second},
		// A connection that is kept may be closed at any time, and a POST is not sent again.
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: startLimit},
	}
	f.changed = sync.NewCond(&f.mu)
	if !soak() {
		f.pause = 200 * time.Millisecond // the machine has other tests
	}
	st, db, err := f.set.open()
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, st.Migrate(t.Context()))
	_, err = f.set.config(st) // makes the keys
	require.NoError(t, err)
	for i := range processes {
		offset := time.Duration(i)*spread/time.Duration(processes-1) - spread/2
		f.members = append(f.members, &fleetMember{process: f.begin(offset), offset: offset})
	}
	for _, m := range f.members {
		m.await(t)
	}
	const perUser = 10
	for i := range devices {
		name := fmt.Sprint("user", i/perUser)
		if i%perUser == 0 {
			require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: name, Username: name, PasswordHash: "secret"}))
		}
		token, err := tokenFrom(f.client.PostForm(f.members[i%processes].url, url.Values{"grant_type": {"password"}, "username": {name}, "password": {"secret"}}))
		require.NoError(t, err)
		require.NotEmpty(t, token)
		f.devices = append(f.devices, &device{token: token})
	}
	return f
}

// begin starts a process with a clock.
func (f *fleet) begin(offset time.Duration) *process {
	f.t.Helper()
	settings := f.set
	settings.Offset = offset
	text, err := json.Marshal(settings)
	require.NoError(f.t, err)
	return beginTestBinary(f.t, memberSettings+"="+string(text))
}

// any returns a process that runs, or was killed a moment ago.
func (f *fleet) any() *fleetMember {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.members[rand.IntN(len(f.members))]
}

// send sends a refresh token to a process. The result is the successor, or "" for an answer
// that may be tried again: 503, or the lost connection of a process that was killed.
func (f *fleet) send(m *fleetMember, token string) (successor string, err error) {
	start := time.Now()
	resp, err := f.client.PostForm(m.url, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	var body []byte
	if err == nil {
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.changed.Broadcast()
	if err != nil {
		if !m.killed {
			return "", err
		}
		f.dropped++
		return "", nil
	}
	f.answers[resp.StatusCode]++
	switch resp.StatusCode {
	case http.StatusServiceUnavailable:
		return "", nil
	case http.StatusOK:
	default:
		return "", fmt.Errorf("the clock %v: status %d: %s", m.offset, resp.StatusCode, body)
	}
	if !f.back.IsZero() && start.After(f.back) && m.served.IsZero() {
		m.served = time.Now()
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	return answer.RefreshToken, json.Unmarshal(body, &answer)
}

// refresh sends the newest token of a device to so many processes at once, and returns after
// the last answer. All successors must be the same.
func (f *fleet) refresh(d *device, duplicates int) (refreshed bool, err error) {
	type answer struct {
		successor string
		err       error
	}
	start := time.Now()
	answers := make(chan answer, duplicates)
	for range duplicates {
		go func() {
			successor, err := f.send(f.any(), d.token)
			answers <- answer{successor, err}
		}()
	}
	next := ""
	for range duplicates {
		a := <-answers
		switch {
		case a.err != nil:
			err = a.err
		case a.successor != "" && next != "" && a.successor != next:
			err = fmt.Errorf("a fork: two successors of one token")
		case a.successor != "":
			next = a.successor
		}
	}
	if d.sent.IsZero() {
		d.sent = start
	}
	if err != nil {
		// Later than the grace period without the difference of the clocks, a repeat is reuse:
		// the servers of the test are too slow.
		return false, fmt.Errorf("%w (the token was sent %v ago)", err, time.Since(d.sent))
	}
	if next == "" {
		return false, nil
	}
	if rand.IntN(4) == 0 { // the answer is lost: the device sends the token again, to another process
		again, err := f.send(f.any(), d.token)
		if err == nil && again != "" && again != next {
			err = fmt.Errorf("a fork: a repeat got another successor")
		}
		if err != nil {
			return false, err
		}
	}
	d.replaced, d.token, d.sent = d.token, next, time.Time{}
	f.mu.Lock()
	d.successors++
	f.mu.Unlock()
	return true, nil
}

// run lets all devices refresh, until stop.
func (f *fleet) run() {
	done := make(chan struct{})
	f.halt = sync.OnceFunc(func() {
		close(done)
		f.wg.Wait()
	})
	f.t.Cleanup(f.halt) // before the processes are killed
	for i, d := range f.devices {
		f.wg.Go(func() {
			for {
				refreshed, err := f.refresh(d, 1+rand.IntN(3))
				if err != nil {
					f.t.Errorf("device %d: %v", i, err)
					f.mu.Lock()
					f.broken = true
					f.mu.Unlock()
					f.changed.Broadcast()
					return
				}
				pause := f.pause
				if !refreshed { // a client waits before it tries again
					pause = 100 * time.Millisecond
				}
				select {
				case <-done:
					return
				case <-time.After(pause):
				}
			}
		})
	}
}

// until waits for a condition that an answer may bring about.
func (f *fleet) until(name string, reached func() bool) {
	f.t.Helper()
	late := false
	timer := time.AfterFunc(startLimit, func() {
		f.mu.Lock()
		late = true
		f.mu.Unlock()
		f.changed.Broadcast()
	})
	defer timer.Stop()
	f.mu.Lock()
	defer f.mu.Unlock()
	for !reached() && !late && !f.broken {
		f.changed.Wait()
	}
	if late || f.broken {
		f.t.Fatalf("%s: not reached; the answers by status are %v", name, f.answers)
	}
}

// progress waits until every device has refreshed so many more times.
func (f *fleet) progress(name string, times int) {
	f.t.Helper()
	f.mu.Lock()
	goal := make([]int, len(f.devices))
	for i, d := range f.devices {
		goal[i] = d.successors + times
	}
	f.mu.Unlock()
	f.until(name, func() bool {
		for i, d := range f.devices {
			if d.successors < goal[i] {
				return false
			}
		}
		return true
	})
}

// recovery calls back, which returns when the database answers again, and waits for a success of
// every process. The results are the times from the return of back to the first success of any
// process, and to that of the last process.
func (f *fleet) recovery(name string, back func()) (first, last time.Duration) {
	f.t.Helper()
	back()
	f.mu.Lock()
	returned := time.Now()
	f.back = returned
	for _, m := range f.members {
		m.served = time.Time{}
	}
	f.mu.Unlock()
	f.until(name, func() bool {
		return !slices.ContainsFunc(f.members, func(m *fleetMember) bool { return m.served.IsZero() && !m.killed })
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	first = startLimit
	for _, m := range f.members {
		if m.killed {
			continue
		}
		first, last = min(first, m.served.Sub(returned)), max(last, m.served.Sub(returned))
	}
	f.back = time.Time{}
	return first, last
}

// outage waits until the devices notice that the database does not answer.
func (f *fleet) outage(name string) {
	f.t.Helper()
	f.mu.Lock()
	before := f.answers[http.StatusServiceUnavailable]
	f.mu.Unlock()
	f.until(name, func() bool { return f.answers[http.StatusServiceUnavailable] > before })
}

// kill kills a process.
func (f *fleet) kill(i int) {
	f.t.Helper()
	f.mu.Lock()
	f.members[i].killed = true
	m := f.members[i]
	f.mu.Unlock()
	m.kill()
}

// start starts another process instead of one that was killed, with the same clock.
func (f *fleet) start(i int) {
	f.t.Helper()
	offset := f.members[i].offset
	p := f.begin(offset)
	p.await(f.t)
	f.mu.Lock()
	f.members[i] = &fleetMember{process: p, offset: offset}
	f.mu.Unlock()
}

// stop stops the devices, and requires that no session is lost or forked: each refreshes once
// more, has as many generations as its device has successors, and ends with the reuse of the
// token before, whose grace period has passed.
func (f *fleet) stop() {
	f.t.Helper()
	f.halt()
	if f.t.Failed() {
		f.t.FailNow()
	}
	var want []int
	for i, d := range f.devices {
		refreshed, err := f.refresh(d, 1)
		require.NoError(f.t, err, "device %d", i)
		require.True(f.t, refreshed, "device %d has lost its login", i)
		again, err := f.send(f.any(), d.replaced)
		require.NoError(f.t, err, "device %d", i)
		require.Equal(f.t, d.token, again, "device %d: a fork", i)
		want = append(want, d.successors+1)
	}
	st, db, err := f.set.open()
	require.NoError(f.t, err)
	defer db.Close()
	var got []int
	for u := range (len(f.devices) + 9) / 10 {
		list, err := st.Sessions.List(f.t.Context(), fmt.Sprint("user", u), time.Now())
		require.NoError(f.t, err)
		for _, s := range list {
			got = append(got, int(s.Generation))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(f.t, want, got, "the generations of the live sessions, one of each device")

	f.set.Quiet = true
	late := &fleetMember{process: f.begin(time.Minute)}
	late.await(f.t)
	for i, d := range f.devices {
		for _, token := range []string{d.replaced, d.token} {
			_, err := f.send(late, token)
			require.ErrorContains(f.t, err, "status 400", "device %d: after a reuse nothing refreshes", i)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.Logf("%d devices, %d processes, %d successors; answers by status: %v, lost connections of killed processes: %d",
		len(f.devices), len(f.members), sum(want), f.answers, f.dropped)
}

func sum(list []int) (n int) {
	for _, i := range list {
		n += i
	}
	return n
}

// TestFleet: 16 processes whose clocks differ by half of the grace period refresh the same 100
// sessions, while processes are killed and the database server is restarted, and killed. Every
// answer is 200 or 503, no login is lost, none is forked, and the service returns by itself.
func TestFleet(t *testing.T) {
	for name, start := range map[string]func(*testing.T) *dbServer{"PostgreSQL": startPostgreSQL, "MariaDB": startMariaDB} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			f := newFleet(t, s, 16, 100, 15*time.Second)
			f.run()
			f.progress("the start", 2)
			rounds := 1
			if soak() {
				rounds = 10
			}
			for range rounds {
				for i := range 2 {
					f.kill(i)
					f.start(i)
				}
				f.progress("after the kills of processes", 1)
				for _, restart := range []struct {
					name string
					end  func(*testing.T)
				}{{"a restart", s.stop}, {"kill -9", s.kill}} {
					down := time.Now()
					restart.end(t)
					f.outage(restart.name)
					f.kill(0)
					var back time.Duration
					first, last := f.recovery(restart.name, func() {
						s.start(t)
						back = time.Since(down)
					})
					t.Logf("%s: the server was down for %v; after that the first success within %v, of every process within %v", restart.name,
						back, first, last)
					f.start(0)
					f.progress("after "+restart.name, 1)
				}
			}
			f.stop()
		})
	}
}

package oauth2pw_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// scheduler lets requests run one store call at a time, in an order that it is given.
// Requests whose context it has not marked run freely.
type scheduler struct {
	tick   func()        // before each call
	events chan struct{} // a request waits, or is done
	turns  []chan struct{}
	done   []bool
}

type requestKey struct{}

// turn is a step of a script: it waits until it is the turn of the request that makes a call.
func (s *scheduler) turn(ctx context.Context, _ string) error {
	if i, marked := ctx.Value(requestKey{}).(int); marked {
		s.events <- struct{}{}
		<-s.turns[i]
		s.tick()
	}
	return nil
}

// run runs requests in the order that choices begin and that the first that can goes on
// with. It returns all choices, and how many there were each time.
func (s *scheduler) run(choices []int, requests []func(ctx context.Context)) (made, among []int) {
	s.events = make(chan struct{})
	s.turns, s.done = make([]chan struct{}, len(requests)), make([]bool, len(requests))
	for i := range requests {
		s.turns[i] = make(chan struct{})
	}
	for i, request := range requests {
		go func() {
			defer func() {
				s.done[i] = true
				s.events <- struct{}{}
			}()
			request(context.WithValue(context.Background(), requestKey{}, i))
		}()
		<-s.events
	}
	for {
		var waiting []int
		for i, done := range s.done {
			if !done {
				waiting = append(waiting, i)
			}
		}
		if len(waiting) == 0 {
			return made, among
		}
		choice := 0
		if len(made) < len(choices) {
			choice = choices[len(made)]
		}
		made, among = append(made, choice), append(among, len(waiting))
		s.turns[waiting[choice]] <- struct{}{}
		<-s.events
	}
}

// every runs all orders there are, or the first most of them, and returns how many.
func (s *scheduler) every(most int, prepare func() (requests []func(ctx context.Context), check func(order []int))) int {
	var choices []int
	for n := 1; ; n++ {
		requests, check := prepare()
		made, among := s.run(choices, requests)
		check(made)
		last := len(made) - 1
		for last >= 0 && made[last]+1 == among[last] {
			last--
		}
		if last < 0 || n == most {
			return n
		}
		choices = append(made[:last:last], made[last]+1)
	}
}

// world is an app of two processes, with a clock each, over the same stores. A user is
// logged in twice.
type world struct {
	t         *testing.T
	clock     *clock
	users     *store.Users
	sessions  *store.Sessions
	processes [2]*oauth2pw.Auth
	scheduler *scheduler
	mine      pair // in process 0
	other     pair
	results   map[string]result
	mu        sync.Mutex
}

// result is the outcome of a request. A request runs in a goroutine of its own: check looks at
// the results when all requests are answered.
type result struct {
	status int
	pair   pair
	err    error // of a call that is no request over HTTP
}

// worldKeys are made once: a world is made for each order.
var worldKeys = sync.OnceValue(func() []tokens.Key {
	keys, err := tokens.ParseKeys([]byte(testKey))
	if err != nil {
		panic(err)
	}
	return keys
})

func newWorld(t *testing.T, ahead time.Duration, s *scheduler, edits ...func(*oauth2pw.Config)) *world {
	w := &world{t: t, clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 990e6, time.UTC)}, sessions: new(store.Sessions), scheduler: s, results: map[string]result{}}
	var err error
	w.users, err = store.NewUsers(oauth2pw.User{ID: "u1", Username: "johndoe", PasswordHash: "new:secret$0"})
	require.NoError(t, err)
	salt := 0
	h := &plainHasher{salt: func() string { salt++; return fmt.Sprint(salt) }}
	for i, offset := range []time.Duration{0, ahead} {
		now := func() time.Time { return w.clock.Now().Add(offset) }
		ring, err := tokens.New(tokens.Config{Keys: worldKeys(), Issuer: issuer, Audience: audience, Now: now})
		require.NoError(t, err)
		c := oauth2pw.Config{
			Users: w.users, Sessions: w.sessions, Secrets: []oauth2pw.Secret{secret("first")},
			Hasher: h, Issuer: ring, LoadUser: true, Now: now, InsecureNoThrottle: true, StoreTimeout: -1,
			DefaultScopes: []string{"me"}, OnEvent: func(context.Context, oauth2pw.Event) {},
		}
		for _, edit := range edits {
			edit(&c)
		}
		turns := new(script)
		turns.wrap(&c)
		for _, call := range storeCalls {
			turns.before(call, s.turn)
		}
		w.processes[i], err = oauth2pw.New(c)
		require.NoError(t, err)
	}
	w.mine, w.other = w.form(context.Background(), 0, login).pair, w.form(context.Background(), 0, login).pair
	w.clock.Advance(time.Millisecond)
	return w
}

// form sends a form to the token endpoint of a process.
func (w *world) form(ctx context.Context, process int, form string) result {
	got := serve(w.t, w.processes[process].TokenHandler(), post(form, during(ctx)))
	return result{status: got.StatusCode, pair: pairOf(got)}
}

func (w *world) refresh(ctx context.Context, process int, token string) result {
	return w.form(ctx, process, "grant_type=refresh_token&refresh_token="+url.QueryEscape(token))
}

// change changes the password. The middleware in front takes no turns.
func (w *world) change(ctx context.Context, process int, token, old, new string) result {
	auth := w.processes[process]
	handler := auth.RequireBearer()(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		tokens, err := auth.ChangePassword(r.WithContext(context.WithValue(r.Context(), requestKey{}, ctx.Value(requestKey{}))), old, new)
		if err != nil {
			oauth2pw.WriteError(rw, r, err)
			return
		}
		tokens.Write(rw)
	}))
	got := serve(w.t, handler, post("", with(bearer(token))))
	return result{status: got.StatusCode, pair: pairOf(got)}
}

// use reports whether an access token opens a handler of any process.
func (w *world) use(p pair) bool {
	for _, auth := range w.processes {
		if p.access == "" {
			return false
		}
		if _, err := auth.Verify(context.Background(), p.access); err == nil {
			return true
		}
	}
	return false
}

// dead requires that neither token of a pair is worth anything.
func (w *world) dead(what string, p pair) {
	require.False(w.t, w.use(p), "%s: the access token lives", what)
	if p.refresh != "" {
		require.Equal(w.t, 400, w.refresh(context.Background(), 0, p.refresh).status, "%s: the refresh token lives", what)
	}
}

func (w *world) alive(what string, p pair) {
	require.True(w.t, w.use(p), "%s: the access token is dead", what)
	require.Equal(w.t, 200, w.refresh(context.Background(), 0, p.refresh).status, "%s: the refresh token is dead", what)
}

func (w *world) live() int {
	list, err := w.sessions.List(context.Background(), "u1", w.clock.Now())
	require.NoError(w.t, err)
	return len(list)
}

// requests are what runs beside each other, by name.
var requests = map[string]func(w *world, ctx context.Context, process int) result{
	"login": func(w *world, ctx context.Context, process int) result { return w.form(ctx, process, login) },
	"refresh": func(w *world, ctx context.Context, process int) result {
		return w.refresh(ctx, process, w.mine.refresh)
	},
	"refresh other": func(w *world, ctx context.Context, process int) result {
		return w.refresh(ctx, process, w.other.refresh)
	},
	"change": func(w *world, ctx context.Context, process int) result {
		return w.change(ctx, process, w.mine.access, "secret", "new")
	},
	"change again": func(w *world, ctx context.Context, process int) result {
		return w.change(ctx, process, w.mine.access, "secret", "again")
	},
	"change other": func(w *world, ctx context.Context, process int) result {
		return w.change(ctx, process, w.other.access, "secret", "other")
	},
	"login with new": func(w *world, ctx context.Context, process int) result {
		return w.form(ctx, process, strings.Replace(login, "secret", "new", 1))
	},
	"end": (*world).end,
	"disable": func(w *world, ctx context.Context, process int) result {
		_ = w.scheduler.turn(ctx, "")
		if err := w.users.Update(context.Background(), "u1", func(u *oauth2pw.User) error { u.Disabled = true; return nil }); err != nil {
			return result{err: err}
		}
		return w.end(ctx, process)
	},
}

func (w *world) end(ctx context.Context, process int) result {
	_, err := w.processes[process].EndAllSessions(ctx, "u1", "logout")
	return result{status: 200, err: err}
}

// TestInterleavings: whatever the order in which the store calls
// of requests beside each other come, with one clock and with two that disagree by 20 ms,
// no login with the old password outlives its change, the session that a change keeps
// lives, and no copy of a token from before is worth anything.
//
// It runs all orders of the small sets, and the first 15,000 of the largest that it runs.
// The environment variable INTERLEAVINGS=all runs every order of all sets (make
// interleavings).
//
// Conformance 136, 146.
func TestInterleavings(t *testing.T) {
	const everyClock, oneClock, never = 0, 1, 2 // what runs without INTERLEAVINGS
	all, most := os.Getenv("INTERLEAVINGS") == "all", 15_000
	if all {
		most = 0
	}
	var mu sync.Mutex
	total := 0
	t.Cleanup(func() { t.Logf("%d orders", total) })
	for _, test := range []struct {
		set  []string
		runs int
	}{
		{[]string{"login", "change"}, everyClock},
		{[]string{"login", "change", "refresh"}, oneClock},
		{[]string{"login", "change", "login with new"}, never},
		{[]string{"login", "change", "refresh other"}, never},
		{[]string{"refresh", "change", "refresh other"}, never},
		{[]string{"refresh", "refresh", "change"}, never},
		{[]string{"change", "change again"}, everyClock},
		{[]string{"change", "change other", "login"}, never},
		{[]string{"change", "end", "login"}, everyClock},
		{[]string{"change", "end", "refresh"}, everyClock},
		{[]string{"disable", "login", "refresh"}, everyClock},
		{[]string{"disable", "change"}, everyClock},
	} {
		set := test.set
		for i, clocks := range []struct {
			name        string
			tick, ahead time.Duration
		}{
			{"the others 20 ms ahead", time.Millisecond, 20 * time.Millisecond},
			{"the others 20 ms behind", time.Millisecond, -20 * time.Millisecond},
			{"one clock", time.Millisecond, 0},
			{"one clock that stands", 0, 0},
		} {
			if !all && (test.runs == never || test.runs == oneClock && i > 0) {
				continue
			}
			t.Run(strings.Join(set, ", ")+"/"+clocks.name, func(t *testing.T) {
				t.Parallel()
				s := new(scheduler)
				n := s.every(most, func() ([]func(context.Context), func([]int)) {
					w := newWorld(t, clocks.ahead, s)
					s.tick = func() { w.clock.Advance(clocks.tick) }
					var run []func(context.Context)
					for i, name := range set {
						process := min(i, 1)
						key := name
						if i > 0 && set[i-1] == name {
							key += " too"
						}
						run = append(run, func(ctx context.Context) {
							got := requests[name](w, ctx, process)
							w.mu.Lock()
							defer w.mu.Unlock()
							w.results[key] = got
						})
					}
					return run, func(order []int) {
						defer func() {
							if t.Failed() {
								t.Logf("order %v, results %+v", order, w.results)
							}
						}()
						w.check()
					}
				})
				mu.Lock()
				defer mu.Unlock()
				total += n
			})
		}
	}
}

// check looks at what is left when all requests are answered.
func (w *world) check() {
	t, got := w.t, w.results
	ok := func(name string) bool { return got[name].status == 200 }
	has := func(name string) bool { _, ran := got[name]; return ran }
	for name, r := range got {
		require.NoError(t, r.err, name)
		require.Contains(t, []int{200, 400, 401, 403, 503}, r.status, name)
	}
	changes := 0
	for _, name := range []string{"change", "change again", "change other"} {
		if ok(name) {
			changes++
		}
	}
	u, err := w.users.UserByID(context.Background(), "u1")
	require.NoError(t, err)
	changed := !strings.HasPrefix(string(u.PasswordHash), "new:secret$")
	ended := has("end") || has("disable")
	if !ended {
		require.LessOrEqual(t, changes, 1, "two changes of one password")
		for name, r := range got {
			require.NotEqual(t, 503, r.status, name)
		}
		require.Equal(t, has("change"), changed)
		require.Equal(t, changed, changes == 1)
	}
	if has("disable") {
		for name, r := range got {
			w.dead(name, r.pair)
		}
		w.dead("mine", w.mine)
		w.dead("other", w.other)
		return
	}
	if changed {
		require.False(t, w.use(got["login"].pair), "a login with the old password lives")
		require.False(t, w.use(w.mine), "an access token from before")
		require.False(t, w.use(w.other), "an access token from before")
		for _, name := range []string{"refresh", "refresh too", "refresh other"} {
			require.False(t, w.use(got[name].pair), "an access token from before")
		}
	}
	switch {
	case has("end"):
		w.dead("mine", w.mine)
		w.dead("the change", got["change"].pair)
		w.dead("refresh", got["refresh"].pair)
	case ok("change"):
		require.Equal(t, 1+w.newLogins(), w.live(), "sessions that live")
		before := got["refresh"].pair.refresh // within the grace it is refused, and ends nothing
		if before != "" {
			require.Equal(t, 400, w.refresh(context.Background(), 0, before).status)
		} else {
			require.Equal(t, 400, w.refresh(context.Background(), 0, w.mine.refresh).status)
		}
		w.alive("the session that was kept", got["change"].pair)
	case ok("change again"):
		w.alive("the session that was kept", got["change again"].pair)
	case ok("change other"):
		w.alive("the session that was kept", got["change other"].pair)
	}
	if changed {
		w.dead("other", w.other)
		w.dead("login", got["login"].pair)
		w.dead("refresh other", got["refresh other"].pair)
	}
}

// newLogins is how many logins with the new password live: the end of the other sessions
// may have come later.
func (w *world) newLogins() int {
	if w.use(w.results["login with new"].pair) {
		return 1
	}
	return 0
}

package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// interleave runs the first 2,000 orders of the store calls of named requests with one clock
// and with two, or every order with INTERLEAVINGS=all, and checks the world after each order.
func interleave(t *testing.T, names []string, requests map[string]func(w *world, ctx context.Context, process int) result,
	prepare func(w *world), check func(w *world), edits ...func(*oauth2pw.Config)) {
	most, total := 2_000, 0
	if os.Getenv("INTERLEAVINGS") == "all" {
		most = 0
	}
	t.Run(strings.Join(names, ", "), func(t *testing.T) {
		for _, ahead := range []time.Duration{20 * time.Millisecond, -20 * time.Millisecond, 0} {
			s := new(scheduler)
			n := s.every(most, func() ([]func(context.Context), func([]int)) {
				w := newWorld(t, ahead, s, edits...)
				s.tick = func() { w.clock.Advance(time.Millisecond) }
				prepare(w)
				var run []func(context.Context)
				for i, name := range names {
					process := i % 2
					run = append(run, func(ctx context.Context) {
						got := requests[strings.TrimSuffix(name, " too")](w, ctx, process)
						w.mu.Lock()
						defer w.mu.Unlock()
						w.results[name] = got
					})
				}
				return run, func(order []int) {
					defer func() {
						if t.Failed() {
							t.Logf("%s ahead, order %v, results %+v", ahead, order, w.results)
						}
					}()
					check(w)
				}
			})
			total += n
		}
		t.Logf("%d orders", total)
	})
}

// TestInterleavingsOfForgiveness: late copies of the last replaced token, and the use of its
// successor, beside each other: no two of them leave two live branches.
//
// Conformance 135.
func TestInterleavingsOfForgiveness(t *testing.T) {
	var lost, unused string
	requests := map[string]func(w *world, ctx context.Context, process int) result{
		"late":      func(w *world, ctx context.Context, process int) result { return w.refresh(ctx, process, lost) },
		"successor": func(w *world, ctx context.Context, process int) result { return w.refresh(ctx, process, unused) },
	}
	forgive := func(c *oauth2pw.Config) { c.RefreshForgive = 24 * time.Hour }
	for _, names := range [][]string{{"late", "late too"}, {"late", "successor"}, {"late", "late too", "successor"}} {
		interleave(t, names, requests, func(w *world) {
			lost = w.mine.refresh
			unused = w.refresh(context.Background(), 0, lost).pair.refresh
			w.clock.Advance(time.Hour)
		}, func(w *world) {
			branches := map[string]bool{}
			for _, r := range w.results {
				require.Contains(t, []int{200, 400}, r.status)
				if r.status == 200 {
					branches[r.pair.refresh] = true
				}
			}
			require.NotEmpty(t, branches, "somebody is answered")
			live := 0
			for token := range branches {
				if w.refresh(context.Background(), 0, token).status == 200 {
					live++
				}
			}
			require.LessOrEqual(t, live, 1, "two live branches")
		}, forgive)
	}
}

// TestInterleavingsOfResets: of a reset, a change and an administrator's word one wins, and
// every login and token from before is refused; a reauthentication leaves one live branch.
//
// Conformance 136, 137, 146.
func TestInterleavingsOfResets(t *testing.T) {
	var ticket string
	status := func(err error) result {
		var e *oauth2pw.Error
		switch {
		case err == nil:
			return result{status: 200}
		case !errors.As(err, &e):
			return result{err: err}
		}
		w := serveError(e)
		return result{status: w}
	}
	requests := map[string]func(w *world, ctx context.Context, process int) result{
		"login":         requests["login"],
		"refresh":       requests["refresh"],
		"refresh other": requests["refresh other"],
		"change":        requests["change"],
		"reset": func(w *world, ctx context.Context, process int) result {
			return status(w.processes[process].ResetPassword(post("", during(ctx)), ticket, fmt.Sprint("reset", process)))
		},
		"set": func(w *world, ctx context.Context, process int) result {
			return status(w.processes[process].SetPassword(ctx, "u1", "set"))
		},
		"reauthenticate": func(w *world, ctx context.Context, process int) (got result) {
			auth := w.processes[process]
			auth.RequireBearer()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				tokens, err := auth.Reauthenticate(r.WithContext(context.WithValue(r.Context(), requestKey{}, ctx.Value(requestKey{}))), "secret")
				if got = status(err); err == nil {
					got.pair = pair{access: string(tokens.AccessToken), refresh: string(tokens.RefreshToken)}
				}
			})).ServeHTTP(nil, get("/", with(bearer(w.mine.access))))
			return got
		},
	}
	prepare := func(w *world) {
		k, err := w.processes[0].NewTicket(context.Background(), oauth2pw.Ticket{UserID: "u1", Purpose: oauth2pw.PurposeReset, ExpiresAt: w.clock.Now().Add(time.Hour)})
		require.NoError(t, err)
		ticket = string(k)
	}
	for _, names := range [][]string{{"reset", "reset too"}, {"reset", "login"}, {"reset", "refresh", "refresh other"}, {"reset", "change"}, {"set", "login"}, {"reset", "reauthenticate"}} {
		interleave(t, names, requests, prepare, func(w *world) {
			won := 0
			for name, r := range w.results {
				require.NoError(t, r.err, name)
				if strings.HasPrefix(name, "reset") || name == "set" || name == "change" {
					if r.status == 200 {
						won++
					}
				}
			}
			require.Equal(t, 1, won, "one new password")
			w.dead("other", w.other)
			w.dead("mine", w.mine)
			for _, name := range []string{"login", "refresh", "refresh other", "reauthenticate"} {
				w.dead(name, w.results[name].pair)
			}
			if w.results["change"].status != 200 {
				require.Zero(t, w.live())
			}
		})
	}
	for _, names := range [][]string{{"reauthenticate", "refresh"}, {"reauthenticate", "reauthenticate too"}, {"reauthenticate", "change"}} {
		interleave(t, names, requests, prepare, func(w *world) {
			live := 0
			for name, r := range w.results {
				require.NoError(t, r.err, name)
				if strings.HasPrefix(name, "reauthenticate") || name == "change" {
					if r.status == 200 && w.use(r.pair) {
						live++
					}
				}
			}
			require.LessOrEqual(t, live, 1, "two live branches")
			if w.results["refresh"].status == 200 {
				require.Equal(t, 400, w.refresh(context.Background(), 0, w.results["refresh"].pair.refresh).status, "a copy from before")
			}
			require.False(t, w.use(w.mine), "an access token from before")
		})
	}
}

// serveError returns the status of an error.
func serveError(e *oauth2pw.Error) int {
	w := &statusOnly{header: make(http.Header)}
	oauth2pw.WriteError(w, post(""), e)
	return w.status
}

type statusOnly struct {
	header http.Header
	status int
}

func (w *statusOnly) Header() http.Header         { return w.header }
func (w *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (w *statusOnly) WriteHeader(status int)      { w.status = status }

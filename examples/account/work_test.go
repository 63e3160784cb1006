package main

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// countingHasher counts the work of a hasher.
type countingHasher struct {
	oauth2pw.PasswordHasher
	hashed, verified atomic.Int64
}

func (h *countingHasher) Hash(ctx context.Context, password string) (string, error) {
	h.hashed.Add(1)
	return h.PasswordHasher.Hash(ctx, password)
}

func (h *countingHasher) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	h.verified.Add(1)
	return h.PasswordHasher.Verify(ctx, hash, password)
}

// alike is two kinds of requests that only the mails of the app may tell apart.
type alike struct {
	name             string
	one, other       func(w *world, n int) answer // n: another one for each request
	hashed, verified int64
}

// alikes needs a verified account jane@ and a not verified account new@.
var alikes = []alike{
	{"signup of a new and a taken address",
		func(w *world, n int) answer {
			return w.post("/signup", "", "email", fmt.Sprintf("user%d@example.com", n), "password", password)
		},
		func(w *world, _ int) answer { return w.post("/signup", "", "email", jane, "password", password) }, 1, 0},
	{"signup of a taken address, verified and not",
		func(w *world, _ int) answer {
			return w.post("/signup", "", "email", "new@example.com", "password", password)
		},
		func(w *world, _ int) answer { return w.post("/signup", "", "email", jane, "password", password) }, 1, 0},
	{"forgot of a known and an unknown address",
		func(w *world, _ int) answer {
			w.pass(resetPause) // each gets a mail
			return w.post("/forgot", "", "email", jane)
		},
		func(w *world, n int) answer {
			return w.post("/forgot", "", "email", fmt.Sprintf("nobody%d@example.com", n))
		}, 0, 0},
	{"wrong password of a not verified and an unknown address",
		func(w *world, _ int) answer { return w.login("new@example.com", "wrong horse 1") },
		func(w *world, n int) answer { return w.login(fmt.Sprintf("nobody%d@example.com", n), "wrong horse 1") }, 0, 1},
	{"wrong password of a not verified and a verified address",
		func(w *world, _ int) answer { return w.login("new@example.com", "wrong horse 1") },
		func(w *world, _ int) answer { return w.login(jane, "wrong horse 1") }, 0, 1},
}

// forAlikes returns an app without limits, with the accounts that the requests need. Its
// mails are thrown away from here on.
func forAlikes(t testing.TB) *world {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) }) // after the app
	w := inProcess(t, "-throttle=off")
	w.join(jane)
	w.post("/signup", "", "email", "new@example.com", "password", password).is(202)
	w.mail("verify", "new@example.com")
	go func() {
		for {
			select {
			case <-w.mails:
			case <-done:
				return
			}
		}
	}()
	return w
}

// TestSameWork: requests that must not show whether there is an account hash as often as each
// other, and get the same bytes.
func TestSameWork(t *testing.T) {
	w := forAlikes(t)
	for _, pair := range alikes {
		t.Run(pair.name, func(t *testing.T) {
			answers := [2]answer{}
			for i, send := range []func(*world, int) answer{pair.one, pair.other} {
				hashed, verified := w.hasher.hashed.Load(), w.hasher.verified.Load()
				answers[i] = send(w, 0)
				require.Equal(t, pair.hashed, w.hasher.hashed.Load()-hashed, "hashes of a new password")
				require.Equal(t, pair.verified, w.hasher.verified.Load()-verified, "verified passwords")
			}
			same(t, answers[0], answers[1])
		})
	}
}

// BenchmarkSameWork measures the requests of TestSameWork in turns, with a cheap hash that
// hides nothing, and reports the medians of both and their ratio.
func BenchmarkSameWork(b *testing.B) {
	for _, pair := range alikes {
		b.Run(pair.name, func(b *testing.B) {
			w := forAlikes(b)
			var took [2][]time.Duration
			for n := 0; b.Loop(); n++ {
				for i, send := range []func(*world, int) answer{pair.one, pair.other} {
					start := time.Now()
					send(w, n)
					took[i] = append(took[i], time.Since(start))
				}
			}
			var medians [2]float64
			for i := range took {
				slices.Sort(took[i])
				medians[i] = float64(took[i][len(took[i])/2].Nanoseconds())
			}
			b.ReportMetric(medians[0]/1e3, "µs-one")
			b.ReportMetric(medians[1]/1e3, "µs-other")
			b.ReportMetric(medians[0]/medians[1], "one/other")
		})
	}
}

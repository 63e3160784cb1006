package oauth2pw_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// wrong and right are forms with a wrong and with the correct password.
func wrong(name string, i int) string {
	return fmt.Sprintf("grant_type=password&username=%s&password=wrong%d", name, i)
}

func right(name string) string {
	return "grant_type=password&username=" + name + "&password=secret"
}

// isThrottled requires a 429 and returns its Retry-After.
func (a answer) isThrottled(t *testing.T) time.Duration {
	t.Helper()
	a.isError(t, 429, "slow_down")
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Positive(t, seconds)
	return time.Duration(seconds) * time.Second
}

const home, away = "192.0.2.1", "203.0.113.9"

// addUsers adds users whose password is "secret", and returns their names.
func (a *app) addUsers(prefix string, n int) []string {
	a.Helper()
	names := make([]string, n)
	for i := range n {
		names[i] = fmt.Sprint(prefix, i)
		require.NoError(a, a.users.Add(context.Background(), oauth2pw.User{ID: "id-" + names[i], Username: names[i], PasswordHash: "new:secret"}))
	}
	return names
}

// attackAccount fails at an account from many addresses until strangers are blocked.
func (a *app) attackAccount(name string) {
	a.Helper()
	for i := range 30 {
		a.serve(post(wrong(name, i), from(fmt.Sprintf("203.0.113.%d", i)))).isError(a.T, 400, "invalid_grant")
	}
	a.serve(post(wrong(name, 31), from("203.0.113.31"))).isThrottled(a.T)
}

// quiet is for tests with so many requests that their events would take most of the time.
func quiet(c *oauth2pw.Config) { c.OnEvent = func(context.Context, oauth2pw.Event) {} }

// checked reports whether a password was checked. An attacker never gets tokens.
func checked(a *app, got answer) bool {
	a.Helper()
	require.GreaterOrEqual(a, got.StatusCode, 400, got.body)
	return got.StatusCode == 400 && got.code() == "invalid_grant"
}

// atOnce serves token requests from home in parallel. The hasher waits until each of them is
// answered or waits for the hasher; hashed is how many then waited.
func (a *app) atOnce(s *script, forms []string) (answers []answer, hashed int) {
	a.Helper()
	answers = make([]answer, len(forms))
	s.take("PasswordHasher.Verify")
	synctest.Test(a.T, func(*testing.T) {
		gate := make(chan struct{})
		s.before("PasswordHasher.Verify", waits(gate))
		var wg sync.WaitGroup
		for i, form := range forms {
			wg.Go(func() { answers[i] = a.serve(post(form, from(home))) })
		}
		synctest.Wait()
		hashed = s.take("PasswordHasher.Verify")
		close(gate)
		wg.Wait()
		s.end()
	})
	return answers, hashed
}

// statuses counts answers by their status.
func statuses(answers []answer) map[int]int {
	n := make(map[int]int)
	for _, got := range answers {
		n[got.StatusCode]++
	}
	return n
}

// recorder is a throttle that blocks nothing, and keeps the attempts that Begin gets.
type recorder struct {
	mu   sync.Mutex
	seen []oauth2pw.Attempt
}

func (r *recorder) Begin(_ context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, a)
	return 0, nil
}

func (r *recorder) Succeed(context.Context, oauth2pw.Attempt) error { return nil }
func (r *recorder) Cancel(context.Context, oauth2pw.Attempt) error  { return nil }
func (r *recorder) Forget(context.Context, oauth2pw.Attempt) error  { return nil }

// take returns the attempts since they were last taken.
func (r *recorder) take() []oauth2pw.Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

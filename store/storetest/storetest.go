// Package storetest is the suite that every store must pass. The package needs only the
// standard library and package oauth2pw, so that other stores can import it:
//
//	func TestUsers(t *testing.T) {
//		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore { … })
//	}
//
// A SessionStore passes both Sessions and Refreshes.
//
// Each subtest is a rule, and each rule is a duty from the comments of oauth2pw.UserStore,
// PasswordUpdater, ClientStore, SessionStore or Throttle. A message names a call and its duty. Run the
// suite with -race too: some duties of concurrent calls show only there.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// rule is a subtest, over a store S that nobody else uses.
type rule[S any] struct {
	name string
	test func(t *testing.T, s S)
}

func run[S any](t *testing.T, rules []rule[S], open func(t *testing.T) S) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) { r.test(t, open(t)) })
	}
}

// now has microseconds, and nothing below.
var now = time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)

// ended returns a context that has ended.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// checkMiss checks the result of a call for a thing that is not there.
func checkMiss(t *testing.T, call string, found bool, err error) {
	t.Helper()
	switch {
	case found && err == nil:
		t.Errorf("%s found something, but nothing of that exact spelling is stored: compare byte for byte.", call)
	case err == nil:
		t.Errorf("%s returned neither a result nor an error: a miss must be an error that wraps oauth2pw.ErrNotFound.", call)
	case !errors.Is(err, oauth2pw.ErrNotFound):
		t.Errorf("%s returned the error %q: a miss must wrap oauth2pw.ErrNotFound, because any other error is a failure of the store (503).", call, err)
	case found:
		t.Errorf("%s returned a result beside the error of a miss: it must be nil.", call)
	}
}

// checkEnded checks the results of calls with an ended context.
func checkEnded(t *testing.T, calls map[string]error) {
	t.Helper()
	for call, err := range calls {
		if err == nil {
			t.Errorf("%s did not return an error although its context has ended.", call)
		} else if errors.Is(err, oauth2pw.ErrNotFound) {
			t.Errorf("%s said that there is nothing, %q, although its context has ended: that must be another error than a miss.", call, err)
		}
	}
}

// checkField checks a field of a thing that a call returned.
func checkField[T comparable](t *testing.T, thing, field string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: the %s is %s, and not %s.", thing, field, show(got), show(want))
	}
}

// checkTime is checkField for times: their locations do not count.
func checkTime(t *testing.T, thing, field string, got, want time.Time) {
	t.Helper()
	if got.Equal(want) {
		return
	}
	hint := ""
	if got.Sub(want).Abs() < time.Minute {
		hint = " Times are kept to the microsecond."
	}
	t.Errorf("%s: the %s is %s, and not %s.%s", thing, field, stamp(got), stamp(want), hint)
}

func show(v any) string {
	if s, ok := v.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(v)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "zero"
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999999")
}

// digest returns 32 bytes that begin like this.
func digest(begin ...byte) []byte { return append(begin, make([]byte, 32-len(begin))...) }

// parallel calls f n times at once.
func parallel(n int, f func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// quoted writes a call.
func quoted(method string, args ...any) string {
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = show(a)
	}
	return method + "(" + strings.Join(list, ", ") + ")"
}

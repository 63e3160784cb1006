package oauth2pw_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// throttleFuncs is a throttle, any part of which may be broken.
type throttleFuncs struct {
	beginning                          func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error)
	succeeding, cancelling, forgetting func(ctx context.Context, a oauth2pw.Attempt) error
}

func (f throttleFuncs) Begin(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
	return f.beginning(ctx, a)
}
func (f throttleFuncs) Succeed(ctx context.Context, a oauth2pw.Attempt) error {
	return f.succeeding(ctx, a)
}
func (f throttleFuncs) Cancel(ctx context.Context, a oauth2pw.Attempt) error {
	return f.cancelling(ctx, a)
}
func (f throttleFuncs) Forget(ctx context.Context, a oauth2pw.Attempt) error {
	return f.forgetting(ctx, a)
}

// reading is a bug in what a throttle reads of an attempt.
func reading(change func(a *oauth2pw.Attempt)) func(f *throttleFuncs, now func() time.Time) {
	return func(f *throttleFuncs, _ func() time.Time) {
		all := *f
		f.beginning = func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
			change(&a)
			return all.beginning(ctx, a)
		}
		f.succeeding = func(ctx context.Context, a oauth2pw.Attempt) error { change(&a); return all.succeeding(ctx, a) }
		f.cancelling = func(ctx context.Context, a oauth2pw.Attempt) error { change(&a); return all.cancelling(ctx, a) }
		f.forgetting = func(ctx context.Context, a oauth2pw.Attempt) error { change(&a); return all.forgetting(ctx, a) }
	}
}

// hashed returns an IPv4 that is another one for each text.
func hashed(text string) netip.Addr {
	sum := uint32(2166136261)
	for _, b := range []byte(text) {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return netip.AddrFrom4([4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

func nothing(context.Context, oauth2pw.Attempt) error { return nil }

// brokenThrottles are found by the rule that is made for each, with a message that has this part.
var brokenThrottles = []struct {
	rule, message string
	bug           func(f *throttleFuncs, now func() time.Time)
}{
	{"N attempts in W pass", "Begin counts an attempt as failed", func(f *throttleFuncs, _ func() time.Time) {
		f.beginning = func(context.Context, oauth2pw.Attempt) (time.Duration, error) { return 0, nil }
	}},
	{"a burst passes no more than N", "compare and count in one atomic step", func(f *throttleFuncs, _ func() time.Time) {
		var under atomic.Int32
		begin := f.beginning
		f.beginning = func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
			defer under.Add(-1)
			if under.Add(1) > 1 { // it has compared with a count that is out of date
				return 0, nil
			}
			for i := 0; i < 100 && under.Load() == 1; i++ {
				runtime.Gosched()
			}
			return begin(ctx, a)
		}
	}},
	{"accounts, realms and kinds are apart", "what is apart must have counters of its own", reading(func(a *oauth2pw.Attempt) {
		if a.Kind == oauth2pw.AttemptPassword && a.UserID == "" {
			a.UserID, a.Name = a.Name, ""
		}
	})},
	{"an address is one in every spelling, and an IPv6 is its /64", "is the same place as", reading(func(a *oauth2pw.Attempt) { a.Address = hashed(a.Address.String()) })},
	{"one account from all strangers: 3 N in 4 W", "3 N attempts in 4 W pass", reading(func(a *oauth2pw.Attempt) { a.UserID += " at " + a.Address.String() })},
	{"one address over all accounts: 10 N in W, and a /48: 100 N", "10 N attempts in W pass", reading(func(a *oauth2pw.Attempt) { a.Address = hashed(a.Address.String() + a.UserID) })},
	{"Succeed uncounts the attempt, and the failures of the account at this address", "Succeed clears what was counted for the account", func(f *throttleFuncs, _ func() time.Time) { f.succeeding = f.cancelling }},
	{"what strangers do keeps no user out at a known address", "counters of their own", reading(func(a *oauth2pw.Attempt) { a.Shared = true })},
	{"an address is known for 30 days, 8 per account, and never a shared one", "A Shared address has become known", reading(func(a *oauth2pw.Attempt) { a.Shared = false })},
	{"a known address: 100 N in W, and then one of each account", "never block the first attempt", func(f *throttleFuncs, _ func() time.Time) {
		begin, n := f.beginning, 0
		f.beginning = func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
			if n++; n > 404 {
				return time.Minute, nil
			}
			return begin(ctx, a)
		}
	}},
	{"the same wrong secret is one guess, up to 3 N repeats", "a repeat of a wrong secret is not counted", reading(func(a *oauth2pw.Attempt) { a.HasTag = false })},
	{"the last right secret is counted for its place alone", "is no guess, for W", func(f *throttleFuncs, _ func() time.Time) {
		succeed := f.succeeding
		f.succeeding = func(ctx context.Context, a oauth2pw.Attempt) error {
			err := succeed(ctx, a)
			_ = f.forgetting(ctx, a)
			return err
		}
	}},
	{"Cancel uncounts, and frees nothing else", "a cancelled attempt is not counted", func(f *throttleFuncs, _ func() time.Time) { f.cancelling = nothing }},
	{"an attempt is settled where it was counted", "must be uncounted there", func(f *throttleFuncs, _ func() time.Time) {
		succeed, known := f.succeeding, map[string]bool{}
		f.succeeding = func(ctx context.Context, a oauth2pw.Attempt) error {
			pair := a.UserID + " at " + a.Address.String()
			if known[pair] {
				return nil
			}
			known[pair] = true
			return succeed(ctx, a)
		}
	}},
	{"Forget uncounts an account, and the account at the address", "Forget uncounts everything", func(f *throttleFuncs, _ func() time.Time) { f.forgetting = nothing }},
	{"grants are counted for the address alone", "a grant that succeeds, or is cancelled, is not counted", reading(func(a *oauth2pw.Attempt) {
		if a.Kind == oauth2pw.AttemptGrant && a.UserID == "" {
			a.Kind = oauth2pw.AttemptCode
		}
	})},
	{"a right secret of a client counts nothing", "an attempt that is Right counts nothing", reading(func(a *oauth2pw.Attempt) { a.Right = false })},
	{"a clock that is set blocks nobody for longer than a window", "whatever the clock did", func(f *throttleFuncs, now func() time.Time) {
		begin, last := f.beginning, now()
		f.beginning = func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
			if now().Before(last) {
				return time.Minute, nil
			}
			last = now()
			return begin(ctx, a)
		}
	}},
	{"with an ended context Begin counts or fails", "has not counted", func(f *throttleFuncs, _ func() time.Time) {
		begin := f.beginning
		f.beginning = func(ctx context.Context, a oauth2pw.Attempt) (time.Duration, error) {
			if ctx.Err() != nil {
				return 0, nil
			}
			return begin(ctx, a)
		}
	}},
	{"random attempts are decided as by the plainest throttle", "by the limits of Config.ThrottleLimit", func(f *throttleFuncs, _ func() time.Time) {
		cancel, n := f.cancelling, 0
		f.cancelling = func(ctx context.Context, a oauth2pw.Attempt) error {
			if n++; n%10 == 0 {
				return nil
			}
			return cancel(ctx, a)
		}
	}},
}

const showBroken = "PASSWORDFLOW_TEST_BROKEN_THROTTLES"

// TestBrokenThrottles: each rule of storetest.Throttle finds the throttle that breaks it.
func TestBrokenThrottles(t *testing.T) {
	if os.Getenv(showBroken) != "" {
		for i, broken := range brokenThrottles {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				storetest.Throttle(t, func(_ *testing.T, limit int, window time.Duration, now func() time.Time) oauth2pw.Throttle {
					real := oauth2pw.NewBuiltInThrottle(limit, window, now)
					f := throttleFuncs{real.Begin, real.Succeed, real.Cancel, real.Forget}
					broken.bug(&f, now)
					return f
				})
			})
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenThrottles$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), showBroken+"=1")
	output, _ := cmd.CombinedOutput() // it fails
	rules := make(map[string]bool)
	for _, name := range regexp.MustCompile(`=== RUN   TestBrokenThrottles/0/(\S+)`).FindAllSubmatch(output, -1) {
		rules[string(name[1])] = true
	}
	require.NotEmpty(t, rules)
	for i, broken := range brokenThrottles {
		rule := strings.ReplaceAll(broken.rule, " ", "_")
		// Slashes of a rule's name stay.
		_, after, found := strings.Cut(string(output), fmt.Sprintf("=== RUN   TestBrokenThrottles/%d/%s\n", i, rule))
		if !assert.True(t, found, "there is no rule %q", broken.rule) {
			continue
		}
		said, _, _ := strings.Cut(after, "=== RUN")
		assert.Contains(t, said, broken.message, broken.rule)
		delete(rules, rule)
	}
	require.Empty(t, rules, "no broken throttle is for these rules")
}

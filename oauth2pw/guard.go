package oauth2pw

import (
	"context"
	"time"
)

// throttle is a [Throttle] as the core asks it: an attempt that was counted is settled
// through what begin returns.
type throttle interface {
	// begin is Throttle.Begin. open is nil if the attempt is blocked, or if there is
	// nothing to settle.
	begin(ctx context.Context, a Attempt) (open openAttempt, wait time.Duration, err error)
}

// openAttempt is an attempt that was counted and is not settled yet. One that failed
// is left as it is.
type openAttempt interface {
	// succeed is Throttle.Succeed. userID is the user of an attempt that did not
	// know it.
	succeed(ctx context.Context, userID string) error
	cancel(ctx context.Context) error
}

// plugThrottle is Config.Throttle.
type plugThrottle struct {
	Throttle
	timeout
}

type plugAttempt struct {
	throttle plugThrottle
	attempt  Attempt
}

func (t plugThrottle) begin(ctx context.Context, a Attempt) (openAttempt, time.Duration, error) {
	ctx, cancel := t.start(ctx)
	defer cancel()
	wait, err := t.Begin(ctx, a)
	if err != nil {
		return nil, 0, plugError("Throttle.Begin", err)
	}
	if wait > 0 || a.Right {
		return nil, wait, nil
	}
	return plugAttempt{t, a}, 0, nil
}

func (p plugAttempt) succeed(ctx context.Context, userID string) error {
	ctx, cancel := p.throttle.start(ctx)
	defer cancel()
	a := p.attempt
	if a.Kind == AttemptGrant {
		a.UserID = userID
	}
	if err := p.throttle.Succeed(ctx, a); err != nil {
		return plugError("Throttle.Succeed", err)
	}
	return nil
}

func (p plugAttempt) cancel(ctx context.Context) error {
	ctx, cancel := p.throttle.start(ctx)
	defer cancel()
	if err := p.throttle.Cancel(ctx, p.attempt); err != nil {
		return plugError("Throttle.Cancel", err)
	}
	return nil
}

// attempt completes the description of a try with a secret.
func (c *config) attempt(ctx context.Context, a Attempt, secret string) Attempt {
	s := stateFrom(ctx)
	a.Realm, a.Address, a.Shared = c.Realm, s.address, s.doubt != nil
	if secret != "" {
		a.Tag, a.HasTag = c.tag(a, secret), true
	}
	return a
}

// begin asks the throttle, and counts.
func (c *config) begin(ctx context.Context, a Attempt) (openAttempt, error) {
	if c.throttle == nil {
		return nil, nil
	}
	open, wait, err := c.throttle.begin(ctx, a)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, (&Error{Code: "slow_down", RetryAfter: wait}).because(EventThrottled, string(a.Kind), nil)
	}
	return open, nil
}

// verdict is what was found out about an attempt.
type verdict int

const (
	wrong     verdict = iota // it was a guess, and wrong
	undecided                // it was not looked at, or was no guess
	right
)

// guess counts an attempt as failed, lets check decide about it, and uncounts it if it
// was right, or if nothing was decided. While the attempt is blocked, check is not
// asked. userID is who has proved to be who. A panic counts as wrong.
func (c *config) guess(ctx context.Context, a Attempt, check func() (v verdict, userID string, err error)) error {
	open, err := c.begin(ctx, a)
	if err != nil {
		return err
	}
	v, userID, err := check()
	c.settle(ctx, open, v, userID)
	return err
}

// settle uncounts an attempt, unless it was wrong. It does so even if the client
// disconnects. A throttle that fails has counted one attempt too many: that is an
// event, and no answer.
func (c *config) settle(ctx context.Context, open openAttempt, v verdict, userID string) {
	if open == nil || v == wrong {
		return
	}
	ctx = context.WithoutCancel(ctx)
	err := error(nil)
	if v == right {
		err = open.succeed(ctx, userID)
	} else {
		err = open.cancel(ctx)
	}
	if err != nil {
		c.answers.tell(ctx, asError(err), Event{})
	}
}

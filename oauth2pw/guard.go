package oauth2pw

import (
	"context"
	"errors"
	"time"
)

// guard counts each attempt before the secret is checked.
type guard struct {
	throttle throttle // nil: no attempt is counted
	realm    string
	tag      func(a Attempt, secret string) uint32
	answers  answerer
}

func newGuard(c *Config, plugs *plugs, now clock, answers answerer) (*guard, error) {
	switch {
	case c.ThrottleLimit < 0 || c.ThrottleWindow < 0:
		return nil, errors.New("oauth2pw: Config.ThrottleLimit and Config.ThrottleWindow must not be negative")
	case c.ThrottleLimit > maxThrottleLimit || c.ThrottleWindow > maxThrottleWindow:
		return nil, errors.New("oauth2pw: Config.ThrottleLimit is at most 100000, and Config.ThrottleWindow at most a week")
	case c.ThrottleWindow != 0 && c.ThrottleWindow < time.Second:
		return nil, errors.New("oauth2pw: Config.ThrottleWindow is under a second, which bounds nothing: write 15*time.Minute")
	case c.InsecureNoThrottle && c.Throttle != nil:
		return nil, errors.New("oauth2pw: set one of Config.Throttle and Config.InsecureNoThrottle")
	case c.Throttle != nil && (c.ThrottleLimit != 0 || c.ThrottleWindow != 0):
		return nil, errors.New("oauth2pw: Config.ThrottleLimit and Config.ThrottleWindow are those of the built-in throttle; Config.Throttle has its own")
	}
	g := &guard{realm: answers.realm, tag: newAttemptTag(c.Secrets), answers: answers}
	switch {
	case c.Throttle != nil:
		g.throttle = plugThrottle{c.Throttle, plugs}
	case !c.InsecureNoThrottle:
		g.throttle = newMemoryThrottle(
			withDefault(c.ThrottleLimit, defaultThrottleLimit), withDefault(c.ThrottleWindow, defaultThrottleWindow), now)
	}
	return g, nil
}

// attempt adds the realm, the client address and the tag of the secret to a.
func (g *guard) attempt(ctx context.Context, a Attempt, secret string) Attempt {
	s := stateFrom(ctx)
	a.Realm, a.Address, a.Shared = g.realm, s.address, s.shared != nil
	if secret != "" {
		a.Tag, a.HasTag = g.tag(a, secret), true
	}
	return a
}

// begin counts an attempt, or returns the error slow_down for a blocked attempt.
func (g *guard) begin(ctx context.Context, a Attempt) (openAttempt, error) {
	if g.throttle == nil {
		return nil, nil
	}
	open, wait, err := g.throttle.begin(ctx, a)
	if err != nil {
		return nil, err
	}
	if wait > 0 {
		return nil, (&Error{Code: "slow_down", RetryAfter: wait}).because(EventThrottled, EventReason(a.Kind), nil)
	}
	return open, nil
}

// verdict is the result of the check of an attempt.
type verdict int

const (
	wrong     verdict = iota // a wrong guess
	undecided                // not checked, or no guess
	right
)

// guess counts an attempt as failed, calls check, and uncounts the attempt if the verdict
// is right or undecided. For a blocked attempt, check is not called. userID is the user
// whose identity is proved. After a panic of check the attempt stays counted.
func (g *guard) guess(ctx context.Context, a Attempt, check func() (v verdict, userID string, err error)) error {
	open, err := g.begin(ctx, a)
	if err != nil {
		return err
	}
	v, userID, err := check()
	g.settle(ctx, open, v, userID)
	return err
}

// settle uncounts an attempt unless the verdict is wrong, even if the client disconnects. A
// failure of the throttle leaves one attempt too many counted: the failure is an event, and
// the answer stays the same.
func (g *guard) settle(ctx context.Context, open openAttempt, v verdict, userID string) {
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
		g.answers.tell(ctx, asError(err), Event{})
	}
}

// forget uncounts everything that was counted for a user, because the password has changed by
// another way than knowing the old one. A failure of the throttle is an event and no answer.
func (g *guard) forget(ctx context.Context, userID string) {
	if g.throttle == nil {
		return
	}
	err := recovered(func() error {
		return g.throttle.forget(ctx, g.attempt(ctx, Attempt{Kind: AttemptPassword, UserID: userID}, ""))
	})
	if err != nil {
		g.answers.tell(ctx, asError(err), Event{UserID: userID})
	}
}

// judge returns the verdict about the answer of a plug that has checked a secret. A wrong
// guess is the code invalid_grant, ErrNotFound, or a missing or disabled user; any other
// error is undecided. After the client has disconnected every error is a wrong guess,
// because otherwise the client could guess without being counted.
func judge(ctx context.Context, plug string, r *TokenRequest, u *User, err error) (verdict, error) {
	if errors.Is(err, ErrNotFound) || err == nil && u == nil {
		return wrong, errInvalidGrant.because(EventLoginFailed, ReasonRefused, err)
	}
	if err != nil {
		e := plugError(plug, err)
		switch {
		case e.Code == errInvalidGrant.Code:
			return wrong, e.because(EventLoginFailed, ReasonRefused, err)
		case ctx.Err() != nil:
			return wrong, e
		}
		return undecided, e
	}
	r.event.UserID = u.ID
	switch reason := u.dead(r.now); { // the secret may have changed after the plug checked it
	case u.ID == "":
		return undecided, plugError(plug, errNoUserID)
	case reason == ReasonUserDisabled:
		return wrong, errInvalidGrant.because(EventLoginFailed, reason, nil)
	case reason != "":
		return undecided, errInvalidGrant.because(EventLoginFailed, reason, nil)
	}
	return right, nil
}

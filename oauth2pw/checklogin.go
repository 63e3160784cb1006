package oauth2pw

import (
	"context"
	"errors"
)

// loginCheck calls Config.CheckLogin. The answer counts as a guess of its own, because
// CheckLogin may check a second factor.
type loginCheck struct {
	guard *guard
	check func(ctx context.Context, u *User, r *TokenRequest) error // nil: none
}

// ask calls Config.CheckLogin for a user with a correct secret, and returns the verdict for
// the attempt with this secret. A second attempt with the same keys, and without a tag,
// counts the answer of CheckLogin: equal codes are not the same guess. After invalid_grant
// the second attempt stays counted; after nil both succeed; after any other answer both are
// canceled. The first attempt stays counted meanwhile: in a window one code less than
// passwords is checked, and a burst of correct logins may be blocked.
func (l *loginCheck) ask(ctx context.Context, a Attempt, u *User, r *TokenRequest) (verdict, error) {
	if l.check == nil {
		return right, nil
	}
	open, err := l.guard.begin(ctx, l.guard.attempt(ctx, a, ""))
	if err != nil {
		return undecided, err
	}
	v, err := l.decide(ctx, u, r)
	l.guard.settle(ctx, open, v, u.ID)
	if v == right {
		return right, nil
	}
	return undecided, err
}

func (l *loginCheck) decide(ctx context.Context, u *User, r *TokenRequest) (v verdict, err error) {
	v = undecided
	defer recoverPlug(&err)
	if err = l.check(ctx, u, r); err == nil {
		return right, nil
	}
	if errors.Is(err, ErrNotFound) {
		err = errors.Join(errInvalidGrant, err)
	}
	e := plugError("Config.CheckLogin", err)
	switch {
	case e.Code == errInvalidGrant.Code:
		// The answer is that of a wrong password, byte for byte.
		refused := errInvalidGrant.because(EventLoginFailed, ReasonRefused, err)
		refused.plug = e.plug
		return wrong, refused
	case ctx.Err() != nil: // a client that disconnects must not make its guesses free
		return wrong, e
	}
	return undecided, e
}

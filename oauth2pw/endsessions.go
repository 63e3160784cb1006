package oauth2pw

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sessions returns the live sessions of a user, the newest login first, for a page of
// devices. A session that is older than the last change of the password is left out. An unknown
// user has none.
//
// The error is a store failure, or says that userID is empty.
func (a *Auth) Sessions(ctx context.Context, userID string) ([]*Session, error) {
	x := a.sessions
	switch {
	case !x.on():
		return nil, errors.New("oauth2pw: Sessions needs Config.Sessions")
	case userID == "":
		return nil, errors.New("oauth2pw: Sessions: the userID is empty")
	}
	var list []*Session
	err := recovered(func() error {
		u, err := x.plugs.userByID(ctx, userID)
		if err != nil || u == nil {
			return err
		}
		if list, err = x.plugs.listSessions(ctx, userID, x.clock.time()); err != nil {
			return err
		}
		list = filter(list, func(s *Session) bool { return !s.AuthenticatedAt.Before(u.SessionsValidFrom) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// EndSession ends one session of a user, and reports whether the session has ended by this
// call: false if the user has no such session, or if the session had ended already. The
// refresh token of the session is refused at once, and so are its access tokens, unless
// Config.StatelessTokens is set; another process may accept them for Config.SessionCache.
// reason goes to the events and to the store.
//
// The error is a store failure, or means: Config.Sessions is nil, or userID or id is empty.
// The id of a token without a session is empty.
func (a *Auth) EndSession(ctx context.Context, userID, id, reason string) (bool, error) {
	if id == "" {
		return false, errors.New("oauth2pw: EndSession: the id is empty: the token has no session, or the context is not that of a request behind RequireBearer")
	}
	n, err := a.end(ctx, "EndSession", SessionFilter{UserID: userID, ID: id}, reason)
	return n > 0, err
}

// EndOtherSessions ends all sessions of a user except keep, and returns their number. An
// empty keep is an error; see EndAllSessions. The tokens, the reason and other errors are
// as for EndSession.
func (a *Auth) EndOtherSessions(ctx context.Context, userID, keep, reason string) (int, error) {
	if keep == "" {
		return 0, errors.New("oauth2pw: EndOtherSessions: keep is empty: the token has no session")
	}
	return a.end(ctx, "EndOtherSessions", SessionFilter{UserID: userID, Except: keep}, reason)
}

// EndAllSessions ends all sessions of a user, and returns their number. The tokens, the
// reason and errors are as for EndSession.
func (a *Auth) EndAllSessions(ctx context.Context, userID, reason string) (int, error) {
	return a.end(ctx, "EndAllSessions", SessionFilter{UserID: userID}, reason)
}

func (a *Auth) end(ctx context.Context, method string, f SessionFilter, reason string) (n int, err error) {
	switch {
	case !a.sessions.on():
		return 0, fmt.Errorf("oauth2pw: %s needs Config.Sessions", method)
	case f.UserID == "":
		return 0, fmt.Errorf("oauth2pw: %s: the userID is empty: is the context that of a request behind RequireBearer?", method)
	}
	n, failed := a.sessions.end(ctx, f, EventReason(reason))
	return n, failed
}

func (x *sessions) end(ctx context.Context, f SessionFilter, reason EventReason) (int, error) {
	ids, err := x.plugs.endSessions(ctx, f, string(reason), x.clock.time())
	x.live.forget(ids, err != nil)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		x.events.emit(ctx, Event{Kind: EventSessionEnded, Reason: reason, UserID: f.UserID, SessionID: id})
	}
	return len(ids), nil
}

// endTime is the time limit for the end of a session by a request.
const endTime = 10 * time.Second

// endOne ends a session as the result of a request, and continues if the client
// disconnects.
func (x *sessions) endOne(ctx context.Context, s *Session, reason EventReason) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	_, err := x.end(ctx, SessionFilter{UserID: s.UserID, ID: s.ID}, reason)
	return err
}

const (
	sweepBatch = 1000
	sweepAfter = 24 * time.Hour
)

// SweepSessions deletes the sessions that ended or expired more than a day ago, in batches
// of 1000. If every is zero or negative, there is one pass, and the result is the error of
// the store. Otherwise there is a pass now and after each interval every, at least a
// second, until ctx ends; the result is the error of ctx. A store failure is then an event,
// and the next pass tries again.
func (a *Auth) SweepSessions(ctx context.Context, every time.Duration) error {
	if !a.sessions.on() {
		return errors.New("oauth2pw: SweepSessions needs Config.Sessions")
	}
	if every <= 0 {
		err := a.sessions.sweep(ctx)
		if e := (*Error)(nil); errors.As(err, &e) {
			return fmt.Errorf("oauth2pw: %s: %w", e.plug, e.cause)
		}
		return err
	}
	if every < time.Second {
		return errors.New("oauth2pw: SweepSessions: every is under a second: write time.Hour")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := a.sessions.sweep(ctx); err != nil && ctx.Err() == nil {
			a.answers.tell(ctx, asError(err), Event{})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (x *sessions) sweep(ctx context.Context) error {
	before := x.clock.time().Add(-sweepAfter)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := x.plugs.sweepSessions(ctx, before, sweepBatch)
		if err != nil {
			return err
		}
		if n < sweepBatch {
			return nil
		}
	}
}

package tokens

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// remoteState is one set of keys.
type remoteState struct {
	keys    []*keyMaterial
	fetched time.Time
	cache   *cache
}

// Refresh fetches the keys now, unless the last fetch was too recent: see [Remote]. The call is
// optional. An app may call Refresh at its start to check that the issuer answers.
func (r *Remote) Refresh(ctx context.Context) error {
	return r.refresh(ctx, true)
}

// unavailableError means that a token could not be checked.
type unavailableError struct{ cause error }

func (e unavailableError) Error() string { return e.cause.Error() }

// key returns the key of a token with valid claims, and fetches the keys if necessary and
// allowed.
func (r *Remote) key(ctx context.Context, h header) (*remoteState, *keyMaterial, error) {
	now := r.c.Now()
	state := r.state.Load()
	if state != nil && now.Sub(state.fetched) >= r.c.MaxStale {
		state = nil
	}
	key := state.find(h)
	switch {
	case state == nil || key == nil:
		err := r.refresh(ctx, true)
		if fresh := r.state.Load(); fresh != nil && now.Sub(fresh.fetched) < r.c.MaxStale {
			state = fresh
		}
		if state == nil {
			if err == nil {
				err = errors.New("they are too old")
			}
			return nil, nil, unavailableError{err}
		}
		if key = state.find(h); key == nil && err != nil {
			return nil, nil, unavailableError{err} // the issuer may have the key
		}
		if key == nil {
			return nil, nil, errUnknownKey
		}
	case now.Sub(state.fetched) >= remoteFresh:
		_ = r.refresh(ctx, false) // in the background
	}
	return state, key, nil
}

// find returns the key of a header: by its kid or, without a kid, the only key of its algorithm.
func (s *remoteState) find(h header) (found *keyMaterial) {
	if s == nil {
		return nil
	}
	for _, key := range s.keys {
		if key.alg != h.alg || h.hasKid && key.kid != h.kid {
			continue
		}
		if found != nil {
			return nil
		}
		found = key
	}
	return found
}

// refresh starts a fetch under a context of its own, unless a fetch is running or the last
// fetch was too recent. With wait, refresh returns when the running fetch or ctx ends, with the
// error of the last fetch.
func (r *Remote) refresh(ctx context.Context, wait bool) error {
	r.mu.Lock()
	if r.flight == nil {
		now := r.c.Now()
		if !r.lastTry.IsZero() && now.Sub(r.lastTry) < r.pause() {
			err := r.lastErr
			r.mu.Unlock()
			return err
		}
		r.lastTry = now
		r.flight = make(chan struct{})
		go r.fly()
	}
	flight := r.flight
	r.mu.Unlock()
	if !wait {
		return nil
	}
	select {
	case <-flight:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.lastErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause returns the shortest time between two fetches. Without keys the time is shorter, 1, 2,
// 4 and so on seconds, so that an issuer that answers again is found soon. The lock is held.
func (r *Remote) pause() time.Duration {
	if r.state.Load() != nil || r.failures == 0 {
		return remoteInterval
	}
	return min(time.Second<<min(r.failures-1, 10), remoteInterval)
}

// fetchKeys calls fetch and recovers, because no other function of its goroutine does.
func (r *Remote) fetchKeys(ctx context.Context) (keys []*keyMaterial, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic (%T)", v)
		}
	}()
	return r.fetch(ctx)
}

// fly runs one fetch.
func (r *Remote) fly() {
	ctx, cancel := context.WithTimeout(context.Background(), r.limit)
	defer cancel()
	keys, err := r.fetchKeys(ctx)
	if err == nil {
		r.state.Store(&remoteState{keys: keys, fetched: r.c.Now(), cache: newCache(r.c.Cache)})
	}
	r.mu.Lock()
	if r.lastErr = err; err == nil {
		r.failures = 0
	} else {
		r.failures++
	}
	close(r.flight)
	r.flight = nil
	r.mu.Unlock()
	if err != nil && r.c.OnError != nil {
		r.c.OnError(fmt.Errorf("tokens: the keys of %s: %w", r.c.Issuer, err))
	}
}

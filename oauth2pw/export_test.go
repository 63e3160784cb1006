package oauth2pw

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// KnownSessions returns how many sessions an Auth remembers to live.
func KnownSessions(a *Auth) int {
	a.sessions.live.mu.Lock()
	defer a.sessions.live.mu.Unlock()
	return len(a.sessions.live.sessions)
}

// ContextOf returns the context that an Auth makes of a request.
func ContextOf(a *Auth, r *http.Request) context.Context { return a.proxies.withAddress(r) }

// EventKinds returns the kinds of the table of events.
func EventKinds() []EventKind { return slices.Sorted(maps.Keys(eventReasons)) }

// builtInThrottle is the built-in throttle as a Throttle. Of equal attempts the latest is
// settled.
type builtInThrottle struct {
	*memoryThrottle
	mu   sync.Mutex
	open map[Attempt][]openAttempt
}

// NewBuiltInThrottle returns the built-in throttle.
func NewBuiltInThrottle(limit int, window time.Duration, now func() time.Time) Throttle {
	return &builtInThrottle{memoryThrottle: newMemoryThrottle(limit, window, now), open: make(map[Attempt][]openAttempt)}
}

func (b *builtInThrottle) Begin(ctx context.Context, a Attempt) (time.Duration, error) {
	open, wait, err := b.begin(ctx, a)
	a.Address = placeOf(a.Address.Unmap(), 64)
	if open != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.open[a] = append(b.open[a], open)
	}
	return wait, err
}

// settle returns the latest of equal attempts that is not settled.
func (b *builtInThrottle) settle(a Attempt) openAttempt {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.Address = placeOf(a.Address.Unmap(), 64)
	last := len(b.open[a]) - 1
	if last < 0 {
		return nil
	}
	open := b.open[a][last]
	b.open[a] = b.open[a][:last]
	return open
}

func (b *builtInThrottle) Succeed(ctx context.Context, a Attempt) error {
	userID := a.UserID
	if a.Kind == AttemptGrant {
		a.UserID = ""
	}
	if open := b.settle(a); open != nil {
		return open.succeed(ctx, userID)
	}
	return nil
}

func (b *builtInThrottle) Cancel(ctx context.Context, a Attempt) error {
	if open := b.settle(a); open != nil {
		return open.cancel(ctx)
	}
	return nil
}

func (b *builtInThrottle) Forget(ctx context.Context, a Attempt) error { return b.forget(ctx, a) }

package hasher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// blockedHasher is a Hasher whose computations wait.
type blockedHasher struct {
	*Hasher
	t *testing.T
}

// blocked returns a Hasher and two channels: each computation sends to started, and then waits until
// finish is closed.
func blocked(t *testing.T, slots, queue int) (h *blockedHasher, started chan struct{}, finish chan struct{}) {
	t.Helper()
	inner, err := New(Config{InsecureParams: true, Params: cheap, Slots: slots, Queue: queue})
	require.NoError(t, err)
	started, finish = make(chan struct{}, 100), make(chan struct{})
	inner.key = func(_, _ []byte, _ Params, length uint32) []byte {
		started <- struct{}{}
		<-finish
		return make([]byte, length)
	}
	return &blockedHasher{inner, t}, started, finish
}

// patience is longer than a caller needs to enter the queue, or to be refused.
const patience = 30 * time.Second

// waitForQueue returns as soon as n callers wait in the queue. It fails the test if that takes
// too long.
func waitForQueue(h *blockedHasher, n int) {
	h.t.Helper()
	for began := time.Now(); ; runtime.Gosched() {
		waiting := h.Stats().Waiting
		if waiting == n {
			return
		}
		if time.Since(began) > patience {
			h.t.Fatalf("after %s %d callers wait in the queue, want %d", patience, waiting, n)
		}
	}
}

// requireBusy requires that the queue takes no further caller. A caller that it takes gives up.
func requireBusy(t *testing.T, ctx context.Context, h *blockedHasher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, _, err := h.Verify(ctx, "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	_, err = h.Hash(ctx, "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
}

// callers verify a password at the same time.
type callers struct {
	h       *blockedHasher
	wg      sync.WaitGroup
	results chan error
}

func newCallers(h *blockedHasher) *callers { return &callers{h: h, results: make(chan error, 100)} }

func (c *callers) begin(ctx context.Context) {
	c.wg.Go(func() {
		_, _, err := c.h.Verify(ctx, "", "x")
		c.results <- err
	})
}

// succeed waits for all callers, and requires that none of them has an error.
func (c *callers) succeed(t *testing.T) {
	t.Helper()
	c.wg.Wait()
	close(c.results)
	for err := range c.results {
		require.NoError(t, err)
	}
}

// TestSlots: slots, then a queue, then ErrBusy.
//
// Conformance 120.
func TestSlots(t *testing.T) {
	h, started, finish := blocked(t, 2, 3)
	c := newCallers(h)
	c.begin(t.Context())
	c.begin(t.Context())
	<-started
	<-started
	leaver, leave := context.WithCancel(t.Context())
	c.begin(leaver)
	c.begin(t.Context())
	c.begin(t.Context())
	waitForQueue(h, 3)
	requireBusy(t, t.Context(), h)
	require.Empty(t, started, "no third computation")

	leave() // a caller who gives up leaves the queue, and starts nothing
	waitForQueue(h, 2)
	require.ErrorIs(t, <-c.results, context.Canceled)
	require.Empty(t, started)

	close(finish)
	c.succeed(t)
	require.Len(t, started, 2)
	require.True(t, h.gate.slots.TryAcquire(2), "all slots are free")
	require.Empty(t, h.gate.waits)
}

func TestSlotIsFreeAfterAPanic(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: cheap, Slots: 1, Queue: -1})
	require.NoError(t, err)
	key := h.key
	h.key = func([]byte, []byte, Params, uint32) []byte { panic("out of memory") }
	require.PanicsWithValue(t, "out of memory", func() { _, _, _ = h.Verify(t.Context(), "", "x") })
	h.key = key
	_, _, err = h.Verify(t.Context(), "", "x")
	require.NoError(t, err)
}

// TestQueueShare: one address may hold a quarter of the queue, loopback all of it.
//
// Conformance 120.
func TestQueueShare(t *testing.T) {
	h, started, finish := blocked(t, 1, 8)
	c := newCallers(h)
	from := func(address string) context.Context { return addressContext(t, address) }
	c.begin(t.Context())
	<-started
	c.begin(from("192.0.2.1"))
	c.begin(from("192.0.2.1"))
	waitForQueue(h, 2)
	requireBusy(t, from("192.0.2.1"), h)
	c.begin(from("192.0.2.2"))
	for range 5 {
		c.begin(from("127.0.0.1"))
	}
	waitForQueue(h, 8)
	requireBusy(t, from("127.0.0.1"), h)
	close(finish)
	c.succeed(t)
	require.Empty(t, h.gate.waits)
}

// TestQueueShareIPv6: a /64 counts as one address, and a /48 may hold half of the queue,
// so that somebody with an IPv6 network of his own leaves room for others.
func TestQueueShareIPv6(t *testing.T) {
	h, started, finish := blocked(t, 1, 40)
	c := newCallers(h)
	// enters reports whether the queue takes one more from an address.
	waiting := 0
	enters := func(address string) bool {
		ctx := addressContext(t, address)
		shares := h.gate.shares(oauth2pw.ClientAddress(ctx))
		if !h.gate.enter(shares) {
			return false
		}
		h.gate.leave(shares)
		c.begin(ctx)
		waiting++
		waitForQueue(h, waiting)
		return true
	}
	c.begin(t.Context())
	<-started
	for i := range 40 {
		require.Equal(t, i < 10, enters(fmt.Sprintf("2001:db8:1:1::%x", i)), "%d of one /64", i)
	}
	for i := range 40 {
		require.Equal(t, i < 10, enters(fmt.Sprintf("2001:db8:1:%x::1", 16+i)), "%d of one /48", i)
	}
	for i := range 20 {
		require.True(t, enters(fmt.Sprintf("192.0.2.%d", i)), "%d of others", i)
	}
	require.False(t, enters("192.0.2.200"), "full")
	close(finish)
	c.succeed(t)
	require.Empty(t, h.gate.waits)
}

func TestEndedContext(t *testing.T) {
	h := newCheap(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := h.Verify(ctx, "", "x")
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, errors.Is(err, oauth2pw.ErrBusy))
}

// addressContext returns a context whose client address is set, as the middleware
// of an Auth sets it.
func addressContext(t *testing.T, address string) (ctx context.Context) {
	t.Helper()
	auth, err := oauth2pw.New(oauth2pw.Config{Users: anyUsers{}, Hasher: newCheap(t), Issuer: anyIssuer{}})
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 1).String()
	oauth2pw.OptionalBearer(auth)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })).
		ServeHTTP(httptest.NewRecorder(), r)
	require.Equal(t, netip.MustParseAddr(address), oauth2pw.ClientAddress(ctx))
	return ctx
}

type anyUsers struct{ oauth2pw.UserStore }

type anyIssuer struct {
	oauth2pw.TokenIssuer
	oauth2pw.TokenVerifier
}

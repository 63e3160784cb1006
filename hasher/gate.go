package hasher

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// gate lets a bounded number of callers work at once, and a bounded number wait.
type gate struct {
	slots *semaphore.Weighted // serves the waiting callers in order
	size  int                 // the number of slots
	queue int

	mu      sync.Mutex
	busy    int
	refused uint64
	waiting int
	waits   map[netip.Prefix]int // waiting callers by client address, of IPv6 by /64 and by /48; empty if no caller waits
}

func newGate(slots, queue int) *gate {
	return &gate{slots: semaphore.NewWeighted(int64(slots)), size: slots, queue: queue, waits: make(map[netip.Prefix]int)}
}

// do runs work in some slots, which are free again when work returns or panics.
func (g *gate) do(ctx context.Context, slots int, work func()) error {
	if err := g.acquire(ctx, int64(slots)); err != nil {
		return err
	}
	g.count(slots)
	defer func() {
		g.count(-slots)
		g.slots.Release(int64(slots))
	}()
	work()
	return nil
}

func (g *gate) count(slots int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy += slots
}

func (g *gate) stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Stats{Slots: g.size, Busy: g.busy, Queue: g.queue, Waiting: g.waiting, Refused: g.refused}
}

func (g *gate) acquire(ctx context.Context, slots int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hasher: %w", err)
	}
	if g.slots.TryAcquire(slots) {
		return nil
	}
	shares := g.shares(oauth2pw.ClientAddress(ctx))
	if !g.enter(shares) {
		return fmt.Errorf("hasher: every slot is taken and the queue is full: %w", oauth2pw.ErrBusy)
	}
	defer g.leave(shares)
	if err := g.slots.Acquire(ctx, slots); err != nil {
		return fmt.Errorf("hasher: left the queue: %w", err)
	}
	return nil
}

// share is the most places of the queue that the callers of one network may hold.
type share struct {
	network netip.Prefix
	most    int
}

// shares returns the bounds of a client: an IPv4 address or an IPv6 /64 may hold a quarter
// of the queue, and an IPv6 /48 half of it. Loopback, and a caller without an address, may
// hold all of it.
func (g *gate) shares(address netip.Addr) []share {
	address = address.Unmap().WithZone("")
	if !address.IsValid() || address.IsLoopback() {
		return nil
	}
	most := func(n int, bits int) share {
		p, _ := address.Prefix(bits) // no error: the address is valid, and bits is in range
		return share{p, max(n, 1)}
	}
	if address.Is4() {
		return []share{most(g.queue/4, 32)}
	}
	return []share{most(g.queue/4, 64), most(g.queue/2, 48)}
}

// enter takes a place in the queue. The shares keep places free for other clients.
func (g *gate) enter(shares []share) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	full := g.waiting >= g.queue || slices.ContainsFunc(shares, func(s share) bool { return g.waits[s.network] >= s.most })
	if full {
		g.refused++
		return false
	}
	g.waiting++
	for _, s := range shares {
		g.waits[s.network]++
	}
	return true
}

func (g *gate) leave(shares []share) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	for _, s := range shares {
		if g.waits[s.network]--; g.waits[s.network] == 0 {
			delete(g.waits, s.network)
		}
	}
}

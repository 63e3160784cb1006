package hasher

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// gate lets a few callers work at once, and a few more wait in line.
type gate struct {
	slots *semaphore.Weighted // which serves those who wait in order
	size  int                 // how many slots there are
	queue int

	mu      sync.Mutex
	busy    int
	refused uint64
	waiting int
	waits   map[netip.Addr]int // by client address; empty when nobody waits
}

func newGate(slots, queue int) *gate {
	return &gate{slots: semaphore.NewWeighted(int64(slots)), size: slots, queue: queue, waits: make(map[netip.Addr]int)}
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
	address := oauth2pw.ClientAddress(ctx)
	if !g.enter(address) {
		return fmt.Errorf("hasher: every slot is taken and the queue is full: %w", oauth2pw.ErrBusy)
	}
	defer g.leave(address)
	if err := g.slots.Acquire(ctx, slots); err != nil {
		return fmt.Errorf("hasher: left the queue: %w", err)
	}
	return nil
}

// enter takes a place in the queue. One address may hold a quarter of it, so that
// one guesser cannot keep everybody else out; loopback, and a caller without an
// address, may hold it all.
func (g *gate) enter(address netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= g.queue {
		g.refused++
		return false
	}
	if address.IsValid() && !address.IsLoopback() && g.waits[address] >= max(g.queue/4, 1) {
		g.refused++
		return false
	}
	g.waiting++
	g.waits[address]++
	return true
}

func (g *gate) leave(address netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting--
	if g.waits[address]--; g.waits[address] == 0 {
		delete(g.waits, address)
	}
}

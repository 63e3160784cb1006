package hasher

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// gate lets a few callers work at once, and a few more wait in line.
type gate struct {
	slots chan struct{} // holds one for each caller at work; senders wait in order
	queue int

	mu      sync.Mutex
	waiting int
	waits   map[netip.Addr]int // by client address; empty when nobody waits
}

func newGate(slots, queue int) *gate {
	return &gate{slots: make(chan struct{}, slots), queue: queue, waits: make(map[netip.Addr]int)}
}

// do runs work in a slot, which is free again when work returns or panics.
func (g *gate) do(ctx context.Context, work func()) error {
	if err := g.acquire(ctx); err != nil {
		return err
	}
	defer func() { <-g.slots }()
	work()
	return nil
}

func (g *gate) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hasher: %w", err)
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	address := oauth2pw.ClientAddress(ctx)
	if !g.enter(address) {
		return fmt.Errorf("hasher: every slot is taken and the queue is full: %w", oauth2pw.ErrBusy)
	}
	defer g.leave(address)
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("hasher: left the queue: %w", ctx.Err())
	}
}

// enter takes a place in the queue. One address may hold a quarter of it, so that
// one guesser cannot keep everybody else out; loopback, and a caller without an
// address, may hold it all.
func (g *gate) enter(address netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting >= g.queue {
		return false
	}
	if address.IsValid() && !address.IsLoopback() && g.waits[address] >= max(g.queue/4, 1) {
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

package main

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// First the routes without a password that hash or mail call allow. Next the limiter counts
// the request for its network. Last, above the limit, the answer is 429 until the window ends.
//
// The throttle of the library counts guesses. A sign-up is no guess, but takes memory, a row
// and a mail: without a limit one machine fills the table, and the mailboxes of strangers.

const (
	limitWindow   = time.Hour
	limitRequests = 30      // of one network in one window
	limitNetworks = 100_000 // in memory; above, all counts begin again
)

// limiter counts requests in memory, for one process.
type limiter struct {
	mu     sync.Mutex
	begin  time.Time // of the window
	counts map[netip.Prefix]int
}

// allow counts a request, and answers a request above the limit.
func (a *app) allow(w http.ResponseWriter, r *http.Request) bool {
	wait := a.limit.count(a.auth.ClientAddress(r), a.now())
	if wait > 0 {
		a.auth.WriteError(w, r, &oauth2pw.Error{Code: "slow_down", Description: "Too many requests from this network.", RetryAfter: wait})
	}
	return wait <= 0
}

// count counts a request, and returns the time to wait; 0: the request may pass. A request
// of the same machine is not counted.
func (l *limiter) count(address netip.Addr, now time.Time) time.Duration {
	address = address.Unmap()
	if !address.IsValid() || address.IsLoopback() {
		return 0
	}
	bits := 32
	if address.Is6() {
		bits = 64 // one customer
	}
	network, err := address.Prefix(bits)
	if err != nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := now.Sub(l.begin); age < 0 || age >= limitWindow || len(l.counts) >= limitNetworks {
		l.begin, l.counts = now, make(map[netip.Prefix]int)
	}
	if l.counts[network] >= limitRequests {
		return limitWindow - now.Sub(l.begin)
	}
	l.counts[network]++
	return 0
}

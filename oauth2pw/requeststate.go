package oauth2pw

import (
	"context"
	"fmt"
	"net/netip"
)

// requestState is a request's context together with what this package keeps in it:
// one allocation for both.
type requestState struct {
	context.Context
	address   netip.Addr
	shared    *sharedAddress // nil: the address is one client's own
	principal Principal
	present   bool     // whether there is a principal
	verifier  any      // the mark of what verified it; nil for WithPrincipal's
	token     string   // what was verified
	required  []string // scopes required so far, outermost first
}

// String and GoString keep the token out of what fmt prints of a context.
func (s *requestState) String() string   { return fmt.Sprint(s.Context) + ".WithValue(oauth2pw)" }
func (s *requestState) GoString() string { return s.String() }

type stateKey struct{}

// Value returns the state itself for its own key.
func (s *requestState) Value(key any) any {
	if key == (stateKey{}) {
		return s
	}
	return s.Context.Value(key)
}

var noState requestState

// stateFrom returns the innermost state of a context. It is not written to.
func stateFrom(ctx context.Context) *requestState {
	if s, ok := ctx.Value(stateKey{}).(*requestState); ok {
		return s
	}
	return &noState
}

// newState returns a context with a state of its own, which begins as a copy of
// that of ctx.
func newState(ctx context.Context) *requestState {
	s := *stateFrom(ctx)
	s.Context = ctx
	return &s
}

// sharedAddress says why many clients may share an address.
type sharedAddress struct {
	kind   EventKind
	reason EventReason
	err    error
}

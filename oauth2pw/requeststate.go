package oauth2pw

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
)

// requestState is the context of a request together with the values of this package: one
// allocation for both.
type requestState struct {
	context.Context
	request   *http.Request // nil: no request
	address   netip.Addr
	shared    *sharedAddress // nil: the address is of one client
	principal Principal
	present   bool     // principal is set
	verifier  any      // the mark of the verifier; nil: WithPrincipal
	token     string   // the verified token
	required  []string // the required scopes, outermost first
}

// String and GoString keep the token out of a printed context.
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

// stateFrom returns the innermost state of a context, which must not be written to.
func stateFrom(ctx context.Context) *requestState {
	if s, ok := ctx.Value(stateKey{}).(*requestState); ok {
		return s
	}
	return &noState
}

// newState returns a context with a copy of the state of ctx.
func newState(ctx context.Context) *requestState {
	s := *stateFrom(ctx)
	s.Context = ctx
	return &s
}

// sharedAddress is the reason why many clients may share an address.
type sharedAddress struct {
	kind   EventKind
	reason EventReason
	err    error
}

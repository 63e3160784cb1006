package hasher

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConformance120Disconnect: a caller who gives up does not free the slot in which the
// hash is still computed.
func TestConformance120Disconnect(t *testing.T) {
	h, started, finish := blocked(t, 1, -1)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = h.Verify(ctx, "", "x")
	}()
	<-started
	leave()
	_, _, err := h.Verify(t.Context(), "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	close(finish)
	<-done
	_, _, err = h.Verify(t.Context(), "", "x")
	require.NoError(t, err)
}

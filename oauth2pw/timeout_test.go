package oauth2pw

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCallContext: it is what context.WithDeadline makes, asked in whatever order.
func TestCallContext(t *testing.T) {
	type key struct{}
	look := map[string]func(ctx context.Context){
		"nothing": func(context.Context) {},
		"done":    func(ctx context.Context) { ctx.Done() },
		"child": func(ctx context.Context) {
			_, stop := context.WithCancel(ctx)
			go func() {
				<-ctx.Done()
				stop()
			}()
		},
	}
	for first, ask := range look {
		t.Run(first, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
				begin := func() *callContext {
					c := timeout(5 * time.Second).start(parent)
					ask(c)
					return c
				}
				c := begin()
				d, ok := c.Deadline()
				require.True(t, ok)
				require.Equal(t, 5*time.Second, time.Until(d))
				require.NoError(t, c.Err())
				require.Equal(t, "value", c.Value(key{}))
				time.Sleep(5*time.Second - 1) // of the bubble's time
				synctest.Wait()
				require.NoError(t, c.Err())
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.ErrorIs(t, c.Err(), context.DeadlineExceeded)
				<-c.Done()
				c.cancel()
				require.ErrorIs(t, c.Err(), context.DeadlineExceeded)

				c = begin()
				c.cancel()
				require.ErrorIs(t, c.Err(), context.Canceled)
				<-c.Done()
				c.cancel()

				c = begin()
				child, stop := context.WithTimeout(c, time.Minute)
				defer stop()
				d, _ = child.Deadline()
				require.Equal(t, 5*time.Second, time.Until(d))
				go c.cancel()
				<-child.Done()
				require.ErrorIs(t, child.Err(), context.Canceled)

				c = begin()
				cancel()
				synctest.Wait()
				require.ErrorIs(t, c.Err(), context.Canceled)
				<-c.Done()

				short, stop2 := context.WithTimeout(t.Context(), time.Second)
				defer stop2()
				c = timeout(5 * time.Second).start(short)
				d, _ = c.Deadline()
				require.Equal(t, time.Second, time.Until(d))
			})
		})
	}
}

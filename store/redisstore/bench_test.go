package redisstore

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// BenchmarkAdvance is one refresh in Redis (P8), and the read of a session, by 16 clients: beside
// 10^3 and beside 10^6 sessions.
func BenchmarkAdvance(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			client := redis.NewClient(&redis.Options{Addr: startServer(b).addr(), PoolSize: 16, ContextTimeoutEnabled: true, ReadTimeout: time.Minute})
			b.Cleanup(func() { client.Close() })
			s, err := NewSessions(client, Config{})
			require.NoError(b, err)
			now := time.Now()
			model := oauth2pw.Session{ID: "0", UserID: "0", KeyID: "key", Scope: "me", CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour), UserAgent: fmt.Sprintf("%0100d", 0)}
			require.NoError(b, s.Create(b.Context(), &model))
			// The others are copies, made in the server.
			fields, err := client.HGetAll(b.Context(), s.keys.session("0")).Result()
			require.NoError(b, err)
			var args []any
			for name, value := range fields {
				if name != "id" {
					args = append(args, name, value)
				}
			}
			for from := 0; from < n; from += 10_000 {
				require.NoError(b, client.Eval(b.Context(), `
for i = tonumber(KEYS[1]), tonumber(KEYS[2]) do
	redis.call('HSET', KEYS[3] .. i .. '}', 'id', i, unpack(ARGV))
end
return 1`, []string{strconv.Itoa(from), strconv.Itoa(min(n, from+10_000) - 1), s.keys.prefix + "s:{"}, args...).Err())
			}
			generations := make([]atomic.Uint64, n)
			spread := func(b *testing.B, work func(i int) error) {
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ResetTimer()
				for range 16 {
					wg.Go(func() {
						for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
							if err := work(i * 7919 % n); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			}
			b.Run("advance", func(b *testing.B) {
				spread(b, func(i int) error {
					next := model
					next.ID, next.Generation = strconv.Itoa(i), generations[i].Add(1)
					_, err := s.Advance(b.Context(), next.Generation-1, &next, now)
					return err
				})
			})
			b.Run("get", func(b *testing.B) {
				spread(b, func(i int) error { _, err := s.Get(b.Context(), strconv.Itoa(i)); return err })
			})
			b.Run("ping", func(b *testing.B) {
				spread(b, func(int) error { return client.Ping(b.Context()).Err() })
			})
		})
	}
}

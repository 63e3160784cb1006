package program

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/redis/go-redis/v9"
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// OpenRedis opens the Redis of a URL, redis://… or rediss://…, and asks it once.
func OpenRedis(ctx context.Context, address string) (*redis.Client, error) {
	o, err := redis.ParseURL(address)
	u, err2 := url.Parse(address)
	if err != nil || err2 != nil {
		return nil, errors.New("-redis takes redis://host:6379, or rediss:// for TLS") // the error has the password
	}
	o.ContextTimeoutEnabled = true
	redis.SetLogger(silent{}) // each failure is an error, and so an event
	client := redis.NewClient(o)
	if err := client.Ping(ctx).Err(); err != nil {
		client.Close()
		return nil, fmt.Errorf("the Redis %s: %s", u.Redacted(), withoutPassword(err, u))
	}
	return client, nil
}

// Package redisstore keeps sessions in Redis or Valkey, for several processes. The app brings
// the client of go-redis.
//
// # How to wire it
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
//	sessions, err := redisstore.NewSessions(client, redisstore.Config{})
//	auth, err := oauth2pw.New(oauth2pw.Config{Sessions: sessions, …})
//
// # Keys
//
// A session is a hash at {prefix}s:{id}, with the id as hash tag, so that a Redis Cluster
// spreads the sessions. Every write of a session is one script on this one key. The sessions of
// a user are a sorted set at {prefix}u:{user}, which is written first and is only a hint: an
// entry without its session is ignored, and no answer trusts it. Both expire by themselves, a
// day after the end of the session.
//
// The least rights of the user of Redis, for the prefix "oauth2pw:":
//
//	ACL SETUSER app on >password ~oauth2pw:* +hgetall +zrange +zrem +scan +hmget +del +eval +evalsha +script|load +hset +hget +exists +pexpire +pttl +zadd +ping
//
// # Lost writes
//
// A Redis that fails over to a replica, or restarts without appendfsync always, loses its last
// writes. A lost session is a new login. A lost refresh is repaired: the next refresh has a
// higher generation than the store, and the store follows (the event store_rollback). A lost
// end brings a session back: after a log-out in the last second before the fail-over the
// tokens are valid again, until they expire. A lost change of a password does not, where
// Config.LoadUser reads the user from another database.
//
// Read from the master only: a replica that lags behind breaks the duties of a store.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/redis/go-redis/v9"
)

// Config has the settings of the stores. The zero value is the default.
type Config struct {
	// Prefix begins every key. Empty: "oauth2pw:".
	Prefix string
}

// keys returns the names of keys.
type keys struct{ prefix string }

func (k keys) session(id string) string  { return k.prefix + "s:{" + id + "}" }
func (k keys) user(userID string) string { return k.prefix + "u:{" + userID + "}" }

func newKeys(client redis.UniversalClient, c Config) (keys, error) {
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return keys{}, errors.New("redisstore: the client is nil")
	}
	if c.Prefix == "" {
		c.Prefix = "oauth2pw:"
	}
	return keys{c.Prefix}, nil
}

// eachMaster calls f for the server, or for each master of a cluster.
func eachMaster(ctx context.Context, client redis.UniversalClient, f func(context.Context, *redis.Client) error) error {
	switch c := client.(type) {
	case *redis.Client:
		return f(ctx, c)
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, f)
	default:
		return fmt.Errorf("a client of the type %T cannot be swept", client)
	}
}

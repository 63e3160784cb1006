// Package redisstore keeps sessions, and the counters of the throttle, in Redis, for several
// processes. The app brings the client of go-redis. Redis 7.0 and 8.0 and
// Valkey 8.1 are tested.
//
// # How to wire it
//
//	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379", ContextTimeoutEnabled: true})
//	sessions, err := redisstore.NewSessions(client, redisstore.Config{})
//	throttle, err := redisstore.NewThrottle(client, redisstore.ThrottleConfig{})
//	auth, err := oauth2pw.New(oauth2pw.Config{Sessions: sessions, Throttle: throttle, …})
//
// # Keys
//
// A session is a hash at {prefix}s:{id}, with the id as hash tag, so that a Redis Cluster
// spreads the sessions. Every write of a session is one script on this one key. The sessions of
// a user are a sorted set at {prefix}u:{user}. A login writes it before the session, and each
// refresh writes it again. An entry without its session is ignored, but End and List find only
// the sessions of the set. Both keys expire by themselves, a day after the last end of a session.
// Redis must not evict keys: set maxmemory-policy noeviction.
//
// The keys of the throttle begin with {prefix}{throttle}: and are in one slot of a cluster,
// because an attempt is counted in several of them in one step: one script before the password is
// hashed, and one after a right password. The keys contain digests of names and addresses. The key
// of the digests is in Redis, too: no typed name is shown, but a reader of Redis can try names.
// Each key but {prefix}{throttle}:state expires, at the latest 4 windows after its last attempt,
// and the known addresses of a user 30 days after the last login. An attempt that costs its sender
// no hash has one of 65,536 keys of its kind, of at most 2 KiB at the default limit. While a
// cluster moves that slot to another master, every login is 503. The throttle uses the clock of
// Redis. If that clock is set, each limit still blocks for no longer than its own window.
//
// The least rights of the user of Redis, for the prefix "oauth2pw:":
//
//	ACL SETUSER app on >password ~oauth2pw:* +hgetall +hmget +hset +hdel +exists +pexpire +pttl +zadd +zrange +zrem +zscore +zremrangebyrank +get +set +rpush +lpop +llen +lindex +lrem +time +del +scan +eval +evalsha +script|load +ping +hello +client +cluster|slots +asking
//
// Only a cluster needs the last two.
//
// # Lost writes
//
// A Redis that fails over to a replica, or restarts without appendfsync always, loses its last
// writes. A lost entry of a set hides the session from End and List until the next refresh. A
// lost session is a new login. A lost refresh is repaired: the next refresh has a higher
// generation than the store, and the store follows (the event store_rollback). A lost end brings
// a session back: after a log-out in the last second before the fail-over the tokens are valid
// again, until they expire. A lost change of a password does not, where Config.LoadUser reads the
// user from another database. With a lost attempt somebody has one more guess. A lost known
// address counts as that of a stranger until the next login.
//
// Read from the master only: a replica that lags behind breaks the duties of a store. A session is
// read by a script that writes nothing. Three servers refuse this script: a replica, a server that
// was the master until now, and, with min-replicas-to-write, a master without its replicas. In a
// cluster a fail-over is 503 until the client knows the new master. The client asks for it after
// the first failed call.
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

// throttle returns a key of the throttle. All of them are in one slot of a cluster, because an
// attempt is counted in several of them at once.
func (k keys) throttle(name string) string { return k.prefix + "{throttle}:" + name }

// conn is a client of a Redis, of a cluster, or of the primary that sentinels name.
type conn struct {
	client redis.UniversalClient
	keys   keys
}

func newConn(client redis.UniversalClient, prefix string) (conn, error) {
	if v := reflect.ValueOf(client); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return conn{}, errors.New("redisstore: the client is nil")
	}
	timeouts := false
	switch c := client.(type) {
	case *redis.Client:
		timeouts = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		o := c.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return conn{}, errors.New("redisstore: the client reads from replicas, which may lag behind: a session that has ended would be live")
		}
		timeouts = o.ContextTimeoutEnabled
	default:
		return conn{}, fmt.Errorf("redisstore: a client of the type %T: want *redis.Client or *redis.ClusterClient", client)
	}
	if !timeouts {
		return conn{}, errors.New("redisstore: the Options of the client need ContextTimeoutEnabled: otherwise the time limit of a call (oauth2pw.Config.StoreTimeout) does nothing")
	}
	if prefix == "" {
		prefix = "oauth2pw:"
	}
	return conn{client, keys{prefix}}, nil
}

// failed returns the error of a call. After a failure of the network it lets the client of a
// cluster ask which node is the master now: by itself the client asks once a minute.
func (c conn) failed(doing string, err error) error {
	var answer redis.Error
	if cluster, ok := c.client.(*redis.ClusterClient); ok && !errors.As(err, &answer) {
		cluster.ReloadState(context.Background()) // in the background
	}
	return fmt.Errorf("redisstore: %s: %w", doing, err)
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

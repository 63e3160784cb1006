package redisstore_test

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/redisstore"
)

// The sessions and the throttle of several processes.
func Example() {
	client := redis.NewClient(&redis.Options{
		Addr:                  "127.0.0.1:6379",
		ContextTimeoutEnabled: true, // the time limit of a call holds
	})
	defer client.Close()
	sessions, err := redisstore.NewSessions(client, redisstore.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	throttle, err := redisstore.NewThrottle(client, redisstore.ThrottleConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	config := oauth2pw.Config{
		// Users, Hasher, Issuer and Secrets as in one process; all processes have the same key
		// and the same secrets
		Sessions: sessions,
		Throttle: throttle,
	}
	fmt.Println(config.ThrottleLimit) // the throttle has its own: ThrottleConfig.Limit
	// Output: 0
}

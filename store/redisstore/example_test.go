package redisstore_test

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/redisstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// Sessions and the throttle of several processes. The users stay in the table of the app.
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
	key, _, err := tokens.NewKey("") // in a real app from a file that all processes have
	if err != nil {
		fmt.Println(err)
		return
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = oauth2pw.New(oauth2pw.Config{
		Users:    new(store.Users),
		Hasher:   hasher.Default(),
		Issuer:   jwt,
		Sessions: sessions,
		Throttle: throttle,
		Secrets:  []oauth2pw.Secret{oauth2pw.NewSecret()}, // from the same file in all processes
		Scopes:   map[string]string{"me": "Read your profile."},
	})
	fmt.Println(err)
	// Output: <nil>
}

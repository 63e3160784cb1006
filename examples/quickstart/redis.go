package main

import (
	"context"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/redisstore"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// shared is the state of logins, in the database or in the Redis of -redis.
type shared struct {
	sessions oauth2pw.SessionStore
	throttle oauth2pw.Throttle // nil: in memory, for one process, with limit and window
	limit    int
	window   time.Duration
	close    func()
}

func openShared(ctx context.Context, o *options, db *program.DB) (*shared, error) {
	if o.redis == "" {
		st, err := sqlstore.New(db, sqlstore.Config{Dialect: db.Dialect})
		if err != nil {
			return nil, err
		}
		return &shared{sessions: st.Sessions, limit: o.Throttle.Limit, window: o.Throttle.Window, close: func() {}}, nil
	}
	client, err := program.OpenRedis(ctx, o.redis)
	if err != nil {
		return nil, err
	}
	sessions, err := redisstore.NewSessions(client, redisstore.Config{})
	if err != nil {
		return nil, err
	}
	s := &shared{sessions: sessions, close: func() { client.Close() }}
	if o.Throttle.Off {
		return s, nil
	}
	throttle, err := redisstore.NewThrottle(client, redisstore.ThrottleConfig{Limit: o.Throttle.Limit, Window: o.Throttle.Window})
	if err != nil {
		return nil, err
	}
	s.throttle = throttle
	return s, nil
}

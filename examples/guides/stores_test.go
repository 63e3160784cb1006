package guides

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// people are users that another system writes, and that a login only reads.
type people struct{ byID, byName map[string]oauth2pw.User }

func (p people) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return find(ctx, p.byName, name)
}

func (p people) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return find(ctx, p.byID, id)
}

func find(ctx context.Context, users map[string]oauth2pw.User, key string) (*oauth2pw.User, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // a failure, and never a miss
	}
	u, known := users[key]
	if !known {
		return nil, fmt.Errorf("people: %w", oauth2pw.ErrNotFound)
	}
	u.Scopes = slices.Clone(u.Scopes) // the result is a copy, and nil stays nil
	return &u, nil
}

func TestPeople(t *testing.T) {
	storetest.Users(t, func(_ *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
		p := people{make(map[string]oauth2pw.User), make(map[string]oauth2pw.User)}
		for _, u := range users {
			p.byID[u.ID], p.byName[u.Username] = u, u
		}
		return p
	})
}

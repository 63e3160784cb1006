// Package storetest is the suite that every store must pass. It needs the
// standard library and package oauth2pw only, so that other stores can import it:
//
//	func TestUsers(t *testing.T) {
//		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore { … })
//	}
//
// A SessionStore passes both Sessions and Refreshes.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Users tests a UserStore and, if it is one, PasswordUpdater. open returns a new
// store that holds these users and nothing else.
func Users(t *testing.T, open func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore) {
	changed := time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)
	users := []oauth2pw.User{
		{ID: "1", Username: "johndoe", PasswordHash: "h1", Scopes: []string{"me", "items"}},
		{ID: "2", Username: "alice", PasswordHash: "h2", Disabled: true, SessionsValidFrom: changed},
		{ID: "3", Username: "José 😀 'quoted\" %_", PasswordHash: "h3", Scopes: []string{}},
	}
	ctx := context.Background()

	t.Run("finds every user by name and by id", func(t *testing.T) {
		s := open(t, users)
		for _, want := range users {
			for how, find := range map[string]func() (*oauth2pw.User, error){
				"name": func() (*oauth2pw.User, error) { return s.UserByName(ctx, want.Username) },
				"id":   func() (*oauth2pw.User, error) { return s.UserByID(ctx, want.ID) },
			} {
				got, err := find()
				if err != nil {
					t.Fatalf("user %s by %s: %v", want.ID, how, err)
				}
				sameUser(t, *got, want)
			}
		}
	})

	t.Run("a miss wraps ErrNotFound", func(t *testing.T) {
		s := open(t, users)
		for _, name := range []string{"", "nobody", "JohnDoe", "johndoe ", " johndoe", "johndoe\t", "%", "joh_doe", "' OR 1=1 --"} {
			if u, err := s.UserByName(ctx, name); !errors.Is(err, oauth2pw.ErrNotFound) || u != nil {
				t.Errorf("UserByName(%q) = %v, %v; want nil and ErrNotFound", name, u, err)
			}
		}
		for _, id := range []string{"", "4", "01", "1 ", "1.0", "johndoe"} {
			if u, err := s.UserByID(ctx, id); !errors.Is(err, oauth2pw.ErrNotFound) || u != nil {
				t.Errorf("UserByID(%q) = %v, %v; want nil and ErrNotFound", id, u, err)
			}
		}
	})

	t.Run("what it returns is the caller's", func(t *testing.T) {
		s := open(t, users)
		u, err := s.UserByID(ctx, "1")
		if err != nil {
			t.Fatal(err)
		}
		u.Scopes[0], u.Disabled = "admin", true
		again, err := s.UserByID(ctx, "1")
		if err != nil {
			t.Fatal(err)
		}
		sameUser(t, *again, users[0])
	})

	if _, ok := open(t, users).(oauth2pw.PasswordUpdater); !ok {
		return
	}

	t.Run("UpdatePasswordHash replaces the old hash only", func(t *testing.T) {
		s := open(t, users)
		update := func(id, old, hash string, at time.Time) bool {
			t.Helper()
			ok, err := s.(oauth2pw.PasswordUpdater).UpdatePasswordHash(ctx, id, old, hash, at)
			if err != nil {
				t.Fatalf("UpdatePasswordHash(%s): %v", id, err)
			}
			return ok
		}
		if update("1", "other", "new", time.Time{}) || update("9", "h1", "new", time.Time{}) {
			t.Error("it replaced a hash that was not the old one")
		}
		if !update("1", "h1", "new", time.Time{}) || !update("2", "h2", "new", time.Time{}) {
			t.Error("it did not replace the old hash")
		}
		if !update("3", "h3", "new", changed) {
			t.Error("it did not replace the old hash with a time")
		}
		for i, from := range []time.Time{{}, changed, changed} {
			want := users[i]
			want.PasswordHash, want.SessionsValidFrom = "new", from
			got, err := s.UserByID(ctx, want.ID)
			if err != nil {
				t.Fatal(err)
			}
			sameUser(t, *got, want)
		}
	})

	t.Run("of concurrent updates one wins", func(t *testing.T) {
		s := open(t, users)
		var won atomic.Int32
		parallel(20, func(i int) {
			ok, err := s.(oauth2pw.PasswordUpdater).UpdatePasswordHash(ctx, "1", "h1", fmt.Sprint("new", i), time.Time{})
			if err != nil {
				t.Error(err)
			}
			if ok {
				won.Add(1)
			}
		})
		if won.Load() != 1 {
			t.Errorf("%d updates won", won.Load())
		}
	})

	t.Run("an ended context is an error, not a miss", func(t *testing.T) {
		s := open(t, users)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.UserByName(ended, "nobody"); err == nil {
			t.Error("a user was found")
		}
	})
}

// Clients tests a ClientStore. open returns a new store that holds these clients
// and nothing else.
func Clients(t *testing.T, open func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore) {
	clients := []oauth2pw.Client{
		{ID: "webapp", Grants: []string{"password", "refresh_token"}},
		{ID: "backend", SecretSHA256: digest(0, 1, 2, 255), Grants: []string{"password"}, Scopes: []string{"me"}, Introspect: true},
		{ID: "c id:%+", SecretSHA256: digest(3), Grants: []string{}, Scopes: []string{}},
	}
	ctx := context.Background()
	s := open(t, clients)

	t.Run("finds every client", func(t *testing.T) {
		for _, want := range clients {
			got, err := s.ClientByID(ctx, want.ID)
			if err != nil {
				t.Fatalf("%s: %v", want.ID, err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		}
	})

	t.Run("a miss wraps ErrNotFound", func(t *testing.T) {
		for _, id := range []string{"", "nobody", "Webapp", "webapp ", "%"} {
			if c, err := s.ClientByID(ctx, id); !errors.Is(err, oauth2pw.ErrNotFound) || c != nil {
				t.Errorf("ClientByID(%q) = %v, %v; want nil and ErrNotFound", id, c, err)
			}
		}
	})

	t.Run("what it returns is the caller's", func(t *testing.T) {
		parallel(8, func(int) {
			c, err := s.ClientByID(ctx, "backend")
			if err != nil {
				t.Error(err)
				return
			}
			c.SecretSHA256[0], c.Grants[0] = 9, "admin"
		})
		if c, err := s.ClientByID(ctx, "backend"); err != nil || !reflect.DeepEqual(*c, clients[1]) {
			t.Errorf("got %+v, %v", c, err)
		}
	})
}

// Sessions tests a SessionStore. open returns a new store that is empty.
func Sessions(t *testing.T, open func(t *testing.T) oauth2pw.SessionStore) {
	ctx := context.Background()
	const day = 24 * time.Hour
	now := time.Date(2026, 5, 6, 7, 8, 9, 123456000, time.UTC)
	full := oauth2pw.Session{
		ID: "AAAAAAAAAAAAAAAAAAAA-_", UserID: "1", ClientID: "webapp", Scope: "me items",
		Salt: [16]byte{0, 1, 2, 255}, KeyID: "k-_", Generation: 1,
		CreatedAt: now.Add(-time.Microsecond), AuthenticatedAt: now, RefreshedAt: now.Add(time.Microsecond), IdleExpiresAt: now.Add(day), ExpiresAt: now.Add(3 * day),
		Address: netip.MustParseAddr("2001:db8::1"), UserAgent: "José 😀 '\"%", Data: []byte{0, 255, 'x'},
	}
	session := func(id, userID string) oauth2pw.Session {
		return oauth2pw.Session{
			ID: id, UserID: userID, Generation: 1,
			CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(day), ExpiresAt: now.Add(3 * day),
		}
	}
	create := func(t *testing.T, s oauth2pw.SessionStore, list ...oauth2pw.Session) {
		t.Helper()
		for _, n := range list {
			if err := s.Create(ctx, &n); err != nil {
				t.Fatalf("Create(%s): %v", n.ID, err)
			}
		}
	}
	get := func(t *testing.T, s oauth2pw.SessionStore, id string) oauth2pw.Session {
		t.Helper()
		n, err := s.Get(ctx, id)
		if err != nil {
			t.Fatalf("Get(%s): %v", id, err)
		}
		return *n
	}
	listed := func(t *testing.T, s oauth2pw.SessionStore, userID string, at time.Time) string {
		t.Helper()
		list, err := s.List(ctx, userID, at)
		if err != nil {
			t.Fatalf("List: %v", err)
		}
		ids := make([]string, len(list))
		for i, n := range list {
			ids[i] = n.ID
		}
		return strings.Join(ids, " ")
	}
	end := func(t *testing.T, s oauth2pw.SessionStore, f oauth2pw.SessionFilter, at time.Time) string {
		t.Helper()
		ids, err := s.End(ctx, f, "because", at)
		if err != nil {
			t.Fatalf("End: %v", err)
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	equal := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}

	t.Run("keeps every field", func(t *testing.T) {
		s := open(t)
		ended := full
		ended.ID, ended.EndedAt, ended.EndReason, ended.Address = "ended", now.Add(time.Hour), "because", netip.MustParseAddr("192.0.2.1")
		bare := session("bare", "2")
		for _, want := range []oauth2pw.Session{full, ended, bare} {
			create(t, s, want)
			sameSession(t, get(t, s, want.ID), want)
		}
		list, err := s.List(ctx, "1", now)
		if err != nil || len(list) != 1 {
			t.Fatalf("List: %v, %v", list, err)
		}
		sameSession(t, *list[0], full)
	})

	t.Run("a miss wraps ErrNotFound", func(t *testing.T) {
		s := open(t)
		create(t, s, full)
		for _, id := range []string{"", "x", strings.ToLower(full.ID), full.ID + " ", full.ID[1:]} {
			if n, err := s.Get(ctx, id); !errors.Is(err, oauth2pw.ErrNotFound) || n != nil {
				t.Errorf("Get(%q) = %v, %v; want nil and ErrNotFound", id, n, err)
			}
		}
		missing := session("x", "1")
		if ok, err := s.Advance(ctx, 1, &missing, now); ok || err != nil {
			t.Errorf("Advance of a missing session: %v, %v", ok, err)
		}
		equal(t, listed(t, s, "9", now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "9"}, now), "")
	})

	t.Run("an id is used once", func(t *testing.T) {
		s := open(t)
		create(t, s, full)
		other := session(full.ID, "2")
		if err := s.Create(ctx, &other); err == nil || errors.Is(err, oauth2pw.ErrNotFound) {
			t.Errorf("Create of an ID that is there: %v", err)
		}
		sameSession(t, get(t, s, full.ID), full)
	})

	t.Run("what it takes and gives are copies", func(t *testing.T) {
		s := open(t)
		mine := full
		mine.Data = slices.Clone(full.Data)
		if err := s.Create(ctx, &mine); err != nil {
			t.Fatal(err)
		}
		mine.Data[0], mine.Generation = 9, 9
		got := get(t, s, full.ID)
		got.Data[1], got.EndReason = 9, "x"
		sameSession(t, get(t, s, full.ID), full)
	})

	t.Run("Advance writes what it may, from the generation it was told", func(t *testing.T) {
		s := open(t)
		create(t, s, full, session("other", "1"))
		next := oauth2pw.Session{ID: full.ID, UserID: "9", Scope: "admin", Generation: 7,
			CreatedAt: now.Add(9 * day), AuthenticatedAt: now.Add(1 * time.Second), RefreshedAt: now.Add(2 * time.Second), IdleExpiresAt: now.Add(2 * day), ExpiresAt: now.Add(9 * day)}
		for _, from := range []uint64{0, 2, 7} {
			if ok, err := s.Advance(ctx, from, &next, now); ok || err != nil {
				t.Errorf("from %d: %v, %v", from, ok, err)
			}
		}
		sameSession(t, get(t, s, full.ID), full)
		if ok, err := s.Advance(ctx, 1, &next, now); !ok || err != nil {
			t.Fatalf("from 1: %v, %v", ok, err)
		}
		want := full
		want.Generation, want.AuthenticatedAt, want.RefreshedAt, want.IdleExpiresAt = 7, next.AuthenticatedAt, next.RefreshedAt, next.IdleExpiresAt
		sameSession(t, get(t, s, full.ID), want)
		sameSession(t, get(t, s, "other"), session("other", "1"))
	})

	t.Run("a session is over at its expiry, and when it was ended", func(t *testing.T) {
		s := open(t)
		capped := session("capped", "1")
		capped.IdleExpiresAt, capped.ExpiresAt = now.Add(day), now.Add(day)
		create(t, s, session("idle", "1"), capped, session("ended", "1"))
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1", ID: "ended"}, now), "ended")
		for _, test := range []struct {
			at   time.Time
			live string
		}{{now, "capped idle"}, {now.Add(day - time.Microsecond), "capped idle"}, {now.Add(day), ""}, {now.Add(4 * day), ""}} {
			equal(t, listed(t, s, "1", test.at), test.live)
			for _, id := range []string{"capped", "ended", "idle"} {
				same := get(t, s, id)
				ok, err := s.Advance(ctx, 1, &same, test.at)
				if err != nil || ok != strings.Contains(test.live, id) {
					t.Errorf("Advance(%s) at %s: %v, %v", id, test.at.Sub(now), ok, err)
				}
			}
		}
	})

	t.Run("List has the newest login first", func(t *testing.T) {
		s := open(t)
		b, a, c := session("b", "1"), session("a", "1"), session("c", "1")
		a.CreatedAt, c.CreatedAt = now.Add(-time.Hour), now.Add(time.Microsecond)
		create(t, s, b, a, c, session("x", "2"))
		equal(t, listed(t, s, "1", now), "c b a")
	})

	t.Run("End ends what the filter names, of one user, once", func(t *testing.T) {
		s := open(t)
		for _, user := range []string{"1", "2"} {
			create(t, s, session("a"+user, user), session("b"+user, user), session("c"+user, user))
		}
		equal(t, end(t, s, oauth2pw.SessionFilter{ID: "a1"}, now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "2", ID: "a1"}, now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1", ID: "a1", Except: "a1"}, now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1", ID: "a1"}, now), "a1")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1", ID: "a1"}, now.Add(time.Second)), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1", Except: "b1"}, now), "c1")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "2"}, now), "a2 b2 c2")
		equal(t, listed(t, s, "1", now), "b1")
		equal(t, listed(t, s, "2", now), "")
		want := session("a1", "1")
		want.EndedAt, want.EndReason = now, "because"
		sameSession(t, get(t, s, "a1"), want)
		early, late := session("early", "3"), session("late", "3")
		early.AuthenticatedAt = now.Add(-time.Microsecond)
		create(t, s, early, late)
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "3", AuthenticatedBefore: now.Add(-time.Microsecond)}, now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "3", ID: "late", AuthenticatedBefore: now}, now), "")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "3", AuthenticatedBefore: now}, now), "early")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "3", AuthenticatedBefore: now.Add(time.Microsecond)}, now), "late")
		// One that has expired may be ended too: the clock of another process may
		// say that it has not.
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1"}, now.Add(9*day)), "b1")
	})

	t.Run("Sweep removes what was over before, in bounded steps", func(t *testing.T) {
		s := open(t)
		const over = 25
		for i := range over {
			n := session(fmt.Sprint("over", i), "1")
			switch i % 3 {
			case 0: // idle
				n.IdleExpiresAt = now.Add(-time.Microsecond)
			case 1: // of age
				n.IdleExpiresAt, n.ExpiresAt = now.Add(-time.Hour), now.Add(-time.Hour)
			case 2:
				n.EndedAt = now.Add(-time.Microsecond)
			}
			create(t, s, n)
		}
		idle, ended := session("idle", "1"), session("ended", "1")
		idle.IdleExpiresAt, ended.EndedAt = now, now
		create(t, s, session("live", "1"), idle, ended, session("live2", "2"))
		total := 0
		for {
			n, err := s.Sweep(ctx, now, 10)
			if err != nil || n > 10 {
				t.Fatalf("Sweep: %d, %v", n, err)
			}
			if total += n; n < 10 {
				break
			}
		}
		if total != over {
			t.Errorf("%d were removed, not %d", total, over)
		}
		for _, id := range []string{"live", "idle", "ended", "live2"} {
			get(t, s, id)
		}
		equal(t, listed(t, s, "1", now), "live")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "1"}, now), "idle live")
		equal(t, end(t, s, oauth2pw.SessionFilter{UserID: "2"}, now), "live2")
	})

	t.Run("of concurrent advances one wins", func(t *testing.T) {
		s := open(t)
		create(t, s, full)
		for round := range uint64(20) {
			var won atomic.Int32
			parallel(16, func(i int) {
				next := full
				next.Generation = round + 2
				ok, err := s.Advance(ctx, round+1, &next, now)
				if err != nil {
					t.Error(err)
				}
				if ok {
					won.Add(1)
				}
			})
			if won.Load() != 1 {
				t.Fatalf("%d advances won", won.Load())
			}
		}
	})

	t.Run("an advance does not revive what ends beside it", func(t *testing.T) {
		s := open(t)
		for i := range 20 {
			n := session(fmt.Sprint("s", i), "1")
			create(t, s, n)
			parallel(4, func(j int) {
				next := n
				next.Generation = 2
				if j%2 == 0 {
					if _, err := s.End(ctx, oauth2pw.SessionFilter{UserID: "1", ID: n.ID}, "because", now); err != nil {
						t.Error(err)
					}
				} else if _, err := s.Advance(ctx, 1, &next, now); err != nil {
					t.Error(err)
				}
			})
			if got := get(t, s, n.ID); got.EndedAt.IsZero() {
				t.Fatal("it lives")
			}
		}
	})

	t.Run("an ended context is an error, not a miss", func(t *testing.T) {
		s := open(t)
		create(t, s, full)
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		_, getErr := s.Get(ctx, "x")
		_, advanceErr := s.Advance(ctx, 1, &full, now)
		_, listErr := s.List(ctx, "1", now)
		_, endErr := s.End(ctx, oauth2pw.SessionFilter{UserID: "1"}, "because", now)
		other := session("other", "1")
		for name, err := range map[string]error{
			"Create": s.Create(ctx, &other), "Get": getErr, "Advance": advanceErr, "List": listErr, "End": endErr,
		} {
			if err == nil || errors.Is(err, oauth2pw.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// digest returns 32 bytes that begin like this.
func digest(begin ...byte) []byte { return append(begin, make([]byte, 32-len(begin))...) }

func sameSession(t *testing.T, got, want oauth2pw.Session) {
	t.Helper()
	for _, at := range []struct{ got, want *time.Time }{
		{&got.CreatedAt, &want.CreatedAt},
		{&got.AuthenticatedAt, &want.AuthenticatedAt},
		{&got.RefreshedAt, &want.RefreshedAt},
		{&got.IdleExpiresAt, &want.IdleExpiresAt},
		{&got.ExpiresAt, &want.ExpiresAt},
		{&got.EndedAt, &want.EndedAt},
	} {
		if at.got.Equal(*at.want) {
			*at.got = *at.want
		}
	}
	if len(got.Data) == 0 && len(want.Data) == 0 {
		got.Data = want.Data
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func sameUser(t *testing.T, got, want oauth2pw.User) {
	t.Helper()
	if got.ID != want.ID || got.Username != want.Username || got.PasswordHash != want.PasswordHash ||
		got.Disabled != want.Disabled || !got.SessionsValidFrom.Equal(want.SessionsValidFrom) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !slices.Equal(got.Scopes, want.Scopes) || (got.Scopes == nil) != (want.Scopes == nil) {
		t.Errorf("scopes: got %#v, want %#v", got.Scopes, want.Scopes)
	}
}

func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Sessions tests a SessionStore. open returns a new store that is empty.
func Sessions(t *testing.T, open func(t *testing.T) oauth2pw.SessionStore) {
	run(t, sessionRules, func(t *testing.T) sessions { return sessions{t: t, SessionStore: open(t)} })
}

const day = 24 * time.Hour

// fullSession has every field of a live session.
func fullSession() oauth2pw.Session {
	return oauth2pw.Session{
		ID: "AAAAAAAAAAAAAAAAAAAA-_", UserID: "1", ClientID: "webapp", Scope: "me items",
		Salt: [16]byte{0, 1, 2, 255}, KeyID: "k-_", Generation: 1, Forgiven: 5,
		CreatedAt: now.Add(-time.Microsecond), AuthenticatedAt: now, RefreshedAt: now.Add(time.Microsecond), IdleExpiresAt: now.Add(day), ExpiresAt: now.Add(3 * day),
		Address: netip.MustParseAddr("2001:db8::1"), UserAgent: "José 😀 '\"%",
		Idle: 36*time.Hour + time.Microsecond, Label: "Zoë's phone 😀 \"%",
	}
}

func session(id, userID string) oauth2pw.Session {
	return oauth2pw.Session{
		ID: id, UserID: userID, Generation: 1,
		CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(day), ExpiresAt: now.Add(3 * day),
	}
}

// scribble writes to a session, as its owner may.
func scribble(n *oauth2pw.Session) {
	n.Generation, n.EndReason = 9, "x"
}

var sessionRules = []rule[sessions]{
	{"a session has every field as it is stored", func(_ *testing.T, s sessions) {
		ended := fullSession()
		ended.ID, ended.EndedAt, ended.EndReason, ended.Address = "ended", now.Add(time.Hour), "because", netip.MustParseAddr("192.0.2.1")
		later := fullSession()
		later.ID, later.Generation, later.Forgiven, later.Idle = "later", 1<<40, 1<<40-1, 400*day
		later.UserAgent, later.Label = strings.Repeat("😀", 64), strings.Repeat("é", 128) // 256 bytes
		for _, want := range []oauth2pw.Session{fullSession(), ended, later, session("bare", "2")} {
			s.create(want)
			s.check(want)
		}
		for _, n := range s.list("1", now) {
			want := fullSession()
			if n.ID == later.ID {
				want = later
			}
			s.checkFields("List returned a session, but not as it is stored", *n, want)
		}
	}},

	{"a miss is ErrNotFound", func(t *testing.T, s sessions) {
		s.create(fullSession())
		for _, id := range []string{"", "x"} {
			n, err := s.Get(context.Background(), id)
			checkMiss(t, quoted("Get", id), n != nil, err)
		}
		if s.advance(1, session("x", "1"), now) {
			t.Error("Advance of a session that is not there returned true: it must return false.")
		}
		s.listed("no sessions", "9", now)
		s.ended("no sessions", oauth2pw.SessionFilter{UserID: "9"}, now)
	}},

	{"IDs are compared byte for byte", func(t *testing.T, s sessions) {
		full, lower := fullSession(), fullSession()
		lower.ID = strings.ToLower(full.ID)
		s.create(full, session("upper", "U"), session("lower", "u"))
		for _, id := range []string{lower.ID, full.ID + " ", " " + full.ID, full.ID[1:], "%"} {
			n, err := s.Get(context.Background(), id)
			checkMiss(t, quoted("Get", id), n != nil, err)
			s.ended("a session with another ID", oauth2pw.SessionFilter{UserID: "1", ID: id}, now)
			other := full
			other.ID = id
			if s.advance(1, other, now) {
				t.Errorf("Advance with the ID %q wrote to the session %q: compare IDs byte for byte.", id, full.ID)
			}
		}
		s.create(lower)
		s.checkAfter("Create must not overwrite a session whose ID differs in case", full)
		for _, userID := range []string{"u ", " u", "%", "01", ""} {
			s.listed("a user with another ID", userID, now)
			s.ended("a user with another ID", oauth2pw.SessionFilter{UserID: userID}, now)
		}
		s.listed("a user whose ID differs in case from another", "U", now, "upper")
		s.ended("a user whose ID differs in case from another", oauth2pw.SessionFilter{UserID: "U"}, now, "upper")
		s.listed("a user whose ID differs in case from another", "u", now, "lower")
	}},

	{"an ID is used once", func(t *testing.T, s sessions) {
		s.create(fullSession())
		other := session(fullSession().ID, "2")
		if err := s.Create(context.Background(), &other); err == nil {
			t.Error("Create of a session with an ID that is there already returned no error: it must, and must not overwrite the session.")
		} else if errors.Is(err, oauth2pw.ErrNotFound) {
			t.Errorf("Create of a session with an ID that is there already returned %q: that is no miss.", err)
		}
		s.checkAfter("Create must not overwrite a session", fullSession())
		s.listed("a session that was not created", "2", now)
	}},

	{"sessions that are taken and returned are copies", func(t *testing.T, s sessions) {
		mine := fullSession()
		if err := s.Create(context.Background(), &mine); err != nil {
			t.Fatalf("Create returned %v.", err)
		}
		scribble(&mine)
		s.checkAfter("Create must store a copy: the caller wrote to its session afterwards", fullSession())
		if got := s.get(mine.ID); got != nil {
			scribble(got)
		}
		s.checkAfter("Get must return a copy: its caller wrote to the session", fullSession())
		for _, got := range s.list("1", now) {
			scribble(got)
		}
		s.checkAfter("List must return copies: its caller wrote to the sessions", fullSession())
	}},

	{"Advance writes its five fields and no other", func(t *testing.T, s sessions) {
		s.create(fullSession(), session("other", "1"))
		next := oauth2pw.Session{
			ID: fullSession().ID, UserID: "9", ClientID: "x", Scope: "admin", Salt: [16]byte{9}, KeyID: "x", Generation: 7, Forgiven: 6,
			CreatedAt: now.Add(9 * day), AuthenticatedAt: now.Add(1 * time.Second), RefreshedAt: now.Add(2 * time.Second), IdleExpiresAt: now.Add(2 * day), ExpiresAt: now.Add(9 * day),
			EndedAt: now, EndReason: "x", Address: netip.MustParseAddr("192.0.2.9"), UserAgent: "x", Idle: time.Hour, Label: "x",
		}
		if !s.advance(1, next, now) {
			t.Error("Advance returned false although the session is live and has the generation from: it must write, and return true.")
		}
		want := fullSession()
		want.Generation, want.Forgiven = 7, 6
		want.AuthenticatedAt, want.RefreshedAt, want.IdleExpiresAt = next.AuthenticatedAt, next.RefreshedAt, next.IdleExpiresAt
		s.checkAfter("Advance must write Generation, Forgiven, AuthenticatedAt, RefreshedAt and IdleExpiresAt, and no other field", want)
		s.checkAfter("Advance must not write to another session", session("other", "1"))
	}},

	{"Advance compares the generation", func(t *testing.T, s sessions) {
		full := fullSession()
		full.Generation = 2
		s.create(full)
		next := full
		next.Generation = 7
		for _, from := range []uint64{0, 1, 3, 7} {
			if s.advance(from, next, now) {
				t.Errorf("Advance from the generation %d returned true although the session has the generation 2: it must write nothing, and return false.", from)
			}
		}
		s.checkAfter("Advance must not write from another generation", full)
	}},

	{"Advance writes Forgiven in one step with Generation", func(t *testing.T, s sessions) {
		full, over := fullSession(), fullSession()
		over.ID, over.EndedAt = "over", now
		s.create(full, over)
		for _, test := range []struct {
			stored oauth2pw.Session
			from   uint64
			at     time.Time
			why    string
		}{
			{full, 2, now, "from another generation"},
			{full, 1, full.IdleExpiresAt, "to an expired session"},
			{over, 1, now, "to an ended session"},
		} {
			next := test.stored
			next.Generation, next.Forgiven = 7, 6
			s.advance(test.from, next, test.at)
			s.checkAfter("Advance must not write "+test.why+", and so no Forgiven", test.stored)
		}
		for round := range uint64(20) {
			generation := round + 2
			var won atomic.Uint64
			parallel(16, func(i int) {
				next := full
				next.Generation, next.Forgiven = generation, 100*generation+uint64(i)
				if s.advance(round+1, next, now) {
					won.Store(next.Forgiven)
				}
				if got := s.get(full.ID); got != nil && got.Generation == generation && got.Forgiven/100 != generation {
					t.Errorf("Get returned the Generation of an Advance without its Forgiven: Advance must write both in one atomic step.")
				}
			})
			if got := s.get(full.ID); got != nil && got.Forgiven != won.Load() {
				t.Fatalf("The Forgiven is %d after 16 concurrent Advances, and not the %d of the Advance that returned true.", got.Forgiven, won.Load())
			}
		}
	}},

	{"an expired or ended session is not live", func(t *testing.T, s sessions) {
		capped, unstarted := session("capped", "1"), session("ended before", "1")
		capped.IdleExpiresAt, capped.ExpiresAt = now.Add(day), now.Add(day)
		unstarted.EndedAt = now
		s.create(session("idle", "1"), capped, session("ended", "1"), unstarted)
		s.ended("a live session", oauth2pw.SessionFilter{UserID: "1", ID: "ended"}, now, "ended")
		for _, test := range []struct {
			at   time.Time
			when string
			live []string
		}{
			{now, "before any expiry", []string{"capped", "idle"}},
			{now.Add(day - time.Microsecond), "a microsecond before the expiry", []string{"capped", "idle"}},
			{now.Add(day), "at the expiry", nil},
			{now.Add(4 * day), "after the expiry", nil},
		} {
			s.listed(test.when, "1", test.at, test.live...)
			for _, id := range []string{"capped", "ended", "ended before", "idle"} {
				n := session(id, "1")
				if id == "capped" {
					n = capped
				}
				if got, want := s.advance(1, n, test.at), slices.Contains(test.live, id); got != want {
					t.Errorf("Advance of the session %q %s returned %t: it must return %t. A session is live until its expiry comes or it is ended.", id, test.when, got, want)
				}
			}
		}
	}},

	{"List has the latest login first", func(t *testing.T, s sessions) {
		c, a, b := session("c", "1"), session("a", "1"), session("b", "1")
		a.CreatedAt, b.CreatedAt = now.Add(-time.Hour), now.Add(time.Microsecond)
		a.AuthenticatedAt, a.RefreshedAt = now.Add(time.Hour), now.Add(time.Hour) // of a change of the password
		s.create(c, a, b, session("x", "2"))
		var got []string
		for _, n := range s.list("1", now) {
			got = append(got, n.ID)
		}
		if want := []string{"b", "c", "a"}; !slices.Equal(got, want) {
			t.Errorf("List returned the sessions %q, and not %q: those of the user, the latest CreatedAt first.", got, want)
		}
	}},

	{"End ends the sessions that its filter names", func(_ *testing.T, s sessions) {
		type filter = oauth2pw.SessionFilter
		for _, user := range []string{"1", "2"} {
			s.create(session("a"+user, user), session("b"+user, user), session("c"+user, user))
		}
		s.ended("an ID without its user", filter{ID: "a1"}, now)
		s.ended("no user", filter{}, now)
		s.ended("the session of another user", filter{UserID: "2", ID: "a1"}, now)
		s.ended("an ID but itself", filter{UserID: "1", ID: "a1", Except: "a1"}, now)
		s.ended("one session", filter{UserID: "1", ID: "a1"}, now, "a1")
		s.ended("all sessions but one", filter{UserID: "1", Except: "b1"}, now, "c1")
		s.ended("all sessions of a user", filter{UserID: "2"}, now, "a2", "b2", "c2")
		s.listed("the one session that was not ended", "1", now, "b1")
		s.listed("sessions that were all ended", "2", now)

		early, late := session("early", "3"), session("late", "3")
		early.AuthenticatedAt = now.Add(-time.Microsecond)
		s.create(early, late)
		s.ended("those authenticated before a time, of which there are none", filter{UserID: "3", AuthenticatedBefore: now.Add(-time.Microsecond)}, now)
		s.ended("one session, if it was authenticated before its own time", filter{UserID: "3", ID: "late", AuthenticatedBefore: now}, now)
		s.ended("those authenticated before a time, but one", filter{UserID: "3", Except: "early", AuthenticatedBefore: now}, now)
		s.ended("those authenticated before a time", filter{UserID: "3", AuthenticatedBefore: now}, now, "early")
		s.ended("those authenticated before a later time", filter{UserID: "3", AuthenticatedBefore: now.Add(time.Microsecond)}, now, "late")
	}},

	{"End writes its two fields, once", func(_ *testing.T, s sessions) {
		s.create(fullSession())
		f := oauth2pw.SessionFilter{UserID: "1"}
		s.ended("a live session", f, now, fullSession().ID)
		want := fullSession()
		want.EndedAt, want.EndReason = now, "because"
		s.checkAfter("End must set EndedAt and EndReason, and no other field", want)
		s.reason = "again"
		s.ended("a session that was ended before", f, now.Add(time.Second))
		f.ID = fullSession().ID
		s.ended("a session that was ended before", f, now.Add(time.Second))
		s.checkAfter("End must not write to a session that was ended before", want)
	}},

	// The clock of another process may say that it has not expired.
	{"End ends expired sessions too", func(_ *testing.T, s sessions) {
		s.create(session("a", "1"), session("b", "1"))
		s.ended("a session that has expired", oauth2pw.SessionFilter{UserID: "1", ID: "a"}, now.Add(9*day), "a")
		s.ended("sessions that have expired", oauth2pw.SessionFilter{UserID: "1"}, now.Add(9*day), "b")
	}},

	{"Sweep removes what ended or expired before, in bounded steps", func(t *testing.T, s sessions) {
		const over, limit = 25, 10
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
			s.create(n)
		}
		idle, ended := session("idle", "1"), session("ended", "1")
		idle.IdleExpiresAt, ended.EndedAt = now, now
		s.create(session("live", "1"), idle, ended, session("live2", "2"))
		total, last := 0, limit
		for calls := 0; last == limit && calls < over; calls++ {
			var err error
			if last, err = s.Sweep(context.Background(), now, limit); err != nil {
				t.Fatalf("Sweep returned the error %v.", err)
			}
			if last > limit {
				t.Errorf("Sweep removed %d sessions although its limit was %d.", last, limit)
			}
			total += last
		}
		if total != over {
			t.Errorf("Sweep removed %d sessions until it returned fewer than its limit, and not all %d that ended or expired before the time.", total, over)
		}
		for i := range over {
			if _, err := s.Get(context.Background(), fmt.Sprint("over", i)); err == nil {
				t.Errorf("The session \"over%d\" is there after Sweep, although it ended or expired before the time.", i)
			}
		}
		for _, id := range []string{"live", "idle", "ended", "live2"} {
			if _, err := s.Get(context.Background(), id); err != nil {
				t.Errorf("Sweep removed the session %q, although it neither ended nor expired before the time: Get returned %v.", id, err)
			}
		}
		s.listed("what is live after Sweep", "1", now, "live")
		s.ended("what is not ended after Sweep", oauth2pw.SessionFilter{UserID: "1"}, now, "idle", "live")
		s.ended("what is not ended after Sweep", oauth2pw.SessionFilter{UserID: "2"}, now, "live2")
	}},

	{"Sweep goes by the expiry that Advance has set", func(t *testing.T, s sessions) {
		const limit = 4
		for i := range 24 { // a shorter and a longer one in turns
			n := session(fmt.Sprint("s", i), "1")
			n.IdleExpiresAt = now.Add(time.Hour + time.Duration(i)*time.Second)
			s.create(n)
			n.IdleExpiresAt = now.Add(2 * day)
			if i%2 == 0 {
				n.IdleExpiresAt = now.Add(time.Minute)
			}
			n.Generation++
			if !s.advance(1, n, now) {
				t.Fatalf("Advance wrote nothing.")
			}
		}
		same := session("same", "1")
		same.IdleExpiresAt = now.Add(2 * time.Hour)
		s.create(same)
		for _, sweep := range []struct {
			before time.Time
			want   int
			what   string
		}{
			{now.Add(time.Hour), 12, "whose IdleExpiresAt was made earlier by Advance"},
			{now.Add(day), 1, "that no Advance has changed"},
			{now.Add(2*day + time.Microsecond), 12, "whose IdleExpiresAt was made later by Advance"},
		} {
			total := 0
			for last := limit; last == limit && total < 25; total += last {
				var err error
				if last, err = s.Sweep(context.Background(), sweep.before, limit); err != nil {
					t.Fatalf("Sweep returned the error %v.", err)
				}
			}
			if total != sweep.want {
				t.Errorf("Sweep removed %d sessions, and not the %d %s.", total, sweep.want, sweep.what)
			}
		}
	}},

	{"of concurrent Advances one wins", func(t *testing.T, s sessions) {
		s.create(fullSession())
		for round := range uint64(20) {
			var won atomic.Int32
			parallel(16, func(int) {
				next := fullSession()
				next.Generation = round + 2
				if s.advance(round+1, next, now) {
					won.Add(1)
				}
			})
			if won.Load() != 1 {
				t.Fatalf("%d of 16 concurrent Advances from one generation returned true: exactly one must, so compare and write in one atomic step.", won.Load())
			}
		}
	}},

	{"of concurrent Ends one wins", func(t *testing.T, s sessions) {
		for i := range 20 {
			id := fmt.Sprint("s", i)
			s.create(session(id, "1"))
			var won atomic.Int32
			parallel(8, func(int) {
				ids, err := s.End(context.Background(), oauth2pw.SessionFilter{UserID: "1"}, "because", now)
				if err != nil {
					t.Errorf("End returned the error %v.", err)
				}
				won.Add(int32(len(ids)))
			})
			if won.Load() != 1 {
				t.Fatalf("8 concurrent Ends of one session returned %d IDs: one of them must return its ID, and the others none.", won.Load())
			}
		}
	}},

	{"an Advance does not revive what ends beside it", func(t *testing.T, s sessions) {
		for i := range 20 {
			n := session(fmt.Sprint("s", i), "1")
			s.create(n)
			parallel(4, func(j int) {
				next := n
				next.Generation = 2
				if j > 0 {
					s.advance(1, next, now)
				} else if _, err := s.End(context.Background(), oauth2pw.SessionFilter{UserID: "1", ID: n.ID}, "because", now); err != nil {
					t.Errorf("End returned the error %v.", err)
				}
			})
			if got := s.get(n.ID); got != nil && got.EndedAt.IsZero() {
				t.Fatal("A session is live although End has ended it while Advance wrote: Advance must compare and write in one atomic step, and must not write EndedAt.")
			}
		}
	}},

	{"an ended context is a failure", func(t *testing.T, s sessions) {
		s.create(fullSession())
		full, other := fullSession(), session("other", "1")
		_, get := s.Get(ended(), full.ID)
		_, miss := s.Get(ended(), "x")
		_, advance := s.Advance(ended(), 1, &full, now)
		_, list := s.List(ended(), "1", now)
		_, end := s.End(ended(), oauth2pw.SessionFilter{UserID: "1"}, "because", now)
		_, sweep := s.Sweep(ended(), now, 10)
		checkEnded(t, map[string]error{
			"Create": s.Create(ended(), &other), "Get of a session": get, "Get of nothing": miss, "Advance": advance, "List": list, "End": end, "Sweep": sweep,
		})
	}},
}

package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// buggy is a simple store of sessions with one bug. With none it passes the suite.
type buggy struct {
	bug  string
	mu   sync.Mutex
	byID map[string]*oauth2pw.Session
	meet *meeting

	// With the bug revives, in the rule for it, End waits until Advance has read, and Advance
	// writes when End has ended the session. With the bug twoSteps, in the rule for it, Advance
	// waits for a Get between its steps.
	turns bool
	turn  *sync.Cond
	read  map[string]bool // by ID
	over  map[string]bool
	gets  int

	first map[string]time.Time // the IdleExpiresAt of Create, by ID
}

const (
	revives  = "Advance writes the session that it has read"
	twoSteps = "Advance writes Forgiven in a second step"
)

func newBuggy(t *testing.T, bug string) *buggy {
	s := &buggy{bug: bug, byID: make(map[string]*oauth2pw.Session), meet: newMeeting(t), read: make(map[string]bool), over: make(map[string]bool), first: make(map[string]time.Time)}
	s.turn = sync.NewCond(&s.mu)
	s.turns = bug == revives && strings.Contains(t.Name(), "beside") || bug == twoSteps && strings.HasSuffix(t.Name(), "/Advance_writes_Forgiven_in_one_step_with_Generation")
	return s
}

func TestSimpleSessions(t *testing.T) {
	storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { return newBuggy(t, "") })
}

// sessionFields copy one field each.
var sessionFields = []struct {
	name string
	copy func(to, from *oauth2pw.Session)
}{
	{"UserID", func(to, from *oauth2pw.Session) { to.UserID = from.UserID }},
	{"ClientID", func(to, from *oauth2pw.Session) { to.ClientID = from.ClientID }},
	{"Scope", func(to, from *oauth2pw.Session) { to.Scope = from.Scope }},
	{"Salt", func(to, from *oauth2pw.Session) { to.Salt = from.Salt }},
	{"KeyID", func(to, from *oauth2pw.Session) { to.KeyID = from.KeyID }},
	{"Generation", func(to, from *oauth2pw.Session) { to.Generation = from.Generation }},
	{"Forgiven", func(to, from *oauth2pw.Session) { to.Forgiven = from.Forgiven }},
	{"CreatedAt", func(to, from *oauth2pw.Session) { to.CreatedAt = from.CreatedAt }},
	{"AuthenticatedAt", func(to, from *oauth2pw.Session) { to.AuthenticatedAt = from.AuthenticatedAt }},
	{"RefreshedAt", func(to, from *oauth2pw.Session) { to.RefreshedAt = from.RefreshedAt }},
	{"IdleExpiresAt", func(to, from *oauth2pw.Session) { to.IdleExpiresAt = from.IdleExpiresAt }},
	{"ExpiresAt", func(to, from *oauth2pw.Session) { to.ExpiresAt = from.ExpiresAt }},
	{"EndedAt", func(to, from *oauth2pw.Session) { to.EndedAt = from.EndedAt }},
	{"EndReason", func(to, from *oauth2pw.Session) { to.EndReason = from.EndReason }},
	{"Address", func(to, from *oauth2pw.Session) { to.Address = from.Address }},
	{"UserAgent", func(to, from *oauth2pw.Session) { to.UserAgent = from.UserAgent }},
	{"Idle", func(to, from *oauth2pw.Session) { to.Idle = from.Idle }},
	{"Label", func(to, from *oauth2pw.Session) { to.Label = from.Label }},
}

var advanced = []string{"Generation", "Forgiven", "AuthenticatedAt", "RefreshedAt", "IdleExpiresAt"}

// brokenSessions has the bugs of buggy.
func brokenSessions() []broken {
	const (
		everyField = "a session has every field as it is stored"
		miss       = "a miss is ErrNotFound"
		bytewise   = "IDs are compared byte for byte"
		once       = "an ID is used once"
		copies     = "sessions that are taken and returned are copies"
		fields     = "Advance writes its five fields and no other"
		forgiven   = "Advance writes Forgiven in one step with Generation"
		generation = "Advance compares the generation"
		over       = "an expired or ended session is not live"
		order      = "List has the latest login first"
		filter     = "End ends the sessions that its filter names"
		endFields  = "End writes its two fields, once"
		expired    = "End ends expired sessions too"
		sweepNow   = "Sweep goes by the expiry that Advance has set"
		sweep      = "Sweep removes what ended or expired before, in bounded steps"
		oneAdvance = "of concurrent Advances one wins"
		oneEnd     = "of concurrent Ends one wins"
		revive     = "an Advance does not revive what ends beside it"
		context    = "an ended context is a failure"
	)
	bugs := []struct{ bug, rule, message string }{
		{"whole seconds", everyField, "Times are kept to the microsecond."},
		{"Idle in whole seconds", everyField, "the Idle is 36h0m0s, and not 36h0m0.000001s."},
		{"Idle in 32 bits", everyField, "the Idle is"},
		{"Forgiven in 32 bits", everyField, "the Forgiven is 4294967295, and not 1099511627775."},
		{"a Label of 255 bytes", everyField, "the Label is"},
		{"a miss of Get is nil", miss, "returned neither a result nor an error"},
		{"a miss of Get is a failure", miss, "a miss must wrap oauth2pw.ErrNotFound"},
		{"Advance of nothing is a miss", miss, "where it does not write it must return false and no error."},
		{"Advance of nothing writes", miss, "Advance of a session that is not there returned true"},
		{"End of nothing is a miss", miss, "where there is nothing to end it must return no IDs and no error."},
		{"IDs without case", bytewise, `Get("aaaaaaaaaaaaaaaaaaaa-_") found something`},
		{"Create without case", bytewise, `Create of a session with the new ID "aaaaaaaaaaaaaaaaaaaa-_" returned the error`},
		{"users without case", bytewise, `List("U") returned the sessions ["lower" "upper"], and not ["upper"]`},
		{"Create overwrites", once, "returned no error: it must, and must not overwrite the session."},
		{"Create ignores an ID that is there", once, "returned no error"},
		{"Create of an ID that is there is a miss", once, "that is no miss."},
		{"Create fails and overwrites", once, "Create must not overwrite a session: the"},
		{"Create keeps the session of its caller", copies, "Create must store a copy"},
		{"Get returns the stored session", copies, "Get must return a copy"},
		{"List returns the stored sessions", copies, "List must return copies"},
		{"Advance says nothing", fields, "it must write, and return true."},
		{"Advance writes to all sessions of the user", fields, "Advance must not write to another session"},
		{"Advance without a compare", generation, "it must write nothing, and return false."},
		{"Advance from an older generation", generation, "Advance from the generation 1 returned true although the session has the generation 2"},
		{"Advance from a later generation", generation, "Advance from the generation 3 returned true although the session has the generation 2"},
		{"Advance refuses and writes", generation, "Advance must not write from another generation"},
		{"Advance writes Forgiven without the compare", forgiven, "Advance must not write from another generation, and so no Forgiven: the Forgiven is 6, and not 5."},
		{"Advance writes Forgiven to expired sessions", forgiven, "Advance must not write to an expired session, and so no Forgiven: the Forgiven is 6, and not 5."},
		{"Advance writes Forgiven to ended sessions", forgiven, "Advance must not write to an ended session, and so no Forgiven: the Forgiven is 6, and not 5."},
		{"Advance writes Forgiven without the compare, later", forgiven, "of the Advance that returned true."},
		{twoSteps, forgiven, "Get returned the Generation of an Advance without its Forgiven"},
		{"live at the expiry", over, "(at the expiry)"},
		{"dead before the expiry", over, "(a microsecond before the expiry)"},
		{"no idle expiry", over, `Advance of the session "idle" at the expiry returned true`},
		{"List of ended sessions", over, `List("1") returned the sessions ["capped" "ended" "ended before" "idle"], and not ["capped" "idle"]`},
		{"Advance of ended sessions", over, `Advance of the session "ended" before any expiry returned true: it must return false.`},
		{"Advance of expired sessions", over, `Advance of the session "idle" after the expiry returned true: it must return false.`},
		{"List by the last proof", order, `List returned the sessions ["a" "b" "c"], and not ["b" "c" "a"]`},
		{"List has the oldest login first", order, "the latest CreatedAt first."},
		{"List sorts by ID", order, `List returned the sessions ["a" "b" "c"], and not ["b" "c" "a"]`},
		{"List of everybody", order, `List returned the sessions ["b" "c" "x" "a"], and not ["b" "c" "a"]`},
		{"End without the user", filter, "(an ID without its user)"},
		{"End of another user's session", filter, "(the session of another user)"},
		{"End without the ID", filter, `for SessionFilter{UserID: "1", ID: "a1", Except: "a1"} (an ID but itself).`},
		{"End without the exception", filter, "(all sessions but one)"},
		{"End without the time", filter, "(those authenticated before a time, of which there are none)"},
		{"End with the time itself", filter, "(those authenticated before a time)"},
		{"End returns no IDs", filter, "End returned the IDs [], and not"},
		{"End returns IDs and does nothing", filter, "(the one session that was not ended)"},
		{"End forgets EndedAt", endFields, "End must set EndedAt and EndReason, and no other field: the EndedAt is zero"},
		{"End forgets EndReason", endFields, `End must set EndedAt and EndReason, and no other field: the EndReason is "", and not "because".`},
		{"End again", endFields, "(a session that was ended before)"},
		{"End again, but says nothing", endFields, "End must not write to a session that was ended before: the EndReason"},
		{"End removes", endFields, "the session is there"},
		{"End of live sessions alone", expired, "(a session that has expired)"},
		{"Sweep without a limit", sweep, "although its limit was 10."},
		{"Sweep without idle sessions", sweep, "and not all 25 that ended or expired before the time."},
		{"Sweep without ended sessions", sweep, "is there after Sweep"},
		{"Sweep of what was over at the time", sweep, "although it neither ended nor expired before the time"},
		{"Sweep of all", sweep, "although it neither ended nor expired before the time"},
		{"Sweep counts and does nothing", sweep, "is there after Sweep"},
		{"Sweep by the expiry of Create", sweepNow, "and not the 1 that no Advance has changed."},
		{"Sweep by the latest expiry", sweepNow, "and not the 12 whose IdleExpiresAt was made earlier by Advance."},
		{"Advance in two steps", oneAdvance, "exactly one must, so compare and write in one atomic step."},
		{"End in two steps", oneEnd, "one of them must return its ID, and the others none."},
		{revives, revive, "Advance must compare and write in one atomic step, and must not write EndedAt."},
	}
	for _, f := range sessionFields {
		bugs = append(bugs, struct{ bug, rule, message string }{"Create forgets " + f.name, everyField, "the " + f.name + " is "})
		if !strings.HasPrefix(f.name, "End") {
			bugs = append(bugs, struct{ bug, rule, message string }{"List leaves out " + f.name, everyField, "List returned a session, but not as it is stored: the " + f.name + " is "})
		}
		if slices.Contains(advanced, f.name) {
			bugs = append(bugs, struct{ bug, rule, message string }{"Advance forgets " + f.name, fields, "and no other field: the " + f.name + " is "})
		} else {
			bugs = append(bugs, struct{ bug, rule, message string }{"Advance writes " + f.name, fields, "and no other field: the " + f.name + " is "})
		}
		if !strings.HasPrefix(f.name, "End") && f.name != "UserID" {
			bugs = append(bugs, struct{ bug, rule, message string }{"End clears " + f.name, endFields, "and no other field: the " + f.name + " is "})
		}
	}
	for _, method := range []string{"Create", "Get", "Advance", "List", "End", "Sweep"} {
		bugs = append(bugs, struct{ bug, rule, message string }{"no context in " + method, context, method})
	}
	var list []broken
	for _, b := range bugs {
		list = append(list, broken{"sessions: " + b.bug, b.rule, b.message, func(t *testing.T) {
			storetest.Sessions(t, func(t *testing.T) oauth2pw.SessionStore { return newBuggy(t, b.bug) })
		}})
	}
	for _, b := range []struct{ bug, rule, message string }{
		{"Advance in two steps", "without", "48 of 50 requests with one refresh token were refused, and not 49"},
		{"End returns IDs and does nothing", "without", "List returned 1 live sessions, and not 0."},
		{"Advance forgets Generation", "with a grace period", "the session has the generation 1, and not 2"},
	} {
		list = append(list, broken{"refreshes: " + b.bug, b.rule, b.message, func(t *testing.T) {
			storetest.Refreshes(t, func(t *testing.T) oauth2pw.SessionStore { return newBuggy(t, b.bug) }, 1)
		}})
	}
	return list
}

func (s *buggy) ended(ctx context.Context, method string) error {
	if s.bug == "no context in "+method {
		return nil
	}
	return ctx.Err()
}

// find returns the stored session. The lock is held.
func (s *buggy) find(id string) *oauth2pw.Session {
	if n := s.byID[id]; n != nil || s.bug != "IDs without case" {
		return n
	}
	for stored, n := range s.byID {
		if strings.EqualFold(stored, id) {
			return n
		}
	}
	return nil
}

func copied(n *oauth2pw.Session) *oauth2pw.Session {
	c := *n
	return &c
}

func (s *buggy) Create(ctx context.Context, n *oauth2pw.Session) error {
	if err := s.ended(ctx, "Create"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.byID[n.ID] != nil
	if s.bug == "Create without case" {
		for id := range s.byID {
			taken = taken || strings.EqualFold(id, n.ID)
		}
	}
	s.first[n.ID] = n.IdleExpiresAt
	c := n
	if s.bug != "Create keeps the session of its caller" {
		c = copied(n)
	}
	switch s.bug {
	case "whole seconds":
		c.RefreshedAt = c.RefreshedAt.Truncate(time.Second)
	case "Idle in whole seconds":
		c.Idle = c.Idle.Truncate(time.Second)
	case "Idle in 32 bits":
		c.Idle = time.Duration(int32(c.Idle.Milliseconds())) * time.Millisecond
	case "Forgiven in 32 bits":
		c.Forgiven = uint64(uint32(c.Forgiven))
	case "a Label of 255 bytes":
		c.Label = c.Label[:min(len(c.Label), 255)]
	}
	for _, f := range sessionFields {
		if s.bug == "Create forgets "+f.name {
			f.copy(c, &oauth2pw.Session{})
		}
	}
	if taken {
		switch s.bug {
		case "Create overwrites":
		case "Create ignores an ID that is there":
			return nil
		case "Create of an ID that is there is a miss":
			return oauth2pw.ErrNotFound
		case "Create fails and overwrites":
			s.byID[n.ID] = c
			return oauth2pw.ErrExists
		default:
			return oauth2pw.ErrExists
		}
	}
	s.byID[n.ID] = c
	return nil
}

func (s *buggy) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	if err := s.ended(ctx, "Get"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	s.turn.Broadcast()
	n := s.find(id)
	switch {
	case n == nil && s.bug == "a miss of Get is nil":
		return nil, nil
	case n == nil && s.bug == "a miss of Get is a failure":
		return nil, errSQL
	case n == nil:
		return nil, fmt.Errorf("session: %w", oauth2pw.ErrNotFound)
	case s.bug == "Get returns the stored session":
		return n, nil
	}
	return copied(n), nil
}

// live reports whether a session is live for List or Advance.
func (s *buggy) live(n *oauth2pw.Session, now time.Time, method string) bool {
	if !n.EndedAt.IsZero() && s.bug != method+" of ended sessions" {
		return false
	}
	if s.bug == method+" of expired sessions" {
		return true
	}
	switch s.bug {
	case "live at the expiry":
		now = now.Add(-time.Microsecond)
	case "dead before the expiry":
		now = now.Add(time.Microsecond)
	}
	return now.Before(n.ExpiresAt) && (now.Before(n.IdleExpiresAt) || s.bug == "no idle expiry")
}

func (s *buggy) Advance(ctx context.Context, from uint64, next *oauth2pw.Session, now time.Time) (bool, error) {
	if err := s.ended(ctx, "Advance"); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.find(next.ID)
	if n == nil {
		if s.bug == "Advance of nothing is a miss" {
			return false, oauth2pw.ErrNotFound
		}
		return s.bug == "Advance of nothing writes", nil
	}
	same := n.Generation == from
	switch s.bug {
	case "Advance without a compare":
		same = true
	case "Advance from an older generation":
		same = from <= n.Generation
	case "Advance from a later generation":
		same = from >= n.Generation
	case "Advance refuses and writes":
		n.Generation, same = next.Generation, same && n.Generation == next.Generation
	case "Advance writes Forgiven without the compare":
		n.Forgiven = next.Forgiven
	}
	if !same || !s.live(n, now, "Advance") {
		switch {
		case same && n.EndedAt.IsZero() && s.bug == "Advance writes Forgiven to expired sessions",
			same && !n.EndedAt.IsZero() && s.bug == "Advance writes Forgiven to ended sessions",
			from+1 == n.Generation && s.bug == "Advance writes Forgiven without the compare, later":
			n.Forgiven = next.Forgiven
		}
		return false, nil
	}
	old := *n
	switch {
	case s.turns && s.bug == twoSteps:
		n.Generation = next.Generation
		s.turn.Broadcast()
		for before := s.gets; s.gets == before; {
			s.turn.Wait()
		}
	case s.bug == "Advance in two steps":
		s.mu.Unlock()
		s.meet.wait()
		s.mu.Lock()
	case s.turns:
		s.read[n.ID] = true
		s.turn.Broadcast()
		for !s.over[n.ID] {
			s.turn.Wait()
		}
		*n = old
	}
	for _, f := range sessionFields {
		if slices.Contains(advanced, f.name) && s.bug != "Advance forgets "+f.name || s.bug == "Advance writes "+f.name {
			f.copy(n, next)
			for _, other := range s.byID {
				if s.bug == "Advance writes to all sessions of the user" && other.UserID == n.UserID {
					f.copy(other, next)
				}
			}
		}
	}
	return s.bug != "Advance says nothing", nil
}

func (s *buggy) sameUser(n *oauth2pw.Session, userID string) bool {
	return n.UserID == userID || s.bug == "users without case" && strings.EqualFold(n.UserID, userID)
}

func (s *buggy) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	if err := s.ended(ctx, "List"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*oauth2pw.Session
	for _, n := range s.byID {
		if (s.sameUser(n, userID) || s.bug == "List of everybody") && s.live(n, now, "List") {
			c := n
			if s.bug != "List returns the stored sessions" {
				c = copied(n)
			}
			for _, f := range sessionFields {
				if s.bug == "List leaves out "+f.name {
					f.copy(c, new(oauth2pw.Session))
				}
			}
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *oauth2pw.Session) int {
		order := b.CreatedAt.Compare(a.CreatedAt)
		switch s.bug {
		case "List by the last proof":
			if order = b.AuthenticatedAt.Compare(a.AuthenticatedAt); order == 0 {
				order = b.CreatedAt.Compare(a.CreatedAt)
			}
		case "List has the oldest login first":
			order = -order
		case "List sorts by ID":
			order = 0
		}
		if order == 0 {
			order = strings.Compare(a.ID, b.ID)
		}
		return order
	})
	return list, nil
}

// named reports whether a filter names a session.
func (s *buggy) named(n *oauth2pw.Session, f oauth2pw.SessionFilter) bool {
	user := s.sameUser(n, f.UserID)
	switch s.bug {
	case "End without the user":
		user = user || f.UserID == "" && f.ID != ""
	case "End of another user's session":
		user = user || f.ID == n.ID && f.UserID != ""
	}
	before := f.AuthenticatedBefore.IsZero() || s.bug == "End without the time" || n.AuthenticatedAt.Before(f.AuthenticatedBefore) ||
		s.bug == "End with the time itself" && n.AuthenticatedAt.Equal(f.AuthenticatedBefore)
	return user && before &&
		(f.ID == "" || f.ID == n.ID || s.bug == "End without the ID") &&
		(f.Except == "" || f.Except != n.ID || s.bug == "End without the exception")
}

func (s *buggy) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) (ids []string, err error) {
	if err := s.ended(ctx, "End"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bug == "End in two steps" {
		live := false
		for _, n := range s.byID {
			live = live || n.EndedAt.IsZero() && s.named(n, f)
		}
		if !live {
			return nil, nil
		}
		s.mu.Unlock()
		s.meet.wait()
		s.mu.Lock()
	}
	for s.turns && !s.read[f.ID] {
		s.turn.Wait()
	}
	s.over[f.ID] = true
	defer s.turn.Broadcast()
	for _, n := range s.byID {
		again := !n.EndedAt.IsZero()
		if !s.named(n, f) || s.bug == "End of live sessions alone" && !s.live(n, now, "End") {
			continue
		}
		if again && !strings.HasPrefix(s.bug, "End again") && (s.bug != "End in two steps" || !n.EndedAt.Equal(now)) {
			continue
		}
		if !(again && s.bug == "End again, but says nothing") {
			ids = append(ids, n.ID)
		}
		if s.bug == "End returns IDs and does nothing" {
			continue
		}
		if s.bug != "End forgets EndedAt" {
			n.EndedAt = now
		}
		if s.bug != "End forgets EndReason" {
			n.EndReason = reason
		}
		for _, field := range sessionFields {
			if s.bug == "End clears "+field.name {
				field.copy(n, &oauth2pw.Session{})
			}
		}
		if s.bug == "End removes" {
			delete(s.byID, n.ID)
		}
	}
	switch {
	case s.bug == "End returns no IDs":
		return nil, nil
	case s.bug == "End of nothing is a miss" && len(ids) == 0:
		return nil, oauth2pw.ErrNotFound
	}
	return ids, nil
}

func (s *buggy) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := s.ended(ctx, "Sweep"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bug == "Sweep of what was over at the time" {
		before = before.Add(time.Microsecond)
	}
	swept := 0
	for id, n := range s.byID {
		idle, first := n.IdleExpiresAt, s.first[id]
		if s.bug == "Sweep by the expiry of Create" || s.bug == "Sweep by the latest expiry" && first.After(idle) {
			idle = first
		}
		over := n.ExpiresAt.Before(before) ||
			idle.Before(before) && s.bug != "Sweep without idle sessions" ||
			!n.EndedAt.IsZero() && n.EndedAt.Before(before) && s.bug != "Sweep without ended sessions" ||
			s.bug == "Sweep of all"
		if over && (swept < limit || s.bug == "Sweep without a limit") {
			swept++
			if s.bug != "Sweep counts and does nothing" {
				delete(s.byID, id)
			}
		}
	}
	return swept, nil
}

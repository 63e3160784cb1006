package store_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/storetest"
)

// showBroken is set in the environment of this test binary when it is to run the suite with
// every broken store, and to fail.
const showBroken = "PASSWORDFLOW_TEST_BROKEN_STORES"

// TestBrokenStores: each rule of storetest finds the stores that break it, with a message
// that names the duty.
func TestBrokenStores(t *testing.T) {
	all := slices.Concat(brokenUsers, brokenClients, brokenSessions())
	if os.Getenv(showBroken) != "" {
		for _, b := range all {
			t.Run(b.name, b.run)
		}
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenStores$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), showBroken+"=1")
	output, _ := cmd.CombinedOutput() // it fails
	failed, messages := readOutput(output)
	for _, b := range all {
		name := "TestBrokenStores/" + strings.ReplaceAll(b.name, " ", "_") + "/" + strings.ReplaceAll(b.rule, " ", "_")
		assert.True(t, failed[name], "%s was not found by the rule %q; the end of the output is %s", b.name, b.rule, output[max(0, len(output)-3000):])
		assert.Contains(t, messages[name], b.message, b.name)
	}
	rules := 0
	for _, rule := range suiteRules(t, output) {
		require.True(t, slices.ContainsFunc(all, func(b broken) bool { return b.rule == rule }) || unbroken[rule], "no broken store is for the rule %q", rule)
		rules++
	}
	require.Greater(t, rules, 25)
}

// unbroken are the rules that only the race detector can prove.
var unbroken = map[string]bool{"users are found concurrently": true, "clients are found concurrently": true}

// readOutput reads the output of go test -v: the failed tests, and the messages of each.
func readOutput(output []byte) (failed map[string]bool, messages map[string]string) {
	failed, messages = make(map[string]bool), make(map[string]string)
	current := ""
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && fields[0] == "===": // RUN, NAME or CONT
			current = fields[2]
		case len(fields) >= 3 && fields[0] == "---":
			failed[fields[2]] = fields[1] == "FAIL:"
		default:
			messages[current] += line
		}
	}
	return failed, messages
}

// suiteRules returns the names of all rules that ran.
func suiteRules(t *testing.T, output []byte) []string {
	t.Helper()
	var rules []string
	for line := range bytes.Lines(output) {
		if name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("=== RUN   TestBrokenStores/")); ok {
			if _, rule, ok := strings.Cut(string(name), "/"); ok {
				rules = append(rules, strings.ReplaceAll(rule, "_", " "))
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

// broken is a store that breaks a rule.
type broken struct {
	name    string
	rule    string
	message string // a part of what the rule says
	run     func(t *testing.T)
}

// brokeUsers runs the suite for users, with a store some of whose methods are broken.
func brokeUsers(wrap func(t *testing.T, s usersFuncs) usersFuncs) func(t *testing.T) {
	return func(t *testing.T) {
		storetest.Users(t, func(t *testing.T, users []oauth2pw.User) oauth2pw.UserStore {
			s, err := store.NewUsers(users...)
			require.NoError(t, err)
			return wrap(t, usersFuncs{s.UserByName, s.UserByID, s.UpdatePasswordHash})
		})
	}
}

type (
	userFunc   func(ctx context.Context, key string) (*oauth2pw.User, error)
	updateFunc func(ctx context.Context, id, old, new string, changed time.Time) (bool, error)
	// usersFuncs is a store made of functions.
	usersFuncs struct {
		byName, byID userFunc
		update       updateFunc
	}
)

func (s usersFuncs) UserByName(ctx context.Context, name string) (*oauth2pw.User, error) {
	return s.byName(ctx, name)
}

func (s usersFuncs) UserByID(ctx context.Context, id string) (*oauth2pw.User, error) {
	return s.byID(ctx, id)
}

func (s usersFuncs) UpdatePasswordHash(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
	return s.update(ctx, id, old, new, changed)
}

// changed returns a function that finds the same users, changed.
func changed(find userFunc, change func(u *oauth2pw.User)) userFunc {
	return func(ctx context.Context, key string) (*oauth2pw.User, error) {
		u, err := find(ctx, key)
		if err == nil {
			change(u)
		}
		return u, err
	}
}

// onMiss returns a function that answers a miss with something else.
func onMiss(find userFunc, u *oauth2pw.User, missed error) userFunc {
	return func(ctx context.Context, key string) (*oauth2pw.User, error) {
		found, err := find(ctx, key)
		if errors.Is(err, oauth2pw.ErrNotFound) {
			return u, missed
		}
		return found, err
	}
}

// spelled returns a function that looks for another spelling after a miss.
func spelled(find userFunc, spell func(key string) string) userFunc {
	return func(ctx context.Context, key string) (*oauth2pw.User, error) {
		u, err := find(ctx, key)
		if errors.Is(err, oauth2pw.ErrNotFound) && spell(key) != "" {
			return find(ctx, spell(key))
		}
		return u, err
	}
}

var errSQL = errors.New("sql: no rows in result set")

// both breaks UserByName and UserByID in the same way.
func both(breakIt func(userFunc) userFunc) func(t *testing.T) {
	return brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName, s.byID = breakIt(s.byName), breakIt(s.byID)
		return s
	})
}

func withoutTime(u *oauth2pw.User) { u.SessionsValidFrom = time.Time{} }

// timeless breaks a store that has no place for SessionsValidFrom.
func timeless(breakIt func(updateFunc) updateFunc) func(t *testing.T) {
	return brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName, s.byID = changed(s.byName, withoutTime), changed(s.byID, withoutTime)
		s.update = breakIt(s.update)
		return s
	})
}

// TestUsersWithoutTime: a store without a place for SessionsValidFrom passes the suite.
func TestUsersWithoutTime(t *testing.T) {
	timeless(func(update updateFunc) updateFunc { return update })(t)
}

func updateWith(breakIt func(t *testing.T, s usersFuncs) updateFunc) func(t *testing.T) {
	return brokeUsers(func(t *testing.T, s usersFuncs) usersFuncs {
		s.update = breakIt(t, s)
		return s
	})
}

var brokenUsers = []broken{
	{"a UserByID without the hash", "a user has every field as it is stored", `UserByID("1") returned the user, but not as it is stored: the PasswordHash is "", and not "h1".`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byID = changed(s.byID, func(u *oauth2pw.User) { u.PasswordHash = "" })
		return s
	})},
	{"empty scopes are nil", "a user has every field as it is stored", "Nil and empty Scopes differ.", both(func(find userFunc) userFunc {
		return changed(find, func(u *oauth2pw.User) { u.Scopes = append([]string(nil), u.Scopes...) })
	})},
	{"nil scopes are empty", "a user has every field as it is stored", "Nil and empty Scopes differ.", both(func(find userFunc) userFunc {
		return changed(find, func(u *oauth2pw.User) { u.Scopes = append([]string{}, u.Scopes...) })
	})},
	{"nobody is disabled", "a user has every field as it is stored", "the Disabled is false, and not true.", both(func(find userFunc) userFunc {
		return changed(find, func(u *oauth2pw.User) { u.Disabled = false })
	})},
	{"whole seconds", "a user has every field as it is stored", "Times are kept to the microsecond.", both(func(find userFunc) userFunc {
		return changed(find, func(u *oauth2pw.User) { u.SessionsValidFrom = u.SessionsValidFrom.Truncate(time.Second) })
	})},
	{"a UserByName without the time", "a user has every field as it is stored", `UserByName("alice") returned the user, but not as it is stored: the SessionsValidFrom is zero`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName = changed(s.byName, withoutTime)
		return s
	})},
	{"neither a user nor an error", "a user has every field as it is stored", "the user is there", both(func(userFunc) userFunc {
		return func(context.Context, string) (*oauth2pw.User, error) { return nil, nil }
	})},
	{"a miss is the driver's error", "a miss is ErrNotFound", `returned the error "sql: no rows in result set": a miss must wrap oauth2pw.ErrNotFound`, both(func(find userFunc) userFunc {
		return onMiss(find, nil, errSQL)
	})},
	{"a miss is nil", "a miss is ErrNotFound", "returned neither a result nor an error", both(func(find userFunc) userFunc { return onMiss(find, nil, nil) })},
	{"a miss with a user", "a miss is ErrNotFound", "returned a result beside the error of a miss", both(func(find userFunc) userFunc {
		return onMiss(find, new(oauth2pw.User), oauth2pw.ErrNotFound)
	})},
	{"a miss is an empty user", "a miss is ErrNotFound", "found something", both(func(find userFunc) userFunc { return onMiss(find, new(oauth2pw.User), nil) })},
	{"names without case", "names and IDs are compared byte for byte", `UserByName("JohnDoe") found something`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName = spelled(s.byName, strings.ToLower)
		return s
	})},
	{"names without spaces", "names and IDs are compared byte for byte", `UserByName("johndoe ") found something`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName = spelled(s.byName, strings.TrimSpace)
		return s
	})},
	{"names without accents", "names and IDs are compared byte for byte", "found something", brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName = spelled(s.byName, func(name string) string { return strings.Replace(name, "jose", "José", 1) })
		return s
	})},
	{"IDs as numbers", "names and IDs are compared byte for byte", `UserByID("01") found something`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byID = spelled(s.byID, func(id string) string { return strings.TrimLeft(id, "0") })
		return s
	})},
	{"a name that is a pattern", "names and IDs are compared byte for byte", `UserByName("joh_doe") found something`, brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		s.byName = spelled(s.byName, func(name string) string { return strings.ReplaceAll(name, "_", "n") })
		return s
	})},
	{"no context", "an ended context is a failure", "UserByID of a user did not return an error although its context has ended.", both(func(find userFunc) userFunc {
		return func(_ context.Context, key string) (*oauth2pw.User, error) { return find(context.Background(), key) }
	})},
	{"every failure is a miss", "an ended context is a failure", "said that there is nothing", both(func(find userFunc) userFunc {
		return func(ctx context.Context, key string) (*oauth2pw.User, error) {
			u, err := find(ctx, key)
			if err != nil {
				err = oauth2pw.ErrNotFound
			}
			return u, err
		}
	})},

	{"an update that does nothing", "UpdatePasswordHash replaces the hash and nothing else", `the PasswordHash is "h1", and not "new".`, updateWith(func(*testing.T, usersFuncs) updateFunc {
		return func(context.Context, string, string, string, time.Time) (bool, error) { return true, nil }
	})},
	{"an update that says nothing", "UpdatePasswordHash replaces the hash and nothing else", "returned false although user 1 has the old hash.", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			_, err := s.update(ctx, id, old, new, changed)
			return false, err
		}
	})},
	{"an update of everybody", "UpdatePasswordHash replaces the hash and nothing else", `UserByID("3") returned the user, but not as it is stored: the PasswordHash is "new", and not "h3".`, updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			_, _ = s.update(ctx, "3", "h3", new, changed)
			return s.update(ctx, id, old, new, changed)
		}
	})},
	{"an empty hash equals nothing", "UpdatePasswordHash replaces the hash and nothing else", "did not give a hash to a user without one", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if old == "" {
				return false, nil // NULL = ''
			}
			return s.update(ctx, id, old, new, changed)
		}
	})},
	{"an update without comparing", "UpdatePasswordHash replaces the old hash alone", `UpdatePasswordHash("1", "other") returned true, but must return false: the user has another hash.`, updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, _, new string, changed time.Time) (bool, error) {
			u, err := s.byID(ctx, id)
			if err != nil {
				return false, nil
			}
			return s.update(ctx, id, string(u.PasswordHash), new, changed)
		}
	})},
	{"hashes without case", "UpdatePasswordHash replaces the old hash alone", `UpdatePasswordHash("1", "H1") returned true`, updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			return s.update(ctx, id, strings.ToLower(old), new, changed)
		}
	})},
	{"an empty old hash equals any", "UpdatePasswordHash replaces the old hash alone", `UpdatePasswordHash("1", "") returned true`, updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if u, err := s.byID(ctx, id); err == nil && old == "" {
				old = string(u.PasswordHash)
			}
			return s.update(ctx, id, old, new, changed)
		}
	})},
	{"an update of nobody is an error", "UpdatePasswordHash replaces the old hash alone", "must return false and no error if the user has another hash or is not there", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			ok, err := s.update(ctx, id, old, new, changed)
			if !ok && err == nil {
				err = oauth2pw.ErrNotFound
			}
			return ok, err
		}
	})},
	{"a refused update that sets the time", "UpdatePasswordHash replaces the old hash alone", "the SessionsValidFrom is 2026", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if u, err := s.byID(ctx, id); err == nil && string(u.PasswordHash) != old {
				_, _ = s.update(ctx, id, string(u.PasswordHash), string(u.PasswordHash), changed)
			}
			return s.update(ctx, id, old, new, changed)
		}
	})},
	{"an update without the time", "UpdatePasswordHash sets SessionsValidFrom with the hash", "the SessionsValidFrom is zero", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, _ time.Time) (bool, error) {
			return s.update(ctx, id, old, new, time.Time{})
		}
	})},
	{"no place for the time, which is an error", "UpdatePasswordHash sets SessionsValidFrom with the hash", `it must return false and no error`, timeless(func(update updateFunc) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if !changed.IsZero() {
				return false, errors.New("no column for the time")
			}
			return update(ctx, id, old, new, changed)
		}
	})},
	{"no place for the time, and so no new hash", "UpdatePasswordHash sets SessionsValidFrom with the hash", "a store without a place for the time must ignore it.", timeless(func(update updateFunc) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if !changed.IsZero() {
				return false, nil
			}
			return update(ctx, id, old, new, changed)
		}
	})},
	{"a time of updated users only", "UpdatePasswordHash sets SessionsValidFrom with the hash", "the SessionsValidFrom is 2026", brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		var updated sync.Map // by ID
		read := func(u *oauth2pw.User) {
			if _, ok := updated.Load(u.ID); !ok {
				u.SessionsValidFrom = time.Time{}
			}
		}
		update := s.update
		s.byName, s.byID = changed(s.byName, read), changed(s.byID, read)
		s.update = func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			ok, err := update(ctx, id, old, new, changed)
			if ok && !changed.IsZero() {
				updated.Store(id, true)
			}
			return ok, err
		}
		return s
	})},
	{"an update that clears the time", "UpdatePasswordHash sets SessionsValidFrom with the hash", "and not 2026", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			if changed.IsZero() {
				changed = time.Unix(0, 0)
			}
			return s.update(ctx, id, old, new, changed)
		}
	})},
	{"a time that is rounded down", "SessionsValidFrom is rounded up", "never down, because a session from before the change would stay alive.", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			return s.update(ctx, id, old, new, changed.Truncate(time.Microsecond))
		}
	})},
	{"a time that is rounded up to a second", "SessionsValidFrom is rounded up", "it may round up to the next microsecond", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			return s.update(ctx, id, old, new, changed.Truncate(time.Second).Add(time.Second))
		}
	})},
	{"an update of returned users", "a returned user does not change any more", "The user that UserByID had returned was changed by UpdatePasswordHash", brokeUsers(func(_ *testing.T, s usersFuncs) usersFuncs {
		var mu sync.Mutex
		returned := make(map[*oauth2pw.User]bool)
		remember := func(find userFunc) userFunc {
			return changed(find, func(u *oauth2pw.User) {
				mu.Lock()
				defer mu.Unlock()
				returned[u] = true
			})
		}
		update := s.update
		s.byName, s.byID = remember(s.byName), remember(s.byID)
		s.update = func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			ok, err := update(ctx, id, old, new, changed)
			mu.Lock()
			defer mu.Unlock()
			for u := range returned {
				if ok && u.ID == id {
					u.PasswordHash = oauth2pw.Secret(new)
				}
			}
			return ok, err
		}
		return s
	})},
	{"an update in two steps", "of concurrent UpdatePasswordHash one wins", "exactly one must, so compare and write in one atomic step.", updateWith(func(t *testing.T, s usersFuncs) updateFunc {
		meet := newMeeting(t)
		return func(ctx context.Context, id, old, new string, changed time.Time) (bool, error) {
			u, err := s.byID(ctx, id)
			if err != nil || string(u.PasswordHash) != old {
				return false, nil
			}
			meet.wait()
			if u, err = s.byID(ctx, id); err != nil {
				return false, err
			}
			return s.update(ctx, id, string(u.PasswordHash), new, changed)
		}
	})},
	{"an update without a context", "an ended context is a failure of UpdatePasswordHash", "UpdatePasswordHash did not return an error although its context has ended.", updateWith(func(_ *testing.T, s usersFuncs) updateFunc {
		return func(_ context.Context, id, old, new string, changed time.Time) (bool, error) {
			return s.update(context.Background(), id, old, new, changed)
		}
	})},
}

// meeting makes the first two callers wait for each other, in a rule of concurrent calls.
type meeting struct {
	first chan struct{} // holds one for the first caller
	both  chan struct{} // closed by the second
	once  sync.Once
}

func newMeeting(t *testing.T) *meeting {
	m := &meeting{first: make(chan struct{}, 1), both: make(chan struct{})}
	if strings.Contains(t.Name(), "concurrent") || strings.HasSuffix(t.Name(), "/without") {
		m.first <- struct{}{}
	}
	return m
}

func (m *meeting) wait() {
	select {
	case <-m.first:
		<-m.both
	default:
		m.once.Do(func() { close(m.both) })
	}
}

type clientFunc func(ctx context.Context, id string) (*oauth2pw.Client, error)

func (f clientFunc) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	return f(ctx, id)
}

func brokeClients(breakIt func(find clientFunc) clientFunc) func(t *testing.T) {
	return func(t *testing.T) {
		storetest.Clients(t, func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore {
			s, err := store.NewClients(clients...)
			require.NoError(t, err)
			return breakIt(s.ClientByID)
		})
	}
}

func changedClient(change func(c *oauth2pw.Client)) func(t *testing.T) {
	return brokeClients(func(find clientFunc) clientFunc {
		return func(ctx context.Context, id string) (*oauth2pw.Client, error) {
			c, err := find(ctx, id)
			if err == nil {
				change(c)
			}
			return c, err
		}
	})
}

var brokenClients = []broken{
	{"clients without introspection", "a client has every field as it is stored", "the Introspect is false, and not true.", changedClient(func(c *oauth2pw.Client) { c.Introspect = false })},
	{"clients with an empty secret", "a client has every field as it is stored", "the SecretSHA256 is empty, and not nil, as a public client has it.", changedClient(func(c *oauth2pw.Client) {
		c.SecretSHA256 = append([]byte{}, c.SecretSHA256...)
	})},
	{"clients with a shorter secret", "a client has every field as it is stored", "the SecretSHA256 is", changedClient(func(c *oauth2pw.Client) {
		c.SecretSHA256 = bytes.TrimRight(c.SecretSHA256, "\x00")
	})},
	{"clients with any scope", "a client has every field as it is stored", "Nil and empty Scopes differ.", changedClient(func(c *oauth2pw.Client) {
		c.Scopes = append([]string(nil), c.Scopes...)
	})},
	{"clients without grants", "a client has every field as it is stored", "the Grants are", changedClient(func(c *oauth2pw.Client) { c.Grants = nil })},
	{"clients whose miss is the driver's error", "a miss is ErrNotFound", "a miss must wrap oauth2pw.ErrNotFound", brokeClients(func(find clientFunc) clientFunc {
		return func(ctx context.Context, id string) (*oauth2pw.Client, error) {
			c, err := find(ctx, id)
			if errors.Is(err, oauth2pw.ErrNotFound) {
				err = errSQL
			}
			return c, err
		}
	})},
	{"clients whose miss is nil", "a miss is ErrNotFound", "returned neither a result nor an error", brokeClients(func(find clientFunc) clientFunc {
		return func(ctx context.Context, id string) (*oauth2pw.Client, error) {
			c, err := find(ctx, id)
			if errors.Is(err, oauth2pw.ErrNotFound) {
				return nil, nil
			}
			return c, err
		}
	})},
	{"clients without case", "IDs are compared byte for byte", `ClientByID("Webapp") found something`, brokeClients(func(find clientFunc) clientFunc {
		return func(ctx context.Context, id string) (*oauth2pw.Client, error) { return find(ctx, strings.ToLower(id)) }
	})},
	{"clients without a context", "an ended context is a failure", "ClientByID of nobody said that there is nothing", brokeClients(func(find clientFunc) clientFunc {
		return func(_ context.Context, id string) (*oauth2pw.Client, error) { return find(context.Background(), id) }
	})},
}

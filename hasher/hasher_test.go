package hasher

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var cheap = Params{Memory: 64, Time: 1, Threads: 1}

func newCheap(t testing.TB) *Hasher {
	t.Helper()
	h, err := New(Config{Params: cheap})
	require.NoError(t, err)
	return h
}

func TestDefault(t *testing.T) {
	h := Default()
	require.Equal(t, Params{Memory: 65536, Time: 3, Threads: 4}, h.params) // conformance 113
	hash, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	require.Regexp(t, `^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`, hash) // conformance 115
	ok, outdated, err := h.Verify(t.Context(), hash, "secret")
	require.NoError(t, err)
	require.True(t, ok)
	require.False(t, outdated)
}

// TestVector: the hash that the reference implementation's command line prints for
// `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1` (its own test suite
// lists it: m=65536, t=2, p=1).
func TestVector(t *testing.T) {
	h, err := New(Config{Params: Params{Memory: 65536, Time: 2, Threads: 1}})
	require.NoError(t, err)
	e := encoded{params: h.params, salt: []byte("somesalt")}
	e.tag, err = hex.DecodeString("09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7")
	require.NoError(t, err)
	ok, outdated, err := h.Verify(t.Context(), e.String(), "password")
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, outdated, "its salt is short")
}

func TestVerify(t *testing.T) {
	h := newCheap(t)
	for _, password := range []string{"secret", " secret ", "nul\x00", "🔑", strings.Repeat("x", 1024)} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		for candidate, want := range map[string]bool{password: true, password + "x": false, strings.TrimSpace(password) + " ": false, "": false} {
			ok, outdated, err := h.Verify(t.Context(), hash, candidate)
			require.NoError(t, err)
			require.Equal(t, want, ok, "%q against %q", candidate, password)
			require.False(t, outdated)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", 1025)} {
		_, err := h.Hash(t.Context(), password)
		require.ErrorIs(t, err, ErrPassword)
	}
}

func TestOutdated(t *testing.T) {
	old := newCheap(t)
	hash, err := old.Hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, p := range []Params{{Memory: 128, Time: 1, Threads: 1}, {Memory: 64, Time: 2, Threads: 1}} {
		h, err := New(Config{Params: p})
		require.NoError(t, err)
		ok, outdated, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, outdated)
	}
	h, err := New(Config{Params: Params{Memory: 32, Time: 1, Threads: 4}})
	require.NoError(t, err)
	_, outdated, err := h.Verify(t.Context(), hash, "secret")
	require.NoError(t, err)
	require.False(t, outdated, "stronger")
}

// count makes h count its computations and note the most expensive.
func count(h *Hasher) (calls *int, most *Params) {
	calls, most = new(int), new(Params)
	key := h.key
	h.key = func(password, salt []byte, p Params, length uint32) []byte {
		*calls++
		if p.work() > most.work() {
			*most = p
		}
		return key(password, salt, p, length)
	}
	return calls, most
}

// TestDummyWork: what ends early costs one computation at the configured cost, and
// never matches. Conformance 27, 118, 119.
func TestDummyWork(t *testing.T) {
	h := newCheap(t)
	good, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	calls, most := count(h)
	salt, tag := strings.Repeat("A", 22), strings.Repeat("A", 43)
	for _, test := range []struct {
		hash, password string
		outdated       bool
	}{
		{hash: "", password: "secret"},
		{hash: "", password: ""},
		{hash: good, password: strings.Repeat("x", 1025)},
		{hash: good, password: ""},
		{hash: "!", password: "secret", outdated: true},
		{hash: "*", password: "secret", outdated: true},
		{hash: good[:len(good)-1], password: "secret", outdated: true},
		{hash: good + "\n", password: "secret", outdated: true},
		{hash: good + "=", password: "secret", outdated: true},
		{hash: good + "$", password: "secret", outdated: true},
		{hash: strings.Replace(good, "v=19", "v=16", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "v=19$", "", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "argon2id", "argon2d", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=4294967295", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=4294967296", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=-64", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=064", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "m=64", "m=7", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "t=1", "t=0", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "t=1", "t=4294967295", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "p=1", "p=0", 1), password: "secret", outdated: true},
		{hash: strings.Replace(good, "p=1", "p=256", 1), password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$$" + tag, password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$", password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1$" + salt + "$" + tag, password: "secret", outdated: true},
		{hash: "$argon2id$v=19$m=64,t=1,p=1$" + salt + "$" + strings.Repeat("A", 1<<20), password: "secret", outdated: true},
	} {
		*calls = 0
		ok, outdated, err := h.Verify(t.Context(), test.hash, test.password)
		require.NoError(t, err)
		require.False(t, ok, "%.60q", test.hash)
		require.Equal(t, test.outdated, outdated, "%.60q", test.hash)
		require.Equal(t, 1, *calls, "%.60q", test.hash)
		require.Equal(t, cheap, *most, "%.60q", test.hash)
	}
}

// TestDummyNeverMatches, even if the hash of some password were the dummy's tag.
func TestDummyNeverMatches(t *testing.T) {
	h := newCheap(t)
	h.key = func(_, _ []byte, _ Params, length uint32) []byte { return make([]byte, length) }
	for _, hash := range []string{"", "!"} {
		ok, _, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestSettings(t *testing.T) {
	for names, c := range map[string]Config{
		"Config.Params":    {Params: Params{Memory: 7, Time: 1, Threads: 1}},
		"Config.Slots":     {Slots: -1},
		"Config.MaxMemory": {MaxMemory: 1},
	} {
		_, err := New(c)
		require.ErrorContains(t, err, names)
	}
}

func TestNewClientSecret(t *testing.T) {
	secret, sum := NewClientSecret()
	other, _ := NewClientSecret()
	require.Len(t, sum, 32)
	require.GreaterOrEqual(t, len(string(secret)), 26)
	require.NotEqual(t, string(secret), string(other))
	require.NotContains(t, fmt.Sprintf("%+v %#v %s", secret, secret, secret), string(secret))
}

// blocked is a Hasher whose computations wait.
func blocked(t *testing.T, slots, queue int) (h *Hasher, started chan struct{}, finish chan struct{}) {
	h, err := New(Config{Params: cheap, Slots: slots, Queue: queue})
	require.NoError(t, err)
	started, finish = make(chan struct{}, 100), make(chan struct{})
	h.key = func(_, _ []byte, _ Params, length uint32) []byte {
		started <- struct{}{}
		<-finish
		return make([]byte, length)
	}
	return h, started, finish
}

// waiting reports how many callers stand in the queue, once it is n.
func waitForQueue(h *Hasher, n int) {
	for {
		h.gate.mu.Lock()
		waiting := h.gate.waiting
		h.gate.mu.Unlock()
		if waiting == n {
			return
		}
	}
}

// TestSlots: conformance 120.
func TestSlots(t *testing.T) {
	h, started, finish := blocked(t, 2, 3)
	var wg sync.WaitGroup
	results := make(chan error, 10)
	verify := func(ctx context.Context) {
		wg.Go(func() {
			_, _, err := h.Verify(ctx, "", "x")
			results <- err
		})
	}
	verify(t.Context())
	verify(t.Context())
	<-started
	<-started
	leaver, leave := context.WithCancel(t.Context())
	verify(leaver)
	verify(t.Context())
	verify(t.Context())
	waitForQueue(h, 3)
	_, _, err := h.Verify(t.Context(), "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	_, err = h.Hash(t.Context(), "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	require.Empty(t, started, "no third computation")

	leave() // a caller who gives up leaves the queue, and starts nothing
	require.ErrorIs(t, <-results, context.Canceled)
	waitForQueue(h, 2)
	require.Empty(t, started)

	close(finish)
	wg.Wait()
	close(results)
	for err := range results {
		require.NoError(t, err)
	}
	require.Len(t, started, 2)
	require.Zero(t, len(h.gate.slots))
	require.Empty(t, h.gate.waits)
}

func TestSlotIsFreeAfterAPanic(t *testing.T) {
	h, err := New(Config{Params: cheap, Slots: 1, Queue: -1})
	require.NoError(t, err)
	key := h.key
	h.key = func([]byte, []byte, Params, uint32) []byte { panic("out of memory") }
	require.Panics(t, func() { _, _, _ = h.Verify(t.Context(), "", "x") })
	h.key = key
	_, _, err = h.Verify(t.Context(), "", "x")
	require.NoError(t, err)
}

// TestQueueShare: one address may hold a quarter of the queue, loopback all of it.
func TestQueueShare(t *testing.T) {
	h, started, finish := blocked(t, 1, 8)
	var wg sync.WaitGroup
	from := func(address string) context.Context { return addressContext(t, address) }
	begin := func(ctx context.Context) {
		wg.Go(func() { _, _, _ = h.Verify(ctx, "", "x") })
	}
	begin(t.Context())
	<-started
	begin(from("192.0.2.1"))
	begin(from("192.0.2.1"))
	waitForQueue(h, 2)
	_, _, err := h.Verify(from("192.0.2.1"), "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	begin(from("192.0.2.2"))
	for range 5 {
		begin(from("127.0.0.1"))
	}
	waitForQueue(h, 8)
	_, _, err = h.Verify(from("127.0.0.1"), "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	close(finish)
	wg.Wait()
	require.Empty(t, h.gate.waits)
}

func TestEndedContext(t *testing.T) {
	h := newCheap(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := h.Verify(ctx, "", "x")
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, errors.Is(err, oauth2pw.ErrBusy))
}

// addressContext returns a context whose client address is set, as the middleware
// of an Auth sets it.
func addressContext(t *testing.T, address string) (ctx context.Context) {
	auth, err := oauth2pw.New(oauth2pw.Config{Users: anyUsers{}, Hasher: newCheap(t), Issuer: anyIssuer{}})
	require.NoError(t, err)
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 1).String()
	oauth2pw.OptionalBearer(auth)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() })).
		ServeHTTP(httptest.NewRecorder(), r)
	return ctx
}

type anyUsers struct{ oauth2pw.UserStore }

type anyIssuer struct {
	oauth2pw.TokenIssuer
	oauth2pw.TokenVerifier
}

// FuzzPHC: no stored hash panics or costs more than it may, and what is read is
// written the same.
func FuzzPHC(f *testing.F) {
	h := newCheap(f)
	good, err := h.Hash(context.Background(), "secret")
	require.NoError(f, err)
	for _, seed := range []string{"", "!", good, good + "$", "$argon2id$v=19$m=4294967295,t=1,p=1$c29tZXNhbHQ$AAAA", "$argon2id$v=19$m=0,t=0,p=0$$"} {
		f.Add(seed)
	}
	h.key = func(_, _ []byte, p Params, length uint32) []byte {
		if p.Memory > h.maxMemory || p.work() > h.maxWork || p.valid() != nil {
			f.Errorf("too costly: %+v", p)
		}
		return make([]byte, length)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		if e, err := parse(hash); err == nil && e.String() != hash {
			t.Fatalf("%q is written %q", hash, e)
		}
		if _, _, err := h.Verify(context.Background(), hash, "secret"); err != nil {
			t.Fatal(err)
		}
	})
}

package hasher

import (
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestPolicy: which new passwords are good.
//
// Conformance 122.
func TestPolicy(t *testing.T) {
	user := &oauth2pw.User{Username: "Johnathan Doe"}
	down := errors.New("down")
	strict := Policy{
		MinLength: 15,
		Denied:    func(password string) bool { return password == "this one is denied" },
		Breached: func(_ context.Context, password string) (bool, error) {
			if strings.Contains(password, "down") {
				return false, down
			}
			return strings.Contains(password, "breached"), nil
		},
	}
	for _, test := range []struct {
		policy   Policy
		password string
		says     string
	}{
		{Policy{}, "1234567", "8 characters"},
		{Policy{}, "ééééééé", "8 characters"},
		{Policy{}, "", "8 characters"},
		{Policy{}, "password", "many people"},
		{Policy{}, "PassWord1", "many people"},
		{Policy{}, "12345678", "many people"},
		{Policy{}, "qwertyuiop", "many people"},
		{Policy{}, "johnathan doe", "name of the user"},
		{Policy{}, strings.Repeat("x", 1025), "1024 bytes"},
		{Policy{}, strings.Repeat("é", 512), ""},
		{Policy{}, "éééééééé", ""},
		{Policy{}, "        ", ""}, // no rules of composition
		{Policy{}, "correct horse battery staple", ""},
		{strict, "correct horse", "15 characters"},
		{strict, "This One Is Denied", "many people"},
		{strict, "this one is breached", "breach"},
		{strict, "passwordpassword", ""},
	} {
		err := test.policy.Check(t.Context(), user, test.password)
		if test.says == "" {
			require.NoError(t, err, test.password)
			continue
		}
		var e *oauth2pw.Error
		require.ErrorAs(t, err, &e, test.password)
		require.Equal(t, "invalid_request", e.Code)
		require.Contains(t, e.Description, test.says)
	}
	require.ErrorIs(t, strict.Check(t.Context(), nil, "the service is down"), down)
	require.NoError(t, Policy{}.Check(t.Context(), nil, "johnathan doe"))
	require.Greater(t, len(commonSet()), 10_000)
}

// TestPepper: hashes with a pepper, without, and with one that is dropped.
//
// Conformance 121.
func TestPepper(t *testing.T) {
	pepper := func(id string) Pepper {
		return Pepper{ID: id, Key: oauth2pw.Secret("CANARY" + strings.Repeat(id, 32))}
	}
	with := func(list ...Pepper) *Hasher {
		h, err := New(Config{InsecureParams: true, Params: cheap, Peppers: list})
		require.NoError(t, err)
		return h
	}
	verify := func(h *Hasher, hash string) string {
		ok, outdated, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		no, _, err := h.Verify(t.Context(), hash, "wrong")
		require.NoError(t, err)
		require.False(t, no)
		return fmt.Sprint(ok, " ", outdated)
	}
	plain, one, both, two := with(), with(pepper("a")), with(pepper("b"), pepper("a")), with(pepper("b"))
	bare, err := plain.Hash(t.Context(), "secret")
	require.NoError(t, err)
	a, err := one.Hash(t.Context(), "secret")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(a, "$pepper$a$argon2id$v=19$"), a)
	b, err := both.Hash(t.Context(), "secret")
	require.NoError(t, err)
	for _, test := range []struct {
		h          *Hasher
		hash, want string
	}{
		{plain, bare, "true false"}, {one, a, "true false"}, {both, b, "true false"},
		{one, bare, "true true"}, {both, a, "true true"}, {both, bare, "true true"},
		{plain, a, "false true"}, {two, a, "false true"}, // the pepper is gone: unreadable
		{two, strings.Replace(a, "$a$", "$b$", 1), "false false"},
		{plain, "$argon2id$" + strings.TrimPrefix(a, "$pepper$a$argon2id$"), "false false"},
		{one, "$pepper$a$2b$04$", "false true"}, {one, "$pepper$$", "false true"}, {one, "$pepper$a", "false true"},
	} {
		require.Equal(t, test.want, verify(test.h, test.hash), test.hash)
	}
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", one, one, one, []any{one}), "CANARY")
	for _, list := range [][]Pepper{{{ID: "", Key: pepper("a").Key}}, {{ID: "a$b", Key: pepper("a").Key}}, {{ID: "a", Key: "short"}}, {pepper("a"), pepper("a")}} {
		_, err := New(Config{Peppers: list})
		require.ErrorContains(t, err, "Config.Peppers")
		require.NotContains(t, err.Error(), "CANARY")
	}
}

// sha1Scheme is a format that an app brings: {SHA} of an LDAP server.
var sha1Scheme = Scheme{Prefix: "{SHA}", Parse: func(rest string) (Stored, bool) {
	sum, err := hex.DecodeString(rest)
	return Stored{
		Memory: 1, Time: time.Microsecond, MaxPassword: 100,
		Matches: func(password []byte) bool {
			got := sha1.Sum(password)
			return subtle.ConstantTimeCompare(got[:], sum) == 1
		},
	}, err == nil && len(sum) == sha1.Size
}}

func TestSchemes(t *testing.T) {
	h, err := New(Config{InsecureParams: true, Params: cheap, Schemes: []Scheme{sha1Scheme}})
	require.NoError(t, err)
	for _, test := range []struct{ hash, password, want string }{
		{"{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "secret", "true true"},
		{"{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "wrong", "false false"},
		{"{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", strings.Repeat("x", 101), "false false"},
		{"{SHA}e5", "secret", "false true"},
	} {
		ok, outdated, err := h.Verify(t.Context(), test.hash, test.password)
		if len(test.password) > 100 {
			require.ErrorIs(t, err, oauth2pw.ErrPasswordTooLong)
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, test.want, fmt.Sprint(ok, " ", outdated))
	}
	for _, s := range []Scheme{{}, {Prefix: "x"}, {Prefix: "$2b$", Parse: sha1Scheme.Parse}, {Prefix: "$", Parse: sha1Scheme.Parse}, {Prefix: "$argon2id$v=19$x", Parse: sha1Scheme.Parse}} {
		_, err := New(Config{Schemes: []Scheme{s}})
		require.ErrorContains(t, err, "Config.Schemes")
	}
	slow, err := New(Config{InsecureParams: true, Params: cheap, Schemes: []Scheme{{Prefix: "slow$", Parse: func(string) (Stored, bool) {
		return Stored{Time: time.Hour, Matches: func([]byte) bool { return true }}, true
	}}}})
	require.NoError(t, err)
	ok, outdated, err := slow.Verify(t.Context(), "slow$", "x")
	require.NoError(t, err)
	require.Equal(t, "false true", fmt.Sprint(ok, " ", outdated))
}

// TestEvenOut: with it every verification does the same two computations.
func TestEvenOut(t *testing.T) {
	older := 0
	h, err := New(Config{
		InsecureParams: true, Params: cheap, EvenOut: "old$x",
		Schemes: []Scheme{{Prefix: "old$", Parse: func(rest string) (Stored, bool) {
			return Stored{Matches: func(password []byte) bool { older++; return rest == string(password) }}, rest != ""
		}}},
	})
	require.NoError(t, err)
	good, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	newer, _ := count(h)
	for hash, want := range map[string]string{good: "true false", "old$secret": "true true", "old$other": "false false", "": "false false", "!": "false true"} {
		older, *newer = 0, 0
		ok, outdated, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
		require.Equal(t, want, fmt.Sprint(ok, " ", outdated), hash)
		require.Equal(t, [2]int{1, 1}, [2]int{older, *newer}, hash)
	}
	require.True(t, h.Reads(good))
	require.False(t, h.Reads("!"))
	require.False(t, h.Reads(""))
	_, err = New(Config{EvenOut: "!"})
	require.ErrorContains(t, err, "Config.EvenOut")
}

// TestEvenOutMemory: the larger of the two computations says how many slots they take.
func TestEvenOutMemory(t *testing.T) {
	larger, err := New(Config{InsecureParams: true, Params: Params{Memory: 3 * cheap.Memory, Time: 1, Threads: 1}})
	require.NoError(t, err)
	older, err := larger.Hash(t.Context(), "anybody's")
	require.NoError(t, err)
	h, err := New(Config{InsecureParams: true, Params: cheap, EvenOut: oauth2pw.Secret(older), Slots: 8})
	require.NoError(t, err)
	newer, err := h.Hash(t.Context(), "secret")
	require.NoError(t, err)
	var busy []int
	key := h.key
	h.key = func(password, salt []byte, p Params, length uint32) []byte {
		busy = append(busy, h.Stats().Busy)
		return key(password, salt, p, length)
	}
	for _, hash := range []string{newer, "", "!", older} {
		_, _, err := h.Verify(t.Context(), hash, "secret")
		require.NoError(t, err)
	}
	require.NotEmpty(t, busy)
	for _, n := range busy {
		require.Equal(t, 3, n)
	}
}

func TestStats(t *testing.T) {
	h, started, finish := blocked(t, 1, 1)
	done := make(chan error, 2)
	for range 2 {
		go func() { _, _, err := h.Verify(t.Context(), "", "x"); done <- err }()
	}
	<-started
	waitForQueue(h, 1)
	_, _, err := h.Verify(t.Context(), "", "x")
	require.ErrorIs(t, err, oauth2pw.ErrBusy)
	require.Equal(t, Stats{Slots: 1, Busy: 1, Queue: 1, Waiting: 1, Refused: 1}, h.Stats())
	close(finish)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.Equal(t, Stats{Slots: 1, Queue: 1, Refused: 1}, h.Stats())
}

func TestCalibrate(t *testing.T) {
	for _, test := range []struct {
		target  time.Duration
		memory  uint32
		perPass time.Duration
		want    uint32 // passes
	}{
		{300 * time.Millisecond, 0, 50 * time.Millisecond, 6},
		{300 * time.Millisecond, 0, time.Second, 1},
		{10 * time.Millisecond, 19456, 50 * time.Millisecond, 2}, // OWASP's minimum, though it takes longer
		{10 * time.Millisecond, 7168, time.Second, 5},
		{time.Second, 47104, 100 * time.Millisecond, 10},
	} {
		p, err := calibrate(test.target, test.memory, func(p Params) time.Duration { return time.Duration(p.Time) * test.perPass })
		require.NoError(t, err)
		require.Equal(t, test.want, p.Time)
		require.NoError(t, p.valid())
		_, err = New(Config{InsecureParams: true, Params: p})
		require.NoError(t, err)
	}
	_, err := Calibrate(time.Second, 7167)
	require.ErrorContains(t, err, "OWASP")
	_, err = Calibrate(0, 0)
	require.ErrorContains(t, err, "target")
	p, err := Calibrate(time.Nanosecond, 7168)
	require.NoError(t, err)
	require.Equal(t, uint32(5), p.Time)
}

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// BenchmarkTiming measures what the time of an answer tells, in ratios
// of medians of interleaved samples, at the default cost of a hash and over a real
// SQLite file. An unknown and a disabled user should take what a wrong password
// takes; while blocked, right what wrong takes.
func BenchmarkTiming(b *testing.B) {
	st := openStore(b, openSQLite(b))
	h := hasher.Default()
	for i, name := range []string{"johndoe", "disabled", "blocked"} {
		hash, err := h.Hash(b.Context(), "secret")
		require.NoError(b, err)
		require.NoError(b, st.Users.Add(b.Context(), oauth2pw.User{ID: fmt.Sprint(i), Username: name, PasswordHash: oauth2pw.Secret(hash), Disabled: name == "disabled"}))
	}
	key, _, err := tokens.NewKey("")
	require.NoError(b, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	require.NoError(b, err)
	var clock atomic.Int64 // how far it is ahead
	auth, err := oauth2pw.New(oauth2pw.Config{Users: st.Users, Hasher: h, Issuer: jwt, ThrottleWindow: time.Hour, Now: func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }})
	require.NoError(b, err)
	token := auth.TokenHandler()
	login := func(name, password string) (int, time.Duration) {
		r := httptest.NewRequest("POST", "/token", strings.NewReader("grant_type=password&username="+name+"&password="+password))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		began := time.Now()
		token.ServeHTTP(w, r)
		return w.Code, time.Since(began)
	}
	for i := range 11 {
		login("blocked", fmt.Sprint("wrong", i))
	}
	kinds := []struct {
		name, user, password string
		status               int
	}{
		{"wrong", "johndoe", "wrong", 400}, {"unknown", "nobody", "wrong", 400}, {"disabled", "disabled", "secret", 400},
		{"blocked-wrong", "blocked", "wrong", 429}, {"blocked-right", "blocked", "secret", 429},
	}
	times := make([][]time.Duration, len(kinds))
	round := 0
	for b.Loop() {
		round++
		for _, i := range rand.Perm(len(kinds)) { // no kind always comes after the same
			kind := kinds[i]
			status, took := login(kind.user, kind.password)
			if status == 429 && kind.status == 400 { // its window is full: some hours later
				clock.Store(int64(round) * int64(5*time.Hour))
				for j := range 11 {
					login("blocked", fmt.Sprint("wrong", j))
				}
				status, took = login(kind.user, kind.password)
			}
			require.Equal(b, kind.status, status, kind.name)
			times[i] = append(times[i], took)
		}
	}
	median := func(i int) float64 {
		slices.Sort(times[i])
		return float64(times[i][len(times[i])/2])
	}
	b.ReportMetric(median(1)/median(0), "unknown/wrong")
	b.ReportMetric(median(2)/median(0), "disabled/wrong")
	b.ReportMetric(median(4)/median(3), "blocked-right/wrong")
	b.ReportMetric(median(3), "blocked-ns")
}

// BenchmarkSessionMemory is P8 for the store in memory: bytes a session, with a user
// agent of 100 bytes.
func BenchmarkSessionMemory(b *testing.B) {
	for b.Loop() {
		const sessions = 200_000
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := new(store.Sessions)
		now := time.Now().UTC().Truncate(time.Microsecond)
		for i := range sessions {
			require.NoError(b, s.Create(b.Context(), &oauth2pw.Session{
				ID: fmt.Sprintf("%022d", i), UserID: fmt.Sprint(i / 3), Scope: "me items", KeyID: "0123456789ab", Generation: 1,
				CreatedAt: now, AuthenticatedAt: now, RefreshedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
				UserAgent: strings.Repeat("x", 90) + fmt.Sprintf("%010d", i),
			}))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/sessions, "B/session")
		runtime.KeepAlive(s)
	}
}

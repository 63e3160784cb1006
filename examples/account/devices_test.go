package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// device is a row of GET /sessions.
type device struct {
	ID         string    `json:"id"`
	ClientID   *string   `json:"client_id"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Current    bool      `json:"current"`
	UserAgent  string    `json:"user_agent"`
	Address    string    `json:"address"`
}

func (w *world) sessions(token string) (list []device) {
	w.Helper()
	require.NoError(w, json.Unmarshal([]byte(w.get("/sessions", token).is(200).text), &list))
	return list
}

// TestDevices: the list, and the end of one session, of a session of another user, and of all.
func TestDevices(t *testing.T) {
	w := inProcess(t)
	w.join(jane)
	w.join("bob@example.com")
	bob := w.login("bob@example.com", password).access()
	w.headers["User-Agent"] = "phone"
	phone := w.login(jane, password)
	w.pass(time.Minute)
	w.headers["User-Agent"] = "laptop"
	laptop := w.login(jane, password)
	w.mail("new_place", jane)
	w.pass(time.Minute)
	now := w.time()
	phone = w.useRefresh(phone.refresh())

	list := w.sessions(laptop.access())
	require.Len(t, list, 2)
	require.Equal(t, device{
		ID: list[0].ID, CreatedAt: now.Add(-time.Minute), LastUsedAt: now.Add(-time.Minute), ExpiresAt: now.Add(-time.Minute).Add(12 * time.Hour),
		Current: true, UserAgent: "laptop", Address: "127.0.0.1",
	}, list[0])
	require.Equal(t, device{
		ID: list[1].ID, CreatedAt: now.Add(-2 * time.Minute), LastUsedAt: now, ExpiresAt: now.Add(-2 * time.Minute).Add(12 * time.Hour),
		UserAgent: "phone", Address: "127.0.0.1",
	}, list[1])
	require.True(t, w.sessions(phone.access())[1].Current)

	w.delete("/sessions/"+list[1].ID, bob).refused(404, "not_found")
	w.delete("/sessions/nothing", laptop.access()).refused(404, "not_found")
	w.delete("/sessions/"+list[1].ID, laptop.access()).is(204)
	w.delete("/sessions/"+list[1].ID, laptop.access()).refused(404, "not_found")
	w.get("/account", phone.access()).refused(401, "invalid_token")
	w.useRefresh(phone.refresh()).refused(400, "invalid_grant")
	w.delete("/sessions", laptop.access()).is(204)
	w.get("/account", laptop.access()).refused(401, "invalid_token")
	w.useRefresh(laptop.refresh()).refused(400, "invalid_grant")
	w.get("/account", bob).is(200)
}

// TestRemember: 90 days with remember=1, else 12 hours.
func TestRemember(t *testing.T) {
	w := inProcess(t)
	w.join(jane)
	begin := w.time()
	for _, other := range []string{"", "0", "true"} {
		w.login(jane, password, "remember", other).is(200)
	}
	short, long := w.login(jane, password), w.login(jane, password, "remember", "1")
	for _, d := range w.sessions(long.access()) {
		want := 12 * time.Hour
		if d.Current {
			want = 90 * 24 * time.Hour
		}
		require.Equal(t, begin.Add(want), d.ExpiresAt)
	}
	w.pass(12*time.Hour - time.Second)
	short, long = w.useRefresh(short.refresh()), w.useRefresh(long.refresh())
	require.EqualValues(t, 1, short.json["expires_in"]) // no token is valid longer than its session
	w.pass(time.Second)
	w.useRefresh(short.refresh()).refused(400, "invalid_grant")
	w.pass(89 * 24 * time.Hour)
	long = w.useRefresh(long.refresh()).is(200)
	w.pass(12 * time.Hour)
	w.useRefresh(long.refresh()).refused(400, "invalid_grant")
}

// TestNewPlace: a mail follows a login from an address or a user agent that no live session of
// the user has, if there is another session.
func TestNewPlace(t *testing.T) {
	w := start(t, "-trusted-proxies=127.0.0.1")
	w.headers["X-Forwarded-Proto"] = "https"
	w.join(jane)
	from := func(address, agent string) string {
		w.headers["X-Forwarded-For"], w.headers["User-Agent"] = address, agent
		return w.login(jane, password).access()
	}
	first := from("192.0.2.1", "phone") // the first session
	from("192.0.2.1", "phone")
	w.noMail()
	from("192.0.2.2", "phone")
	w.mail("new_place", jane)
	from("192.0.2.1", "laptop")
	w.mail("new_place", jane)
	from("192.0.2.3", "tablet")
	w.mail("new_place", jane)
	from("192.0.2.2", "laptop") // each is known, from two sessions
	w.noMail()
	w.delete("/sessions", first).is(204)
	from("192.0.2.4", "watch") // there is no other session
	w.noMail()
}

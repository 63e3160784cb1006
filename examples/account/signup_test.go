package main

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// same requires two equal answers: status, headers and bytes.
func same(t *testing.T, a, b answer) {
	t.Helper()
	a.header.Del("Date")
	b.header.Del("Date")
	require.Equal(t, a.status, b.status)
	require.Equal(t, a.header, b.header)
	require.Equal(t, a.text, b.text)
}

// TestSignUp: the answer does not show whether an address has an account, and a second
// sign-up changes nothing.
func TestSignUp(t *testing.T) {
	w := start(t)
	first := w.post("/signup", "", "email", "Jane@Example.com", "password", password).is(202)
	require.Equal(t, "{}\n", first.text)
	ticket := w.mail("verify", jane)
	again := w.post("/signup", "", "email", "jANE@example.com", "password", "another horse 9")
	same(t, first, again)
	w.mail("taken", jane)
	w.post("/verify", "", "token", ticket).is(204)
	w.login(jane, "another horse 9").refused(400, "invalid_grant")
	w.login("JANE@EXAMPLE.COM", password).is(200)
	same(t, first, w.post("/signup", "", "email", jane, "password", "another horse 9")) // verified
	w.mail("taken", jane)

	for _, bad := range []string{"short", "password123", strings.Repeat("x", 1025)} {
		taken := w.post("/signup", "", "email", jane, "password", bad).refused(422, "invalid_request")
		same(t, taken, w.post("/signup", "", "email", "new@example.com", "password", bad))
	}
	w.post("/signup", "", "email", "new@example.com", "password", "NEW@example.com").refused(422, "invalid_request")
	w.noMail()
	w.stop()
	require.NotContains(t, w.log(), password)
}

// TestBodies: each route with a body takes one JSON object with the members of the contract.
func TestBodies(t *testing.T) {
	w := start(t)
	w.join(jane)
	token := w.login(jane, password).access()
	for path, members := range map[string]string{
		"/signup": `"email":"x@example.com","password":"correct horse 9"`, "/verify": `"token":"x"`, "/forgot": `"email":"x@example.com"`,
		"/reset": `"token":"x","password":"correct horse 9"`, "/reauthenticate": `"password":"x"`, "/email": `"email":"x@example.com"`,
		"/totp/confirm": `"code":"1"`, "/password": `"old_password":"x","new_password":"correct horse 9"`,
	} {
		for _, bad := range []string{
			"", "x", "{}", "[]", "null", `"x"`, "{" + members, "{" + members + "} {}", "{" + members + "}x", strings.Replace("{"+members+"}", `:"`, `:1,"y":"`, 1),
			strings.Replace("{"+members+"}", `":"`, `x":"`, 1), "{" + members + `,"pad":"` + strings.Repeat("x", 64<<10) + `"}`,
		} {
			w.send(path, token, bad).refused(400, "invalid_request")
		}
	}
	for _, bad := range []string{"", "jane", "@", "jane@", "@example.com", "a@b@c", " jane@example.com", "jane@example.com\n", "jane @example.com", "jane@exa\u0000mple.com", strings.Repeat("x", 200) + "@example.com"} {
		w.post("/signup", "", "email", bad, "password", password).refused(400, "invalid_request")
		w.post("/email", token, "email", bad).refused(400, "invalid_request")
		w.post("/forgot", "", "email", bad).is(202) // an address without an account
	}
	w.noMail()
}

// TestVerify: an address is verified by its own ticket, once.
func TestVerify(t *testing.T) {
	w := start(t)
	w.post("/signup", "", "email", jane, "password", password).is(202)
	ticket := w.mail("verify", jane)

	// Before: only the correct password shows it.
	w.login(jane, password).refused(400, "email_unverified")
	same(t, w.login("nobody@example.com", password), w.login(jane, "wrong"))
	w.login(jane, "wrong").refused(400, "invalid_grant")

	_, tail, _ := strings.Cut(ticket, ".")
	raw, err := base64.RawURLEncoding.DecodeString(tail)
	require.NoError(t, err)
	flip := func(i int) string {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		return "tk1." + base64.RawURLEncoding.EncodeToString(b)
	}
	w.post("/forgot", "", "email", jane).is(202)
	for _, bad := range []string{"", "x", "tk1.", ticket + "x", ticket[:len(ticket)-1], flip(0), flip(12), flip(23), flip(30), flip(len(raw) - 1), w.mail("reset", jane)} {
		w.post("/verify", "", "token", bad).refused(400, "invalid_ticket")
	}
	w.login(jane, password).refused(400, "email_unverified")
	w.post("/reset", "", "token", ticket, "password", "another horse 9").refused(400, "invalid_ticket")

	w.post("/verify", "", "token", ticket).is(204)
	require.JSONEq(t, `{"email":"jane@example.com","verified":true,"totp":false}`, w.get("/account", w.login(jane, password).access()).is(200).text)
	w.post("/verify", "", "token", ticket).refused(400, "invalid_ticket")
	w.noMail()
}

// TestTicketsExpire: a ticket for an address is valid for a day, for a password an hour.
func TestTicketsExpire(t *testing.T) {
	w := inProcess(t)
	w.post("/signup", "", "email", jane, "password", password).is(202)
	verify := w.mail("verify", jane)
	w.post("/forgot", "", "email", jane).is(202)
	reset := w.mail("reset", jane)
	w.pass(time.Hour)
	w.post("/reset", "", "token", reset, "password", password).refused(400, "invalid_ticket")
	w.pass(23 * time.Hour)
	w.post("/verify", "", "token", verify).refused(400, "invalid_ticket")

	// The way out, when the mail was lost: a reset.
	w.post("/forgot", "", "email", jane).is(202)
	reset = w.mail("reset", jane)
	w.pass(time.Hour - time.Microsecond)
	w.post("/reset", "", "token", reset, "password", "another horse 9").is(204)
	w.mail("changed", jane)
	w.login(jane, "another horse 9").is(200)
}

// TestLimit: one network may sign up and ask for mails a number of times in an hour.
func TestLimit(t *testing.T) {
	w := start(t, "-trusted-proxies=127.0.0.1")
	w.headers["X-Forwarded-For"] = "192.0.2.1"
	for range limitRequests / 2 {
		w.post("/signup", "", "email", "x@example.com", "password", "short").refused(422, "invalid_request")
		w.post("/forgot", "", "email", "x@example.com").is(202)
	}
	for _, path := range []string{"/signup", "/forgot"} {
		a := w.post(path, "", "email", "x@example.com", "password", password).refused(429, "slow_down")
		require.NotEmpty(t, a.header.Get("Retry-After"))
	}
	w.headers["X-Forwarded-For"] = "192.0.2.2"
	w.post("/signup", "", "email", "x@example.com", "password", password).is(202)
	w.mail("verify", "x@example.com")
}

// TestParallelSignUps: of parallel sign-ups with one address, one makes the account.
func TestParallelSignUps(t *testing.T) {
	w := start(t)
	require.Equal(t, map[int]int{202: 8}, parallel(8, func() answer { return w.post("/signup", "", "email", jane, "password", password) }))
	kinds := map[string]int{}
	for range 8 {
		m := <-w.mails
		kinds[m.Kind]++
	}
	require.Equal(t, map[string]int{"verify": 1, "taken": 7}, kinds)
	w.noMail()
}

package main

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestForgot: the answer is the same for every address, and an account gets one mail in two
// minutes.
func TestForgot(t *testing.T) {
	w := start(t)
	w.join(jane)
	known := w.post("/forgot", "", "email", "JANE@example.com").is(202)
	require.Equal(t, "{}\n", known.text)
	w.mail("reset", jane)
	for _, email := range []string{jane, "nobody@example.com", "jane@example.com ", "no address", ""} {
		same(t, known, w.post("/forgot", "", "email", email))
	}
	w.noMail()

	w = inProcess(t)
	w.join(jane)
	w.post("/forgot", "", "email", jane).is(202)
	first := w.mail("reset", jane)
	w.pass(2*time.Minute - time.Microsecond)
	w.post("/forgot", "", "email", jane).is(202)
	w.noMail()
	w.pass(time.Microsecond)
	w.post("/forgot", "", "email", jane).is(202)
	w.mail("reset", jane)
	w.post("/reset", "", "token", first, "password", "another horse 9").is(204) // still valid
	w.mail("changed", jane)
}

// TestReset: a ticket sets one password, ends every session and clears the throttle.
func TestReset(t *testing.T) {
	w := start(t, "-throttle=3/1h", "-refresh-grace=0")
	w.join(jane)
	login := w.login(jane, password)
	w.post("/forgot", "", "email", jane).is(202)
	ticket := w.mail("reset", jane)
	for _, guess := range []string{"wrong 1", "wrong 2", "wrong 3"} {
		w.login(jane, guess).refused(400, "invalid_grant")
	}
	w.login(jane, password).refused(429, "slow_down")

	w.post("/reset", "", "token", ticket, "password", "short").refused(422, "invalid_request")
	w.post("/reset", "", "token", ticket, "password", jane).refused(422, "invalid_request")
	w.post("/reset", "", "token", ticket+"x", "password", "another horse 9").refused(400, "invalid_ticket")
	w.post("/reset", "", "token", ticket, "password", "another horse 9").is(204)
	w.mail("changed", jane)
	w.post("/reset", "", "token", ticket, "password", "a third horse 9").refused(400, "invalid_ticket")
	w.get("/account", login.access()).refused(401, "invalid_token")
	w.useRefresh(login.refresh()).refused(400, "invalid_grant")
	w.login(jane, password).refused(400, "invalid_grant")
	w.login(jane, "another horse 9").is(200)
	w.noMail()
}

// TestResetAfterAnotherChange: a ticket is void once the password or the address has changed.
func TestResetAfterAnotherChange(t *testing.T) {
	w := inProcess(t)
	w.join(jane)
	forgot := func(email string) string {
		w.pass(resetPause)
		w.post("/forgot", "", "email", email).is(202)
		return w.mail("reset", email)
	}
	ticket := forgot(jane)
	token := w.login(jane, password).access()
	w.post("/password", token, "old_password", password, "new_password", "another horse 9").is(200)
	w.mail("changed", jane)
	w.post("/reset", "", "token", ticket, "password", "a third horse 9").refused(400, "invalid_ticket")

	ticket = forgot(jane)
	w.post("/email", w.login(jane, "another horse 9").access(), "email", "new@example.com").is(202)
	w.post("/verify", "", "token", w.mail("verify", "new@example.com")).is(204)
	w.post("/reset", "", "token", ticket, "password", "a third horse 9").refused(400, "invalid_ticket")
	ticket = forgot("new@example.com")
	w.post("/reset", "", "token", ticket, "password", "a third horse 9").is(204)
	w.mail("changed", "new@example.com")
}

// TestResetVerifies: a reset verifies the address, because its ticket came by mail. The ticket
// of the sign-up, which a stranger may have caused, is void then.
func TestResetVerifies(t *testing.T) {
	w := start(t)
	w.post("/signup", "", "email", jane, "password", "of a stranger").is(202)
	verify := w.mail("verify", jane)
	w.post("/forgot", "", "email", jane).is(202)
	ticket := w.mail("reset", jane)
	w.post("/reset", "", "token", ticket, "password", "short").refused(422, "invalid_request")
	w.login(jane, "of a stranger").refused(400, "email_unverified")
	w.post("/reset", "", "token", ticket, "password", password).is(204)
	w.mail("changed", jane)
	w.login(jane, "of a stranger").refused(400, "invalid_grant")
	require.Equal(t, true, w.get("/account", w.login(jane, password).access()).json["verified"])
	w.post("/verify", "", "token", verify).refused(400, "invalid_ticket")
}

// parallel sends the same request at once, and returns how often each status was answered.
func parallel(n int, send func() answer) map[int]int {
	statuses := make(chan int, n)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { statuses <- send().status })
	}
	wg.Wait()
	close(statuses)
	counts := map[int]int{}
	for s := range statuses {
		counts[s]++
	}
	return counts
}

// TestParallelTickets: of parallel uses of one ticket, one succeeds.
func TestParallelTickets(t *testing.T) {
	w := start(t)
	w.post("/signup", "", "email", jane, "password", password).is(202)
	verify := w.mail("verify", jane)
	require.Equal(t, map[int]int{http.StatusNoContent: 1, http.StatusBadRequest: 7},
		parallel(8, func() answer { return w.post("/verify", "", "token", verify) }))
	w.post("/forgot", "", "email", jane).is(202)
	reset := w.mail("reset", jane)
	require.Equal(t, map[int]int{http.StatusNoContent: 1, http.StatusBadRequest: 7},
		parallel(8, func() answer { return w.post("/reset", "", "token", reset, "password", "another horse 9") }))
	w.mail("changed", jane)
	w.noMail()
}

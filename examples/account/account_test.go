package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
)

// TestRoutesNeedToken: every protected route answers 401 without a token, before anything
// else.
func TestRoutesNeedToken(t *testing.T) {
	w := start(t)
	for _, route := range []string{
		"GET /account", "DELETE /account", "POST /reauthenticate", "POST /email", "POST /totp", "POST /totp/confirm", "DELETE /totp", "POST /password",
		"GET /sessions", "DELETE /sessions", "DELETE /sessions/x",
	} {
		method, path, _ := strings.Cut(route, " ")
		for token, want := range map[string]string{"": "unauthorized", "x": "invalid_token"} {
			a := w.do(method, path, token, "", "").refused(401, want)
			require.True(t, strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer realm="api"`))
		}
	}
}

// TestPassword: the contract of the quickstart, and a mail.
func TestPassword(t *testing.T) {
	w := start(t, "-throttle=5/1h", "-refresh-grace=0")
	w.join(jane)
	other, own := w.login(jane, password), w.login(jane, password)
	change := func(old, new string) answer {
		return w.post("/password", own.access(), "old_password", old, "new_password", new)
	}
	change("wrong", "another horse 9").refused(403, "invalid_grant")
	change("wrong", "short").refused(403, "invalid_grant")
	change(password, "short").refused(422, "invalid_request")
	changed := change(password, "another horse 9")
	w.mail("changed", jane)
	require.Equal(t, "bearer", changed.json["token_type"])
	w.get("/account", changed.access()).is(200)
	w.get("/account", own.access()).refused(401, "invalid_token")
	w.get("/account", other.access()).refused(401, "invalid_token")
	w.useRefresh(other.refresh()).refused(400, "invalid_grant")
	w.useRefresh(changed.refresh()).is(200)
	w.login(jane, password).refused(400, "invalid_grant")
	for _, guess := range []string{"1", "2", "3", "4", "5"} { // the same guess counts once
		w.post("/password", changed.access(), "old_password", guess, "new_password", "a third horse 9").is(403)
	}
	w.post("/password", changed.access(), "old_password", "another horse 9", "new_password", "a third horse 9").refused(429, "slow_down")
	w.noMail()
}

// TestReauthenticate: the routes that are dangerous need a fresh password, and a refresh does
// not make it fresh.
func TestReauthenticate(t *testing.T) {
	w := inProcess(t, "-throttle=3/1h", "-access-ttl=1h")
	w.join(jane)
	login := w.login(jane, password)
	w.pass(5 * time.Minute)
	stale := w.useRefresh(login.refresh()).access()
	for _, route := range []string{"POST /email", "POST /totp", "POST /totp/confirm", "DELETE /totp", "DELETE /account"} {
		method, path, _ := strings.Cut(route, " ")
		for _, token := range []string{login.access(), stale} {
			a := w.do(method, path, token, "application/json", `{"email":"new@example.com","code":"1"}`).refused(401, "insufficient_user_authentication")
			require.Equal(t, `Bearer realm="api", error="insufficient_user_authentication", max_age="300"`, challenge(a))
		}
	}
	w.get("/account", stale).is(200)
	w.get("/sessions", stale).is(200)

	w.post("/reauthenticate", stale, "password", "wrong").refused(403, "invalid_grant")
	w.login(jane, "wrong too").refused(400, "invalid_grant")
	fresh := w.post("/reauthenticate", stale, "password", password)
	w.post("/email", fresh.access(), "email", "new@example.com").is(202)
	w.mail("verify", "new@example.com")
	w.get("/account", stale).refused(401, "invalid_token")
	w.pass(time.Minute)
	w.post("/totp", w.useRefresh(fresh.refresh()).access()).is(200)
	w.pass(5 * time.Minute)
	w.post("/totp", fresh.access()).refused(401, "insufficient_user_authentication")

	for _, guess := range []string{"wrong 1", "wrong 2", "wrong 3"} {
		w.post("/reauthenticate", fresh.access(), "password", guess).refused(403, "invalid_grant")
	}
	w.post("/reauthenticate", fresh.access(), "password", password).refused(429, "slow_down")
	w.login(jane, password).refused(429, "slow_down")
}

// challenge is the header WWW-Authenticate without error_description.
func challenge(a answer) string {
	before, after, found := strings.Cut(a.header.Get("WWW-Authenticate"), `, error_description="`)
	if found {
		_, rest, _ := strings.Cut(after, `"`)
		return before + rest
	}
	return before
}

// TestRecentFlag: -recent is the age of the password, and the max_age of the challenge.
func TestRecentFlag(t *testing.T) {
	w := inProcess(t, "-recent=90s")
	w.join(jane)
	token := w.login(jane, password).access()
	w.pass(88 * time.Second)
	w.post("/totp", token).is(200)
	w.pass(2 * time.Second)
	require.Contains(t, w.post("/totp", token).is(401).header.Get("WWW-Authenticate"), `max_age="90"`)
}

// TestEmail: the new address becomes the account's when its ticket is redeemed.
func TestEmail(t *testing.T) {
	const next = "new@example.com"
	w := start(t)
	w.join(jane)
	token := w.login(jane, password).access()
	w.post("/email", token, "email", "NEW@example.com").is(202)
	ticket := w.mail("verify", next)
	require.Equal(t, jane, w.get("/account", token).json["email"])
	w.login(next, password).refused(400, "invalid_grant")
	w.post("/verify", "", "token", ticket).is(204)
	require.JSONEq(t, `{"email":"new@example.com","verified":true,"totp":false}`, w.get("/account", token).text)
	w.login(jane, password).refused(400, "invalid_grant")
	w.login(next, password).is(200)
	w.post("/verify", "", "token", ticket).refused(400, "invalid_ticket")

	// Back, and the first ticket does not work again.
	w.post("/email", token, "email", jane).is(202)
	w.post("/verify", "", "token", w.mail("verify", jane)).is(204)
	w.post("/verify", "", "token", ticket).refused(400, "invalid_ticket")
	require.Equal(t, jane, w.get("/account", token).json["email"])

	// Of two tickets, one works.
	w.post("/email", token, "email", "a@example.com").is(202)
	w.post("/email", token, "email", "b@example.com").is(202)
	a, b := w.mail("verify", "a@example.com"), w.mail("verify", "b@example.com")
	w.post("/verify", "", "token", b).is(204)
	w.post("/verify", "", "token", a).refused(400, "invalid_ticket")

	// The own address is no change.
	w.post("/email", token, "email", "B@example.com").is(202)
	w.noMail()
}

// TestEmailOfAnother: an address that another account has, before or meanwhile, is refused
// when the ticket is redeemed, and not earlier.
func TestEmailOfAnother(t *testing.T) {
	w := start(t)
	w.join("bob@example.com")
	w.join(jane)
	token := w.login(jane, password).access()
	free := w.post("/email", token, "email", "free@example.com").is(202)
	meanwhile := w.mail("verify", "free@example.com")
	same(t, free, w.post("/email", token, "email", "bob@example.com"))
	before := w.mail("verify", "bob@example.com")
	w.post("/signup", "", "email", "free@example.com", "password", password).is(202)
	w.mail("verify", "free@example.com")
	for _, ticket := range []string{before, meanwhile} {
		w.post("/verify", "", "token", ticket).refused(400, "invalid_ticket")
	}
	require.Equal(t, jane, w.get("/account", token).json["email"])
	w.login("bob@example.com", password).is(200)
}

// TestEmailAfterNewPassword: a new password voids a pending change of the address. A thief may
// have asked for it.
func TestEmailAfterNewPassword(t *testing.T) {
	w := start(t)
	w.join(jane)
	w.post("/email", w.login(jane, password).access(), "email", "thief@example.com").is(202)
	ticket := w.mail("verify", "thief@example.com")
	w.post("/forgot", "", "email", jane).is(202)
	w.post("/reset", "", "token", w.mail("reset", jane), "password", "another horse 9").is(204)
	w.mail("changed", jane)
	w.post("/verify", "", "token", ticket).refused(400, "invalid_ticket")
	w.login(jane, "another horse 9").is(200)
}

// TestDeleteAccount: nothing of a deleted user is accepted, and the address is free again.
func TestDeleteAccount(t *testing.T) {
	w := start(t, "-refresh-grace=0")
	w.join(jane)
	w.join("bob@example.com")
	bob := w.login("bob@example.com", password).access()
	other, own := w.login(jane, password), w.login(jane, password)
	w.post("/email", own.access(), "email", "new@example.com").is(202)
	verify := w.mail("verify", "new@example.com")
	w.post("/forgot", "", "email", jane).is(202)
	reset := w.mail("reset", jane)

	w.delete("/account", own.access()).is(204)
	for _, login := range []answer{own, other} {
		w.get("/account", login.access()).refused(401, "invalid_token")
		w.delete("/account", login.access()).refused(401, "invalid_token")
		w.useRefresh(login.refresh()).refused(400, "invalid_grant")
	}
	same(t, w.login("nobody@example.com", password), w.login(jane, password))
	w.post("/verify", "", "token", verify).refused(400, "invalid_ticket")
	w.post("/reset", "", "token", reset, "password", password).refused(400, "invalid_ticket")
	w.post("/forgot", "", "email", jane).is(202)
	w.noMail()
	w.get("/account", bob).is(200)

	w.join(jane) // another account
	w.get("/account", own.access()).refused(401, "invalid_token")
	require.Len(t, w.sessions(w.login(jane, password).access()), 1)
}

// TestRestart: accounts, sessions, tickets and used codes survive a restart, and the files are
// for the owner only.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	w := startIn(t, dir)
	w.join(jane)
	login := w.login(jane, password)
	secret := w.enroll(login.access())
	code := w.code(secret, 1)
	w.login(jane, password, "totp", code).is(200)
	w.post("/forgot", "", "email", jane).is(202)
	ticket := w.mail("reset", jane)
	address := strings.TrimPrefix(w.url, "http://")
	w.stop()
	for _, file := range []string{"account.db", "account.db.jwk", "account.db.secret"} {
		info, err := os.Stat(filepath.Join(dir, file))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), file)
	}

	w = startIn(t, dir, "-issuer=http://"+address) // the port may be another one
	w.get("/account", login.access()).is(200)
	w.useRefresh(login.refresh()).is(200)
	w.login(jane, password, "totp", code).refused(400, "invalid_grant")
	w.post("/forgot", "", "email", jane).is(202)
	w.post("/reset", "", "token", ticket, "password", "another horse 9").is(204)
	w.mail("changed", jane) // and no second reset within two minutes
	w.stop()
}

// TestFlags: a mistake ends the program with one line.
func TestFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-nothing"}, {"x"}, {"-db="}, {"-db=postgres://x"}, {"-addr=x"}, {"-addr=0.0.0.0:0"}, {"-key=missing"}, {"-secret=missing"}, {"-issuer=x"},
		{"-issuer=http://example.com"}, {"-hash=m=0,t=1,p=1"}, {"-hash=x"}, {"-throttle=0/1m"}, {"-refresh-grace=3m"}, {"-refresh-grace=-1s"},
		{"-refresh-forgive=10s"}, {"-refresh-forgive=1h", "-refresh-grace=0"}, {"-refresh-forgive=2161h"}, {"-access-ttl=0"}, {"-access-ttl=1500ms"},
		{"-recent=0"}, {"-recent=1500ms"}, {"-tls-cert=x"}, {"-trusted-proxies=0.0.0.0/0"}, {"-trusted-proxies=x"}, {"-db=/missing/x.db"},
	} {
		cmd := exec.Command(binary, append([]string{"-addr=127.0.0.1:0"}, args...)...)
		cmd.Dir = t.TempDir()
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Run(), &exit, "%v: %s", args, stdout.String())
		require.Contains(t, []int{1, 2}, exit.ExitCode(), args)
		require.Equal(t, 1, strings.Count(stderr.String(), "\n"), "%v: one line, not %q", args, stderr.String())
		require.NotContains(t, stdout.String(), "listening")
	}
	usage, err := exec.Command(binary, "-h").Output()
	require.NoError(t, err)
	require.Contains(t, string(usage), "-recent")

	w := start(t, "-db="+program.MemoryDB, "-throttle=off", "-refresh-forgive=24h")
	w.join(jane)
	for range 20 {
		w.login(jane, "wrong").refused(400, "invalid_grant")
	}
	w.stop()
	require.Contains(t, w.log(), "-throttle=off")
	require.Contains(t, w.log(), "-hash is weaker")
}

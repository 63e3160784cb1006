package main

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSecondFactor: the life of a second factor.
func TestSecondFactor(t *testing.T) {
	w := inProcess(t)
	w.join(jane)
	token := w.login(jane, password).access()
	w.post("/totp/confirm", token, "code", "123456").refused(409, "invalid_request") // no secret yet

	a := w.post("/totp", token).is(200)
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	secret := a.json["secret"].(string)
	require.Len(t, secret, 32) // 160 bits, as RFC 4226 recommends
	uri, err := url.Parse(a.json["uri"].(string))
	require.NoError(t, err)
	require.Equal(t, "otpauth://totp", uri.Scheme+"://"+uri.Host)
	require.Equal(t, "/account:"+jane, uri.Path)
	for name, want := range map[string]string{"secret": secret, "issuer": "account", "algorithm": "SHA1", "digits": "6", "period": "30"} {
		require.Equal(t, want, uri.Query().Get(name), name)
	}
	w.login(jane, password).is(200) // not on before the first code
	other := w.post("/totp", token).is(200).json["secret"].(string)
	require.NotEqual(t, secret, other)
	w.post("/totp/confirm", token, "code", w.code(secret, 0)).refused(403, "invalid_grant")
	w.post("/totp/confirm", token, "code", "").refused(403, "invalid_grant")
	w.post("/totp/confirm", token, "code", w.code(other, -2)).refused(403, "invalid_grant")
	secret = other
	w.post("/totp/confirm", token, "code", w.code(secret, 0)).is(204)
	require.Equal(t, true, w.get("/account", token).json["totp"])
	w.post("/totp", token).refused(409, "invalid_request")
	w.post("/totp/confirm", token, "code", w.code(secret, 1)).refused(409, "invalid_request")

	w.login(jane, password).refused(400, "mfa_required")
	w.login(jane, password, "totp", "").refused(400, "mfa_required")
	wrong := w.login(jane, "wrong").refused(400, "invalid_grant")
	same(t, wrong, w.login(jane, "wrong", "totp", w.code(secret, 1)))
	same(t, wrong, w.login("nobody@example.com", password, "totp", w.code(secret, 1)))
	same(t, wrong, w.login(jane, password, "totp", w.code(secret, 0))) // used by the confirmation
	same(t, wrong, w.login(jane, password, "totp", w.code(secret, -1)))
	same(t, wrong, w.login(jane, password, "totp", w.code(secret, 2)))
	same(t, wrong, w.login(jane, password, "totp", "12345"))
	w.login(jane, password, "totp", w.code(secret, 1)).is(200)
	same(t, wrong, w.login(jane, password, "totp", w.code(secret, 1)))
	w.pass(time.Minute)
	w.login(jane, password, "totp", w.code(secret, 0)).is(200)
	same(t, wrong, w.login(jane, password, "totp", w.code(secret, -1))) // older than the last one
	w.pass(2 * time.Minute)
	w.login(jane, password, "totp", w.code(secret, -1)).is(200)

	// The password stays one of two factors after a reset.
	w.post("/forgot", "", "email", jane).is(202)
	w.post("/reset", "", "token", w.mail("reset", jane), "password", "another horse 9").is(204)
	w.mail("changed", jane)
	w.login(jane, "another horse 9").refused(400, "mfa_required")
	w.pass(time.Minute)
	token = w.login(jane, "another horse 9", "totp", w.code(secret, 0)).access()
	w.delete("/totp", token).is(204)
	w.delete("/totp", token).is(204)
	require.Equal(t, false, w.get("/account", token).json["totp"])
	w.login(jane, "another horse 9").is(200)
	again := w.enroll(token)
	require.NotEqual(t, secret, again)
	w.login(jane, "another horse 9", "totp", w.code(secret, 1)).refused(400, "invalid_grant")
	w.login(jane, "another horse 9", "totp", w.code(again, 1)).is(200)
}

// TestUnverifiedFirst: a second factor is not looked at while the address is unverified.
func TestUnverifiedFirst(t *testing.T) {
	w := start(t)
	w.post("/signup", "", "email", jane, "password", password).is(202)
	w.mail("verify", jane)
	w.login(jane, password, "totp", "123456").refused(400, "email_unverified")
}

// TestParallelCodes: of parallel logins with one code, one succeeds.
func TestParallelCodes(t *testing.T) {
	w := start(t, "-throttle=100/1h")
	w.join(jane)
	secret := w.enroll(w.login(jane, password).access())
	code := w.code(secret, 1)
	require.Equal(t, map[int]int{http.StatusOK: 1, http.StatusBadRequest: 7},
		parallel(8, func() answer { return w.login(jane, password, "totp", code) }))
	w.login(jane, password, "totp", code).refused(400, "invalid_grant")
}

// TestCodesAreCounted: codes are guessed no more often than passwords, and a missing code is
// no guess.
func TestCodesAreCounted(t *testing.T) {
	w := start(t, "-throttle=3/1h")
	w.join(jane)
	secret := w.enroll(w.login(jane, password).access())
	for range 10 {
		w.login(jane, password).refused(400, "mfa_required")
	}
	for range 3 {
		w.login(jane, password, "totp", "12345").refused(400, "invalid_grant")
	}
	w.login(jane, password, "totp", w.code(secret, 1)).refused(429, "slow_down")
	w.login(jane, password).refused(429, "slow_down")
	w.stop()
	require.NotContains(t, w.log(), secret)
}

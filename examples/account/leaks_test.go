package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNothingLeaks goes through all flows of a file database, and searches its files and the
// log for everything that only the user should have: passwords, tickets, tokens and codes
// nowhere; the secret of the second factor in its column alone.
func TestNothingLeaks(t *testing.T) {
	w := start(t, "-db=app.db")
	secrets := map[string]string{}
	keep := func(what, secret string) string { secrets[what] = secret; return secret }
	const first, second, third, wrongPassword = "canary horse 11", "canary horse 22", "canary horse 33", "canary wrong 44"
	for what, p := range map[string]string{"first password": first, "second password": second, "third password": third, "wrong password": wrongPassword} {
		keep(what, p)
	}
	w.post("/signup", "", "email", jane, "password", first).is(202)
	w.login(jane, first).refused(400, "email_unverified")
	w.post("/verify", "", "token", keep("verify ticket", w.mail("verify", jane))).is(204)
	w.login(jane, wrongPassword).refused(400, "invalid_grant")
	a := w.login(jane, first)
	access := keep("access token", a.access())
	totp := w.enroll(access)
	w.login(jane, first).refused(400, "mfa_required")
	w.login(jane, first, "totp", "000000").refused(400, "invalid_grant")
	a = w.login(jane, first, "totp", keep("code", w.code(totp, 1)))
	keep("second access token", a.access())
	a = w.useRefresh(keep("refresh token", a.refresh()))
	access = keep("refreshed access token", a.access())
	a = w.post("/reauthenticate", access, "password", first)
	keep("token after the proof", a.refresh())
	a = w.post("/password", a.access(), "old_password", first, "new_password", second)
	keep("token after the change", a.refresh())
	w.mail("changed", jane)
	w.post("/email", a.access(), "email", "janet@example.com").is(202)
	keep("email ticket", w.mail("verify", "janet@example.com"))
	w.post("/forgot", "", "email", jane).is(202)
	ticket := keep("reset ticket", w.mail("reset", jane))
	w.post("/reset", "", "token", ticket, "password", third).is(204)
	w.post("/reset", "", "token", ticket, "password", third).refused(400, "invalid_ticket")
	w.post("/verify", "", "token", "tk1."+strings.Repeat("canary", 20)).refused(400, "invalid_ticket")
	w.mail("changed", jane)
	w.stop()

	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 2)
	seen := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".jwk") || strings.HasSuffix(file, ".secret") {
			continue
		}
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for what, secret := range secrets {
			if len(secret) >= 10 { // a code of six digits may be there by chance
				require.NotContains(t, string(data), secret, "%s in %s", what, filepath.Base(file))
			}
		}
		if filepath.Base(file) == "stderr" {
			require.NotContains(t, string(data), totp, "the secret of the second factor")
		}
		seen++
	}
	require.GreaterOrEqual(t, seen, 2, "the database and the log")
}

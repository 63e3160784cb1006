package oauth2pw_test

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestConfigOfSessions: New refuses settings of sessions that cannot be meant.
func TestConfigOfSessions(t *testing.T) {
	base := newSessionApp(t).config
	for _, test := range []struct {
		names string
		edit  func(*oauth2pw.Config)
	}{
		{"Config.Secrets", func(c *oauth2pw.Config) { c.Secrets = nil }},
		{"Config.Secrets[0] has 31 bytes", func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("x")[:31]} }},
		{"Config.Secrets[1] is there twice", func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("x"), secret("x")} }},
		{"Config.RefreshGrace", func(c *oauth2pw.Config) { c.RefreshGrace = 2*time.Minute + 1 }},
		{"Config.RefreshIdle", func(c *oauth2pw.Config) { c.RefreshIdle = -1 }},
		{"Config.RefreshIdle", func(c *oauth2pw.Config) { c.RefreshIdle = time.Second - 1 }},
		{"Config.RefreshMax", func(c *oauth2pw.Config) { c.RefreshMax = -1 }},
		{"Config.MaxSessions", func(c *oauth2pw.Config) { c.MaxSessions = -1 }},
		{"Config.Sessions", func(c *oauth2pw.Config) { c.Sessions = (*losing)(nil) }},
		{"Config.SessionCache", func(c *oauth2pw.Config) { c.Sessions, c.SessionCache = nil, time.Minute }},
		{"OpenSession need Config.Sessions", func(c *oauth2pw.Config) {
			c.Sessions, c.OpenSession = nil, func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest, *oauth2pw.Session) error { return nil }
		}},
		{"Config.RefreshForgive", func(c *oauth2pw.Config) { c.RefreshForgive = 30 * time.Second }},
		{"Config.RefreshForgive", func(c *oauth2pw.Config) { c.RefreshForgive = -time.Hour }},
		{"Config.RefreshForgive", func(c *oauth2pw.Config) { c.RefreshGrace, c.RefreshForgive = -1, time.Hour }},
		{"Config.RefreshForgive", func(c *oauth2pw.Config) { c.RefreshForgive = 15 * 24 * time.Hour }},
		{"Config.Sessions", func(c *oauth2pw.Config) {
			c.LoadUser, c.Verifier, c.Issuer = false, c.Issuer.(oauth2pw.TokenVerifier), onlyIssuer{c.Issuer}
		}},
		{"Config.Grants", func(c *oauth2pw.Config) { c.DisablePasswordGrant, c.Grants = true, grantsNamed("password") }},
		{"Config.Hasher", func(c *oauth2pw.Config) { c.Hasher = nil }},
	} {
		c := base
		test.edit(&c)
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, test.names)
		require.NotContains(t, err.Error(), string(secret("x")))
	}
	c := base
	c.DisablePasswordGrant, c.Hasher = true, nil // nobody logs in by password
	_, err := oauth2pw.New(c)
	require.NoError(t, err)
}

// TestSecrets: server secrets come and go.
func TestSecrets(t *testing.T) {
	a := newSessionApp(t)
	kept, repeated, reused, dropped := a.login(), a.login(), a.login(), a.login()
	repeatedNext := a.refreshed(repeated.refresh)
	reusedNext := a.refreshed(a.refreshed(reused.refresh).refresh)

	a = a.again(func(c *oauth2pw.Config) {
		c.Secrets = []oauth2pw.Secret{secret("second"), secret("first")}
	})
	kept = a.lives(kept, true)
	require.Equal(t, repeatedNext.refresh, a.refreshed(repeated.refresh).refresh, "the same bytes under a new first secret")
	a.refresh(reused.refresh).isError(t, 400, "invalid_grant")
	a.saw(oauth2pw.EventRefreshReuse, "same_place")
	a.lives(reusedNext, false)
	fresh := a.login()

	a = a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second")} })
	fresh = a.lives(fresh, true)
	a.takeEvents()
	for _, p := range []pair{kept, dropped} { // dropped too early: cleanly refused
		a.refresh(p.refresh).isError(t, 400, "invalid_grant")
		a.saw(oauth2pw.EventRefreshFailed, "unknown_secret")
	}
	require.Equal(t, 200, a.revoke("token="+kept.refresh).StatusCode, "nobody can tell that it is ours")
	// The old secret is back: the mistake has ended no session.
	a = a.again(func(c *oauth2pw.Config) { c.Secrets = []oauth2pw.Secret{secret("second"), secret("first")} })
	a.lives(kept, true)
	a.lives(fresh, true)
}

// TestStoreRollback: a store that was restored from an hour ago.
func TestStoreRollback(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	backup := *a.session("u1")
	stolen := p
	for range 5 {
		a.clock.Advance(10 * time.Minute)
		p = a.refreshed(p.refresh)
		if stolen.scope == "me" {
			stolen = pair{refresh: p.refresh}
		}
	}
	// The restore brings the old row back.
	row := *a.session("u1")
	now := a.clock.Now()
	ok, err := a.sessions.Advance(t.Context(), row.Generation, &backup, now)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, uint64(1), a.session("u1").Generation)

	a.takeEvents()
	next := a.refreshed(p.refresh)
	e := a.saw(oauth2pw.EventStoreRollback, "")
	require.Equal(t, "u1", e.UserID)
	require.Equal(t, row.Generation+1, a.session("u1").Generation, "it does not fall")
	require.Equal(t, next.refresh, a.refreshed(p.refresh).refresh)
	a.refresh(stolen.refresh).isError(t, 400, "invalid_grant") // and reuse is found out as ever
	a.lives(next, false)
}

// forge makes a refresh token from a server secret and a row, as the doc comment
// in refresh.go says.
func forge(t *testing.T, secret oauth2pw.Secret, row *oauth2pw.Session, generation uint64) string {
	t.Helper()
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh token rt1", 32)
	require.NoError(t, err)
	id, err := base64.RawURLEncoding.DecodeString(row.ID)
	require.NoError(t, err)
	body := binary.BigEndian.AppendUint64(id, generation)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("rt1"))
	mac.Write(row.Salt[:])
	mac.Write(body)
	return "rt1." + base64.RawURLEncoding.EncodeToString(mac.Sum(body))
}

// TestConformance59StoreAndSecret: the store and the secret together make every token, and
// neither of them makes one alone.
func TestConformance59StoreAndSecret(t *testing.T) {
	a := newSessionApp(t)
	p := a.login()
	row := a.session("u1")
	require.Equal(t, p.refresh, forge(t, secret("first"), row, 1))

	for _, guess := range []oauth2pw.Secret{"", secret("guess"), oauth2pw.Secret(row.KeyID), oauth2pw.Secret(row.Salt[:])} {
		a.refresh(forge(t, guess, row, 1)).isError(t, 400, "invalid_grant")
	}
	unsalted, salted := *row, *row
	unsalted.Salt = [16]byte{}
	salted.Salt[15] ^= 1
	for _, guess := range []*oauth2pw.Session{&unsalted, &salted} {
		a.refresh(forge(t, secret("first"), guess, 1)).isError(t, 400, "invalid_grant")
	}
	dump := fmt.Sprintf("%+v %#v %x %s", row, row, row.Salt, row.Label)
	require.NotContains(t, dump, p.refresh[4:])
	require.NotContains(t, dump, p.refresh[4+33:], "the MAC is not in the store")
	require.NotContains(t, dump, p.access)
	a.lives(p, true)
}

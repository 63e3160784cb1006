package integration

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// newServer serves an app over a real SQLite file.
func newServer(t *testing.T) *httptest.Server {
	t.Helper()
	st := openStore(t, openSQLite(t))
	h := cheapHasher(t)
	hash, err := h.Hash(t.Context(), "p@ss w:rd+%")
	require.NoError(t, err)
	require.NoError(t, st.Users.Add(t.Context(), oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)}))
	secret := sha256.Sum256([]byte("s:+% é"))
	for _, c := range []oauth2pw.Client{
		{ID: "webapp", Grants: []string{"password"}},
		{ID: "back end:1", SecretSHA256: secret[:], Grants: []string{"password"}},
	} {
		require.NoError(t, st.Clients.Add(t.Context(), c))
	}
	key, _, err := tokens.NewKey("")
	require.NoError(t, err)
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	require.NoError(t, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: st.Users, Clients: st.Clients, AllowNoClient: true, Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"}, LoadUser: true,
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /me", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		_, _ = w.Write([]byte(p.Subject + " " + p.ClientID))
	})))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func cheapHasher(t *testing.T) *hasher.Hasher {
	t.Helper()
	h, err := hasher.New(hasher.Config{InsecureParams: true, Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}})
	require.NoError(t, err)
	return h
}

// TestXOAuth2 logs golang.org/x/oauth2 in, in every auth style, as every kind of
// client.
func TestXOAuth2(t *testing.T) {
	server := newServer(t)
	for styleName, style := range map[string]oauth2.AuthStyle{
		"auto": oauth2.AuthStyleAutoDetect, "header": oauth2.AuthStyleInHeader, "body": oauth2.AuthStyleInParams,
	} {
		for clientName, client := range map[string][2]string{
			"no client": {}, "public": {"webapp", ""}, "confidential": {"back end:1", "s:+% é"},
		} {
			// A colon cannot stand in a raw Basic id; x/oauth2 form-encodes it.
			t.Run(styleName+"/"+clientName, func(t *testing.T) {
				c := oauth2.Config{
					ClientID: client[0], ClientSecret: client[1], Scopes: []string{"me"},
					Endpoint: oauth2.Endpoint{TokenURL: server.URL + "/token", AuthStyle: style},
				}
				token, err := c.PasswordCredentialsToken(t.Context(), "johndoe", "p@ss w:rd+%")
				require.NoError(t, err)
				require.Equal(t, "bearer", token.TokenType)
				require.Equal(t, "me", token.Extra("scope"))
				require.False(t, token.Expiry.IsZero())

				resp, err := c.Client(context.Background(), token).Get(server.URL + "/me")
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, 200, resp.StatusCode)

				_, err = c.PasswordCredentialsToken(t.Context(), "johndoe", "wrong")
				var refused *oauth2.RetrieveError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, "invalid_grant", refused.ErrorCode)
			})
		}
	}
}

// TestXOAuth2Throttle: golang.org/x/oauth2 in its default mode sends every failed
// login twice. Under the default limit of 10 it may be wrong 9 times, and right the
// tenth; a tenth wrong one is the last.
//
// Conformance 123, 126.
func TestXOAuth2Throttle(t *testing.T) {
	for wrong, want := range map[int]string{9: "", 10: "slow_down"} {
		server := newServer(t)
		login := func(password string) error {
			c := oauth2.Config{ClientID: "webapp", Endpoint: oauth2.Endpoint{TokenURL: server.URL + "/token"}} // a new process: it detects anew
			_, err := c.PasswordCredentialsToken(t.Context(), "johndoe", password)
			return err
		}
		for i := range wrong {
			var refused *oauth2.RetrieveError
			require.ErrorAs(t, login(fmt.Sprint("wrong", i)), &refused)
			if i < 9 {
				require.Equal(t, "invalid_grant", refused.ErrorCode)
			}
		}
		err := login("p@ss w:rd+%")
		if want == "" {
			require.NoError(t, err)
			continue
		}
		var refused *oauth2.RetrieveError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, want, refused.ErrorCode)
		require.Equal(t, 429, refused.Response.StatusCode)
	}
}

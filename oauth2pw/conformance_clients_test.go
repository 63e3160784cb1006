package oauth2pw_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// TestConformanceClients holds the lines about client authentication.
func TestConformanceClients(t *testing.T) {
	a := newApp(t)
	for _, test := range []struct {
		name    string
		body    string // beside the login
		headers []string
		status  int
		code    string
	}{
		{name: "31_form_encoded", headers: []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("c+id:s%3A%2B%25"))}, status: 200},
		{name: "32_raw", headers: []string{basic("c id", "s:+%")}, status: 200},
		{name: "32_raw_that_decodes", headers: []string{basic("raw", "a+b%41")}, status: 200},
		{name: "32_raw_id_that_decodes", headers: []string{basic("a+b", "secret")}, status: 200},
		{name: "31_encoded_of_that", headers: []string{basic("raw", "a%2Bb%2541")}, status: 200},
		{name: "32_plain", headers: []string{basic("backend", "backend-secret")}, status: 200},
		{name: "32_scheme_case", headers: []string{"Authorization: bAsIc " + base64.StdEncoding.EncodeToString([]byte("backend:backend-secret"))}, status: 200},
		{name: "33_body", body: "&client_id=backend&client_secret=backend-secret", status: 200},
		{name: "33_body_encoded", body: "&client_id=c+id&client_secret=s:%2B%25", status: 200},
		{name: "34_both", body: "&client_secret=backend-secret", headers: []string{basic("backend", "backend-secret")}, status: 400, code: "invalid_request"},
		{name: "34_both_complete", body: "&client_id=backend&client_secret=backend-secret", headers: []string{basic("backend", "backend-secret")}, status: 400, code: "invalid_request"},
		{name: "34_same_id", body: "&client_id=backend", headers: []string{basic("backend", "backend-secret")}, status: 200},
		{name: "34_other_id", body: "&client_id=webapp", headers: []string{basic("backend", "backend-secret")}, status: 400, code: "invalid_request"},
		{name: "35_bad_secret", headers: []string{basic("backend", "wrong")}, status: 401, code: "invalid_client"},
		{name: "35_unknown", headers: []string{basic("nobody", "x")}, status: 401, code: "invalid_client"},
		{name: "35_not_base64", headers: []string{"Authorization: Basic !!!"}, status: 401, code: "invalid_client"},
		{name: "35_no_colon", headers: []string{"Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("backend"))}, status: 401, code: "invalid_client"},
		{name: "35_nothing", headers: []string{"Authorization: Basic "}, status: 401, code: "invalid_client"},
		{name: "35_no_id", headers: []string{basic("", "secret")}, status: 401, code: "invalid_client"},
		{name: "35_control_characters", headers: []string{basic("back\x00end", "backend-secret")}, status: 401, code: "invalid_client"},
		{name: "36_body_bad_secret", body: "&client_id=backend&client_secret=wrong", status: 400, code: "invalid_client"},
		{name: "36_body_unknown", body: "&client_id=nobody&client_secret=wrong", status: 400, code: "invalid_client"},
		{name: "36_body_secret_alone", body: "&client_secret=backend-secret", status: 400, code: "invalid_client"},
		{name: "37_no_secret", body: "&client_id=backend", status: 400, code: "invalid_client"},
		{name: "37_basic_no_secret", headers: []string{basic("backend", "")}, status: 401, code: "invalid_client"},
		{name: "38_public", body: "&client_id=webapp", status: 200},
		{name: "38_public_basic", headers: []string{basic("webapp", "")}, status: 200},
		{name: "38_public_with_secret", body: "&client_id=webapp&client_secret=x", status: 400, code: "invalid_client"},
		{name: "38_public_basic_with_secret", headers: []string{basic("webapp", "x")}, status: 401, code: "invalid_client"},
		{name: "39_empty_basic", headers: []string{"Authorization: Basic Og=="}, status: 200},
		{name: "39_empty_basic_and_body", body: "&client_id=webapp", headers: []string{"Authorization: Basic Og=="}, status: 200},
		{name: "40_checked_if_there", body: "&client_id=nobody", status: 400, code: "invalid_client"},
		{name: "41_two_headers", headers: []string{basic("backend", "backend-secret"), basic("backend", "backend-secret")}, status: 400, code: "invalid_request"},
		{name: "41_bearer", headers: []string{"Authorization: Bearer x"}, status: 200},
		{name: "41_bearer_alone", headers: []string{"Authorization: bearer"}, status: 200},
		{name: "41_bearer_and_body", body: "&client_id=backend&client_secret=backend-secret", headers: []string{"Authorization: Bearer x.y.z"}, status: 200},
		{name: "41_bearer_and_bad_body", body: "&client_id=backend&client_secret=wrong", headers: []string{"Authorization: Bearer x.y.z"}, status: 400, code: "invalid_client"},
		{name: "41_long_s", headers: []string{"Authorization: Ba\u017fic " + base64.StdEncoding.EncodeToString([]byte("backend:backend-secret"))}, status: 401, code: "invalid_client"},
		{name: "41_no_scheme", headers: []string{"Authorization: x"}, status: 401, code: "invalid_client"},
		{name: "41_digest", headers: []string{"Authorization: Digest username=x"}, status: 401, code: "invalid_client"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.hasher.take()
			got := a.post(login+test.body, test.headers...)
			if test.status == 200 {
				require.Equal(t, 200, got.StatusCode, got.body)
				return
			}
			got.isError(t, test.status, test.code)
			require.Zero(t, a.hasher.take(), "no password is looked at")
			if test.code == "invalid_client" {
				require.Equal(t, `{"error":"invalid_client","error_description":"The client is unknown or could not be authenticated."}`, got.body)
			}
			challenge := []string(nil) // a browser would open a window of its own over the page
			if test.status == 401 {
				challenge = []string{`Basic realm="api"`}
			}
			require.Equal(t, challenge, got.Header.Values("WWW-Authenticate"))
		})
	}

	t.Run("148_digests", func(t *testing.T) {
		for _, digest := range [][]byte{{}, []byte("not a hash, as somebody might store it"), make([]byte, 31), make([]byte, 33)} {
			_, err := store.NewClients(oauth2pw.Client{ID: "x", SecretSHA256: digest, Grants: []string{"password"}})
			require.ErrorContains(t, err, "SecretSHA256")
			a := newApp(t, func(c *oauth2pw.Config) {
				c.Clients = oneClient{oauth2pw.Client{ID: "x", SecretSHA256: digest, Grants: []string{"password"}, Introspect: true}}
			})
			for _, secret := range []string{"", "secret", string(digest)} {
				a.post(login, basic("x", secret)).isError(t, 503, "temporarily_unavailable")
				a.introspect("x", basic("x", secret)).isError(t, 503, "temporarily_unavailable")
			}
			a.post(login+"&client_id=x").isError(t, 503, "temporarily_unavailable")
			require.ErrorContains(t, a.event().Err, "SecretSHA256")
		}
	})

	t.Run("40_without_a_store", func(t *testing.T) {
		a := newApp(t, func(cfg *oauth2pw.Config) { cfg.Clients = nil })
		a.post(login+"&client_id=webapp").isError(t, 400, "invalid_client")
		require.Equal(t, 200, a.post(login).StatusCode)
	})
}

// oneClient is a store of one client, as it is.
type oneClient struct{ client oauth2pw.Client }

func (o oneClient) ClientByID(_ context.Context, id string) (*oauth2pw.Client, error) {
	if id != o.client.ID {
		return nil, oauth2pw.ErrNotFound
	}
	c := o.client
	return &c, nil
}

// TestConformance43: the store holds the digest of a client's secret, and the digest is no
// secret itself.
func TestConformance43(t *testing.T) {
	a := newApp(t)
	sum := sha256.Sum256([]byte("backend-secret"))
	for _, secret := range []string{
		string(sum[:]), hex.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(sum[:]),
		"backend-secre", "backend-secret ", "Backend-secret", "backend-secret\x00",
	} {
		a.post(login, basic("backend", secret)).isError(t, 401, "invalid_client")
	}
	require.Equal(t, 200, a.post(login, basic("backend", "backend-secret")).StatusCode)
}

// TestConformance150: with Clients a request must name one, unless the Config
// says else.
func TestConformance150(t *testing.T) {
	required := func(c *oauth2pw.Config) { c.AllowNoClient = false }
	a := newSessionApp(t, required)
	for _, headers := range [][]string{nil, {"Authorization: Basic Og=="}, {"Authorization: Bearer x"}} {
		got := a.post(login, headers...)
		got.isError(t, 400, "invalid_client")
		require.Empty(t, got.Header.Values("WWW-Authenticate"))
		require.ErrorContains(t, a.saw(oauth2pw.EventClientFailed, "no_client").Err, "Config.AllowNoClient")
		a.revoke("token=x", headers...).isError(t, 400, "invalid_client")
		got = a.do("POST", "/introspect", "token=x", append([]string{formType}, headers...)...)
		got.isError(t, 401, "invalid_client")
		require.Equal(t, `Basic realm="api"`, got.Header.Get("WWW-Authenticate"))
	}
	require.Zero(t, a.hasher.take())
	p := a.login("client_id=webapp")
	a.refresh(p.refresh).isError(t, 400, "invalid_client")
	_, err := a.auth.Login(post(""), "u1", "")
	require.ErrorContains(t, err, "invalid_client")
	a.lives(p, true, "client_id=webapp")
	a.introspect("x", "Authorization: Bearer x").isError(t, 401, "invalid_client")
	a.do("POST", "/introspect", "token=x&client_id=backend&client_secret=backend-secret", formType, "Authorization: Bearer x").isError(t, 401, "invalid_client")
	got := a.do("POST", "/introspect", "token=x&client_id=backend&client_secret=wrong", formType)
	got.isError(t, 401, "invalid_client")
	require.Equal(t, `Basic realm="api"`, got.Header.Get("WWW-Authenticate"))
}

// TestConformance99: with Config.DefaultClientID a request that names
// no client is that client, everywhere, sessions of no client included.
func TestConformance99(t *testing.T) {
	before := newSessionApp(t)
	old := before.login()
	a := before.again(func(c *oauth2pw.Config) { c.AllowNoClient, c.DefaultClientID = false, "webapp" })
	claims := func(access string) (c struct{ Client_id string }) {
		p, err := a.auth.Verify(t.Context(), access)
		require.NoError(t, err)
		require.NoError(t, p.Claims(&c))
		return c
	}
	p := a.login()
	require.Equal(t, "webapp", claims(p.access).Client_id)
	require.Equal(t, "webapp", a.sessionOf(p).ClientID)
	p = a.refreshed(p.refresh)
	p = a.refreshed(p.refresh, "client_id=webapp") // the same client
	a.refresh(p.refresh, "client_id=narrow").isError(t, 400, "invalid_grant")
	require.Equal(t, "webapp", a.introspect(p.access).json["client_id"])
	require.Equal(t, 200, a.get("/status", old.access).StatusCode)
	old = a.refreshed(old.refresh)
	require.Equal(t, "webapp", claims(old.access).Client_id)
	require.Equal(t, 200, a.get("/status", old.access).StatusCode)
	a.refresh(old.refresh, "client_id=narrow").isError(t, 400, "invalid_grant")
	old = a.refreshed(old.refresh, "client_id=webapp")
	old = a.changed(old, "secret", "new")
	require.Equal(t, 200, a.revoke("token="+old.refresh).StatusCode)
	a.lives(old, false)
	tokens, err := a.auth.Login(post(""), "u1", "")
	require.NoError(t, err)
	require.Equal(t, "webapp", claims(string(tokens.AccessToken)).Client_id)

	// It must be there, and public.
	for _, id := range []string{"nobody", "backend"} {
		b := newApp(t, func(c *oauth2pw.Config) { c.AllowNoClient, c.DefaultClientID = false, id })
		b.post(login).isError(t, 503, "temporarily_unavailable")
		require.Equal(t, "Config.DefaultClientID", b.event().Plug)
		require.Equal(t, 200, b.post(login+"&client_id=webapp").StatusCode)
	}
	// Without Clients it is any id.
	b := newSessionApp(t, func(c *oauth2pw.Config) { c.AllowNoClient, c.DefaultClientID, c.Clients = false, "app", nil })
	p = b.login()
	b.refreshed(b.refreshed(p.refresh).refresh, "client_id=app")
	b.post(login+"&client_id=other").isError(t, 400, "invalid_client")
	b.post(login+"&client_id=app&client_secret=x").isError(t, 400, "invalid_client")
	require.NoError(t, b.users.Add(context.Background(), oauth2pw.User{ID: "app", Username: "mallory", PasswordHash: "new:secret"}))
	b.post("grant_type=password&username=mallory&password=secret").isError(t, 503, "temporarily_unavailable") // 112

	for _, edit := range []func(*oauth2pw.Config){
		func(c *oauth2pw.Config) { c.AllowNoClient, c.DefaultClientID = true, "webapp" },
		func(c *oauth2pw.Config) { c.DefaultClientID = "a\x00" },
	} {
		c := a.app.config()
		edit(&c)
		_, err := oauth2pw.New(c)
		require.ErrorContains(t, err, "Config.DefaultClientID")
	}
}

package oauth2pw_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// TestConformanceMetadata: the metadata document.
func TestConformanceMetadata(t *testing.T) {
	urls := oauth2pw.Metadata{
		TokenEndpoint: issuer + "/token", RevocationEndpoint: issuer + "/revoke", IntrospectionEndpoint: issuer + "/introspect",
	}
	document := func(a *app, m oauth2pw.Metadata) answer {
		return serve(a.T, a.auth.MetadataHandler(m), get("/.well-known/oauth-authorization-server"))
	}

	t.Run("93_96_97_document", func(t *testing.T) {
		got := document(newSessionApp(t).app, urls)
		require.Equal(t, 200, got.StatusCode)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		methods := []any{"client_secret_basic", "client_secret_post", "none"}
		require.Equal(t, map[string]any{
			"issuer": issuer, "token_endpoint": issuer + "/token",
			"revocation_endpoint": issuer + "/revoke", "introspection_endpoint": issuer + "/introspect",
			"scopes_supported": []any{"admin", "items", "me"}, "response_types_supported": []any{},
			"grant_types_supported":                         []any{"password", "refresh_token"},
			"token_endpoint_auth_methods_supported":         methods,
			"revocation_endpoint_auth_methods_supported":    methods,
			"introspection_endpoint_auth_methods_supported": methods[:2],
		}, got.json)
		m := urls
		m.JWKSURI, m.RevocationEndpoint, m.IntrospectionEndpoint = issuer+"/jwks", "", ""
		got = document(newApp(t, func(c *oauth2pw.Config) { c.Clients = nil }), m)
		require.Equal(t, issuer+"/jwks", got.json["jwks_uri"])
		require.Equal(t, []any{"none"}, got.json["token_endpoint_auth_methods_supported"])
		require.NotContains(t, got.json, "revocation_endpoint")
		require.NotContains(t, got.json, "revocation_endpoint_auth_methods_supported")
		require.NotContains(t, got.json, "introspection_endpoint_auth_methods_supported")
		a := newApp(t)
		for method, status := range map[string]int{"POST": 405, "DELETE": 405, "HEAD": 200} {
			got := serve(t, a.auth.MetadataHandler(urls), httptest.NewRequest(method, "/", nil))
			require.Equal(t, status, got.StatusCode)
			if status == 405 {
				require.Equal(t, "GET, HEAD", got.Header.Get("Allow"))
			}
		}
	})

	t.Run("94_urls", func(t *testing.T) {
		a := newApp(t)
		for _, edit := range []func(*oauth2pw.Metadata){
			func(m *oauth2pw.Metadata) { m.Issuer = "https://other.example.com" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "/token" },
			func(m *oauth2pw.Metadata) { m.TokenEndpoint = "http://api.example.com/token" },
			func(m *oauth2pw.Metadata) { m.RevocationEndpoint = issuer + "/revoke#x" },
			func(m *oauth2pw.Metadata) { m.JWKSURI = "ftp://x" },
			func(m *oauth2pw.Metadata) { m.JWKSURI = "https://user:pw@x/" },
		} {
			m := urls
			edit(&m)
			require.Panics(t, func() { a.auth.MetadataHandler(m) }, "%+v", m)
		}
		for _, test := range []struct {
			issuer string
			ok     bool
		}{
			{"https://x.example", true},
			{"https://x.example/t1", true},
			{"http://127.0.0.1:8000", true},
			{"http://localhost", true},
			{"http://[::1]:1", true},
			{"http://x.example", false},
			{"https://x.example?", false},
			{"https://x.example?a=b", false},
			{"https://x.example#a", false},
			{"x.example", false},
			{"me", false},
		} {
			a := newApp(t, func(c *oauth2pw.Config) {
				c.Issuer, c.Verifier, c.LoadUser = renamed{c.Issuer.(*tokens.Ring), test.issuer}, c.Issuer.(*tokens.Ring), false
			})
			if !test.ok {
				require.Panics(t, func() { document(a, urls) }, test.issuer)
				continue
			}
			require.Equal(t, test.issuer, document(a, urls).json["issuer"])
		}
	})

	t.Run("95_grants", func(t *testing.T) {
		for want, edit := range map[string]func(*oauth2pw.Config){
			"[password]":                   func(c *oauth2pw.Config) { c.DisableRefresh = true },
			"[refresh_token]":              func(c *oauth2pw.Config) { c.DisablePasswordGrant = true },
			"[]":                           func(c *oauth2pw.Config) { c.DisablePasswordGrant, c.DisableRefresh = true, true },
			"[password refresh_token otp]": func(c *oauth2pw.Config) { c.Grants = grantsNamed("otp") },
		} {
			a := newSessionApp(t, edit)
			require.Equal(t, want, fmt.Sprint(document(a.app, urls).json["grant_types_supported"]))
			if !strings.Contains(want, "password") {
				a.post(login).isError(t, 400, "unsupported_grant_type")
			}
		}
	})
}

// renamed is a ring under another name.
type renamed struct {
	*tokens.Ring
	name string
}

func (r renamed) Issuer() string { return r.name }

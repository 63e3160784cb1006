package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDocs: the page, its files and its document are served by the program, without a script
// inside of the page and without a URL of another host. internal/clients opens the page with a
// browser.
func TestDocs(t *testing.T) {
	p := start(t, cheapHash, "-db=:memory:")
	require.Contains(t, p.greet, p.url+"/docs")
	get := func(path string) (*http.Response, string) {
		resp, err := http.Get(p.url + path)
		require.NoError(t, err)
		status, body := readBody(t, resp)
		require.Equal(t, 200, status, path)
		return resp, body
	}
	resp, page := get("/docs")
	require.Equal(t, "text/html; charset=utf-8", resp.Header.Get("Content-Type"))
	require.NotContains(t, page, "://")
	files := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page, -1)
	require.Len(t, files, 4)
	for _, f := range files {
		resp, _ := get("/" + f[1])
		require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"), f[1])
	}
	require.Equal(t, "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		resp.Header.Get("Content-Security-Policy"))
	require.Equal(t, "no-referrer", resp.Header.Get("Referrer-Policy"))

	get("/docs/") // a redirect

	_, body := get("/openapi.json")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Security []map[string][]string `json:"security"`
		} `json:"paths"`
		Components struct {
			SecuritySchemes map[string]json.RawMessage `json:"securitySchemes"`
		} `json:"components"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &doc))
	require.Regexp(t, `^3\.1\.`, doc.OpenAPI)
	require.JSONEq(t, `{"type":"oauth2","flows":{"password":{"tokenUrl":"token","refreshUrl":"token","scopes":{
		"me":"Read information about the current user.","items":"Read items."}}}}`, string(doc.Components.SecuritySchemes["OAuth2PasswordBearer"]))

	// The document says of every route whether a token is needed, and the server agrees.
	protected := make(map[string]bool)
	for path, operations := range doc.Paths {
		for method, o := range operations {
			r, err := http.NewRequest(strings.ToUpper(method), p.url+strings.ReplaceAll(path, "{id}", "x"), nil)
			require.NoError(t, err)
			resp, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			_, answer := readBody(t, resp)
			required := len(o.Security) == 1
			require.Equal(t, required, strings.Contains(answer, `"unauthorized"`), "%s %s: %s", method, path, answer)
			protected[method+" "+path] = required
		}
	}
	require.Equal(t, map[string]bool{
		"post /token": false, "post /revoke": false, "post /introspect": false, "get /": false, "get /healthz": false,
		"get /users/me": true, "get /users/me/items": true, "get /status": true,
		"get /sessions": true, "delete /sessions": true, "delete /sessions/{id}": true, "post /password": true,
	}, protected)
	require.Equal(t, []map[string][]string{{"OAuth2PasswordBearer": {"me", "items"}}}, doc.Paths["/users/me/items"]["get"].Security)
	require.Equal(t, []map[string][]string{{}, {"OAuth2PasswordBearer": {}}}, doc.Paths["/"]["get"].Security)
}

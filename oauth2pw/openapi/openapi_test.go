package openapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var bearer = oauth2pw.PasswordBearer{TokenURL: "token", Scopes: map[string]string{"me": "<Read> & more", "items": ""}}

func refuseAll(context.Context, string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
}

func with(scopes ...string) func(http.Handler) http.Handler {
	return oauth2pw.PasswordBearer{}.Require(refuseAll, scopes...)
}

var (
	end      = http.NotFoundHandler()
	optional = oauth2pw.PasswordBearer{Optional: true}.Require(refuseAll)
)

// wrapped is middleware of an app that shows the next handler.
type wrapped struct{ http.Handler }

func (w wrapped) Unwrap() http.Handler { return w.Handler }

func TestScheme(t *testing.T) {
	for _, test := range []struct {
		name string
		b    oauth2pw.PasswordBearer
		want string
	}{
		{"the zero value has no token endpoint", oauth2pw.PasswordBearer{}, `{"type":"http","scheme":"bearer"}`},
		{"scopes are always there", oauth2pw.PasswordBearer{TokenURL: "token"}, `{"type":"oauth2","flows":{"password":{"tokenUrl":"token","scopes":{}}}}`},
		{
			"all", oauth2pw.PasswordBearer{TokenURL: "/a/token", RefreshURL: "/a/token", Description: "Log in.", Scopes: map[string]string{"me": "x"}},
			`{"type":"oauth2","description":"Log in.","flows":{"password":{"tokenUrl":"/a/token","refreshUrl":"/a/token","scopes":{"me":"x"}}}}`,
		},
	} {
		got, err := json.Marshal(SchemeOf(test.b))
		require.NoError(t, err, test.name)
		require.JSONEq(t, test.want, string(got), test.name)
	}
	scopes := map[string]string{"me": ""}
	SchemeOf(oauth2pw.PasswordBearer{TokenURL: "token", Scopes: scopes}).Flows.Password.Scopes["x"] = ""
	require.Len(t, scopes, 1, "the scheme has a copy")
}

// TestRequirements: nested middleware adds up, in order, without duplicates, and a handler is
// optional only if all of its middleware is.
func TestRequirements(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.Handler
		want    string
	}{
		{"none", end, `null`},
		{"a token", with()(end), `[{"OAuth2PasswordBearer":[]}]`},
		{"nested", with("me", "items")(with("x", "me")(end)), `[{"OAuth2PasswordBearer":["me","items","x"]}]`},
		{"optional", optional(end), `[{},{"OAuth2PasswordBearer":[]}]`},
		{"optional outside", optional(with("me")(end)), `[{"OAuth2PasswordBearer":["me"]}]`},
		{"optional inside", with("me")(optional(end)), `[{"OAuth2PasswordBearer":["me"]}]`},
		{"between them a handler that shows the next", with("me")(wrapped{with("items")(end)}), `[{"OAuth2PasswordBearer":["me","items"]}]`},
		{"nil", nil, `null`},
	} {
		got, err := json.Marshal(RequirementsOf(test.handler))
		require.NoError(t, err)
		require.Equal(t, test.want, string(got), test.name)
	}
}

// securityOf parses a document of operations, sets their security, and returns it by method
// and path.
func securityOf(t *testing.T, doc string, b oauth2pw.PasswordBearer, routes ...http.Handler) map[string]string {
	t.Helper()
	d, err := Parse([]byte(doc), b)
	require.NoError(t, err)
	require.NoError(t, d.Routes(routes...))
	body, err := d.MarshalJSON()
	require.NoError(t, err)
	var parsed struct {
		Paths map[string]map[string]struct {
			Security json.RawMessage `json:"security"`
		} `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(body, &parsed))
	security := make(map[string]string)
	for path, item := range parsed.Paths {
		for method, o := range item {
			security[method+" "+path] = string(o.Security)
		}
	}
	return security
}

func documentOf(version, paths string) string {
	return fmt.Sprintf(`{"openapi":%q,"info":{"title":"t","version":"1"},"paths":{%s}}`, version, paths)
}

// TestRoutes: the ServeMux that serves says which middleware is around an operation.
func TestRoutes(t *testing.T) {
	inner := http.NewServeMux()
	inner.Handle("GET /admin/users/{id}", with("items")(end))
	inner.Handle("GET /admin/", end)
	mux := http.NewServeMux()
	mux.Handle("GET /users/{id}", with("me")(end))
	mux.Handle("GET /users/special", end)
	mux.Handle("DELETE /users/{name}", with("me", "items")(end))
	mux.Handle("/any", optional(end))
	mux.Handle("/admin/", with("me")(inner))
	other := http.NewServeMux()
	other.Handle("GET /other/{rest...}", with()(end))
	got := securityOf(t, documentOf("3.1.0", `
		"/users/{user_id}":{"summary":{},"get":{},"delete":{}},
		"/users/special":{"get":{}},
		"/any":{"get":{},"post":{}},
		"/admin/users/{id}":{"get":{}},
		"/admin/x":{"get":{}},
		"/other/{path}":{"get":{}}`), bearer, mux, wrapped{other})
	require.Equal(t, map[string]string{
		"get /users/{user_id}":    `[{"OAuth2PasswordBearer":["me"]}]`,
		"delete /users/{user_id}": `[{"OAuth2PasswordBearer":["me","items"]}]`,
		"get /users/special":      ``,
		"get /any":                `[{},{"OAuth2PasswordBearer":[]}]`,
		"post /any":               `[{},{"OAuth2PasswordBearer":[]}]`,
		"get /admin/users/{id}":   `[{"OAuth2PasswordBearer":["me","items"]}]`,
		"get /admin/x":            `[{"OAuth2PasswordBearer":["me"]}]`,
		"get /other/{path}":       `[{"OAuth2PasswordBearer":[]}]`,
	}, drop(got, "summary /users/{user_id}"))
}

func drop(m map[string]string, key string) map[string]string {
	delete(m, key)
	return m
}

// TestRoutesMissing: an operation without a route is an error that names it, and the others
// have their security.
func TestRoutesMissing(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /here", with("me")(end))
	mux.Handle("GET example.com/host", end)
	for name, routes := range map[string][]http.Handler{"a ServeMux": {mux}, "no ServeMux": {end}, "nothing": nil} {
		d, err := Parse([]byte(documentOf("3.1.0", `"/here":{"get":{},"post":{}},"/gone":{"put":{}},"/host":{"get":{}}`)), bearer)
		require.NoError(t, err)
		err = d.Routes(routes...)
		require.ErrorContains(t, err, "POST /here, PUT /gone, GET /host", name)
		body, _ := d.MarshalJSON()
		require.Equal(t, routes != nil && routes[0] == http.Handler(mux), strings.Contains(string(body), `"get":{"security":[{"OAuth2PasswordBearer":["me"]}]}`), name)
	}
	endless := http.NewServeMux()
	endless.Handle("/", endless)
	d, err := Parse([]byte(documentOf("3.1.0", `"/x":{"get":{}}`)), bearer)
	require.NoError(t, err)
	require.Error(t, d.Routes(endless))
}

// TestMerge: security that the document has already is required in addition, whether it is of
// the operation or of the document, and the scheme's own entries are replaced.
func TestMerge(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /me", with("me")(end))
	mux.Handle("GET /maybe", optional(end))
	mux.Handle("GET /open", end)
	for _, test := range []struct{ name, root, operation, me, maybe, open string }{
		{"none", ``, ``, `[{"B":["me"]}]`, `[{},{"B":[]}]`, ``},
		{"a key", ``, `"security":[{"key":[]}]`, `[{"B":["me"],"key":[]}]`, `[{"key":[]},{"B":[],"key":[]}]`, `[{"key":[]}]`},
		{"one of two keys", ``, `"security":[{"a":[]},{"b":["x"]}]`, `[{"B":["me"],"a":[]},{"B":["me"],"b":["x"]}]`, `[{"a":[]},{"B":[],"a":[]},{"b":["x"]},{"B":[],"b":["x"]}]`, `[{"a":[]},{"b":["x"]}]`},
		{"of the document", `"security":[{"key":[]}],`, ``, `[{"B":["me"],"key":[]}]`, `[{"key":[]},{"B":[],"key":[]}]`, ``},
		{"of the document, switched off", `"security":[{"key":[]}],`, `"security":[]`, `[{"B":["me"]}]`, `[{},{"B":[]}]`, `[]`},
		{"old entries", `"security":[{"B":["old"]}],`, ``, `[{"B":["me"]}]`, `[{},{"B":[]}]`, ``},
		{"optional", ``, `"security":[{},{"B":["old"]}]`, `[{"B":["me"]}]`, `[{},{"B":[]}]`, `[{},{"B":["old"]}]`},
	} {
		doc := strings.Replace(documentOf("3.1.0", fmt.Sprintf(`"/me":{"get":{%[1]s}},"/maybe":{"get":{%[1]s}},"/open":{"get":{%[1]s}}`, test.operation)), "{", "{"+test.root, 1)
		doc = strings.ReplaceAll(doc, `"B"`, `"OAuth2PasswordBearer"`)
		for path, want := range map[string]string{"/me": test.me, "/maybe": test.maybe, "/open": test.open} {
			want = strings.ReplaceAll(want, `"B"`, `"OAuth2PasswordBearer"`)
			got := securityOf(t, doc, bearer, mux)["get "+path]
			require.Equal(t, want, got, "%s: %s", test.name, path)
		}
	}
}

// TestUntouched: members that are not of the login keep their order and their text.
func TestUntouched(t *testing.T) {
	const doc = `{"x-first":1e400,"openapi":"3.0.3","components":{"z":1,"securitySchemes":{"OAuth2PasswordBearer":{"type":"old"},"key":{"type":"apiKey"}},"a":"<&>\u00e9"},"paths":{"/b":{"x-b":0.10,"get":{"security":[{"OAuth2PasswordBearer":["me"]}],"responses":{}}},"/a":{}},"info":{}}`
	mux := http.NewServeMux()
	mux.Handle("/b", with("me")(end))
	d, err := Parse([]byte(doc), oauth2pw.PasswordBearer{TokenURL: "token"})
	require.NoError(t, err)
	require.NoError(t, d.Routes(mux))
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	scheme := `{"type":"oauth2","flows":{"password":{"tokenUrl":"token","scopes":{"me":""}}}}` // the scope of the handler is declared
	require.Equal(t, strings.Replace(doc, `{"type":"old"}`, scheme, 1), w.Body.String())
}

// TestHTTPScheme: a service that only takes tokens has no OAuth flow, and in OpenAPI 3.0 no
// scopes.
func TestHTTPScheme(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/me", with("me")(end))
	for version, want := range map[string]string{"3.0.4": `[{"OAuth2PasswordBearer":[]}]`, "3.1.1": `[{"OAuth2PasswordBearer":["me"]}]`} {
		require.Equal(t, want, securityOf(t, documentOf(version, `"/me":{"get":{}}`), oauth2pw.PasswordBearer{}, mux)["get /me"])
	}
}

// TestByHand: one operation at a time.
func TestByHand(t *testing.T) {
	d, err := Parse([]byte(documentOf("3.1.0", `"/a":{"get":{},"parameters":[]},"/b":{"post":{}}`)), bearer)
	require.NoError(t, err)
	require.NoError(t, d.Require("GET", "/a", "me", "new"))
	require.NoError(t, d.Operation("POST", "/b", with("me")(with("items")(end))))
	for _, wrong := range [][2]string{{"POST", "/a"}, {"GET", "/c"}, {"PARAMETERS", "/a"}, {"", ""}} {
		require.ErrorContains(t, d.Require(wrong[0], wrong[1]), "has no operation "+wrong[0]+" "+wrong[1])
	}
	body, err := json.Marshal(d)
	require.NoError(t, err)
	require.Contains(t, string(body), `"get":{"security":[{"OAuth2PasswordBearer":["me","new"]}]}`)
	require.Contains(t, string(body), `"post":{"security":[{"OAuth2PasswordBearer":["me","items"]}]}`)
	require.Contains(t, string(body), `"new":""`)
}

// TestParseErrors: each error says where the document is wrong.
func TestParseErrors(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                      "is no JSON object",
		`openapi: 3.1.0`:                        "is no JSON object",
		`[]`:                                    "an object is required, not []",
		`null`:                                  "not null",
		`{}`:                                    `version ""`,
		`{"swagger":"2.0"}`:                     `version ""`,
		`{"openapi":3.1}`:                       `"openapi"`,
		`{"openapi":"3.2.0"}`:                   `version "3.2.0"`,
		`{"openapi":"3.10.0"}`:                  `version "3.10.0"`,
		`{"openapi":"3.1.0","openapi":"3.1.0"}`: `two members have the name "openapi"`,
		`{"openapi":"3.1.0","paths":[]}`:        `"paths"`,
		`{"openapi":"3.1.0","components":{"securitySchemes":7}}`:             `"securitySchemes"`,
		`{"openapi":"3.1.0"} {}`:                                             "is no JSON object",
		`{"openapi":"3.1.0","components":{"securitySchemes":{"a":1,"a":2}}}`: `"a"`,
	} {
		_, err := Parse([]byte(doc), bearer)
		require.ErrorContains(t, err, want, doc)
		require.ErrorContains(t, err, "openapi: ", doc)
	}
	mux := http.NewServeMux()
	mux.Handle("/a", with("me")(end))
	for _, broken := range []string{`"/a":{"get":{"security":{}}}`, `"/a":{"get":{"security":[{"a":"b"}]}}`, `"/a":{"get":{"a":1,"a":1}}`, `"/a":{"get":{},"get":{}}`} {
		d, err := Parse([]byte(documentOf("3.1.0", broken)), bearer)
		require.NoError(t, err)
		require.ErrorContains(t, d.Routes(mux), "openapi: ", broken)
	}
}

// FuzzDocument: no document makes it panic, and the result is a document again.
func FuzzDocument(f *testing.F) {
	f.Add(documentOf("3.1.0", `"/a":{"get":{"security":[{"x":[]}]}}`))
	f.Add(documentOf("3.0.0", `"/{x}":{"post":{}},"//":{"get":{}},"":{"get":{}},"/%zz":{"get":{}}`))
	f.Add(`{"openapi":"3.1.0","security":[{}],"components":null,"paths":null}`)
	mux := http.NewServeMux()
	mux.Handle("/", with("me")(end))
	f.Fuzz(func(t *testing.T, doc string) {
		d, err := Parse([]byte(doc), bearer)
		if err != nil {
			return
		}
		failed := d.Routes(mux)
		body, err := d.MarshalJSON()
		require.NoError(t, err)
		again, err := Parse(body, bearer)
		require.NoError(t, err)
		if failed == nil {
			require.NoError(t, again.Routes(mux))
			same, err := again.MarshalJSON()
			require.NoError(t, err)
			require.Equal(t, string(body), string(same))
		}
	})
}

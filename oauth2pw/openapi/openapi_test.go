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

// requiring is middleware of an app that requires a token.
type requiring struct{ http.Handler }

func (requiring) RequiredScopes() []string { return []string{"x"} }

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
		{"optional, with a scope of each token", oauth2pw.PasswordBearer{Optional: true}.Require(refuseAll, "me")(end), `[{},{"OAuth2PasswordBearer":["me"]}]`},
		{"middleware of an app that requires scopes", requiring{end}, `[{"OAuth2PasswordBearer":["x"]}]`},
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

// read returns the security of every operation, by method and path.
func read(t *testing.T, d *Document) map[string]string {
	t.Helper()
	body, err := json.Marshal(d)
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

func parse(t *testing.T, doc string, b oauth2pw.PasswordBearer) *Document {
	t.Helper()
	d, err := Parse([]byte(doc), b)
	require.NoError(t, err)
	return d
}

func documentOf(version, paths string) string {
	return fmt.Sprintf(`{"openapi":%q,"info":{"title":"t","version":"1"},"paths":{%s}}`, version, paths)
}

// TestRoutes: the ServeMux that serves says which middleware is around an operation.
func TestRoutes(t *testing.T) {
	inner := http.NewServeMux()
	inner.Handle("GET /admin/users/{id}", with("items")(end))
	inner.Handle("GET /admin/", end)
	pages := http.NewServeMux()
	pages.Handle("/page", with("me")(end))
	mux := http.NewServeMux()
	mux.Handle("GET /users/{id}", with("me")(end))
	mux.Handle("GET /users/special", end)
	mux.Handle("DELETE /users/{name}", with("me", "items")(end))
	mux.Handle("/any", optional(end))
	mux.Handle("/admin/", with("me")(inner))
	mux.Handle("/", pages)
	mux.Handle("/café", with("me")(end))
	other := http.NewServeMux()
	other.Handle("GET /other/{rest...}", with()(end))
	d := parse(t, documentOf("3.1.0", `
		"/users/{user_id}":{"get":{},"delete":{}},
		"/users/special":{"get":{"security":[]}},
		"/any":{"get":{},"post":{}},
		"/admin/users/{id}":{"get":{}},
		"/admin/x":{"get":{}},
		"/page":{"get":{}},
		"/caf%C3%A9":{"trace":{},"head":{},"options":{},"put":{},"patch":{}},
		"/other/{path}":{"get":{}}`), oauth2pw.PasswordBearer{TokenURL: "token"})
	require.NoError(t, d.Routes(mux, wrapped{other}))
	require.Equal(t, map[string]string{
		"get /users/{user_id}":    `[{"OAuth2PasswordBearer":["me"]}]`,
		"delete /users/{user_id}": `[{"OAuth2PasswordBearer":["me","items"]}]`,
		"get /users/special":      `[]`,
		"get /any":                `[{},{"OAuth2PasswordBearer":[]}]`,
		"post /any":               `[{},{"OAuth2PasswordBearer":[]}]`,
		"get /admin/users/{id}":   `[{"OAuth2PasswordBearer":["me","items"]}]`,
		"get /admin/x":            `[{"OAuth2PasswordBearer":["me"]}]`,
		"get /page":               `[{"OAuth2PasswordBearer":["me"]}]`,
		"get /other/{path}":       `[{"OAuth2PasswordBearer":[]}]`,
		"trace /caf%C3%A9":        `[{"OAuth2PasswordBearer":["me"]}]`,
		"head /caf%C3%A9":         `[{"OAuth2PasswordBearer":["me"]}]`,
		"options /caf%C3%A9":      `[{"OAuth2PasswordBearer":["me"]}]`,
		"put /caf%C3%A9":          `[{"OAuth2PasswordBearer":["me"]}]`,
		"patch /caf%C3%A9":        `[{"OAuth2PasswordBearer":["me"]}]`,
	}, read(t, d))
}

// TestHidden: a document never says in silence that a handler is open, or that it needs a
// token, if no middleware is visible.
func TestHidden(t *testing.T) {
	protected := with("me")(end)
	logged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { protected.ServeHTTP(w, r) })
	for _, test := range []struct {
		name, pattern string
		handler       http.Handler
		path, own     string // of the document
		want          string // in the error; "": none
	}{
		{"behind a time-out", "/a", http.TimeoutHandler(protected, 1, ""), "/a", ``, "GET /a: no middleware of oauth2pw is visible around *http.timeoutHandler"},
		{"inside of a function", "/a", logged, "/a", ``, "visible around http.HandlerFunc"},
		{"behind a prefix", "/a/", http.StripPrefix("/a", protected), "/a/", ``, "no middleware"},
		{"a redirect of ServeMux", "/a/", protected, "/a", ``, "no middleware of oauth2pw is visible around *http.redirectHandler"},
		{"open, and the document says so", "/a", end, "/a", `"security":[]`, ""},
		{"open by the document's own scheme", "/a", end, "/a", `"security":[{"key":[]}]`, ""},
		{"open, and the document says that it needs a token", "/a", end, "/a", `"security":[{"OAuth2PasswordBearer":[]}]`, "GET /a: the document requires a token"},
		{"another path", "/b", protected, "/a", ``, "no ServeMux of the routes serves GET /a"},
		{"another method", "POST /a", protected, "/a", ``, "no ServeMux of the routes serves GET /a"},
		{"for one host", "example.com/a", protected, "/a", ``, "no ServeMux of the routes serves GET /a"},
		{"by the pattern of all pages", "/", protected, "/a", ``, "no ServeMux of the routes serves GET /a"},
		{"by another pattern of all pages", "GET /{rest...}", protected, "/a", ``, "no ServeMux of the routes serves GET /a"},
		{"the first page", "/", protected, "/", ``, ""},
		{"an unknown scope", "/a", with("zzz")(end), "/a", ``, `GET /a: the scheme has no scope "zzz"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			mux := http.NewServeMux()
			mux.Handle(test.pattern, test.handler)
			d := parse(t, documentOf("3.1.0", fmt.Sprintf(`%q:{"get":{%s}}`, test.path, test.own)), bearer)
			err := d.Routes(mux)
			_, failed := d.Handler()
			if test.want == "" {
				require.NoError(t, err)
				require.NoError(t, failed)
				return
			}
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, failed, "the security of GET "+test.path+" is open")
		})
	}
	// The security of the whole document is no word about an operation.
	mux := http.NewServeMux()
	mux.Handle("/a", end)
	d := parse(t, strings.Replace(documentOf("3.1.0", `"/a":{"get":{}}`), "{", `{"security":[],`, 1), bearer)
	require.ErrorContains(t, d.Routes(mux), `write "security": [] into the operation`)
}

// TestRoutesMissing: the error names every operation at once, and the others have their
// security.
func TestRoutesMissing(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /here", with("me")(end))
	const paths = `"/here":{"get":{},"post":{}},"/gone":{"put":{}}`
	d := parse(t, documentOf("3.1.0", paths), bearer)
	err := d.Routes(mux)
	require.ErrorContains(t, err, "POST /here")
	require.ErrorContains(t, err, "PUT /gone")
	require.NotContains(t, err.Error(), "GET /here")
	_, err = json.Marshal(d)
	require.ErrorContains(t, err, "the security of POST /here, PUT /gone is open")
	require.NoError(t, d.SetScopes("POST", "/here"))
	require.NoError(t, d.SetScopes("PUT", "/gone", "items"))
	require.Equal(t, map[string]string{
		"get /here": `[{"OAuth2PasswordBearer":["me"]}]`, "post /here": `[{"OAuth2PasswordBearer":[]}]`, "put /gone": `[{"OAuth2PasswordBearer":["items"]}]`,
	}, read(t, d))

	for name, routes := range map[string][]http.Handler{"no ServeMux": {end}, "nothing": nil} {
		require.ErrorContains(t, parse(t, documentOf("3.1.0", paths), bearer).Routes(routes...), "GET /here", name)
	}
	for _, none := range []http.Handler{nil, (*http.ServeMux)(nil)} {
		require.ErrorContains(t, parse(t, documentOf("3.1.0", paths), bearer).Routes(none), "a handler is nil")
	}
	endless := http.NewServeMux()
	endless.Handle("/here", endless)
	require.ErrorContains(t, parse(t, documentOf("3.1.0", paths), bearer).Routes(endless), "GET /here")
}

// TestMerge: security that the document has already is required in addition, whether it is of
// the operation or of the document; but a scheme that is a bearer token, too, is replaced.
func TestMerge(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /me", with("me")(end))
	mux.Handle("GET /maybe", optional(end))
	for _, test := range []struct{ name, root, operation, me, maybe string }{
		{"none", ``, ``, `[{"B":["me"]}]`, `[{},{"B":[]}]`},
		{"a key", ``, `"security":[{"key":[]}]`, `[{"B":["me"],"key":[]}]`, `[{"key":[]},{"B":[],"key":[]}]`},
		{"one of two keys", ``, `"security":[{"a":[]},{"b":["x"]}]`, `[{"B":["me"],"a":[]},{"B":["me"],"b":["x"]}]`, `[{"a":[]},{"B":[],"a":[]},{"b":["x"]},{"B":[],"b":["x"]}]`},
		{"of the document", `"security":[{"key":[]}],`, ``, `[{"B":["me"],"key":[]}]`, `[{"key":[]},{"B":[],"key":[]}]`},
		{"of the document, switched off", `"security":[{"key":[]}],`, `"security":[]`, `[{"B":["me"]}]`, `[{},{"B":[]}]`},
		{"old entries", `"security":[{"B":["old"]}],`, ``, `[{"B":["me"]}]`, `[{},{"B":[]}]`},
		{"optional", ``, `"security":[{},{"B":["old"]}]`, `[{"B":["me"]}]`, `[{},{"B":[]}]`},
		{"the same header", ``, `"security":[{"jwt":[],"key":[]},{"login":["x"]},{"basic":[]},{"sso":[]}]`, `[{"B":["me"],"key":[]},{"B":["me"]},{"B":["me"],"basic":[]}]`, `[{"key":[]},{"B":[],"key":[]},{},{"B":[]},{"basic":[]},{"B":[],"basic":[]}]`},
	} {
		const schemes = `"components":{"securitySchemes":{"jwt":{"type":"http","scheme":"Bearer"},"basic":{"type":"http","scheme":"basic"},"login":{"type":"oauth2"},"sso":{"type":"openIdConnect"},"key":{"type":"apiKey"}}},`
		doc := strings.Replace(documentOf("3.1.0", fmt.Sprintf(`"/me":{"get":{%[1]s}},"/maybe":{"get":{%[1]s}}`, test.operation)), "{", "{"+schemes+test.root, 1)
		d := parse(t, strings.ReplaceAll(doc, `"B"`, `"OAuth2PasswordBearer"`), bearer)
		require.NoError(t, d.Routes(mux), test.name)
		got := read(t, d)
		for path, want := range map[string]string{"/me": test.me, "/maybe": test.maybe} {
			require.Equal(t, strings.ReplaceAll(want, `"B"`, `"OAuth2PasswordBearer"`), got["get "+path], "%s: %s", test.name, path)
		}
	}
}

// TestUntouched: members that are not of the login keep their order and their text.
func TestUntouched(t *testing.T) {
	const doc = `{"x-first":1e400,"openapi":"3.0.3","components":{"z":1,"securitySchemes":{"OAuth2PasswordBearer":{"type":"old"},"key":{"type":"apiKey"}},"a":"<&>\u00e9"},"paths":{"/b":{"x-b":0.10,"get":{"security":[{"OAuth2PasswordBearer":["me"]}],"responses":{}}},"/a":{}},"info":{}}`
	mux := http.NewServeMux()
	mux.Handle("/b", with("me")(end))
	d := parse(t, doc, oauth2pw.PasswordBearer{TokenURL: "token"})
	require.NoError(t, d.Routes(mux))
	handler, err := d.Handler()
	require.NoError(t, err)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/openapi.json", nil))
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
		d := parse(t, documentOf(version, `"/me":{"get":{}}`), oauth2pw.PasswordBearer{})
		require.NoError(t, d.Routes(mux))
		require.Equal(t, want, read(t, d)["get /me"])
	}
}

// TestByHand: one operation at a time.
func TestByHand(t *testing.T) {
	d := parse(t, documentOf("3.1.0", `"/a":{"get":{}},"/b":{"post":{}},"/c/{id}/{n}":{"get":{}}`), oauth2pw.PasswordBearer{TokenURL: "token"})
	hidden := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, r) })
	}
	require.NoError(t, d.SetScopes("GET", "/a", "me", "new"))
	require.NoError(t, d.Operation("post", "/b/", with("items")(end), hidden, with("me"), hidden))
	require.NoError(t, d.Operation("GET", "/c/{id:[0-9]{1,3}}/{n:x+}", end, with()))
	require.NoError(t, d.Operation("GET", "/unknown", end), "a walker passes all routes of a router")
	for _, wrong := range [][2]string{{"POST", "/a"}, {"GET", "/A"}, {"GET", "/d"}, {"PARAMETERS", "/a"}, {"", ""}} {
		require.ErrorContains(t, d.SetScopes(wrong[0], wrong[1]), "has no operation "+wrong[0]+" "+wrong[1])
	}
	require.ErrorContains(t, d.Operation("GET", "/c/{id}/{n}", hidden(with()(end))), "GET /c/{id}/{n}: the document requires a token, but no middleware")
	require.Equal(t, map[string]string{
		"get /a": `[{"OAuth2PasswordBearer":["me","new"]}]`, "post /b": `[{"OAuth2PasswordBearer":["me","items"]}]`, "get /c/{id}/{n}": `[{"OAuth2PasswordBearer":[]}]`,
	}, read(t, d))
	body, err := d.MarshalJSON()
	require.NoError(t, err)
	require.Contains(t, string(body), `"scopes":{"items":"","me":"","new":""}`)
	empty, err := parse(t, `{"openapi":"3.1.0"}`, bearer).MarshalJSON()
	require.NoError(t, err)
	require.NotContains(t, string(empty), "paths")

	d = parse(t, documentOf("3.1.0", `"/a":{"get":{}}`), bearer)
	require.ErrorContains(t, d.SetScopes("GET", "/a", "mee"), `GET /a: the scheme has no scope "mee"`)
	require.ErrorContains(t, d.Operation("GET", "/a", end), "no middleware of oauth2pw is visible")
}

// TestParseErrors: each error says where the document is wrong.
func TestParseErrors(t *testing.T) {
	for doc, want := range map[string]string{
		``:                                      "is no JSON object",
		`openapi: 3.1.0`:                        "convert YAML to JSON",
		`[]`:                                    "an object is required, not []",
		`null`:                                  "not null",
		`{}`:                                    `version ""`,
		`{"swagger":"2.0"}`:                     `version ""`,
		`{"openapi":3.1}`:                       `"openapi"`,
		`{"openapi":"3.2.0"}`:                   `version "3.2.0"`,
		`{"openapi":"3.10.0"}`:                  `version "3.10.0"`,
		`{"openapi":"3.1.0","paths":[]}`:        `"paths"`,
		`{"openapi":"3.1.0"} {}`:                "is no JSON object",
		`{"openapi":"3.1.0","openapi":"3.1.0"}`: `two members have the name "openapi"`,
		`{"openapi":"3.1.0","components":{"securitySchemes":7}}`:                 `"securitySchemes"`,
		`{"openapi":"3.1.0","components":{"securitySchemes":{"a":1,"a":2}}}`:     `"a"`,
		`{"openapi":"3.1.0","components":{"securitySchemes":{"a":{"type":1}}}}`:  `"type"`,
		`{"openapi":"3.1.0","paths":{"a":{"get":{}}}}`:                           `the path "a"`,
		`{"openapi":"3.1.0","paths":{"/a":{"GET":{}}}}`:                          "the method GET in capitals, at /a",
		`{"openapi":"3.1.0","paths":{"/a":{"$ref":"#/components/pathItems/a"}}}`: "the path item of /a is a $ref",
		`{"openapi":"3.1.0","paths":{"/a":{"get":null}}}`:                        `the member "get" of the document: an object is required, not null (at /a)`,
		`{"openapi":"3.1.0","paths":{"/a":[]}}`:                                  `"/a"`,
		`{"openapi":"3.1.0","paths":{"/a":{"get":{},"get":{}}}}`:                 `two members have the name "get"`,
	} {
		_, err := Parse([]byte(doc), bearer)
		require.ErrorContains(t, err, want, doc)
		require.ErrorContains(t, err, "openapi: ", doc)
	}
	mux := http.NewServeMux()
	mux.Handle("/a", with("me")(end))
	for _, broken := range []string{`"security":{}`, `"security":[null]`, `"security":[{"a":"b"}]`} {
		require.ErrorContains(t, parse(t, documentOf("3.1.0", `"/a":{"get":{`+broken+`}}`), bearer).Routes(mux), "openapi: ", broken)
	}
}

// TestLarge: the time of a document grows with its size. With a copy of the whole document for
// each operation, this test would run for minutes.
func TestLarge(t *testing.T) {
	var paths []string
	for i := range 3000 {
		paths = append(paths, fmt.Sprintf(`"/p%d":{"get":{"description":"%0300d"}}`, i, 0))
	}
	d := parse(t, documentOf("3.1.0", strings.Join(paths, ",")), bearer)
	for i := range paths {
		require.NoError(t, d.SetScopes("GET", fmt.Sprint("/p", i), "me"))
	}
	require.Len(t, read(t, d), len(paths))
}

// FuzzDocument: no document makes it panic, and the result is a document again.
func FuzzDocument(f *testing.F) {
	f.Add(documentOf("3.1.0", `"/a":{"get":{"security":[{"x":[]}]}}`))
	f.Add(documentOf("3.1.0", `"/":{"get":{"security":[{"x":[]}]},"post":{}}`))
	f.Add(documentOf("3.0.0", `"/{x}":{"post":{}},"//":{"get":{}},"":{"get":{}},"/%zz":{"get":{}}`))
	f.Add(documentOf("3.1.0", `"/":{"get":{"security":[null]}}`))
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
		if failed != nil || err != nil {
			return
		}
		again, err := Parse(body, bearer)
		require.NoError(t, err)
		require.NoError(t, again.Routes(mux))
		same, err := again.MarshalJSON()
		require.NoError(t, err)
		require.Equal(t, string(body), string(same))
	})
}

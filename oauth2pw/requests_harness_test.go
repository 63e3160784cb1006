package oauth2pw_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A test sends a request in one of two ways.
//
//   - app.do sends it over HTTP, as a client does. post, get, change, revoke, introspect, and
//     refresh of a sessionApp, are do with the rest of the request filled in.
//   - app.serve hands a crafted request to the handlers of the app, without a network. The
//     functions post and get make one; options set its peer, its headers and its context.
//
// Any goroutine may call both: a failure of their own is an Errorf, and an answer with the
// status 0. Helpers that require a certain answer (isError, token, login and the like) stop
// the test, so they are for the goroutine of the test.

// answer is an HTTP answer with its body read.
type answer struct {
	*http.Response
	body string
	json map[string]any
}

func (a answer) code() any { return a.json["error"] }

// isError requires an error answer with the headers that every one has.
func (a answer) isError(t *testing.T, status int, code string) {
	t.Helper()
	require.NotNil(t, a.Response, "the request was not made")
	require.Equal(t, status, a.StatusCode, a.body)
	require.Equal(t, "application/json", a.Header.Get("Content-Type"))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	require.Equal(t, "no-cache", a.Header.Get("Pragma"))
	require.Equal(t, code, a.code(), a.body)
	require.NotEmpty(t, a.json["error_description"])
	require.Empty(t, a.Header.Values("Set-Cookie"))
}

// do sends a request over HTTP. headers are "Name: value" lines.
func (a *app) do(method, target, body string, headers ...string) answer {
	a.Helper()
	r, err := http.NewRequest(method, a.url+target, strings.NewReader(body))
	if err != nil {
		a.Errorf("%s %s: %v", method, target, err)
		return answer{Response: new(http.Response)}
	}
	with(headers...)(r)
	resp, err := a.client.Do(r)
	if err != nil {
		a.Errorf("%s %s: %v", method, target, err)
		return answer{Response: new(http.Response)}
	}
	return read(a.T, resp)
}

// post sends a token request.
func (a *app) post(body string, headers ...string) answer {
	a.Helper()
	return a.do("POST", "/token", body, append([]string{formType}, headers...)...)
}

// get calls a route with a bearer token.
func (a *app) get(target, token string) answer {
	a.Helper()
	return a.do("GET", target, "", bearer(token))
}

// change changes the password of the user of an access token.
func (a *app) change(token, old, new string) answer {
	a.Helper()
	return a.do("POST", "/password", changeForm(old, new), formType, bearer(token))
}

// revoke sends a form to the revocation endpoint.
func (a *app) revoke(form string, headers ...string) answer {
	a.Helper()
	return a.do("POST", "/revoke", form, append([]string{formType}, headers...)...)
}

// introspect sends a token to the introspection endpoint, by the client "backend" unless
// headers say else.
func (a *app) introspect(token string, headers ...string) answer {
	a.Helper()
	if headers == nil {
		headers = []string{basic("backend", "backend-secret")}
	}
	return a.do("POST", "/introspect", "token="+url.QueryEscape(token), append([]string{formType}, headers...)...)
}

// token logs johndoe in and returns the access token.
func (a *app) token(scope string) string {
	a.Helper()
	form := login
	if scope != "" {
		form += "&scope=" + strings.ReplaceAll(scope, " ", "+")
	}
	got := a.post(form)
	require.Equal(a, 200, got.StatusCode, got.body)
	return got.json["access_token"].(string)
}

// serve hands a request to the handlers of the app without a network.
func (a *app) serve(r *http.Request) answer {
	a.Helper()
	return serve(a.T, http.HandlerFunc(a.watched), r)
}

// serve hands a request to any handler without a network.
func serve(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return read(t, w.Result())
}

// read reads an answer to its end.
func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("the body of an answer: %v", err)
	}
	got := answer{Response: resp, body: string(data)}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && len(data) > 0 {
		var v any
		if err := json.Unmarshal(data, &v); err != nil {
			t.Errorf("the body %q: %v", data, err)
		}
		got.json, _ = v.(map[string]any)
	}
	return got
}

// post makes a token request. It comes over plain HTTP from this machine, as those of do.
func post(form string, options ...option) *http.Request {
	r := httptest.NewRequest("POST", "/token", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return edited(r, options)
}

// get makes a GET request. It comes over plain HTTP from this machine too.
func get(target string, options ...option) *http.Request {
	return edited(httptest.NewRequest("GET", target, nil), options)
}

func edited(r *http.Request, options []option) *http.Request {
	r.RemoteAddr = "127.0.0.1:40000"
	for _, o := range options {
		r = o(r)
	}
	return r
}

// option changes a request that post or get has made.
type option func(r *http.Request) *http.Request

// from is another machine, over TLS.
func from(address string) option {
	return func(r *http.Request) *http.Request {
		r.TLS = new(tls.ConnectionState)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(address), 40000).String()
		return r
	}
}

// peer is the other end of a connection without TLS, as http.Request.RemoteAddr says it.
func peer(remote string) option {
	return func(r *http.Request) *http.Request {
		r.RemoteAddr = remote
		return r
	}
}

// to is another path than /token.
func to(path string) option {
	return func(r *http.Request) *http.Request {
		r.URL.Path = path
		return r
	}
}

// with adds headers, "Name: value" lines.
func with(headers ...string) option {
	return func(r *http.Request) *http.Request {
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
		}
		return r
	}
}

// during gives the request a context: that of a client that hangs up, say.
func during(ctx context.Context) option {
	return func(r *http.Request) *http.Request { return r.WithContext(ctx) }
}

const formType = "Content-Type: application/x-www-form-urlencoded"

// basic and bearer are Authorization headers.
func basic(id, secret string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret))
}

func bearer(token string) string { return "Authorization: Bearer " + token }

func changeForm(old, new string) string {
	return url.Values{"old_password": {old}, "new_password": {new}}.Encode()
}

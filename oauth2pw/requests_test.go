package oauth2pw_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// TestFormsOverHTTP sends the token endpoint forms, and bodies that look like one.
func TestFormsOverHTTP(t *testing.T) {
	a := newApp(t)
	lax := newApp(t, func(c *oauth2pw.Config) { c.LaxForm = true })
	multipartBody := "--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\njohndoe\r\n--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\nsecret\r\n--b--\r\n"
	for _, test := range []struct {
		name    string
		method  string // POST
		target  string // /token
		headers []string
		body    string // login
		status  int
		code    string
		lax     int // the status with LaxForm; 0: the same
	}{
		{name: "form", headers: []string{formType}, status: 200},
		{name: "upper case", headers: []string{"Content-Type: Application/X-WWW-Form-Urlencoded"}, status: 200},
		{name: "charset", headers: []string{"Content-Type: application/x-www-form-urlencoded;charset=UTF-8"}, status: 200},
		{name: "tab in front of parameters", headers: []string{"Content-Type: application/x-www-form-urlencoded\t; x=y"}, status: 200},
		{name: "no content type", status: 400, code: "invalid_request"},
		{name: "empty content type", headers: []string{"Content-Type: "}, status: 400, code: "invalid_request"},
		{name: "two content types", headers: []string{formType, formType}, status: 400, code: "invalid_request"},
		{name: "a list of content types", headers: []string{"Content-Type: application/x-www-form-urlencoded, text/plain"}, status: 400, code: "invalid_request"},
		{name: "json", headers: []string{"Content-Type: application/json"}, body: `{"grant_type":"password","username":"johndoe","password":"secret"}`, status: 400, code: "invalid_request"},
		{name: "plain text", headers: []string{"Content-Type: text/plain"}, status: 400, code: "invalid_request"},
		{name: "long s", headers: []string{"Content-Type: application/x-www-form-urlencoded\xc5\xbf"}, status: 400, code: "invalid_request"},
		{name: "multipart", headers: []string{"Content-Type: multipart/form-data; boundary=b"}, body: multipartBody, status: 400, code: "invalid_request", lax: 200},
		{name: "multipart without boundary", headers: []string{"Content-Type: multipart/form-data"}, body: multipartBody, status: 400, code: "invalid_request"},
		{name: "multipart that is cut off", headers: []string{"Content-Type: multipart/form-data; boundary=b"}, body: multipartBody[:len(multipartBody)-8], status: 400, code: "invalid_request"},
		{name: "multipart without its end", headers: []string{"Content-Type: multipart/form-data; boundary=b"}, body: strings.Replace(multipartBody, "--b--", "--b", 1), status: 400, code: "invalid_request"},
		{name: "multipart with two names of a part", headers: []string{"Content-Type: multipart/form-data; boundary=b"}, body: strings.Replace(multipartBody, "\r\n\r\njohndoe", "\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\njohndoe", 1), status: 400, code: "invalid_request"},
		{name: "no grant type", headers: []string{formType}, body: "username=johndoe&password=secret", status: 400, code: "invalid_request", lax: 200},
		{name: "empty grant type", headers: []string{formType}, body: "grant_type=&username=johndoe&password=secret", status: 400, code: "invalid_request", lax: 200},
		{name: "no grant type, no password", headers: []string{formType}, body: "username=johndoe", status: 400, code: "invalid_request"},
		{name: "no grant type, a refresh token", headers: []string{formType}, body: "refresh_token=x", status: 400, code: "invalid_request"},
		{name: "another grant type", headers: []string{formType}, body: "grant_type=x&username=johndoe&password=secret", status: 400, code: "unsupported_grant_type"},
		{name: "gzip", headers: []string{formType, "Content-Encoding: gzip"}, status: 400, code: "invalid_request"},
		{name: "unknown encoding", headers: []string{formType, "Content-Encoding: x"}, status: 400, code: "invalid_request"},
		{name: "two encodings", headers: []string{formType, "Content-Encoding: identity", "Content-Encoding: gzip"}, status: 400, code: "invalid_request"},
		{name: "identity", headers: []string{formType, "Content-Encoding: identity"}, status: 200},
		{name: "bad escape", headers: []string{formType}, body: login + "&x=%zz", status: 400, code: "invalid_request"},
		{name: "not UTF-8", headers: []string{formType}, body: login + "&x=%ff", status: 400, code: "invalid_request"},
		{name: "repeated", headers: []string{formType}, body: login + "&username=johndoe", status: 400, code: "invalid_request"},
		{name: "in the query", target: "/token?password=secret", headers: []string{formType}, status: 400, code: "invalid_request"},
		{name: "another query", target: "/token?tenant=a", headers: []string{formType}, status: 200},
		{name: "GET", method: "GET", headers: []string{formType}, status: 405, code: "invalid_request"},
		{name: "post", method: "post", headers: []string{formType}, status: 405, code: "invalid_request"},
		{name: "Bearer", headers: []string{formType, "Authorization: Bearer x"}, status: 200},
		{name: "bEARER, empty", headers: []string{formType, "Authorization: bEARER"}, status: 200},
		{name: "Bearer twice", headers: []string{formType, "Authorization: Bearer x", "Authorization: Bearer x"}, status: 400, code: "invalid_request"},
		{name: "Digest", headers: []string{formType, "Authorization: Digest x"}, status: 401, code: "invalid_client"},
		{name: "Basic with a long s", headers: []string{formType, "Authorization: Ba\xc5\xbfic YmFja2VuZDpiYWNrZW5kLXNlY3JldA=="}, status: 401, code: "invalid_client"},
		{name: "Basic with a tab", headers: []string{formType, "Authorization: Basic\tYmFja2VuZDpiYWNrZW5kLXNlY3JldA=="}, status: 401, code: "invalid_client"},
		{name: "Basic", headers: []string{formType, "Authorization: Basic   YmFja2VuZDpiYWNrZW5kLXNlY3JldA==  "}, status: 200},
		{name: "cross-site", headers: []string{formType, "sec-fetch-site: cross-site"}, status: 403, code: "access_denied"},
		{name: "http by a proxy", headers: []string{formType, "X-Forwarded-Proto: HTTP"}, status: 400, code: "invalid_request"},
		{name: "httpſ by a proxy", headers: []string{formType, "X-Forwarded-Proto: http\xc5\xbf"}, status: 200}, // it says nothing, and the peer is local
	} {
		t.Run(test.name, func(t *testing.T) {
			method, target, body := withDefault(test.method, "POST"), withDefault(test.target, "/token"), withDefault(test.body, login)
			for app, status := range map[*app]int{a: test.status, lax: withDefault(test.lax, test.status)} {
				got := app.do(method, target, body, test.headers...)
				if status == 200 {
					require.Equal(t, 200, got.StatusCode, got.body)
					continue
				}
				got.isError(t, status, test.code)
			}
		})
	}
}

func withDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// raw sends the bytes of a request over a connection: those that net/http would write in
// another way.
func (a *app) raw(request string) answer {
	a.Helper()
	conn, err := net.Dial("tcp", a.server.Listener.Addr().String())
	require.NoError(a, err)
	defer conn.Close()
	_, err = conn.Write([]byte(request))
	require.NoError(a, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(a, err)
	return read(a.T, resp)
}

// TestRequestsOnTheWire sends the token endpoint requests that net/http would write in another
// way.
func TestRequestsOnTheWire(t *testing.T) {
	a := newApp(t)
	const head = "POST /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
	whole := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(login), login)
	for _, test := range []struct{ name, request string }{
		{name: "a header name in upper case", request: head + "CONTENT-TYPE: Application/X-WWW-Form-Urlencoded\r\n" + whole},
		{name: "a header name in lower case", request: head + "content-type:application/x-www-form-urlencoded\r\n" + whole},
		{name: "white space around a value", request: head + formType + "\r\nAuthorization:  \tBasic   YmFja2VuZDpiYWNrZW5kLXNlY3JldA==  \t\r\n" + whole},
		{name: "a chunked body", request: head + formType + fmt.Sprintf("\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 10, login[:10], len(login)-10, login[10:])},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := a.raw(test.request)
			require.Equal(t, 200, got.StatusCode, got.body)
		})
	}
}

// TestLaxForm: what FastAPI's form takes, at the token endpoint and by
// ParsePasswordRequestForm; the RFC's rules hold all the same.
//
// Conformance 3, 5.
func TestLaxForm(t *testing.T) {
	type field struct{ name, value string }
	encode := func(t *testing.T, edit func(w *multipart.Writer), fields ...field) (body, contentType string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for _, f := range fields {
			require.NoError(t, w.WriteField(f.name, f.value))
		}
		if edit != nil {
			edit(w)
		}
		require.NoError(t, w.Close())
		return b.String(), w.FormDataContentType()
	}
	john := []field{{"username", "johndoe"}, {"password", "secret"}}
	for _, test := range []struct {
		name   string
		fields []field
		edit   func(w *multipart.Writer)
		ok     bool
	}{
		{name: "as fastapi-users' manual sends it", fields: john, ok: true},
		{name: "with a grant type", fields: append([]field{{"grant_type", "password"}}, john...), ok: true},
		{name: "with a scope and a client", fields: append([]field{{"scope", "me items"}, {"client_id", "webapp"}}, john...), ok: true},
		{name: "without a password", fields: john[:1]},
		{name: "repeated", fields: append([]field{{"username", "x"}}, john...)},
		{name: "not UTF-8", fields: append([]field{{"x", "\xff"}}, john...)},
		{name: "too many", fields: append(make([]field, 300), john...)},
		{name: "too large", fields: append([]field{{"x", strings.Repeat("x", 65<<10)}}, john...)},
		{name: "a file", fields: john, edit: func(w *multipart.Writer) { _, _ = w.CreateFormFile("x", "x.txt") }},
		{name: "an empty name", fields: append([]field{{"", "x"}}, john...)},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i := range test.fields {
				if test.name == "too many" && test.fields[i].name == "" {
					test.fields[i] = field{fmt.Sprint("x", i), "y"}
				}
			}
			body, contentType := encode(t, test.edit, test.fields...)
			a := newApp(t, func(c *oauth2pw.Config) { c.LaxForm = true })
			got := a.do("POST", "/token", body, "Content-Type: "+contentType)
			request := func() *http.Request {
				r := post(body)
				r.Header.Set("Content-Type", contentType)
				return r
			}
			f, err := oauth2pw.ParsePasswordRequestForm(request())
			_, strictErr := oauth2pw.ParsePasswordRequestFormStrict(request())
			require.Error(t, strictErr)
			parsed := request()
			_ = parsed.ParseMultipartForm(1 << 20)
			_, parsedErr := oauth2pw.ParsePasswordRequestForm(parsed)
			half := request()
			_ = half.ParseForm() // which reads no multipart
			_, halfErr := oauth2pw.ParsePasswordRequestForm(half)
			if !test.ok {
				require.Contains(t, []int{400, 413}, got.StatusCode, got.body)
				require.Equal(t, "invalid_request", got.code())
				require.Error(t, err)
				require.Error(t, halfErr)
				if test.name != "an empty name" {
					require.Error(t, parsedErr)
				}
				return
			}
			require.Equal(t, 200, got.StatusCode, got.body)
			require.NoError(t, err)
			require.NoError(t, parsedErr)
			require.NoError(t, halfErr)
			require.Equal(t, oauth2pw.Secret("secret"), f.Password)
			for _, target := range []string{"/revoke", "/introspect"} {
				a.do("POST", target, body, "Content-Type: "+contentType).isError(t, 400, "invalid_request")
			}
		})
	}
}

// TestFormReadByOthers: what somebody's ParseForm could not decode, and has dropped, does
// not pass for a good form.
func TestFormReadByOthers(t *testing.T) {
	a := newApp(t)
	handler := a.auth.TokenHandler()
	a.mux = http.NewServeMux()
	a.mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // a framework's
		handler.ServeHTTP(w, r)
	})
	for body, ok := range map[string]bool{
		login: true, login + "&x=y": true, login + "&x": true, login + "&x=": true, login + "&x=%C3%A9+%2B": true,
		strings.Replace(login, "secret", "s%65cret", 1): false, // no client escapes a letter, and what is left out is not seen otherwise
		login + "&%zz": false, login + "&x=%zz": false, "%zz&" + login: false, login + "&a;b=c": false, login + "&x=%": false,
	} {
		got := a.post(body)
		if ok {
			require.Equal(t, 200, got.StatusCode, body)
		} else {
			got.isError(t, 400, "invalid_request")
		}
	}
}

// TestContextPrintsNoToken: a context of a request is printed by loggers.
//
// Conformance 130.
func TestContextPrintsNoToken(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) { c.LoadUser = false }) // a store refuses a context that has ended
	token := a.token("")
	var ctx context.Context
	handler := a.auth.RequireBearer("me")(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ctx = r.Context() }))
	r := get("/", with(bearer(token)))
	require.Equal(t, 200, serve(t, handler, r).StatusCode)
	derived, cancel := context.WithTimeout(context.WithValue(ctx, requestKey{}, 1), time.Hour)
	defer cancel()
	r = r.WithContext(ctx)
	r.Header.Del("Authorization")
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "ctx", ctx, "derived", derived)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "ctx", fmt.Sprint(ctx))
	for _, text := range []string{fmt.Sprint(ctx), fmt.Sprintf("%+v", ctx), fmt.Sprintf("%#v", ctx), fmt.Sprintf("%v %+v", derived, derived), fmt.Sprintf("%+v", r), fmt.Sprintf("%s %q", ctx, ctx), logged.String()} {
		require.NotContains(t, text, token)
		require.NotContains(t, text, token[len(token)-20:])
	}
	require.Contains(t, fmt.Sprint(ctx), "oauth2pw")
	// And its Err says what ended it.
	timed, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	<-timed.Done()
	require.Equal(t, 200, serve(t, handler, get("/", with(bearer(token)), during(timed))).StatusCode)
	require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
}

// TestRetryAfter: whole seconds, rounded up, whatever the wait.
func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		1: "1", time.Second: "1", time.Second + 1: "2", math.MaxInt64: "9223372037", 0: "", -1: "",
	} {
		w := httptest.NewRecorder()
		oauth2pw.WriteError(w, post(""), &oauth2pw.Error{Code: "slow_down", RetryAfter: wait})
		require.Equal(t, want, w.Header().Get("Retry-After"))
	}
}

// TestDefaultEvents: where nobody listens, what broke and what the configuration lacks is
// logged, and nothing else.
func TestDefaultEvents(t *testing.T) {
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	defer slog.SetDefault(before)
	take := func() string { defer logged.Reset(); return logged.String() }

	s := new(script)
	a := newApp(t, func(c *oauth2pw.Config) { c.OnEvent = nil }, s.wrap)
	require.Equal(t, 200, a.post(login).StatusCode)
	a.post(wrong("johndoe", 1)).isError(t, 400, "invalid_grant")
	require.Empty(t, take(), "what is everyday")
	noTable := fails(errors.New("no such table: users"))
	s.before("UserStore.UserByName", noTable)
	a.post(login).isError(t, 503, "temporarily_unavailable")
	text := take()
	require.Contains(t, text, "level=ERROR")
	require.Contains(t, text, "UserStore.UserByName")
	require.Contains(t, text, "no such table: users")
	s.end()
	for range 3 { // a wiring hint, once an hour
		docker := peer("172.17.0.1:1") // its bridge
		a.serve(post(login, docker)).isError(t, 400, "invalid_request")
	}
	text = take()
	require.Equal(t, 1, strings.Count(text, "\n"), text)
	require.Contains(t, text, "172.17.0.1")
	require.Contains(t, text, "Config.TrustedProxies")
	require.Contains(t, text, "Config.InsecureAllowHTTP")
	require.Equal(t, 200, a.post(login, "X-Forwarded-For: 192.0.2.1").StatusCode)
	require.Contains(t, take(), "Config.TrustedProxies")
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}
	require.Equal(t, 200, a.post(form.Encode()).StatusCode)
	require.Empty(t, take())

	s = new(script)
	a = newApp(t, quiet, s.wrap)
	s.before("UserStore.UserByName", noTable)
	a.post(login).isError(t, 503, "temporarily_unavailable")
	require.Empty(t, take(), "an empty function is for silence")
}

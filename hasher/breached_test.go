package hasher

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// The SHA-1 of "correct horse battery staple" and of "pässword breached", in two parts.
const (
	stapleHead, stapleTail = "ABF7A", "AD6438836DBE526AA231ABDE2D0EEF74D42"
	umlautHead, umlautTail = "FC881", "21D3676A95A8EAA7015E7E299E742C778D4"
)

// paddingLine is a line that no test looks for.
const paddingLine = "0018A45C4D1DEF81644B54AB7F969B88D65:0\r\n"

// rangeService returns a client for which a handler is Have I Been Pwned, over TLS.
func rangeService(t *testing.T, service http.HandlerFunc) *http.Client {
	server := httptest.NewUnstartedServer(service)
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.ServerName = "example.com" // as in the certificate of httptest
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "api.pwnedpasswords.com:443" {
			return nil, errors.New("another host: " + address)
		}
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// answers returns a service that gives each password the same answer.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// roundTrip is a transport.
type roundTrip func(r *http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// failures collects the errors that BreachedFailOpen reports.
type failures struct {
	mu   sync.Mutex
	list []error
}

func (f *failures) add(_ context.Context, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, err)
}

func TestBreachedRequest(t *testing.T) {
	var got *http.Request
	client := rangeService(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Set-Cookie", "a=b")
		_, _ = io.WriteString(w, paddingLine)
	})
	client.Jar = panicJar{}
	for _, test := range []struct{ password, head, tail string }{
		{"correct horse battery staple", stapleHead, stapleTail},
		{"pässword breached", umlautHead, umlautTail},
	} {
		found, err := Breached(client)(t.Context(), test.password)
		require.NoError(t, err)
		require.False(t, found)
		require.Equal(t, "GET https://api.pwnedpasswords.com/range/"+test.head, got.Method+" https://"+got.Host+got.RequestURI)
		require.Equal(t, "true", got.Header.Get("Add-Padding"))
		require.Contains(t, got.UserAgent(), "passwordflow")
		require.Empty(t, got.Header.Get("Cookie"))
		sent := strings.ToUpper(fmt.Sprint(got.RequestURI, got.Header))
		require.NotContains(t, sent, test.tail[:5])
		require.NotContains(t, sent, strings.ToUpper(test.password))
	}
}

// panicJar is a cookie jar that must not be used.
type panicJar struct{ http.CookieJar }

// TestBreached: the answers of the service. An error is a failure of the service, and never
// "not breached", unless the app has chosen BreachedFailOpen.
//
// Conformance 122.
func TestBreached(t *testing.T) {
	const hit = stapleTail + ":4\r\n"
	for _, test := range []struct {
		name    string
		status  int
		body    string
		found   bool
		failure string
	}{
		{name: "hit", status: 200, body: paddingLine + hit + paddingLine, found: true},
		{name: "hit in the first line", status: 200, body: hit + paddingLine, found: true},
		{name: "hit in the last line, without an end", status: 200, body: paddingLine + stapleTail + ":4", found: true},
		{name: "LF", status: 200, body: strings.ReplaceAll(paddingLine+hit, "\r", ""), found: true},
		{name: "lower case", status: 200, body: strings.ToLower(hit), found: true},
		{name: "the largest number", status: 200, body: stapleTail + ":18446744073709551615", found: true},
		{name: "no hit", status: 200, body: paddingLine + "011053FD0102E94D6AE2F8B83D76FAF94F6:1\r\n"},
		{name: "padding equal to the password", status: 200, body: stapleTail + ":0\r\n"},
		{name: "padding with more zeros", status: 200, body: stapleTail + ":000\r\n"},
		{name: "padding and a hit", status: 200, body: stapleTail + ":0\r\n" + hit, found: true},
		{name: "the largest answer", status: 200, body: strings.Repeat(paddingLine, maxRange/len(paddingLine))},
		{name: "larger", status: 200, body: hit + strings.Repeat(paddingLine, maxRange/len(paddingLine)), failure: "larger than 1 MiB"},
		{name: "empty", status: 200, failure: "empty"},
		{name: "empty line", status: 200, body: hit + "\r\n", failure: "malformed"},
		{name: "page", status: 200, body: "<html>Log in to the Wi-Fi</html>", failure: "malformed"},
		{name: "cut", status: 200, body: paddingLine + stapleTail[:20], failure: "malformed"},
		{name: "without a number", status: 200, body: stapleTail, failure: "malformed"},
		{name: "empty number", status: 200, body: stapleTail + ":", failure: "malformed"},
		{name: "negative number", status: 200, body: stapleTail + ":-1", failure: "malformed"},
		{name: "number with a sign", status: 200, body: stapleTail + ":+1", failure: "malformed"},
		{name: "number with a space", status: 200, body: stapleTail + ": 1", failure: "malformed"},
		{name: "number too large", status: 200, body: stapleTail + ":18446744073709551616", failure: "malformed"},
		{name: "two numbers", status: 200, body: stapleTail + ":1:1", failure: "malformed"},
		{name: "whole hash", status: 200, body: stapleHead + stapleTail + ":1", failure: "malformed"},
		{name: "hash of NTLM", status: 200, body: stapleTail[:27] + ":1", failure: "malformed"},
		{name: "not hex", status: 200, body: "G" + stapleTail[1:] + ":1", failure: "malformed"},
		{name: "hit and a malformed line", status: 200, body: hit + "x", failure: "malformed"},
		{name: "byte order mark", status: 200, body: "\ufeff" + hit, failure: "malformed"},
		{name: "CR", status: 200, body: strings.ReplaceAll(hit+paddingLine, "\n", ""), failure: "malformed"},
		{name: "203", status: 203, body: hit, failure: "203"},
		{name: "204", status: 204, failure: "204"},
		{name: "206", status: 206, body: paddingLine, failure: "206"},
		{name: "304", status: 304, failure: "304"},
		{name: "400", status: 400, body: "The hash prefix was not in a valid format", failure: "400"},
		{name: "404", status: 404, body: paddingLine, failure: "404"},
		{name: "429", status: 429, body: paddingLine, failure: "429"},
		{name: "500", status: 500, body: paddingLine, failure: "500"},
		{name: "503", status: 503, body: hit, failure: "503"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := rangeService(t, answers(test.status, test.body))
			check := func(check func(context.Context, string) (bool, error)) (bool, error) {
				return check(t.Context(), "correct horse battery staple")
			}
			found, err := check(Breached(client))
			var reported failures
			open, openErr := check(BreachedFailOpen(client, reported.add))
			require.NoError(t, openErr)
			require.Equal(t, test.found, open)
			if test.failure == "" {
				require.NoError(t, err)
				require.Equal(t, test.found, found)
				require.Empty(t, reported.list)
				return
			}
			require.False(t, found)
			require.ErrorContains(t, err, test.failure)
			require.ErrorContains(t, err, "hasher: the service of breached passwords: ")
			require.Len(t, reported.list, 1)
			require.Equal(t, err.Error(), reported.list[0].Error())
		})
	}
}

// TestBreachedGzip: the limit on the size is that of the text, not that of the bytes on the
// wire.
func TestBreachedGzip(t *testing.T) {
	for lines, failure := range map[int]string{1000: "", 100_000: "larger than 1 MiB"} {
		client := rangeService(t, func(w http.ResponseWriter, r *http.Request) {
			require.Contains(t, r.Header.Get("Accept-Encoding"), "gzip")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat(paddingLine, lines)+stapleTail+":1")
			_ = z.Close()
		})
		found, err := Breached(client)(t.Context(), "correct horse battery staple")
		if failure != "" {
			require.ErrorContains(t, err, failure)
			continue
		}
		require.NoError(t, err)
		require.True(t, found)
	}
}

// TestBreachedRedirect: no redirect is followed, to whatever host.
func TestBreachedRedirect(t *testing.T) {
	for _, location := range []string{"/hit", "https://api.pwnedpasswords.com/hit", "http://api.pwnedpasswords.com/hit", "https://example.net/hit", ""} {
		requests := 0
		client := rangeService(t, func(w http.ResponseWriter, r *http.Request) {
			requests++
			if r.URL.Path == "/hit" {
				t.Error("followed")
			}
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
		})
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return nil }
		_, err := Breached(client)(t.Context(), "correct horse battery staple")
		require.ErrorContains(t, err, "302")
		require.Equal(t, 1, requests)
	}
}

// TestBreachedErrors: no error has digits of the hash, whether they come from net/http, from
// the service or from a transport of the app.
func TestBreachedErrors(t *testing.T) {
	cause := errors.New("no route")
	for _, test := range []struct {
		name   string
		client func() *http.Client
		says   string
		is     error
	}{
		{"error of the transport", func() *http.Client {
			return &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, cause })}
		}, "passwords: no route", cause},
		{"error that names the URL", func() *http.Client {
			return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				return nil, fmt.Errorf("%s: %w", strings.ToLower(r.URL.String()), cause)
			})}
		}, "not shown", nil},
		{"malformed Location that names the URL", func() *http.Client {
			return rangeService(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", "https://[/"+r.URL.Path)
				w.WriteHeader(http.StatusMovedPermanently)
			})
		}, "not shown", nil},
		{"reason phrase that names the URL", func() *http.Client {
			return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 400, Status: "400 " + r.URL.Path, Body: http.NoBody, Request: r}, nil
			})}
		}, "400", nil},
		{"unknown authority", func() *http.Client {
			client := rangeService(t, answers(200, paddingLine))
			client.Transport.(*http.Transport).TLSClientConfig.RootCAs = nil
			return client
		}, "certificate", nil},
		{"answer without TLS", func() *http.Client {
			server := httptest.NewServer(answers(200, paddingLine))
			t.Cleanup(server.Close)
			return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			}}}
		}, "HTTP response to HTTPS client", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Breached(test.client())(t.Context(), "correct horse battery staple")
			require.ErrorContains(t, err, test.says)
			if test.is != nil {
				require.ErrorIs(t, err, test.is)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				text := strings.ToUpper(fmt.Sprintf("%v %+v %#v", err, err, err))
				require.NotContains(t, text, stapleHead)
				require.NotContains(t, text, stapleTail[:5])
				require.NotContains(t, text, "STAPLE")
			}
		})
	}
}

// TestBreachedTimeout: a check ends after 2 seconds, or earlier if the client or the caller
// says so. The time is that of a bubble.
func TestBreachedTimeout(t *testing.T) {
	silent := roundTrip(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	endless := roundTrip(func(r *http.Request) (*http.Response, error) {
		lines := bytes.NewReader([]byte(paddingLine))
		body := readFunc(func(p []byte) (int, error) {
			if n, _ := lines.Read(p); n > 0 {
				return n, nil
			}
			<-r.Context().Done()
			return 0, r.Context().Err()
		})
		return &http.Response{StatusCode: 200, Body: io.NopCloser(body), Request: r}, nil
	})
	for _, test := range []struct {
		name            string
		client          http.Client
		deadline, after time.Duration
	}{
		{name: "silent", client: http.Client{Transport: silent}, after: 2 * time.Second},
		{name: "slow body", client: http.Client{Transport: endless}, after: 2 * time.Second},
		{name: "longer timeout of the client", client: http.Client{Transport: silent, Timeout: time.Minute}, after: 2 * time.Second},
		{name: "shorter timeout of the client", client: http.Client{Transport: silent, Timeout: time.Second}, after: time.Second},
		{name: "later deadline of the caller", client: http.Client{Transport: silent}, deadline: time.Minute, after: 2 * time.Second},
		{name: "earlier deadline of the caller", client: http.Client{Transport: endless}, deadline: time.Second, after: time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.deadline != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				start := time.Now()
				_, err := Breached(&test.client)(ctx, "correct horse battery staple")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, test.after, time.Since(start))
			})
		})
	}
}

// readFunc is a reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// TestBreachedCancel: a caller who gives up ends the request. That is no failure of the
// service, so that BreachedFailOpen reports none and accepts nothing.
func TestBreachedCancel(t *testing.T) {
	started := make(chan struct{}, 2)
	client := rangeService(t, func(_ http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // an empty answer could still arrive
	})
	var reported failures
	for _, check := range []func(context.Context, string) (bool, error){Breached(client), BreachedFailOpen(client, reported.add)} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := check(ctx, "correct horse battery staple")
			done <- err
		}()
		<-started
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	}
	require.Empty(t, reported.list)
}

func TestBreachedFailOpenWithoutOnError(t *testing.T) {
	require.PanicsWithValue(t, "hasher: BreachedFailOpen: onError is nil", func() { BreachedFailOpen(nil, nil) })
}

// TestBreachedConcurrent: one check serves requests in parallel.
func TestBreachedConcurrent(t *testing.T) {
	client := rangeService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/range/"+stapleHead {
			_, _ = io.WriteString(w, stapleTail+":1\r\n")
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
	})
	var reported failures
	check := BreachedFailOpen(client, reported.add)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			password := "correct horse battery staple"
			if i%2 == 1 {
				password = "pässword breached"
			}
			found, err := check(t.Context(), password)
			if err != nil || found != (i%2 == 0) {
				t.Error(found, err)
			}
		})
	}
	wg.Wait()
	require.Len(t, reported.list, 8)
}

// bareUsers is a store without users.
type bareUsers struct{}

func (bareUsers) UserByName(context.Context, string) (*oauth2pw.User, error) {
	return nil, oauth2pw.ErrNotFound
}

func (bareUsers) UserByID(context.Context, string) (*oauth2pw.User, error) {
	return nil, oauth2pw.ErrNotFound
}

// bareIssuer makes no tokens.
type bareIssuer struct{}

func (bareIssuer) Issue(context.Context, oauth2pw.Principal) (string, oauth2pw.Principal, error) {
	return "", oauth2pw.Principal{}, errors.New("no tokens")
}

func (bareIssuer) Verify(context.Context, string) (oauth2pw.Principal, error) {
	return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
}

// TestBreachedSignUp: the answers of a sign-up to a breached password, and while the service
// fails.
//
// Conformance 122.
func TestBreachedSignUp(t *testing.T) {
	up := answers(200, stapleTail+":4\r\n")
	down := answers(500, "")
	var reported failures
	for _, test := range []struct {
		name     string
		service  http.HandlerFunc
		failOpen bool
		password string
		status   int
		text     string
		failed   bool // an event has the error of the service
		reported int
	}{
		{name: "breached", service: up, password: "correct horse battery staple", status: 422, text: "The password has appeared in a data breach."},
		{name: "not breached", service: up, password: "pässword breached", status: 200},
		{name: "service down", service: down, password: "pässword breached", status: 503, text: "temporarily_unavailable", failed: true},
		{name: "refused before the service", service: down, password: "short", status: 422, text: "8 characters"},
		{name: "breached, fail open", service: up, failOpen: true, password: "correct horse battery staple", status: 422, text: "data breach"},
		{name: "service down, fail open", service: down, failOpen: true, password: "pässword breached", status: 200, reported: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := rangeService(t, test.service)
			policy := Policy{Breached: Breached(client)}
			if test.failOpen {
				policy.Breached = BreachedFailOpen(client, reported.add)
			}
			reported.list = nil
			var events []oauth2pw.Event
			auth, err := oauth2pw.New(oauth2pw.Config{
				Users: bareUsers{}, Hasher: newCheap(t), Issuer: bareIssuer{}, DefaultScopes: []string{"me"},
				CheckNewPassword: policy.Check, OnEvent: func(_ context.Context, e oauth2pw.Event) { events = append(events, e) },
			})
			require.NoError(t, err)
			events = nil
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/sign-up", http.NoBody)
			hash, err := auth.HashNewPassword(r, nil, test.password)
			if err != nil {
				auth.WriteError(w, r, err)
			}
			require.Equal(t, test.status, w.Code)
			require.Equal(t, test.status == 200, hash != "")
			require.Contains(t, w.Body.String(), test.text)
			require.NotContains(t, w.Body.String(), "breached passwords")
			require.Len(t, reported.list, test.reported)
			text := fmt.Sprintf("%+v", events)
			require.Len(t, events, min(1, test.status-200))
			if test.failed {
				require.Equal(t, "unavailable Config.CheckNewPassword", fmt.Sprint(events[0].Kind, " ", events[0].Plug))
				require.ErrorContains(t, events[0].Err, "hasher: the service of breached passwords: the status of the answer is 500")
			}
			for _, secret := range []string{test.password, stapleHead, stapleTail, umlautHead, umlautTail} {
				require.NotContains(t, strings.ToUpper(text+w.Body.String()), strings.ToUpper(secret))
			}
		})
	}
}

// FuzzRange compares inRange with a pattern.
func FuzzRange(f *testing.F) {
	for _, answer := range []string{
		"", paddingLine, stapleTail + ":0", stapleTail + ":4\r\n", strings.ToLower(stapleTail) + ":4\n" + paddingLine,
		paddingLine + "\n", stapleTail, stapleTail + ":", stapleTail + ":-1", ":", "\r", stapleTail + ":18446744073709551616", "\u212a" + stapleTail[1:] + ":1",
	} {
		f.Add(answer)
	}
	whole := regexp.MustCompile(`\A(?:[0-9A-Fa-f]{35}:[0-9]+\r?\n)*[0-9A-Fa-f]{35}:[0-9]+(?:\r\n|\r|\n)?\z`)
	large := regexp.MustCompile(`:[0-9]{20}`) // may have more than 64 bits
	hit := regexp.MustCompile(`(?im)^` + stapleTail + `:0*[1-9]`)
	f.Fuzz(func(t *testing.T, answer string) {
		found, err := inRange(answer, stapleTail)
		if large.MatchString(answer) {
			return
		}
		require.Equal(t, whole.MatchString(answer), err == nil)
		require.Equal(t, err == nil && hit.MatchString(answer), found)
	})
}

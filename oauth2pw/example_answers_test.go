package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// A token endpoint of the app's own answers its errors as OAuth 2 requires.
func ExampleWriteError() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, err := oauth2pw.ParsePasswordRequestForm(r)
		if err == nil && form.ClientID != "webapp" {
			err = &oauth2pw.Error{Code: "unauthorized_client"}
		}
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	server := httptest.NewServer(handler)
	defer server.Close()

	fmt.Println(postForm(server.URL, url.Values{"username": {"johndoe"}}))
	fmt.Println(postForm(server.URL, url.Values{"username": {"johndoe"}, "password": {"secret"}}))
	// Output:
	// 400 {"error":"invalid_request","error_description":"The parameters username and password are required."}
	// 400 {"error":"unauthorized_client","error_description":"The client may not use this grant type."}
}

// Any handler of the app answers with an error of OAuth 2, and with members of its own.
func ExampleAuth_WriteError() {
	auth := newAuth(exampleConfig())
	handler := func(w http.ResponseWriter, r *http.Request) {
		auth.WriteError(w, r, &oauth2pw.Error{
			Code: "slow_down", Description: "One report a minute.", RetryAfter: time.Minute,
			Extra: map[string]any{"reports": 1},
		})
	}

	w := httptest.NewRecorder()
	handler(w, httptest.NewRequest("POST", "/reports", nil))
	fmt.Println(w.Code, w.Header().Get("Retry-After"))
	fmt.Println(w.Body)
	// Output:
	// 429 60
	// {"error":"slow_down","error_description":"One report a minute.","reports":1}
}

// An app decides by the code of an error, and answers in a form of its own.
func ExampleError() {
	auth := newAuth(exampleConfig())
	_, err := auth.CheckPassword(httptest.NewRequest("POST", "/confirm", nil), "johndoe", "wrong")

	var refused *oauth2pw.Error
	if errors.As(err, &refused) && refused.Code == "invalid_grant" {
		fmt.Println("The name or the password is wrong. Try again.")
	}
	// Output: The name or the password is wrong. Try again.
}

// The body of every error answer in the form that the clients of the app know.
func ExampleConfig_errorBody() {
	c := exampleConfig()
	c.ErrorBody = func(_ context.Context, e *oauth2pw.Error) any {
		return map[string]string{"detail": e.Description, "type": e.Code}
	}
	auth := newAuth(c)
	server := httptest.NewServer(auth.RequireBearer("me")(http.HandlerFunc(whoami)))
	defer server.Close()

	fmt.Println(getWith(server.URL, ""))
	// Output: 401 {"detail":"A bearer token is required.","type":"unauthorized"}
}

// The log of a login and of a wrong password. The logger of an app needs no ReplaceAttr.
func ExampleLogEvents() {
	keep := []string{"level", "msg", "reason", "code", "grant", "user_id"}
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if slices.Contains(keep, a.Key) {
			return a
		}
		return slog.Attr{} // the time, the address, the user agent and the session differ in each run
	}}))
	c := exampleConfig()
	c.OnEvent = oauth2pw.LogEvents(logger)
	server := httptest.NewServer(newAuth(c).TokenHandler())
	defer server.Close()

	postForm(server.URL, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
	postForm(server.URL, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"wrong"}})
	// Output:
	// level=INFO msg=login grant=password user_id=1
	// level=WARN msg=login_failed reason=wrong_password code=invalid_grant grant=password user_id=1
}

// The counters of refused clients exist from the start, with the value 0.
func ExampleEventKind_Reasons() {
	for _, reason := range oauth2pw.EventClientFailed.Reasons() {
		fmt.Printf("events_total{kind=%q,reason=%q} 0\n", oauth2pw.EventClientFailed, reason)
	}
	// Output:
	// events_total{kind="client_failed",reason="unknown_client"} 0
	// events_total{kind="client_failed",reason="no_client"} 0
	// events_total{kind="client_failed",reason="wrong_secret"} 0
	// events_total{kind="client_failed",reason="unknown_scheme"} 0
	// events_total{kind="client_failed",reason="malformed_basic"} 0
	// events_total{kind="client_failed",reason="not_confidential"} 0
}

// A token endpoint of the app's own, for clients that follow the RFC to the letter.
func ExampleParsePasswordRequestFormStrict() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, err := oauth2pw.ParsePasswordRequestFormStrict(r)
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		fmt.Fprintln(w, form.Username, form.Password, form.Scopes)
	})
	server := httptest.NewServer(handler)
	defer server.Close()

	form := url.Values{"username": {"johndoe"}, "password": {"secret"}, "scope": {"me items"}}
	fmt.Println(postForm(server.URL, form))
	form.Set("grant_type", "password")
	fmt.Print(postForm(server.URL, form))
	// Output:
	// 400 {"error":"invalid_request","error_description":"The parameter grant_type is missing."}
	// 200 johndoe [redacted] [me items]
}

// The answer of a token endpoint of the app's own.
func ExampleTokens_Write() {
	w := httptest.NewRecorder()
	tokens := oauth2pw.Tokens{AccessToken: "token123", ExpiresIn: 15 * time.Minute, Scope: "me"}
	tokens.Write(w)
	fmt.Println(w.Code, w.Header().Get("Cache-Control"))
	fmt.Println(w.Body)
	// Output:
	// 200 no-store
	// {"access_token":"token123","token_type":"bearer","expires_in":900,"scope":"me"}
}

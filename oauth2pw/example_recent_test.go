package oauth2pw_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"
)

// Before something dangerous the user proves the password again.
func ExampleAuth_RequireRecent() {
	now := time.Now()
	c := exampleConfig()
	c.Now = func() time.Time { return now }
	auth := newAuth(c)
	protect := auth.RequireBearer("me")
	mux := http.NewServeMux()
	mux.Handle("DELETE /account", protect(auth.RequireRecent(5*time.Minute)(http.HandlerFunc(whoami))))
	mux.Handle("POST /password/prove", protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := auth.Reauthenticate(r, r.PostFormValue("password"))
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	})))

	// First the user logs in, and ten minutes later tries to delete the account.
	login := loggedIn(auth)
	now = now.Add(10 * time.Minute)
	fmt.Println(send(mux, "DELETE", "/account", string(login.AccessToken), nil))

	// Next the client asks the user for the password, and gets new tokens.
	proof := send(mux, "POST", "/password/prove", string(login.AccessToken), url.Values{"password": {"secret"}})

	// Last the client tries again with the new access token.
	fmt.Println(send(mux, "DELETE", "/account", member(proof, "access_token"), nil))
	// Output:
	// 401 {"error":"insufficient_user_authentication","error_description":"The password must be proved again."}
	// 200 user 1
}

// The route behind which a user proves the password again. The tokens of the answer replace all
// older tokens of the session.
func ExampleAuth_Reauthenticate() {
	auth := newAuth(exampleConfig())
	handler := auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := auth.Reauthenticate(r, r.PostFormValue("password"))
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	}))
	login := loggedIn(auth)

	fmt.Println(send(handler, "POST", "/", string(login.AccessToken), url.Values{"password": {"wrong"}}))
	fmt.Println(send(handler, "POST", "/", string(login.AccessToken), url.Values{"password": {"secret"}})[:3])
	fmt.Println(send(handler, "POST", "/", string(login.AccessToken), url.Values{"password": {"secret"}})[:3])
	// Output:
	// 403 {"error":"invalid_grant","error_description":"The password is wrong."}
	// 200
	// 401
}

// send sends a form to a handler, with an access token or "".
func send(handler http.Handler, method, path, token string, form url.Values) string {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return statusAndBody(w.Result(), nil)
}

package oauth2pw_test

import (
	"context"
	"crypto/subtle"
	"fmt"
	"log"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// A second factor: after the correct password, the login needs a code too.
func ExampleConfig_checkLogin() {
	var codes sync.Map // of the user's phone, by the user's ID
	codes.Store("1", "271828")
	c := exampleConfig()
	c.CheckLogin = func(_ context.Context, u *oauth2pw.User, r *oauth2pw.TokenRequest) error {
		switch code := r.Param("code"); {
		case code == "":
			return &oauth2pw.Error{Code: "mfa_required", Description: "Send the code too."}
		case !codes.CompareAndDelete(u.ID, code): // each code is accepted once
			return &oauth2pw.Error{Code: "invalid_grant"} // counted as a wrong password
		}
		return nil
	}
	server := httptest.NewServer(newAuth(c).TokenHandler())
	defer server.Close()

	// First the client sends only the password, next a wrong code, last the correct code.
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}
	fmt.Println(postForm(server.URL, form))
	form.Set("code", "000000")
	fmt.Println(postForm(server.URL, form))
	form.Set("code", "271828")
	fmt.Println(postForm(server.URL, form)[:3])
	// Output:
	// 400 {"error":"mfa_required","error_description":"Send the code too."}
	// 400 {"error":"invalid_grant","error_description":"The credentials are wrong."}
	// 200
}

// "Remember me": without the box, the session expires a day after the login.
func ExampleConfig_openSession() {
	now := time.Now()
	c := exampleConfig()
	c.Now = func() time.Time { return now }
	c.OpenSession = func(_ context.Context, _ *oauth2pw.User, r *oauth2pw.TokenRequest, s *oauth2pw.Session) error {
		if r.Param("remember") == "" {
			s.ExpiresAt = s.CreatedAt.Add(24 * time.Hour) // otherwise Config.RefreshMax, 90 days
		}
		s.Label = r.Param("device")
		return nil
	}
	auth := newAuth(c)

	// First the user logs in at a library, and a minute later on the own phone.
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}, "device": {"library"}}
	send(auth.TokenHandler(), "POST", "https://api.example.com/token", "", form)
	now = now.Add(time.Minute)
	form.Set("device", "phone")
	form.Set("remember", "on")
	send(auth.TokenHandler(), "POST", "https://api.example.com/token", "", form)

	// Last the page of devices has both sessions, the newest first.
	sessions, err := auth.Sessions(context.Background(), "1")
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range sessions {
		fmt.Println(s.Label, s.ExpiresAt.Sub(s.CreatedAt))
	}
	// Output:
	// phone 2160h0m0s
	// library 24h0m0s
}

// A login by a code that the app has sent to the user's phone. The answer of the app's own
// endpoint was a random id, by which the grant finds the code.
func ExampleTokenRequest_Guess() {
	type sent struct{ userID, code string }
	var codes sync.Map // by id
	codes.Store("XZ2YHTKJ4RMVLQPA", sent{userID: "1", code: "271828"})
	c := exampleConfig()
	users := c.Users
	c.ThrottleLimit = 1 // of wrong codes and passwords; the default is 10
	c.Grants = map[string]oauth2pw.GrantFunc{"code": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
		found, ok := codes.Load(r.Param("id"))
		if !ok {
			return nil, oauth2pw.ErrNotFound // answered as a wrong password
		}
		s := found.(sent)

		// First the guess is counted, next the code is compared, last the code is used up.
		if err := r.Guess(ctx, s.userID); err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare([]byte(s.code), []byte(r.Param("code"))) != 1 || !codes.CompareAndDelete(r.Param("id"), s) {
			return nil, oauth2pw.ErrNotFound
		}
		return users.UserByID(ctx, s.userID)
	}}
	server := httptest.NewServer(newAuth(c).TokenHandler())
	defer server.Close()

	for _, code := range []string{"000000", "000001", "271828"} {
		answer := postForm(server.URL, url.Values{"grant_type": {"code"}, "id": {"XZ2YHTKJ4RMVLQPA"}, "code": {code}})
		fmt.Println(answer[:3], member(answer, "error"))
	}
	// Output:
	// 400 invalid_grant
	// 429 slow_down
	// 429 slow_down
}

// A test of a grant needs no server.
func ExampleNewTokenRequest() {
	byBadge := func(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
		if r.Param("badge") != "4711" {
			return nil, oauth2pw.ErrNotFound
		}
		return &oauth2pw.User{ID: "1", Username: "johndoe"}, nil
	}

	u, err := byBadge(context.Background(), oauth2pw.NewTokenRequest("badge", url.Values{"badge": {"4711"}}))
	fmt.Println(u.Username, err)
	_, err = byBadge(context.Background(), oauth2pw.NewTokenRequest("badge", nil))
	fmt.Println(err)
	// Output:
	// johndoe <nil>
	// not found
}

// A parameter that the client sends twice is empty, so that no two readers choose a different
// one.
func ExampleTokenRequest_Param() {
	r := oauth2pw.NewTokenRequest("badge", url.Values{"badge": {"4711"}, "door": {"north", "south"}})
	fmt.Printf("%q %q %q\n", r.Param("badge"), r.Param("door"), r.Param("floor"))
	// Output: "4711" "" ""
}

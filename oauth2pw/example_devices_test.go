package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// A page of devices: the user sees every login, and ends one of them.
func ExampleAuth_Sessions() {
	now := time.Now()
	c := exampleConfig()
	c.Now = func() time.Time { return now }
	auth := newAuth(c)
	ctx := context.Background()
	for _, agent := range []string{"Phone/1.0", "Laptop/2.0"} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header.Set("User-Agent", agent)
		if _, err := auth.Login(r, "1", ""); err != nil {
			log.Fatal(err)
		}
		now = now.Add(time.Minute)
	}

	sessions, err := auth.Sessions(ctx, "1")
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range sessions { // the newest first
		fmt.Println(s.UserAgent, "from", s.Address)
	}
	ended, err := auth.EndSession(ctx, "1", sessions[1].ID, "ended_by_user")
	fmt.Println(ended, err)
	// Output:
	// Laptop/2.0 from 192.0.2.1
	// Phone/1.0 from 192.0.2.1
	// true <nil>
}

// The log-out of an app: the session of the token ends, and with it all its tokens.
func ExampleAuth_EndSession() {
	auth := newAuth(exampleConfig())
	tokens := loggedIn(auth)
	ctx := context.Background()

	p, err := auth.Verify(ctx, string(tokens.AccessToken)) // in a handler: oauth2pw.PrincipalFrom(r.Context())
	if err != nil {
		log.Fatal(err)
	}
	ended, err := auth.EndSession(ctx, p.Subject, p.SessionID, "logout")
	fmt.Println(ended, err)
	ended, err = auth.EndSession(ctx, p.Subject, p.SessionID, "logout")
	fmt.Println(ended, err)
	// Output:
	// true <nil>
	// false <nil>
}

// An app deletes a user: first the record, so that no login succeeds any more, and next the
// sessions.
func ExampleAuth_EndAllSessions() {
	c := exampleConfig()
	users := c.Users.(*store.Users)
	auth := newAuth(c)
	loggedIn(auth)
	loggedIn(auth)
	ctx := context.Background()

	if err := users.Delete(ctx, "1"); err != nil {
		log.Fatal(err)
	}
	n, err := auth.EndAllSessions(ctx, "1", "user_deleted")
	fmt.Println(n, err)
	// Output: 2 <nil>
}

// An app deletes the rows of sessions that ended more than a day ago. A server starts
// "go auth.SweepSessions(ctx, time.Hour)" and ends ctx at its shutdown.
func ExampleAuth_SweepSessions() {
	now := time.Now()
	c := exampleConfig()
	c.Now = func() time.Time { return now }
	sessions := c.Sessions
	auth := newAuth(c)
	tokens := loggedIn(auth)
	ctx := context.Background()

	if _, err := auth.EndSession(ctx, "1", tokens.SessionID, "logout"); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		err := auth.SweepSessions(ctx, 0) // one pass
		_, missing := sessions.Get(ctx, tokens.SessionID)
		fmt.Println(err, errors.Is(missing, oauth2pw.ErrNotFound))
		now = now.Add(25 * time.Hour)
	}
	// Output:
	// <nil> false
	// <nil> true
}

// A plug reads the client address: some users log in only from the office.
func ExampleClientAddress() {
	office := netip.MustParsePrefix("198.51.100.0/24")
	c := exampleConfig()
	c.CheckLogin = func(ctx context.Context, _ *oauth2pw.User, _ *oauth2pw.TokenRequest) error {
		if address := oauth2pw.ClientAddress(ctx); !office.Contains(address) {
			return &oauth2pw.Error{Code: "access_denied", Description: "Log in from the office."}
		}
		return nil
	}
	server := httptest.NewServer(newAuth(c).TokenHandler())
	defer server.Close()

	fmt.Println(postForm(server.URL, url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}}))
	// Output: 403 {"error":"access_denied","error_description":"Log in from the office."}
}

// The client address behind a reverse proxy, for a limit of the app's own at a sign-up.
func ExampleAuth_ClientAddress() {
	c := exampleConfig()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	auth := newAuth(c)

	r := httptest.NewRequest("POST", "/signup", nil)
	r.RemoteAddr = "10.0.0.2:49152" // the proxy
	r.Header.Set("X-Forwarded-For", "203.0.113.7")
	fmt.Println(auth.ClientAddress(r))
	// Output: 203.0.113.7
}

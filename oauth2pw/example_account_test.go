package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// The sign-up of an app: the password is checked and hashed, and the new user is logged in.
func ExampleAuth_HashNewPassword() {
	c := exampleConfig()
	c.CheckNewPassword = hasher.Policy{}.Check
	users := c.Users.(*store.Users)
	auth := newAuth(c)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /signup", func(w http.ResponseWriter, r *http.Request) {
		// First the password is checked, next the user is stored, last the user gets tokens.
		u := oauth2pw.User{ID: "2", Username: r.PostFormValue("username")}
		hash, err := auth.HashNewPassword(r, &u, r.PostFormValue("password"))
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		u.PasswordHash = oauth2pw.Secret(hash)
		if err := users.Add(r.Context(), u); errors.Is(err, oauth2pw.ErrExists) {
			auth.WriteError(w, r, &oauth2pw.Error{Code: "invalid_request", Description: "The name is taken.", Status: http.StatusConflict})
			return
		} else if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		tokens, err := auth.Login(r, u.ID, "")
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	signUp := func(name, password string) string {
		return postForm(server.URL+"/signup", url.Values{"username": {name}, "password": {password}})
	}
	fmt.Println(signUp("alice", "password123"))
	fmt.Println(signUp("johndoe", "correct horse battery"))
	fmt.Println(signUp("alice", "correct horse battery")[:3])
	// Output:
	// 422 {"error":"invalid_request","error_description":"The password is one that many people use."}
	// 409 {"error":"invalid_request","error_description":"The name is taken."}
	// 200
}

// A form without a token that asks for the password: the link of a mail unsubscribes the user.
func ExampleAuth_CheckPassword() {
	auth := newAuth(exampleConfig())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, err := auth.CheckPassword(r, r.PostFormValue("username"), r.PostFormValue("password"))
		if err != nil {
			auth.WriteError(w, r, err)
			return
		}
		fmt.Fprintf(w, "user %s gets no more mails", u.ID)
	}))
	defer server.Close()

	fmt.Println(postForm(server.URL, url.Values{"username": {"johndoe"}, "password": {"secret"}}))
	fmt.Println(postForm(server.URL, url.Values{"username": {"johndoe"}, "password": {"wrong"}}))
	// Output:
	// 200 user 1 gets no more mails
	// 400 {"error":"invalid_grant","error_description":"The credentials are wrong."}
}

// A link that verifies the address of a user.
func ExampleAuth_RedeemTicket() {
	auth := newAuth(exampleConfig())
	ctx := context.Background()

	// First the app makes a ticket for the address and mails the link.
	ticket, err := auth.NewTicket(ctx, oauth2pw.Ticket{
		UserID: "1", Purpose: "verify", Data: "john@example.com", ExpiresAt: time.Now().Add(24 * time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}
	link := "https://app.example.com/verify?ticket=" + string(ticket) // a log would show [redacted]

	// Last the user opens the link.
	u, err := url.Parse(link)
	if err != nil {
		log.Fatal(err)
	}
	t, user, err := auth.RedeemTicket(ctx, u.Query().Get("ticket"), "verify")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.Username, "has the address", t.Data) // if this is still the address of the user
	_, _, err = auth.RedeemTicket(ctx, u.Query().Get("ticket"), "delete")
	fmt.Println(err)
	// Output:
	// johndoe has the address john@example.com
	// oauth2pw: invalid_ticket
}

// A user has forgotten the password.
func ExampleAuth_ResetPassword() {
	c := exampleConfig()
	auth, users := newAuth(c), c.Users
	mux := http.NewServeMux()
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, r *http.Request) {
		if err := auth.ResetPassword(r, r.PostFormValue("ticket"), r.PostFormValue("new")); err != nil {
			auth.WriteError(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("/token", auth.TokenHandler())
	server := httptest.NewServer(mux)
	defer server.Close()

	// First the app finds the user and mails a ticket.
	u, err := users.UserByName(context.Background(), "johndoe")
	if err != nil {
		log.Fatal(err) // an app gives the same answer for every address: "Look into your mails."
	}
	ticket, err := auth.NewTicket(context.Background(), oauth2pw.Ticket{
		UserID: u.ID, Purpose: oauth2pw.PurposeReset, ExpiresAt: time.Now().Add(time.Hour),
	})
	if err != nil {
		log.Fatal(err)
	}

	// Next the user sends the ticket with a new password. The ticket works once.
	form := url.Values{"ticket": {string(ticket)}, "new": {"longer secret"}}
	fmt.Println(postForm(server.URL+"/reset", form)[:3])
	fmt.Println(postForm(server.URL+"/reset", form))

	// Last the user logs in.
	login := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"longer secret"}}
	fmt.Println(postForm(server.URL+"/token", login)[:3])
	// Output:
	// 204
	// 400 {"error":"invalid_ticket","error_description":"The ticket is invalid or has expired."}
	// 200
}

// An administrator sets the password of a user, and every login of the user ends.
func ExampleAuth_SetPassword() {
	auth := newAuth(exampleConfig())
	tokens := loggedIn(auth)

	err := auth.SetPassword(context.Background(), "1", "a new secret")
	fmt.Println(err)
	_, err = auth.Verify(context.Background(), string(tokens.AccessToken))
	fmt.Println(errors.Is(err, oauth2pw.ErrInvalidToken))
	err = auth.SetPassword(context.Background(), "2", "a new secret")
	fmt.Println(errors.Is(err, oauth2pw.ErrNotFound))
	// Output:
	// <nil>
	// true
	// true
}

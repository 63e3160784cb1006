package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// A service that only takes the tokens of another: it has no users and no Auth.
func ExampleRequireBearer() {
	// First the login service makes a token.
	login, verifier := loginService()
	token, _, err := login.Issue(context.Background(), oauth2pw.Principal{Subject: "1", Scope: "items"})
	if err != nil {
		log.Fatal(err)
	}

	// Next this service protects its handlers with a verifier, which has the public key.
	mux := http.NewServeMux()
	mux.Handle("GET /items", oauth2pw.RequireBearer(verifier, "items")(http.HandlerFunc(whoami)))
	mux.Handle("GET /admin", oauth2pw.RequireBearer(verifier, "admin")(http.HandlerFunc(whoami)))
	server := httptest.NewServer(mux)
	defer server.Close()

	// Last a client sends the token.
	fmt.Println(getWith(server.URL+"/items", token))
	fmt.Println(getWith(server.URL+"/admin", token))
	// Output:
	// 200 user 1
	// 403 {"error":"insufficient_scope","error_description":"The token lacks a scope that is required here."}
}

// A page for everybody, with more for a logged-in user. An invalid token is still refused.
func ExampleOptionalBearer() {
	login, verifier := loginService()
	token, _, err := login.Issue(context.Background(), oauth2pw.Principal{Subject: "1"})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(oauth2pw.OptionalBearer(verifier)(http.HandlerFunc(whoami)))
	defer server.Close()

	fmt.Println(getWith(server.URL, token))
	fmt.Println(getWith(server.URL, ""))
	fmt.Println(getWith(server.URL, "other")[:3])
	// Output:
	// 200 user 1
	// 200 a visitor
	// 401
}

// Scopes as roles: a handler names the scopes that it needs.
func ExampleAuth_RequireBearer() {
	c := exampleConfig()
	c.Scopes = map[string]string{"me": "read your profile", "admin": "manage users"}
	auth := newAuth(c) // johndoe has only the default scope, "me"
	mux := http.NewServeMux()
	mux.Handle("GET /users/me", auth.RequireBearer("me")(http.HandlerFunc(whoami)))
	mux.Handle("DELETE /users/{id}", auth.RequireBearer("admin")(http.HandlerFunc(whoami)))
	token := string(loggedIn(auth).AccessToken)

	fmt.Println(send(mux, "GET", "/users/me", token, nil))
	fmt.Println(send(mux, "DELETE", "/users/2", token, nil))
	// Output:
	// 200 user 1
	// 403 {"error":"insufficient_scope","error_description":"The token lacks a scope that is required here."}
}

// One handler for visitors and users.
func ExampleAuth_OptionalBearer() {
	auth := newAuth(exampleConfig())
	server := httptest.NewServer(auth.OptionalBearer()(http.HandlerFunc(whoami)))
	defer server.Close()

	fmt.Println(getWith(server.URL, string(loggedIn(auth).AccessToken)))
	fmt.Println(getWith(server.URL, ""))
	// Output:
	// 200 user 1
	// 200 a visitor
}

// A router whose handlers return errors, as those of echo and huma do.
func ExampleAuth_CheckBearer() {
	auth := newAuth(exampleConfig())
	type handler func(w http.ResponseWriter, r *http.Request) error
	protect := func(h handler, scopes ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			checked, err := auth.CheckBearer(r, scopes...)
			if err == nil {
				err = h(w, checked) // not r: only checked has the principal
			}
			if err != nil {
				auth.WriteError(w, r, err)
			}
		}
	}
	server := httptest.NewServer(protect(func(w http.ResponseWriter, r *http.Request) error {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		_, err := fmt.Fprintf(w, "user %s", p.Subject)
		return err
	}, "me"))
	defer server.Close()

	fmt.Println(getWith(server.URL, string(loggedIn(auth).AccessToken)))
	fmt.Println(getWith(server.URL, ""))
	// Output:
	// 200 user 1
	// 401 {"error":"unauthorized","error_description":"A bearer token is required."}
}

// The login of an app, for its OpenAPI document; see package openapi.
func ExampleAuth_PasswordBearer() {
	c := exampleConfig()
	c.Scopes = map[string]string{"me": "Read your profile."}
	login := newAuth(c).PasswordBearer("token")
	fmt.Println(login.TokenURL, login.RefreshURL, login.Scopes)
	// Output: token token map[me:Read your profile.]
}

// A WebSocket has no header: the page sends the token in its first message.
func ExampleAuth_Verify() {
	auth := newAuth(exampleConfig())
	tokens := loggedIn(auth)
	message := string(tokens.AccessToken)

	p, err := auth.Verify(context.Background(), message)
	fmt.Println(p.Subject, p.HasScope("me"), err)
	if _, err := auth.EndSession(context.Background(), "1", tokens.SessionID, "logout"); err != nil {
		log.Fatal(err)
	}
	_, err = auth.Verify(context.Background(), message)
	fmt.Println(errors.Is(err, oauth2pw.ErrInvalidToken))
	// Output:
	// 1 true <nil>
	// true
}

// A handler knows its user.
func ExamplePrincipalFrom() {
	c := exampleConfig()
	c.LoadUser = true // p.User is the user's record, read at this request
	auth := newAuth(c)
	server := httptest.NewServer(auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context()) // always true behind RequireBearer
		fmt.Fprintf(w, "user %s, called %s", p.Subject, p.User.Username)
	})))
	defer server.Close()

	fmt.Println(getWith(server.URL, string(loggedIn(auth).AccessToken)))
	// Output: 200 user 1, called johndoe
}

// A claim of the token that Principal has no field for. A test sets the claims as JSON.
func ExamplePrincipal_Claims() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		var claims struct {
			Team string `json:"team"`
		}
		if err := p.Claims(&claims); err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		fmt.Fprint(w, claims.Team)
	})

	r := httptest.NewRequest("GET", "/", nil)
	p := oauth2pw.Principal{Subject: "1", Payload: `{"sub":"1","team":"blue"}`}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r.WithContext(oauth2pw.WithPrincipal(r.Context(), p)))
	fmt.Println(w.Code, w.Body)
	// Output: 200 blue
}

// A handler reads the scopes that its group of routes and its own route require.
func ExampleRequiredScopes() {
	c := exampleConfig()
	c.DefaultScopes = []string{"me", "items"}
	auth := newAuth(c)
	group, route := auth.RequireBearer("me"), auth.RequireBearer("items")
	server := httptest.NewServer(group(route(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, oauth2pw.RequiredScopes(r.Context()))
	}))))
	defer server.Close()

	fmt.Println(getWith(server.URL, string(loggedIn(auth).AccessToken)))
	// Output: 200 [me items]
}

// whoami answers with the user of the request.
func whoami(w http.ResponseWriter, r *http.Request) {
	if p, ok := oauth2pw.PrincipalFrom(r.Context()); ok {
		fmt.Fprint(w, "user ", p.Subject)
		return
	}
	fmt.Fprint(w, "a visitor")
}

// loginService returns the tokens of another service, and their verifier.
func loginService() (*tokens.Ring, *tokens.Verifier) {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://login.example.com", Audience: "items"})
	if err != nil {
		log.Fatal(err)
	}
	published := httptest.NewRecorder()
	ring.JWKSHandler().ServeHTTP(published, httptest.NewRequest("GET", "/", nil))
	keys, err := tokens.ParseKeys(published.Body.Bytes())
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := tokens.NewVerifier(tokens.VerifierConfig{Keys: keys, Issuer: "https://login.example.com", Audience: "items"})
	if err != nil {
		log.Fatal(err)
	}
	return ring, verifier
}

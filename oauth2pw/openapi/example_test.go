package openapi_test

import (
	"fmt"
	"log"
	"net/http"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The document of an app, and the login in it.
func Example() {
	// First: the app, and its document. Only an open operation has a word about security.
	auth := newAuth()
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /users/{id}", auth.RequireBearer("me")(http.NotFoundHandler()))
	file := []byte(`{"openapi":"3.1.0","info":{"title":"app","version":"1"},"paths":{"/users/{id}":{"get":{}}}}`)

	// Next: the scheme is that of the Auth, and the security of /users/{id} is that of its handler.
	doc, err := openapi.Parse(file, auth.PasswordBearer("token"))
	if err != nil {
		log.Fatal(err)
	}
	if err := doc.Routes(mux); err != nil {
		log.Fatal(err)
	}

	// Last: the document has a handler.
	handler, err := doc.Handler()
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle("GET /openapi.json", handler)
	body, err := doc.MarshalJSON()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body))
	// Output:
	// {"openapi":"3.1.0","info":{"title":"app","version":"1"},"paths":{"/users/{id}":{"get":{"security":[{"OAuth2PasswordBearer":["me"]}]}}},"components":{"securitySchemes":{"OAuth2PasswordBearer":{"type":"oauth2","flows":{"password":{"tokenUrl":"token","scopes":{"me":"Read your profile."}}}}}}}
}

// A router whose middleware is no http.Handler: the app repeats the scopes.
func ExampleDocument_SetScopes() {
	file := []byte(`{"openapi":"3.0.3","info":{"title":"app","version":"1"},"paths":{"/hello":{"get":{"responses":{}}}}}`)
	doc, err := openapi.Parse(file, oauth2pw.PasswordBearer{TokenURL: "token"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(doc.SetScopes("GET", "/hello", "me"))
	fmt.Println(doc.SetScopes("GET", "/helo", "me"))
	_, err = doc.Handler()
	fmt.Println(err)
	// Output:
	// <nil>
	// openapi: the document has no operation GET /helo
	// <nil>
}

// The security of a handler as a struct, for a router that makes its own document.
func ExampleRequirementsOf() {
	auth := newAuth()
	handler := auth.RequireBearer()(auth.RequireBearer("me")(http.NotFoundHandler()))
	fmt.Println(openapi.RequirementsOf(handler))
	fmt.Println(openapi.RequirementsOf(auth.OptionalBearer()(http.NotFoundHandler())))
	fmt.Println(openapi.RequirementsOf(http.NotFoundHandler()))
	// Output:
	// [map[OAuth2PasswordBearer:[me]]]
	// [map[] map[OAuth2PasswordBearer:[]]]
	// []
}

func newAuth() *oauth2pw.Auth {
	key, _, err := tokens.NewKey("")
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	users, err := store.NewUsers()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: hasher.Default(), Issuer: jwt,
		Scopes: map[string]string{"me": "Read your profile."}, DefaultScopes: []string{"me"},
	})
	if err != nil {
		log.Fatal(err)
	}
	return auth
}

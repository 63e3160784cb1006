package oauth2pw_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// Refresh tokens, and an end to every login: a store of sessions and a server
// secret are all that they need.
func Example_sessions() {
	dir, users, passwords := exampleUsers()
	defer os.RemoveAll(dir)
	jwt, err := tokens.Open(filepath.Join(dir, "signing.jwk"), "https://api.example.com", "api")
	if err != nil {
		log.Fatal(err)
	}
	secrets, err := oauth2pw.OpenSecrets(filepath.Join(dir, "refresh.secret"))
	if err != nil {
		log.Fatal(err)
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: secrets,
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("GET /users/me", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintf(w, "user %s", p.Subject)
	})))

	server := httptest.NewServer(mux)
	defer server.Close()
	first := postForm(server.URL+"/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
	second := postForm(server.URL+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {member(first, "refresh_token")}})
	fmt.Println(getWith(server.URL+"/users/me", member(second, "access_token")))
	fmt.Println(postForm(server.URL+"/revoke", url.Values{"token": {member(second, "refresh_token")}}))
	fmt.Println(getWith(server.URL+"/users/me", member(second, "access_token"))[:29])
	// Output:
	// 200 user 1
	// 200 {}
	// 401 {"error":"invalid_token",
}

// Tokens right after an app's own sign-up.
func ExampleAuth_Login() {
	auth, stop := exampleAuth()
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /signup", func(w http.ResponseWriter, r *http.Request) {
		id := "1" // of the user that the app has just made
		tokens, err := auth.Login(r, id, "")
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		tokens.Write(w)
	})

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/signup", nil))
	fmt.Println(w.Code, w.Header().Get("Cache-Control"))
	// Output: 200 no-store
}

// The route behind which a user changes the password.
func ExampleAuth_ChangePassword() {
	auth, stop := exampleAuth()
	defer stop()
	handler := auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens, err := auth.ChangePassword(r, r.PostFormValue("old"), r.PostFormValue("new"))
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		tokens.Write(w) // every older token is refused
	}))

	tokens, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "")
	if err != nil {
		log.Fatal(err)
	}
	for _, body := range []string{"old=wrong&new=longer", "old=secret&new=longer"} {
		r := httptest.NewRequest("POST", "/password", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+string(tokens.AccessToken))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 403
	// 200
}

// Sign out everywhere else.
func ExampleAuth_EndOtherSessions() {
	auth, stop := exampleAuth()
	defer stop()
	var here *oauth2pw.Tokens
	for range 3 {
		var err error
		if here, err = auth.Login(httptest.NewRequest("POST", "/", nil), "1", ""); err != nil {
			log.Fatal(err)
		}
	}

	n, err := auth.EndOtherSessions(context.Background(), "1", here.SessionID, "signed_out_elsewhere")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "sessions ended")
	// Output: 2 sessions ended
}

// Where clients find the endpoints.
func ExampleAuth_MetadataHandler() {
	auth, stop := exampleAuth()
	defer stop()
	mux := http.NewServeMux()
	mux.Handle("/.well-known/oauth-authorization-server", auth.MetadataHandler(oauth2pw.Metadata{
		TokenEndpoint:      "https://api.example.com/token",
		RevocationEndpoint: "https://api.example.com/revoke",
	}))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/oauth-authorization-server", nil))
	fmt.Println(strings.ReplaceAll(w.Body.String(), ",\"", ",\n\""))
	// Output:
	// {"issuer":"https://api.example.com",
	// "token_endpoint":"https://api.example.com/token",
	// "scopes_supported":["me"],
	// "response_types_supported":[],
	// "grant_types_supported":["password",
	// "refresh_token"],
	// "token_endpoint_auth_methods_supported":["none"],
	// "revocation_endpoint":"https://api.example.com/revoke",
	// "revocation_endpoint_auth_methods_supported":["none"]}
}

func exampleUsers() (dir string, users *store.Users, passwords *hasher.Hasher) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	passwords = hasher.Default()
	hash, err := passwords.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	users, err = store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		log.Fatal(err)
	}
	return dir, users, passwords
}

func exampleAuth() (auth *oauth2pw.Auth, stop func()) {
	dir, users, passwords := exampleUsers()
	jwt, err := tokens.Open(filepath.Join(dir, "signing.jwk"), "https://api.example.com", "api")
	if err != nil {
		log.Fatal(err)
	}
	auth, err = oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"}, LoadUser: true,
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{secret("example")},
	})
	if err != nil {
		log.Fatal(err)
	}
	return auth, func() { os.RemoveAll(dir) }
}

// member returns a member of a JSON object, a string.
func member(json, name string) string {
	_, rest, _ := strings.Cut(json, `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

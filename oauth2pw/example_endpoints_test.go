package oauth2pw_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// A mistake is refused at the start of the app, and the error names the field.
func ExampleNew() {
	key, _, err := tokens.NewKey("EdDSA") // or tokens.Open, which keeps the key in a file
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	c := oauth2pw.Config{Users: new(store.Users), Hasher: hasher.Default(), Issuer: jwt, Sessions: new(store.Sessions)}

	_, err = oauth2pw.New(c)
	fmt.Println(err)

	c.Secrets = []oauth2pw.Secret{oauth2pw.NewSecret()} // or oauth2pw.OpenSecrets
	auth, err := oauth2pw.New(c)
	fmt.Println(auth != nil, err)
	// Output:
	// oauth2pw: Config.Secrets is empty; Config.DisableRefresh is for sessions without refresh tokens
	// true <nil>
}

// A client logs in, and later gets new tokens without the password.
func ExampleAuth_TokenHandler() {
	auth := newAuth(exampleConfig())
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler()) // for every method: the endpoint itself answers a GET
	server := httptest.NewServer(mux)
	defer server.Close()

	// First the client sends the name and the password of the user.
	login := postForm(server.URL+"/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
	fmt.Println(login[:3], member(login, "token_type"), member(login, "scope"))

	// Next, before the access token expires, the client sends the refresh token.
	refresh := postForm(server.URL+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {member(login, "refresh_token")}})
	fmt.Println(refresh[:3], member(refresh, "refresh_token") != member(login, "refresh_token"))

	// Last, a wrong password.
	fmt.Println(postForm(server.URL+"/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"wrong"}}))
	// Output:
	// 200 bearer me
	// 200 true
	// 400 {"error":"invalid_grant","error_description":"The credentials are wrong."}
}

// The log-out of a client: the client sends its refresh token, and the session ends.
func ExampleAuth_RevokeHandler() {
	auth := newAuth(exampleConfig())
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	server := httptest.NewServer(mux)
	defer server.Close()
	tokens := loggedIn(auth)

	fmt.Println(postForm(server.URL+"/revoke", url.Values{"token": {string(tokens.RefreshToken)}}))
	refresh := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {string(tokens.RefreshToken)}}
	fmt.Println(postForm(server.URL+"/token", refresh))
	// Output:
	// 200 {}
	// 400 {"error":"invalid_grant","error_description":"The refresh token is invalid, expired or revoked."}
}

// A gateway of the app checks tokens at the endpoint, and so learns of a log-out at once.
func ExampleAuth_IntrospectHandler() {
	secret, sum := oauth2pw.NewClientSecret()
	clients, err := store.NewClients(oauth2pw.Client{ID: "gateway", SecretSHA256: sum, Introspect: true})
	if err != nil {
		log.Fatal(err)
	}
	c := exampleConfig()
	c.Clients, c.AllowNoClient = clients, true // the users log in without a client
	auth := newAuth(c)
	mux := http.NewServeMux()
	mux.Handle("/introspect", auth.IntrospectHandler())
	server := httptest.NewServer(mux)
	defer server.Close()
	tokens := loggedIn(auth)

	form := url.Values{"client_id": {"gateway"}, "client_secret": {string(secret)}, "token": {string(tokens.AccessToken)}}
	answer := postForm(server.URL+"/introspect", form)
	fmt.Println(member(answer, "username"), member(answer, "scope"))
	if _, err := auth.EndSession(context.Background(), "1", tokens.SessionID, "logout"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(postForm(server.URL+"/introspect", form))
	// Output:
	// johndoe me
	// 200 {"active":false}
}

// A client with a secret: a program on a server, which can keep one.
func ExampleNewClientSecret() {
	// First the app makes the secret, shows it once and stores only its SHA-256.
	secret, sum := oauth2pw.NewClientSecret()
	clients, err := store.NewClients(oauth2pw.Client{ID: "website", SecretSHA256: sum, Grants: []string{"password", "refresh_token"}})
	if err != nil {
		log.Fatal(err)
	}
	c := exampleConfig()
	c.Clients = clients
	server := httptest.NewServer(newAuth(c).TokenHandler())
	defer server.Close()

	// Next the client logs a user in, with its secret and with another secret.
	form := url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}, "client_id": {"website"}}
	form.Set("client_secret", string(secret))
	fmt.Println(postForm(server.URL, form)[:3])
	form.Set("client_secret", "guess")
	fmt.Println(postForm(server.URL, form))
	// Output:
	// 200
	// 400 {"error":"invalid_client","error_description":"The client is unknown or could not be authenticated."}
}

// exampleConfig has the user johndoe with the ID 1 and the password "secret", hashed at a cost
// for examples, and sessions in memory.
func exampleConfig() oauth2pw.Config {
	passwords, err := hasher.New(hasher.Config{Params: hasher.Params{Memory: 64, Time: 1, Threads: 1}, InsecureParams: true})
	if err != nil {
		log.Fatal(err)
	}
	hash, err := passwords.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		log.Fatal(err)
	}
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	return oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()},
	}
}

func newAuth(c oauth2pw.Config) *oauth2pw.Auth {
	auth, err := oauth2pw.New(c)
	if err != nil {
		log.Fatal(err)
	}
	return auth
}

// loggedIn returns the tokens of a login of johndoe.
func loggedIn(auth *oauth2pw.Auth) *oauth2pw.Tokens {
	tokens, err := auth.Login(httptest.NewRequest("POST", "/", nil), "1", "")
	if err != nil {
		log.Fatal(err)
	}
	return tokens
}

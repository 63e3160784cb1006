package oauth2pw_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The login of an app: a token endpoint, and a handler that only its tokens open.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	passwords := hasher.Default()
	hash, err := passwords.Hash(context.Background(), "secret")
	if err != nil {
		log.Fatal(err)
	}
	users, err := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	if err != nil {
		log.Fatal(err)
	}

	jwt, err := tokens.Open(filepath.Join(dir, "signing.jwk"), "https://api.example.com", "api")
	if err != nil {
		log.Fatal(err)
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"},
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /users/me", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintf(w, "user %s, scope %s", p.Subject, p.Scope)
	})))

	server := httptest.NewServer(mux)
	defer server.Close()
	token := postForm(server.URL+"/token", url.Values{"grant_type": {"password"}, "username": {"johndoe"}, "password": {"secret"}})
	_, token, _ = strings.Cut(token, `"access_token":"`)
	token, _, _ = strings.Cut(token, `"`)
	fmt.Println(getWith(server.URL+"/users/me", token))
	fmt.Println(getWith(server.URL+"/users/me", ""))
	// Output:
	// 200 user 1, scope me
	// 401 {"error":"unauthorized","error_description":"A bearer token is required."}
}

// The token endpoint of FastAPI's tutorial, written by hand.
func ExampleParsePasswordRequestForm() {
	mux := http.NewServeMux()
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		form, err := oauth2pw.ParsePasswordRequestForm(r)
		if err != nil {
			oauth2pw.WriteError(w, r, err)
			return
		}
		if form.Username != "alice" || form.Password != "secret" {
			oauth2pw.WriteError(w, r, &oauth2pw.Error{Code: "invalid_grant"})
			return
		}
		(&oauth2pw.Tokens{AccessToken: "token123", ExpiresIn: time.Hour}).Write(w)
	})

	server := httptest.NewServer(mux)
	defer server.Close()
	fmt.Println(postForm(server.URL+"/token", url.Values{"username": {"alice"}, "password": {"secret"}}))
	fmt.Println(postForm(server.URL+"/token", url.Values{"username": {"alice"}, "password": {"wrong"}}))
	fmt.Println(postForm(server.URL+"/token", url.Values{"username": {"alice"}}))
	// Output:
	// 200 {"access_token":"token123","token_type":"bearer","expires_in":3600}
	// 400 {"error":"invalid_grant","error_description":"The credentials are wrong."}
	// 400 {"error":"invalid_request","error_description":"The parameters username and password are required."}
}

// The protected route of FastAPI's tutorial, with the app's own check of the token.
func ExamplePasswordBearer() {
	bearer := oauth2pw.PasswordBearer{TokenURL: "token"}
	check := func(_ context.Context, token string) (oauth2pw.Principal, error) {
		if token != "validtoken" {
			return oauth2pw.Principal{}, oauth2pw.ErrInvalidToken
		}
		return oauth2pw.Principal{Subject: "alice"}, nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /secure-data", bearer.Require(check)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"data":"secret info"}`)
	})))

	server := httptest.NewServer(mux)
	defer server.Close()
	fmt.Println(getWith(server.URL+"/secure-data", "validtoken"))
	fmt.Println(getWith(server.URL+"/secure-data", "other"))
	fmt.Println(getWith(server.URL+"/secure-data", ""))
	// Output:
	// 200 {"data":"secret info"}
	// 401 {"error":"invalid_token","error_description":"The token is malformed, expired, revoked or not meant for this service."}
	// 401 {"error":"unauthorized","error_description":"A bearer token is required."}
}

// A test of a handler needs no token.
func ExampleWithPrincipal() {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintf(w, "user %s, admin: %t", p.Subject, p.HasScope("admin"))
	})

	r := httptest.NewRequest("GET", "/", nil)
	r = r.WithContext(oauth2pw.WithPrincipal(r.Context(), oauth2pw.Principal{Subject: "1", Scope: "me admin"}))
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Body)
	// Output: user 1, admin: true
}

func postForm(url string, form url.Values) string {
	resp, err := http.PostForm(url, form)
	return statusAndBody(resp, err)
}

func getWith(url, token string) string {
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err.Error()
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return statusAndBody(http.DefaultClient.Do(r))
}

func statusAndBody(resp *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode, " ", string(body))
}

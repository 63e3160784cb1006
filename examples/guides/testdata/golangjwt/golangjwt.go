// Package golangjwt has the middleware that docs/from-golang-jwt.md replaces, as many apps have
// written it.
package golangjwt

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/bcrypt"
)

type userKey struct{}

func protect(key []byte, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		claims := new(jwt.RegisteredClaims)
		_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{"HS256"}))
		if err != nil {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, claims.Subject)))
	})
}

func login(key []byte, hashes map[string][]byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.FormValue("username")
		hash, ok := hashes[name]
		if !ok || bcrypt.CompareHashAndPassword(hash, []byte(r.FormValue("password"))) != nil {
			http.Error(w, "wrong password", http.StatusUnauthorized)
			return
		}
		claims := jwt.RegisteredClaims{Subject: name, ExpiresAt: jwt.NewNumericDate(time.Now().Add(24 * time.Hour))}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(key)
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		w.Write([]byte(token))
	}
}

// parse verifies an old token.
func parse(key []byte) func(token string) (subject string, expires time.Time, err error) {
	return func(token string) (string, time.Time, error) {
		claims := new(jwt.RegisteredClaims)
		_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired())
		if err != nil {
			return "", time.Time{}, err
		}
		return claims.Subject, claims.ExpiresAt.Time, nil
	}
}

// options are those that the middleware does not use.
var options = []jwt.ParserOption{jwt.WithAudience("api"), jwt.WithIssuer("https://api.example.com")}

package golangjwt

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"
)

// TestLacks: the middleware lacks what docs/from-golang-jwt.md says.
func TestLacks(t *testing.T) {
	in := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	sign := func(key string, c jwt.RegisteredClaims) string {
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString([]byte(key))
		require.NoError(t, err)
		return token
	}
	get := func(key string, authorization ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Authorization"] = authorization
		w := httptest.NewRecorder()
		protect([]byte(key), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
		return w
	}
	const key = "0123456789abcdef0123456789abcdef"
	valid := sign(key, jwt.RegisteredClaims{Subject: "1", ExpiresAt: in(time.Hour)})
	require.Equal(t, 200, get(key, "Bearer "+valid).Code)
	require.Equal(t, 401, get(key, "Bearer "+sign(key, jwt.RegisteredClaims{Subject: "1", ExpiresAt: in(-time.Hour)})).Code)

	require.Equal(t, 200, get(key, "Bearer "+sign(key, jwt.RegisteredClaims{Subject: "1"})).Code, "no exp")
	require.Equal(t, 200, get(key, "Bearer "+sign(key, jwt.RegisteredClaims{Subject: "1", ExpiresAt: in(time.Hour), Audience: []string{"another"}})).Code, "aud")
	require.Equal(t, 200, get(key, "Bearer "+sign(key, jwt.RegisteredClaims{Subject: "1", ExpiresAt: in(time.Hour), Issuer: "another"})).Code, "iss")
	require.Equal(t, 200, get(key, "Bearer "+sign(key, jwt.RegisteredClaims{ExpiresAt: in(time.Hour)})).Code, "no sub")
	require.Equal(t, 200, get("k", "Bearer "+sign("k", jwt.RegisteredClaims{Subject: "1", ExpiresAt: in(time.Hour)})).Code, "a key of one byte")
	require.Equal(t, 200, get(key, "Bearer "+valid, "Bearer x").Code, "two headers")
	require.Equal(t, 401, get(key, "bearer "+valid).Code, "another case")
	require.Equal(t, 200, get(key, valid).Code, "no scheme")
	w := get(key)
	require.Equal(t, 401, w.Code)
	require.Empty(t, w.Header().Get("WWW-Authenticate"))
	require.Empty(t, w.Header().Get("Cache-Control"))
}

// TestLogin: the login gives tokens that parse reads, takes the password from the URL, and has
// no limit.
func TestLogin(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	require.NoError(t, err)
	handler := login([]byte("k"), map[string][]byte{"johndoe": hash})
	do := func(password string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest("POST", "/?"+url.Values{"username": {"johndoe"}, "password": {password}}.Encode(), nil))
		return w
	}
	for range 50 {
		require.Equal(t, 401, do("wrong").Code)
	}
	w := do("secret")
	require.Equal(t, 200, w.Code)
	require.Empty(t, w.Header().Get("Cache-Control"))
	subject, expires, err := parse([]byte("k"))(w.Body.String())
	require.NoError(t, err)
	require.Equal(t, "johndoe", subject)
	require.True(t, expires.After(time.Now()))
	_, _, err = parse([]byte("k"))(strings.ToUpper(w.Body.String()))
	require.Error(t, err)
}

package tokens_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The tokens of an app whose key is in a file. The first start makes the file.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	jwt, err := tokens.Open(filepath.Join(dir, "signing.jwk"), "https://api.example.com", "api")
	if err != nil {
		log.Fatal(err)
	}
	token, _, err := jwt.Issue(context.Background(), oauth2pw.Principal{Subject: "1"}) // oauth2pw.Auth does it
	if err != nil {
		log.Fatal(err)
	}
	p, err := jwt.Verify(context.Background(), token)
	fmt.Println(p.Subject, p.ExpiresAt.Sub(p.IssuedAt), err)
	// Output: 1 15m0s <nil>
}

// All settings of a ring: shorter tokens, and a clock for tests.
func ExampleNew() {
	key, _, err := tokens.NewKey("ES256")
	if err != nil {
		log.Fatal(err)
	}
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	ring, err := tokens.New(tokens.Config{
		Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api",
		TTL: 5 * time.Minute, Now: func() time.Time { return now },
	})
	if err != nil {
		log.Fatal(err)
	}
	token, issued, err := ring.Issue(context.Background(), oauth2pw.Principal{Subject: "1", Scope: "me"})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(issued.ExpiresAt.Format(time.TimeOnly))
	now = issued.ExpiresAt.Add(time.Second) // the token is valid until the end of its last second
	_, err = ring.Verify(context.Background(), token)
	fmt.Println(errors.Is(err, tokens.ErrExpired), errors.Is(err, oauth2pw.ErrInvalidToken))
	// Output:
	// 12:05:00
	// true true
}

// A key for a secret manager: the JWK is the secret, and later makes the same key.
func ExampleNewKey() {
	key, jwk, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	again, err := tokens.ParseKeys(jwk) // at the start of the app
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Algorithm(), again[0].ID() == key.ID())
	// Output: EdDSA true
}

// The first start of an app makes a file with a key, and every other start reads it.
func ExampleOpenKeys() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "signing.jwk")

	first, err := tokens.OpenKeys(file)
	if err != nil {
		log.Fatal(err)
	}
	again, err := tokens.OpenKeys(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first[0].Algorithm(), first[0].ID() == again[0].ID())
	// Output: EdDSA true
}

// The keys of a rotation in one file, a JWK set: the first key signs.
func ExampleReadKeys() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "signing.jwks")
	next, nextJWK, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	_, oldJWK, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	set := fmt.Appendf(nil, `{"keys":[%s,%s]}`, nextJWK, oldJWK)
	if err := os.WriteFile(file, set, 0o600); err != nil {
		log.Fatal(err)
	}

	keys, err := tokens.ReadKeys(file) // unlike OpenKeys, ReadKeys makes no file
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(keys), keys[0].ID() == next.ID())
	// Output: 2 true
}

// A key from PEM, such as the output of "openssl genpkey -algorithm EC -pkeyopt
// ec_paramgen_curve:P-256".
func ExampleParseKeys() {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		log.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})

	keys, err := tokens.ParseKeys(text)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(keys), keys[0].Algorithm())
	_, err = tokens.ParseKeys([]byte("no key"))
	fmt.Println(err)
	// Output:
	// 1 ES256
	// tokens: no key: neither PEM nor a JSON object
}

// A key from PEM names no algorithm: RS256 is the first for RSA, and the app chooses another.
func ExampleKey_WithAlgorithm() {
	key, _, err := tokens.NewKey("RS256")
	if err != nil {
		log.Fatal(err)
	}
	pss, err := key.WithAlgorithm("PS256")
	fmt.Println(pss.Algorithm(), err)
	_, err = key.WithAlgorithm("ES256")
	fmt.Println(err != nil) // not an algorithm of RSA
	// Output:
	// PS256 <nil>
	// true
}

// Other services get the public keys at a well-known URL.
func ExampleRing_JWKSHandler() {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/jwks.json", ring.JWKSHandler())

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/.well-known/jwks.json", nil))
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		log.Fatal(err)
	}
	fmt.Println(w.Header().Get("Content-Type"), w.Header().Get("Cache-Control"))
	fmt.Println(set.Keys[0]["kty"], set.Keys[0]["use"], set.Keys[0]["kid"] == key.ID())
	fmt.Println(bytes.Contains(w.Body.Bytes(), []byte(`"d"`))) // the private part
	// Output:
	// application/json public, max-age=300
	// OKP sig true
	// false
}

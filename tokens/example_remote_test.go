package tokens_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// The tokens of an identity provider. Its keys are fetched at the first token.
func ExampleNewRemote() {
	// First the provider publishes its keys and makes a token.
	mux := http.NewServeMux()
	provider := httptest.NewTLSServer(mux)
	defer provider.Close()
	key, _, err := tokens.NewKey("ES256")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: provider.URL, Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	mux.Handle("GET /keys", ring.JWKSHandler())
	token, _, err := ring.Issue(context.Background(), oauth2pw.Principal{Subject: "1", Scope: "read:items write:items"})
	if err != nil {
		log.Fatal(err)
	}

	// Next the app names the provider, and the scopes that the app takes from it.
	roots := x509.NewCertPool()
	roots.AddCert(provider.Certificate())
	remote, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer: provider.URL, JWKSURL: provider.URL + "/keys", Audience: "api",
		Scopes:  map[string]string{"read:items": "items"},
		RootCAs: roots, // nil in production: the system's authorities
	})
	if err != nil {
		log.Fatal(err)
	}

	// Last a token: oauth2pw.RequireBearer(remote, "items") calls Verify.
	p, err := remote.Verify(context.Background(), token)
	fmt.Println(p.Subject, p.Scope, err)
	// Output: 1 items <nil>
}

// An app checks at its start that the identity provider answers.
func ExampleRemote_Refresh() {
	key, _, err := tokens.NewKey("ES256")
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	provider := httptest.NewTLSServer(mux)
	defer provider.Close()
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: provider.URL, Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(provider.Certificate())
	now := time.Now()
	remote, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer: provider.URL, JWKSURL: provider.URL + "/keys", Audience: "api",
		RootCAs: roots, Now: func() time.Time { return now },
	})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(remote.Refresh(context.Background()) == nil) // the provider has no keys yet
	mux.Handle("GET /keys", ring.JWKSHandler())
	now = now.Add(time.Second) // the wait after a failure; a second failure doubles it
	fmt.Println(remote.Refresh(context.Background()) == nil)
	// Output:
	// false
	// true
}

// A move from FastAPI's tutorial logs nobody out: the old tokens are accepted until the last of
// them has expired.
func ExampleInsecureLegacyHS256() {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	old, err := tokens.InsecureLegacyHS256(tokens.LegacyConfig{
		Secret: "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7", // SECRET_KEY
		Issuer: "https://api.example.com", Until: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC),
		Subject: func(_ context.Context, username string) (string, error) {
			if username != "johndoe" {
				return "", oauth2pw.ErrNotFound
			}
			return "1", nil // from the table of users
		},
		Now: func() time.Time { return now },
	})
	if err != nil {
		log.Fatal(err)
	}
	const token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9." + // HS256
		"eyJzdWIiOiJqb2huZG9lIiwiZXhwIjoxNzY5NzMxMjAwfQ." + // {"sub":"johndoe","exp":1769731200}
		"A2PtkJghLfbanvcqCI4-BR6csoAgqz43WYjk_NDmzTY"

	p, err := old.Verify(context.Background(), token)
	fmt.Println(p.Subject, err)
	now = now.AddDate(0, 1, 0)
	_, err = old.Verify(context.Background(), token)
	fmt.Println(errors.Is(err, oauth2pw.ErrInvalidToken))
	// Output:
	// 1 <nil>
	// true
}

// A verifier in another process follows a rotation of the keys.
func ExampleVerifier_SetKeys() {
	old, next := publicKey(), publicKey()
	verifier, err := tokens.NewVerifier(tokens.VerifierConfig{Keys: []tokens.Key{old}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}

	// First, before the new key signs, both keys; last, only the new key.
	fmt.Println(verifier.SetKeys(old, next))
	fmt.Println(verifier.SetKeys(next))
	fmt.Println(verifier.SetKeys()) // a mistake: the keys are as before
	// Output:
	// <nil>
	// <nil>
	// tokens: VerifierConfig.Keys is empty
}

// publicKey returns a public key, as a service gets it from PEM.
func publicKey() tokens.Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		log.Fatal(err)
	}
	keys, err := tokens.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		log.Fatal(err)
	}
	return keys[0]
}

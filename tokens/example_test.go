package tokens_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// A new key, while serving: every process verifies it before any signs with it, and
// the old one goes when its tokens have expired.
func ExampleRing_SetKeys() {
	old, _, err := tokens.NewKey("ES256")
	if err != nil {
		log.Fatal(err)
	}
	next, _, err := tokens.NewKey("ES256")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{old}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	token, _, err := ring.Issue(context.Background(), oauth2pw.Principal{Subject: "1"})
	if err != nil {
		log.Fatal(err)
	}

	for _, step := range []struct {
		name string
		keys []tokens.Key
	}{
		{"publish", []tokens.Key{old, next}}, // in every process
		{"sign", []tokens.Key{next, old}},    // five minutes later at the earliest
		{"retire", []tokens.Key{next}},       // and Config.TTL after that
	} {
		if err := ring.SetKeys(step.keys...); err != nil {
			log.Fatal(err)
		}
		_, err := ring.Verify(context.Background(), token)
		fmt.Println(step.name+":", err == nil)
	}
	// Output:
	// publish: true
	// sign: true
	// retire: false
}

// A service that only checks the tokens of another: it has the public keys in a file, and
// asks nobody.
func ExampleNewVerifier() {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	token, _, err := ring.Issue(context.Background(), oauth2pw.Principal{Subject: "1"})
	if err != nil {
		log.Fatal(err)
	}
	published := httptest.NewRecorder() // curl https://api.example.com/.well-known/jwks.json > public.jwks
	ring.JWKSHandler().ServeHTTP(published, httptest.NewRequest("GET", "/", nil))

	keys, err := tokens.ParseKeys(published.Body.Bytes()) // tokens.ReadKeys("public.jwks")
	if err != nil {
		log.Fatal(err)
	}
	verifier, err := tokens.NewVerifier(tokens.VerifierConfig{Keys: keys, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	p, err := verifier.Verify(context.Background(), token) // oauth2pw.RequireBearer(verifier, "me") does it
	fmt.Println(p.Subject, err)
	// Output: 1 <nil>
}

// An identity provider that names scopes as the app does.
func ExampleSameScopes() {
	provider, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer: "https://login.example.com", Audience: "https://api.example.com",
		Scopes: tokens.SameScopes("me", "items"),
	})
	fmt.Println(provider.Issuer(), err)
	// Output: https://login.example.com <nil>
}

// Claims of the app's own.
func ExampleWithClaims() {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	type extra struct {
		Team string `json:"team"`
	}
	ring, err := tokens.New(tokens.Config{
		Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api",
		Claims: tokens.WithClaims(func(_ context.Context, p oauth2pw.Principal) (extra, error) {
			return extra{Team: "blue"}, nil // from p.User, say
		}),
	})
	if err != nil {
		log.Fatal(err)
	}
	token, _, err := ring.Issue(context.Background(), oauth2pw.Principal{Subject: "1"})
	if err != nil {
		log.Fatal(err)
	}

	p, err := ring.Verify(context.Background(), token)
	if err != nil {
		log.Fatal(err)
	}
	var claims extra
	if err := p.Claims(&claims); err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Team)
	// Output: blue
}

// Tokens of the app itself, of an identity provider, and, until a date, of the
// FastAPI app that was there before.
func ExampleByIssuer() {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		log.Fatal(err)
	}
	ring, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		log.Fatal(err)
	}
	provider, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer: "https://login.example.com", Audience: "https://api.example.com",
		Scopes: map[string]string{"read:items": "items"},
	})
	if err != nil {
		log.Fatal(err)
	}
	old, err := tokens.InsecureLegacyHS256(tokens.LegacyConfig{
		Secret: "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
		Issuer: ring.Issuer(), Until: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC),
		Subject: func(_ context.Context, username string) (string, error) { return "1", nil },
	})
	if err != nil {
		log.Fatal(err)
	}

	verifier, err := tokens.ByIssuer(ring, provider, old) // Config.Verifier
	fmt.Println(verifier != nil, err)
	// Output: true <nil>
}

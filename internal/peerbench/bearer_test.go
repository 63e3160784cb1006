package peerbench

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	ginjwt "github.com/appleboy/gin-jwt/v2"
	jwtmiddleware "github.com/auth0/go-jwt-middleware/v2"
	"github.com/auth0/go-jwt-middleware/v2/validator"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/jwtauth/v5"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	oauthstore "github.com/go-oauth2/oauth2/v4/store"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

const issuer, audience = "https://api.example.com", "api"

// nobody throws away what it is given.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header         { return n.header }
func (n nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n nobody) WriteHeader(int)             {}

// key is a signing key, as the library and as the standard library have it.
type key struct {
	ours    tokens.Key
	private crypto.PrivateKey // []byte for HMAC
	public  crypto.PublicKey
}

func newKey(tb testing.TB, alg string) key {
	k, data, err := tokens.NewKey(alg)
	require.NoError(tb, err)
	private, public := rawKey(tb, data)
	return key{k, private, public}
}

func newRing(tb testing.TB, k key, cache int) *tokens.Ring {
	r, err := tokens.New(tokens.Config{Keys: []tokens.Key{k.ours}, Issuer: issuer, Audience: audience, Cache: cache})
	require.NoError(tb, err)
	return r
}

func token(tb testing.TB, r *tokens.Ring) string {
	token, _, err := r.Issue(tb.Context(), oauth2pw.Principal{Subject: "42", Scope: "me items"})
	require.NoError(tb, err)
	return token
}

// measure calls a handler with a token, which must let it pass.
func measure(b *testing.B, h func(next http.Handler) http.Handler, token string) {
	passed := 0
	handler := h(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { passed++ }))
	r, err := http.NewRequest("GET", "/", nil)
	require.NoError(b, err)
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header.Set("Authorization", "Bearer "+token)
	w := nobody{make(http.Header)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		handler.ServeHTTP(w, r)
		n++
	}
	require.Equal(b, n, passed)
}

var algorithms = []string{"HS256", "ES256", "EdDSA", "RS256"}

// BenchmarkBearer is one bearer check as middleware: signature, iss, aud, exp and
// a scope.
func BenchmarkBearer(b *testing.B) {
	for _, alg := range algorithms {
		k := newKey(b, alg)
		access := token(b, newRing(b, k, -1))
		run := func(name string, h func(http.Handler) http.Handler) {
			b.Run(alg+"/"+name, func(b *testing.B) { measure(b, h, access) })
		}
		b.Run(alg+"/signature-alone", func(b *testing.B) { bareSignature(b, alg, k, access) })
		run("passwordflow", oauth2pw.RequireBearer(newRing(b, k, -1), "me"))
		run("passwordflow-cached", oauth2pw.RequireBearer(newRing(b, k, 0), "me"))
		run("golang-jwt", golangJWT(alg, k))
		run("gin-jwt", ginJWT(b, alg, k))
		run("jwtauth", chiJWTAuth(alg, k))
		run("go-jwt-middleware", auth0(b, alg, k))
	}
	b.Run("opaque/go-oauth2", goOAuth2)
}

// BenchmarkAuthBearer is the same with an Auth around it: a live session and the
// user are looked up in memory.
func BenchmarkAuthBearer(b *testing.B) {
	k := newKey(b, "HS256")
	r := newRing(b, k, 0)
	users, err := store.NewUsers(oauth2pw.User{ID: "42", Username: "johndoe"})
	require.NoError(b, err)
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Issuer: r, DisablePasswordGrant: true, LoadUser: true, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.Secret(strings.Repeat("x", 32))},
	})
	require.NoError(b, err)
	request, err := http.NewRequest("GET", "/", nil)
	require.NoError(b, err)
	login, err := auth.Login(request, "42", "")
	require.NoError(b, err)
	measure(b, auth.RequireBearer("me"), string(login.AccessToken))
}

// BenchmarkParallel is the cached check on one and on all cores.
func BenchmarkParallel(b *testing.B) {
	r := newRing(b, newKey(b, "HS256"), 0)
	access := token(b, r)
	handler := oauth2pw.RequireBearer(r, "me")(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	request := func() *http.Request {
		r, err := http.NewRequest("GET", "/", nil)
		if err != nil {
			panic(err)
		}
		r.RemoteAddr = "192.0.2.1:1234"
		r.Header.Set("Authorization", "Bearer "+access)
		return r
	}
	b.Run("one", func(b *testing.B) {
		r, w := request(), nobody{make(http.Header)}
		for b.Loop() {
			handler.ServeHTTP(w, r)
		}
	})
	b.Run("all", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			r, w := request(), nobody{make(http.Header)}
			for pb.Next() {
				handler.ServeHTTP(w, r)
			}
		})
	})
}

func method(alg string) jwt.SigningMethod { return jwt.GetSigningMethod(alg) }

func bareSignature(b *testing.B, alg string, k key, token string) {
	i := strings.LastIndexByte(token, '.')
	signature, err := jwt.NewParser().DecodeSegment(token[i+1:])
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if err := method(alg).Verify(token[:i], signature, k.public); err != nil {
			b.Fatal(err)
		}
	}
}

type scopeKey struct{}

// golangJWT is the middleware that people write by hand.
func golangJWT(alg string, k key) func(http.Handler) http.Handler {
	type claims struct {
		Scope string `json:"scope"`
		jwt.RegisteredClaims
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{alg}), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			var c claims
			_, err := parser.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return k.public, nil })
			if !strings.EqualFold(scheme, "Bearer") || err != nil {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if !slices.Contains(strings.Fields(c.Scope), "me") {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), scopeKey{}, &c)))
		})
	}
}

func ginJWT(tb testing.TB, alg string, k key) func(http.Handler) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	m := &ginjwt.GinJWTMiddleware{
		Realm: "api", SigningAlgorithm: alg, Key: []byte("unused"), IdentityKey: "sub",
		KeyFunc: func(*jwt4Token) (any, error) { return k.public, nil },
		Authorizator: func(_ any, c *gin.Context) bool {
			claims := ginjwt.ExtractClaims(c)
			scope, _ := claims["scope"].(string)
			return claims["iss"] == issuer && claims["aud"] == audience && slices.Contains(strings.Fields(scope), "me")
		},
	}
	return func(next http.Handler) http.Handler {
		m, err := ginjwt.New(m)
		require.NoError(tb, err)
		engine := gin.New()
		engine.GET("/", m.MiddlewareFunc(), func(c *gin.Context) { next.ServeHTTP(c.Writer, c.Request) })
		return engine
	}
}

func chiJWTAuth(alg string, k key) func(http.Handler) http.Handler {

	auth := jwtauth.New(alg, k.private, k.public)
	return func(next http.Handler) http.Handler {
		return jwtauth.Verifier(auth)(jwtauth.Authenticator(auth)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, claims, _ := jwtauth.FromContext(r.Context())
			scope, _ := claims["scope"].(string)
			if claims["iss"] == issuer && slices.Contains(strings.Fields(scope), "me") {
				next.ServeHTTP(w, r)
			}
		})))
	}
}

type auth0Claims struct {
	Scope string `json:"scope"`
}

func (c *auth0Claims) Validate(context.Context) error {
	if !slices.Contains(strings.Fields(c.Scope), "me") {
		return errors.New("no scope")
	}
	return nil
}

func auth0(tb testing.TB, alg string, k key) func(http.Handler) http.Handler {
	v, err := validator.New(func(context.Context) (any, error) { return k.public, nil }, validator.SignatureAlgorithm(alg), issuer, []string{audience},
		validator.WithCustomClaims(func() validator.CustomClaims { return new(auth0Claims) }))
	require.NoError(tb, err)
	return jwtmiddleware.New(v.ValidateToken).CheckJWT
}

func goOAuth2(b *testing.B) {
	m := manage.NewDefaultManager()
	m.MustTokenStorage(oauthstore.NewMemoryTokenStore())
	clients := oauthstore.NewClientStore()
	require.NoError(b, clients.Set("c", &models.Client{ID: "c", Secret: "s"}))
	m.MapClientStorage(clients)
	s := server.NewDefaultServer(m)
	info, err := m.GenerateAccessToken(b.Context(), "password", &tokenRequest)
	require.NoError(b, err)
	measure(b, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			t, err := s.ValidationBearerToken(r)
			if err != nil || !slices.Contains(strings.Fields(t.GetScope()), "me") {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}, info.GetAccess())
}

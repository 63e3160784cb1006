package guides

import (
	"context"
	"database/sql"
	"net/http"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// fromFastAPI accepts the tokens of the old app until a day, beside its own.
func fromFastAPI(users oauth2pw.UserStore, passwords oauth2pw.PasswordHasher, jwt *tokens.Ring, secretKey oauth2pw.Secret, lastDay time.Time) (*oauth2pw.Auth, error) {
	old, err := tokens.InsecureLegacyHS256(tokens.LegacyConfig{
		Secret: secretKey, // SECRET_KEY of the old app, as text
		Issuer: jwt.Issuer(),
		Until:  lastDay,
		Subject: func(ctx context.Context, sub string) (string, error) {
			u, err := users.UserByName(ctx, sub) // the tutorial writes the username into sub
			if err != nil {
				return "", err
			}
			return u.ID, nil
		},
	})
	if err != nil {
		return nil, err
	}
	both, err := tokens.ByIssuer(jwt, old)
	if err != nil {
		return nil, err
	}
	return oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: passwords, Issuer: jwt, Verifier: both, LoadUser: true,
		Scopes: map[string]string{"me": "", "items": ""}, DefaultScopes: []string{"me"},
	})
}

func fastAPIRoutes(mux *http.ServeMux, auth *oauth2pw.Auth, h http.Handler) {
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /users/me", auth.RequireBearer()(h))
	mux.Handle("GET /users/me/items", auth.RequireBearer("items")(h))
	mux.Handle("GET /{$}", auth.OptionalBearer()(h))
	mux.Handle("/auth/jwt/login", auth.TokenHandler())
}

func fastAPIForms(auth *oauth2pw.Auth, w http.ResponseWriter, r *http.Request) {
	form, err := oauth2pw.ParsePasswordRequestForm(r)
	if err != nil || form.Username == "" {
		form, err = oauth2pw.ParsePasswordRequestFormStrict(r)
	}
	if err != nil || form.Username == "" {
		auth.WriteError(w, r, &oauth2pw.Error{Code: "invalid_token"})
	}
}

func fastAPIBearer(check func(ctx context.Context, token string) (oauth2pw.Principal, error)) func(http.Handler) http.Handler {
	bearer := oauth2pw.PasswordBearer{TokenURL: "token"}
	return bearer.Require(check, "me")
}

func fastAPIHandler(r *http.Request) (string, []string) {
	p, ok := oauth2pw.PrincipalFrom(r.Context())
	if !ok {
		return "", nil
	}
	required := oauth2pw.RequiredScopes(r.Context())
	return p.User.Username, required
}

func fastAPIKeys(keys []tokens.Key) (*tokens.Ring, error) {
	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
	if err != nil {
		return jwt, err
	}
	jwt, err = tokens.New(tokens.Config{
		Keys: keys, Issuer: "https://api.example.com", Audience: "api",
		TTL:    30 * time.Minute,
		Claims: tokens.WithClaims(role),
	})
	return jwt, err
}

// role is a further claim.
func role(_ context.Context, p oauth2pw.Principal) (map[string]string, error) {
	return map[string]string{"role": strings.ToUpper(p.Scope)}, nil
}

func fastAPIHash(auth *oauth2pw.Auth, r *http.Request, password string) (string, error) {
	passwords := hasher.Default()
	if auth == nil {
		return passwords.Hash(r.Context(), password)
	}
	hash, err := auth.HashNewPassword(r, nil, password)
	return hash, err
}

func fastAPIUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "user", ID: "id", Username: "email", PasswordHash: "hashed_password", Active: "is_active"})
	return users, err
}

func fastAPIDocument(mux *http.ServeMux, auth *oauth2pw.Auth, file []byte) (err error) {
	doc, err := openapi.Parse(file, auth.PasswordBearer("token"))
	if err != nil {
		return err
	}
	err = doc.Routes(mux)
	return err
}

func fastAPISettings(c *oauth2pw.Config) {
	c.LaxForm = true
	c.LoadUser = true
	c.FoldName = strings.ToLower
	c.ErrorBody = detail
}

// detail is the body of an error as FastAPI's front ends expect it.
func detail(_ context.Context, e *oauth2pw.Error) any {
	return map[string]string{"error": e.Code, "error_description": e.Description, "detail": e.Description}
}

// The functions are here to be compiled.
var _ = []any{fromFastAPI, fastAPIRoutes, fastAPIForms, fastAPIBearer, fastAPIHandler, fastAPIKeys, fastAPIHash, fastAPIUsers, fastAPIDocument, fastAPISettings}

package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/rs/cors"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

type app struct {
	db       *program.DB
	jwt      *tokens.Ring
	auth     *oauth2pw.Auth
	sessions oauth2pw.SessionStore
}

// newApp makes the Auth of the app.
func newApp(ctx context.Context, o *options, db *program.DB, shared *shared, h *hasher.Hasher, jwt *tokens.Ring, secrets []oauth2pw.Secret, logger *slog.Logger) (*app, error) {
	users, err := sqlstore.NewUsers(db, db.Dialect, userTable)
	if err != nil {
		return nil, err
	}
	found, err := users.Inspect(ctx, h.Reads, 1000)
	if err != nil {
		return nil, err
	}
	if found.Unreadable > 0 || found.FoldsNames {
		logger.Warn("the table of users does not fit", "found", found)
	}
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: db.Dialect})
	if err != nil {
		return nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, Clients: st.Clients,
		AllowNoClient: true, // as in FastAPI
		LaxForm:       o.laxForm,
		Scopes: map[string]string{
			"me":    "Read information about the current user.",
			"items": "Read items.",
		},
		DefaultScopes:    []string{"me"},
		Sessions:         shared.sessions,
		Secrets:          secrets,
		RefreshIdle:      o.refreshIdle,
		RefreshMax:       o.refreshMax,
		RefreshGrace:     o.Grace(),
		RefreshForgive:   o.RefreshForgive,
		LoadUser:         true,
		CheckNewPassword: hasher.Policy{}.Check, // at least 8 characters, and no common password
		Throttle:         shared.throttle,
		ThrottleLimit:    shared.limit,
		ThrottleWindow:   shared.window,
		TrustedProxies:   o.TrustedProxies,
		ProxyHeader:      o.proxyHeader,
		TrustedOrigins:   o.cors,
		OnEvent:          oauth2pw.LogEvents(logger),

		InsecureNoThrottle: o.Throttle.Off,
	})
	if err != nil {
		return nil, err
	}
	return &app{db, jwt, auth, shared.sessions}, nil
}

// routes returns the handler of the app. publicKeys: the signing key has a public half.
func (a *app) routes(issuer string, publicKeys bool) (http.Handler, error) {
	mux := http.NewServeMux()
	protect := func(pattern string, handler http.HandlerFunc, scopes ...string) {
		mux.Handle(pattern, a.auth.RequireBearer(scopes...)(handler))
	}
	mux.Handle("/token", a.auth.TokenHandler())
	mux.Handle("/revoke", a.auth.RevokeHandler())
	mux.Handle("/introspect", a.auth.IntrospectHandler())
	mux.Handle(jwksPath, a.jwt.JWKSHandler())
	urls := oauth2pw.Metadata{
		TokenEndpoint:         issuer + "/token",
		RevocationEndpoint:    issuer + "/revoke",
		IntrospectionEndpoint: issuer + "/introspect",
	}
	if publicKeys {
		urls.JWKSURI = issuer + jwksPath
	}
	metadata := a.auth.MetadataHandler(urls)
	mux.Handle(metadataPath, metadata)
	if u, err := url.Parse(issuer); err == nil && u.Path != "" && u.Path != "/" {
		mux.Handle(metadataPath+"/{path...}", metadata) // RFC 8414, section 3: the path of the issuer follows
	}

	protect("GET /users/me", a.me, "me")
	protect("GET /users/me/items", a.items, "me", "items")
	protect("GET /status", a.status)
	protect("GET /sessions", a.listSessions, "me")
	protect("DELETE /sessions", a.endSessions, "me")
	protect("DELETE /sessions/{id}", a.endSession, "me")
	protect("POST /password", a.changePassword, "me")
	mux.Handle("GET /{$}", a.auth.OptionalBearer()(http.HandlerFunc(a.home)))
	mux.HandleFunc("GET /healthz", a.healthz)
	return mux, a.describe(mux)
}

// allowOrigins allows scripts of other origins to call the app with a bearer token. Cookies
// are not allowed, because the app has no cookies.
func allowOrigins(origins []string, app http.Handler) http.Handler {
	if len(origins) == 0 {
		return app
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "X-Requested-With"}, // Swagger UI sends the last one
		ExposedHeaders: []string{"WWW-Authenticate", "Retry-After"},
		MaxAge:         600, // seconds
	}).Handler(app)
}

const (
	metadataPath = "/.well-known/oauth-authorization-server"
	jwksPath     = "/.well-known/jwks.json"
)

func (a *app) me(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	profile, err := readProfile(r.Context(), a.db, p.Subject)
	if errors.Is(err, sql.ErrNoRows) { // the user was deleted after the check of the token
		err = &oauth2pw.Error{Code: "invalid_token"}
	}
	if err != nil {
		a.auth.WriteError(w, r, err)
		return
	}
	writeJSON(w, profile)
}

func (a *app) items(w http.ResponseWriter, r *http.Request) {
	type item struct {
		ItemID string `json:"item_id"`
		Owner  string `json:"owner"`
	}
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	writeJSON(w, []item{{"Foo", p.User.Username}})
}

func (a *app) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, map[string]string{"status": "ok"})
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	var answer struct {
		User *string `json:"user"`
	}
	if p, ok := oauth2pw.PrincipalFrom(r.Context()); ok {
		answer.User = &p.User.Username
	}
	writeJSON(w, answer)
}

func (a *app) healthz(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	var n int
	err := a.db.QueryRowContext(r.Context(), "SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1) AS t").Scan(&n)
	if _, missed := a.sessions.Get(r.Context(), "healthz"); !errors.Is(missed, oauth2pw.ErrNotFound) {
		err = errors.Join(err, missed)
	}
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "the database does not answer\n")
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error means that the client has disconnected
}

package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// newAuth plugs the app into the library.
func newAuth(o *options, db *sql.DB, h *hasher.Hasher, jwt *tokens.Ring, logger *slog.Logger) (*oauth2pw.Auth, error) {
	users, err := sqlstore.Users(db, sqlstore.SQLite, userTable)
	if err != nil {
		return nil, err
	}
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return nil, err
	}
	return oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, Clients: st.Clients,
		Scopes: map[string]string{
			"me":    "Read information about the current user.",
			"items": "Read items.",
		},
		DefaultScopes:  []string{"me"},
		LoadUser:       true,
		TrustedProxies: o.trustedProxies,
		ProxyHeader:    o.proxyHeader,
		OnEvent:        oauth2pw.LogEvents(logger),
	})
}

// routes is the app.
func routes(auth *oauth2pw.Auth, db *sql.DB) http.Handler {
	app := &app{db}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /users/me", auth.RequireBearer("me")(http.HandlerFunc(app.me)))
	mux.Handle("GET /users/me/items", auth.RequireBearer("me", "items")(http.HandlerFunc(app.items)))
	mux.Handle("GET /status", auth.RequireBearer()(http.HandlerFunc(app.status)))
	mux.Handle("GET /{$}", oauth2pw.OptionalBearer(auth)(http.HandlerFunc(app.home)))
	mux.HandleFunc("GET /healthz", app.healthz)
	return mux
}

type app struct{ db *sql.DB }

func (a *app) me(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	profile, err := readProfile(r.Context(), a.db, p.Subject)
	if errors.Is(err, sql.ErrNoRows) { // deleted since the token was checked
		err = &oauth2pw.Error{Code: "invalid_token"}
	}
	if err != nil {
		oauth2pw.WriteError(w, r, err)
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
	if err := a.db.QueryRowContext(r.Context(), "SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1)").Scan(&n); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "the database does not answer\n")
		return
	}
	_, _ = io.WriteString(w, "ok")
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone; nobody is left to tell
}

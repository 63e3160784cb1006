// Package howdoi holds the lines of code of the table "How do I …" in the README, so that the
// compiler reads them.
package howdoi

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/rs/cors"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

func ownTable(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "password"})
	return users, err
}

func signUp(ctx context.Context, auth *oauth2pw.Auth, users *sqlstore.Users, r *http.Request, id, name, password string) (err error) {
	hash, err := auth.HashNewPassword(r, nil, password)
	if err != nil {
		return err
	}
	err = users.Add(ctx, oauth2pw.User{ID: id, Username: name, PasswordHash: oauth2pw.Secret(hash)})
	return err
}

func afterSignUp(auth *oauth2pw.Auth, w http.ResponseWriter, r *http.Request, id string) {
	answer, err := auth.Login(r, id, "", "me")
	if err != nil {
		auth.WriteError(w, r, err)
		return
	}
	answer.Write(w)
}

func handler(auth *oauth2pw.Auth, w http.ResponseWriter, r *http.Request) {
	p, ok := oauth2pw.PrincipalFrom(r.Context())
	if !ok || p.Subject == "" {
		auth.WriteError(w, r, &oauth2pw.Error{Code: "invalid_request", Description: "The name is missing."})
	}
}

func logOut(ctx context.Context, auth *oauth2pw.Auth, p oauth2pw.Principal) (err error) {
	_, err = auth.EndSession(ctx, p.Subject, p.SessionID, "logout")
	return err
}

func changePassword(auth *oauth2pw.Auth, r *http.Request, old, new string) (answer *oauth2pw.Tokens, err error) {
	answer, err = auth.ChangePassword(r, old, new)
	return answer, err
}

func link(ctx context.Context, auth *oauth2pw.Auth, id string) (oauth2pw.Secret, error) {
	ticket, err := auth.NewTicket(ctx, oauth2pw.Ticket{UserID: id, Purpose: oauth2pw.PurposeReset, ExpiresAt: time.Now().Add(time.Hour)})
	return ticket, err
}

func reset(auth *oauth2pw.Auth, r *http.Request, token, new string) (err error) {
	err = auth.ResetPassword(r, token, new)
	return err
}

func verify(ctx context.Context, auth *oauth2pw.Auth, token string) (address string, id string, err error) {
	ticket, user, err := auth.RedeemTicket(ctx, token, "verify")
	if err != nil {
		return "", "", err
	}
	return ticket.Data, user.ID, nil
}

func again(auth *oauth2pw.Auth, r *http.Request, password string) (answer *oauth2pw.Tokens, err error) {
	answer, err = auth.Reauthenticate(r, password)
	return answer, err
}

func devices(ctx context.Context, auth *oauth2pw.Auth, p oauth2pw.Principal) ([]*oauth2pw.Session, error) {
	list, err := auth.Sessions(ctx, p.Subject)
	return list, err
}

func dangerous(auth *oauth2pw.Auth) func(http.Handler) http.Handler {
	return auth.RequireRecent(5 * time.Minute)
}

func describe(auth *oauth2pw.Auth, mux *http.ServeMux, file []byte) error {
	doc, err := openapi.Parse(file, auth.PasswordBearer("token"))
	if err != nil {
		return err
	}
	if err = doc.Routes(mux); err != nil {
		return err
	}
	handler, err := doc.Handler()
	if err != nil {
		return err
	}
	mux.Handle("GET /openapi.json", handler)
	return nil
}

func inATest(ctx context.Context, r *http.Request) *http.Request {
	r = r.WithContext(oauth2pw.WithPrincipal(ctx, oauth2pw.Principal{Subject: "1", Scope: "me"}))
	return r
}

func allowOrigins(mux *http.ServeMux, origins []string) (handler http.Handler) {
	handler = cors.New(cors.Options{AllowedOrigins: origins, AllowedHeaders: []string{"Authorization", "Content-Type"}}).Handler(mux)
	return handler
}

func configure(c *oauth2pw.Config, byCode oauth2pw.GrantFunc, checkCode func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error) {
	c.CheckLogin = checkCode
	c.CheckNewPassword = hasher.Policy{}.Check
	c.CheckNewPassword = hasher.Policy{Breached: hasher.Breached(nil)}.Check
	c.RefreshForgive = 48 * time.Hour
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	c.InsecureAllowHTTP = true
	c.Grants = map[string]oauth2pw.GrantFunc{"code": byCode}
	c.LaxForm = true
	c.OnEvent = oauth2pw.LogEvents(slog.Default())
}

func roles(auth *oauth2pw.Auth, next http.Handler) []http.Handler {
	return []http.Handler{auth.RequireBearer("me")(next), auth.RequireBearer("admin")(next)}
}

func consume(mux *http.ServeMux, items http.HandlerFunc) error {
	provider, err := tokens.NewRemote(tokens.RemoteConfig{
		Issuer:   "https://login.example.com",
		Audience: "https://api.example.com",
		Scopes:   tokens.SameScopes("items"), // the rest is dropped
	})
	if err != nil {
		return err
	}
	bearer := oauth2pw.PasswordBearer{OnEvent: oauth2pw.LogEvents(slog.Default())}
	mux.Handle("GET /items", bearer.Require(provider.Verify, "items")(http.HandlerFunc(items)))
	return nil
}

// The functions are here to be compiled.
var _ = []any{
	ownTable, signUp, afterSignUp, handler, logOut, changePassword, link, reset, verify, again, devices, dangerous, describe, inATest,
	allowOrigins, configure, roles, consume,
}

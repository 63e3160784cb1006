package main

import (
	"context"
	"database/sql"
	"log/slog"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// First newApp wires the library: the Config has every hook of this program. Next routes
// says which routes need a token, and which of those need a fresh password. Last onEvent
// writes the mails that follow from an event of the library.

// parts are the things that an app is made of.
type parts struct {
	db      *sql.DB
	hasher  oauth2pw.PasswordHasher
	keys    []tokens.Key
	secrets []oauth2pw.Secret
	mails   *outbox
	logger  *slog.Logger
	now     func() time.Time
}

type app struct {
	db     *sql.DB
	auth   *oauth2pw.Auth
	mails  *outbox
	logger *slog.Logger
	now    func() time.Time
	recent time.Duration
	limit  limiter // of requests that make an account or a mail
}

// newApp makes the app.
func newApp(o *options, p parts) (*app, error) {
	users, err := sqlstore.NewUsers(p.db, sqlstore.SQLite, userTable)
	if err != nil {
		return nil, err
	}
	st, err := sqlstore.New(p.db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return nil, err
	}
	jwt, err := tokens.New(tokens.Config{Keys: p.keys, Issuer: o.Issuer, Audience: "account", TTL: o.AccessTTL, Now: p.now})
	if err != nil {
		return nil, err
	}
	a := &app{db: p.db, mails: p.mails, logger: p.logger, now: p.now, recent: o.recent}
	log := oauth2pw.LogEvents(p.logger)
	a.auth, err = oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: p.hasher, Issuer: jwt,
		FoldName:         foldEmail,
		CheckLogin:       a.checkLogin,
		CheckNewPassword: hasher.Policy{}.Check, // at least 8 characters, and no common password
		Sessions:         st.Sessions,
		Secrets:          p.secrets,
		OpenSession:      a.openSession,
		RefreshIdle:      longSession,
		RefreshMax:       longSession,
		RefreshGrace:     o.Grace(),
		RefreshForgive:   o.RefreshForgive,
		LoadUser:         true, // the tokens of a deleted user are refused at once
		ThrottleLimit:    o.Throttle.Limit,
		ThrottleWindow:   o.Throttle.Window,
		TrustedProxies:   o.TrustedProxies,
		OnEvent:          func(ctx context.Context, e oauth2pw.Event) { log(ctx, e); a.onEvent(e) },
		Now:              p.now,

		InsecureNoThrottle: o.Throttle.Off,
	})
	return a, err
}

// routes returns the handler of the app.
func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	// Without a token.
	mux.Handle("/token", a.auth.TokenHandler())
	mux.HandleFunc("POST /signup", a.signUp)
	mux.HandleFunc("POST /verify", a.verify)
	mux.HandleFunc("POST /forgot", a.forgot)
	mux.HandleFunc("POST /reset", a.reset)

	// With a token.
	token := func(pattern string, handler http.HandlerFunc) {
		mux.Handle(pattern, a.auth.RequireBearer()(handler))
	}
	token("GET /account", a.showAccount)
	token("POST /reauthenticate", a.reauthenticate)
	token("POST /password", a.changePassword)
	token("GET /sessions", a.listSessions)
	token("DELETE /sessions", a.endSessions)
	token("DELETE /sessions/{id}", a.endSession)

	// With a token and a fresh password. The check of the token is outside.
	recent := a.auth.RequireRecent(a.recent)
	fresh := func(pattern string, handler http.HandlerFunc) {
		mux.Handle(pattern, a.auth.RequireBearer()(recent(handler)))
	}
	fresh("POST /email", a.changeEmail)
	fresh("POST /totp", a.makeTOTP)
	fresh("POST /totp/confirm", a.confirmTOTP)
	fresh("DELETE /totp", a.removeTOTP)
	fresh("DELETE /account", a.deleteAccount)
	return mux
}

// onEvent writes the mails that follow from an event. The hook must not block: the outbox
// reads the address of the user later.
func (a *app) onEvent(e oauth2pw.Event) {
	switch {
	case e.Kind == oauth2pw.EventLogin && e.Reason != "":
		// The reasons of a login are new_address, new_user_agent and new_place.
		a.mailUser(e.UserID, "new_place")
	case e.Kind == oauth2pw.EventPasswordChanged: // by POST /password or POST /reset
		a.mailUser(e.UserID, "changed")
	}
}

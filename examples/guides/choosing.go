package guides

import (
	"context"
	"database/sql"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// ownUsers is a store of users over any other database.
type ownUsers struct{ oauth2pw.UserStore }

func chooseUsers(ctx context.Context, db *sql.DB, user oauth2pw.User) ([]oauth2pw.Config, error) {
	inSQLite, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "accounts", ID: "id", Username: "email", PasswordHash: "password"})
	if err != nil {
		return nil, err
	}
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: sqlstore.SQLite})
	if err != nil {
		return nil, err
	}
	err = st.Migrate(ctx)
	if err != nil {
		return nil, err
	}
	inMemory, err := store.NewUsers(user)
	if err != nil {
		return nil, err
	}
	return []oauth2pw.Config{
		{Users: inSQLite},
		{Users: st.Users, Sessions: st.Sessions},
		{Users: inMemory, Sessions: new(store.Sessions)},
		{Users: ownUsers{inMemory}},
		{Authenticate: func(context.Context, string, string) (*oauth2pw.User, error) { return &user, nil }},
	}, nil
}

func chooseKey(alg string) (jwt *tokens.Ring, err error) {
	if alg == "EdDSA" {
		jwt, err = tokens.Open("signing.jwk", "https://api.example.com", "api")
		return jwt, err
	}
	_, jwk, err := tokens.NewKey(alg)
	if err != nil {
		return nil, err
	}
	err = os.WriteFile("signing.jwk", jwk, 0o600)
	if err != nil {
		return nil, err
	}
	return tokens.Open("signing.jwk", "https://api.example.com", "api")
}

func chooseSettings(checkCode func(context.Context, *oauth2pw.User, *oauth2pw.TokenRequest) error) []oauth2pw.Config {
	return []oauth2pw.Config{
		{
			LoadUser:         true,
			SessionCache:     5 * time.Second,
			RefreshIdle:      30 * 24 * time.Hour,
			RefreshMax:       180 * 24 * time.Hour,
			RefreshForgive:   48 * time.Hour,
			MaxSessions:      5,
			ThrottleLimit:    5,
			LaxForm:          true,
			TrustedProxies:   []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			TrustedOrigins:   []string{"https://app.example.com"},
			FoldName:         strings.ToLower,
			CheckLogin:       checkCode,
			CheckNewPassword: hasher.Policy{}.Check,
			KeepHashes:       true,
		},
		{StatelessTokens: true},
		{DisableRefresh: true},
		{DisablePasswordGrant: true},
	}
}

// The functions are here to be compiled.
var _ = []any{chooseUsers, chooseKey, chooseSettings}

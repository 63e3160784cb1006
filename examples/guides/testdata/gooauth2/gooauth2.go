// Package gooauth2 has the calls of go-oauth2 that docs/from-go-oauth2.md names.
package gooauth2

import (
	"context"
	"net/http"
	"time"

	"github.com/go-oauth2/oauth2/v4"
	"github.com/go-oauth2/oauth2/v4/generates"
	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
	"github.com/golang-jwt/jwt/v5"
)

func newServer(key []byte, byPassword server.PasswordAuthorizationHandler, h handlers) (*server.Server, error) {
	manager := manage.NewDefaultManager()
	manager.SetPasswordTokenCfg(&manage.Config{AccessTokenExp: 15 * time.Minute, RefreshTokenExp: 24 * time.Hour, IsGenerateRefresh: true})
	manager.SetRefreshTokenCfg(manage.DefaultRefreshTokenCfg)
	manager.MustTokenStorage(store.NewMemoryTokenStore())
	manager.MapAccessGenerate(generates.NewJWTAccessGenerate("", key, jwt.SigningMethodHS512))
	clients := store.NewClientStore()
	if err := clients.Set("webapp", &models.Client{ID: "webapp", Secret: "secret", Domain: "https://app.example.com"}); err != nil {
		return nil, err
	}
	manager.MapClientStorage(clients)

	srv := server.NewDefaultServer(manager)
	srv.SetClientInfoHandler(server.ClientFormHandler)
	srv.SetPasswordAuthorizationHandler(byPassword)
	srv.SetAllowedGrantType(oauth2.PasswordCredentials, oauth2.Refreshing)
	srv.SetAllowGetAccessRequest(true)
	srv.SetTokenType("Bearer")
	srv.SetClientAuthorizedHandler(h.client)
	srv.SetClientScopeHandler(h.scope)
	srv.SetRefreshingScopeHandler(h.refreshScope)
	srv.SetRefreshingValidationHandler(h.refresh)
	srv.SetAccessTokenExpHandler(h.expiry)
	srv.SetExtensionFieldsHandler(h.fields)
	srv.SetInternalErrorHandler(h.internal)
	srv.SetResponseErrorHandler(h.response)
	srv.SetRefreshTokenResolveHandler(server.RefreshTokenCookieResolveHandler)
	srv.SetAccessTokenResolveHandler(server.AccessTokenCookieResolveHandler)
	srv.SetUserAuthorizationHandler(h.user)
	return srv, nil
}

type handlers struct {
	client       server.ClientAuthorizedHandler
	scope        server.ClientScopeHandler
	refreshScope server.RefreshingScopeHandler
	refresh      server.RefreshingValidationHandler
	expiry       server.AccessTokenExpHandler
	fields       server.ExtensionFieldsHandler
	internal     server.InternalErrorHandler
	response     server.ResponseErrorHandler
	user         server.UserAuthorizationHandler
}

func serve(ctx context.Context, srv *server.Server, manager *manage.Manager, w http.ResponseWriter, r *http.Request) (string, error) {
	if err := srv.HandleTokenRequest(w, r); err != nil {
		return "", err
	}
	if err := srv.HandleAuthorizeRequest(w, r); err != nil {
		return "", err
	}
	ti, err := srv.ValidationBearerToken(r)
	if err != nil {
		return "", err
	}
	if err := manager.RemoveRefreshToken(ctx, ti.GetRefresh()); err != nil {
		return "", err
	}
	if err := manager.RemoveAccessToken(ctx, ti.GetAccess()); err != nil {
		return "", err
	}
	if ti, err = manager.LoadAccessToken(ctx, ti.GetAccess()); err != nil {
		return "", err
	}
	return ti.GetUserID() + ti.GetScope() + ti.GetClientID(), nil
}

// others are the grants that have no counterpart.
var others = []oauth2.GrantType{oauth2.AuthorizationCode, oauth2.ClientCredentials, oauth2.Implicit}

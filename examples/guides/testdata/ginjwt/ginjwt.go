// Package ginjwt has the settings and calls of gin-jwt that docs/from-gin-jwt.md names.
package ginjwt

import (
	"net/http"
	"time"

	jwt "github.com/appleboy/gin-jwt/v2"
	"github.com/gin-gonic/gin"
)

func newMiddleware(key []byte, c calls) (*jwt.GinJWTMiddleware, error) {
	return jwt.New(&jwt.GinJWTMiddleware{
		Realm:                 "api",
		SigningAlgorithm:      "HS256",
		Key:                   key,
		Timeout:               time.Hour,
		MaxRefresh:            24 * time.Hour,
		Authenticator:         c.authenticate,
		Authorizator:          c.authorize,
		PayloadFunc:           c.claims,
		Unauthorized:          c.unauthorized,
		IdentityKey:           "id",
		IdentityHandler:       c.identity,
		HTTPStatusMessageFunc: c.message,
		TimeFunc:              time.Now,
		TokenLookup:           "header:Authorization",
		TokenHeadName:         "Bearer",
		PrivKeyFile:           "private.pem",
		PubKeyFile:            "public.pem",
		SendCookie:            true,
		CookieMaxAge:          time.Hour,
		SendAuthorization:     true,
		DisabledAbort:         false,
		LoginResponse:         c.loggedIn,
		RefreshResponse:       c.refreshed,
		LogoutResponse:        c.loggedOut,
	})
}

type calls struct {
	authenticate        func(c *gin.Context) (any, error)
	authorize           func(data any, c *gin.Context) bool
	claims              func(data any) jwt.MapClaims
	unauthorized        func(c *gin.Context, code int, message string)
	identity            func(*gin.Context) any
	message             func(e error, c *gin.Context) string
	loggedIn, refreshed func(c *gin.Context, code int, message string, time time.Time)
	loggedOut           func(c *gin.Context, code int)
}

func routes(r *gin.Engine, mw *jwt.GinJWTMiddleware) {
	r.POST("/login", mw.LoginHandler)
	r.POST("/logout", mw.LogoutHandler)
	r.GET("/refresh_token", mw.RefreshHandler)
	r.GET("/hello", mw.MiddlewareFunc(), hello)
}

func hello(c *gin.Context) {
	claims := jwt.ExtractClaims(c)
	id, _ := c.Get("id")
	c.JSON(http.StatusOK, gin.H{"claims": claims, "id": id, "token": jwt.GetToken(c)})
}

func generate(mw *jwt.GinJWTMiddleware) (string, time.Time, error) {
	token, expire, err := mw.TokenGenerator(map[string]string{"id": "1"})
	return token, expire, err
}

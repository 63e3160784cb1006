package guides

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/labstack/echo/v4"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

func userOfRequest(r *http.Request) string {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	return p.Subject
}

func userOfEcho(c echo.Context) string {
	p, _ := oauth2pw.PrincipalFrom(c.Request().Context())
	return p.Subject
}

func userOfGin(c *gin.Context) string {
	p, _ := oauth2pw.PrincipalFrom(c.Request.Context())
	return p.Subject
}

func userOfHuma(ctx context.Context) string {
	p, _ := oauth2pw.PrincipalFrom(ctx)
	return p.Subject
}

// withRoot has a page at the root beside the token endpoint: "GET /" would be a conflict.
func withRoot(mux *http.ServeMux, auth *oauth2pw.Auth, h http.Handler) {
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /{$}", h)
}

// The functions are here to be compiled.
var _ = []any{userOfRequest, userOfEcho, userOfGin, userOfHuma, withRoot}

// Routers shows how to protect a handler of chi, echo, gin and huma. chi and echo take the
// middleware of the library unchanged; gin and huma need a function of a few lines that calls
// Auth.CheckBearer. Mount the token endpoint for every method: the endpoint itself answers
// wrong methods and preflights.
package routers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// hello is a handler of an app.
func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprint(w, "hello, user "+p.Subject)
}

// withChi needs no adapter.
func withChi(auth *oauth2pw.Auth) http.Handler {
	r := chi.NewRouter()
	r.Handle("/token", auth.TokenHandler())
	r.With(auth.RequireBearer("me")).Get("/hello", hello)
	return r
}

// withEcho needs no adapter.
func withEcho(auth *oauth2pw.Auth) http.Handler {
	e := echo.New()
	e.Any("/token", echo.WrapHandler(auth.TokenHandler()))
	e.GET("/hello", echo.WrapHandler(http.HandlerFunc(hello)), echo.WrapMiddleware(auth.RequireBearer("me")))
	return e
}

// withGin uses ginBearer, because behind a wrapped middleware gin would run the handlers
// after a refusal too.
func withGin(auth *oauth2pw.Auth) http.Handler {
	r := gin.New()
	r.Any("/token", gin.WrapH(auth.TokenHandler()))
	r.GET("/hello", ginBearer(auth, "me"), gin.WrapF(hello))
	return r
}

func ginBearer(auth *oauth2pw.Auth, scopes ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		r, err := auth.CheckBearer(c.Request, scopes...)
		if err != nil {
			auth.WriteError(c.Writer, c.Request, err)
			c.Abort()
			return
		}
		c.Request = r // handlers read oauth2pw.PrincipalFrom(c.Request.Context())
	}
}

// withHuma uses humaBearer, because an operation has no http.Handler.
func withHuma(auth *oauth2pw.Auth) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	api := humago.New(mux, huma.DefaultConfig("app", "1.0.0"))
	type output struct{ Body string }
	huma.Register(api, huma.Operation{
		Method: http.MethodGet, Path: "/hello", Middlewares: huma.Middlewares{humaBearer(auth, "me")},
	}, func(ctx context.Context, _ *struct{}) (*output, error) {
		p, _ := oauth2pw.PrincipalFrom(ctx)
		return &output{"hello, user " + p.Subject}, nil
	})
	return mux
}

func humaBearer(auth *oauth2pw.Auth, scopes ...string) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		in, w := humago.Unwrap(c)
		r, err := auth.CheckBearer(in, scopes...)
		if err != nil {
			auth.WriteError(w, in, err)
			return
		}
		next(huma.WithContext(c, r.Context()))
	}
}

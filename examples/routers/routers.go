// Routers shows how to protect a handler of chi, echo, gin and huma, and how to describe the
// protection in an OpenAPI document. chi and echo take the middleware of the library unchanged;
// gin and huma need a function of a few lines that calls Auth.CheckBearer. Mount the token
// endpoint for every method: the endpoint itself answers wrong methods and preflights.
//
// First each function makes the routes, next it adds their security to the document, and last
// it serves the document. Only chi shows its middleware: echo, gin and huma get the scopes of
// a route twice from one variable. An operation that nothing has described is an error.
package routers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
)

// document is the app's own description of its operations. huma makes its own.
const document = `{"openapi":"3.1.0","info":{"title":"app","version":"1.0.0"},"paths":{"/hello":{"get":{"responses":{"200":{"description":"A greeting"}}}}}}`

// hello is a handler of an app.
func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprint(w, "hello, user "+p.Subject)
}

// withChi needs no adapter, and chi.Walk shows the middleware of each route, except middleware
// around a Mount: put it into the mounted router.
func withChi(auth *oauth2pw.Auth) (http.Handler, error) {
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Handle("/token", auth.TokenHandler())
	r.With(auth.RequireBearer("me")).Get("/hello", hello)

	doc, err := openapi.Parse([]byte(document), auth.PasswordBearer("token"))
	if err != nil {
		return nil, err
	}
	if err := chi.Walk(r, doc.Operation); err != nil {
		return nil, err
	}
	handler, err := doc.Handler()
	if err != nil {
		return nil, err
	}
	r.Method(http.MethodGet, "/openapi.json", handler)
	return r, nil
}

// withEcho needs no adapter.
func withEcho(auth *oauth2pw.Auth) (http.Handler, error) {
	e := echo.New()
	me := []string{"me"}
	e.Any("/token", echo.WrapHandler(auth.TokenHandler()))
	e.GET("/hello", echo.WrapHandler(http.HandlerFunc(hello)), echo.WrapMiddleware(auth.RequireBearer(me...)))

	handler, err := describe(auth, me...)
	if err != nil {
		return nil, err
	}
	e.GET("/openapi.json", echo.WrapHandler(handler))
	return e, nil
}

// describe returns the handler of the document, for a router that does not show its middleware.
func describe(auth *oauth2pw.Auth, scopes ...string) (http.Handler, error) {
	doc, err := openapi.Parse([]byte(document), auth.PasswordBearer("token"))
	if err != nil {
		return nil, err
	}
	if err := doc.SetScopes(http.MethodGet, "/hello", scopes...); err != nil {
		return nil, err
	}
	return doc.Handler()
}

// withGin uses ginBearer, because behind a wrapped middleware gin would run the handlers
// after a refusal too.
func withGin(auth *oauth2pw.Auth) (http.Handler, error) {
	r := gin.New()
	me := []string{"me"}
	r.Any("/token", gin.WrapH(auth.TokenHandler()))
	r.GET("/hello", ginBearer(auth, me...), gin.WrapF(hello))

	handler, err := describe(auth, me...)
	if err != nil {
		return nil, err
	}
	r.GET("/openapi.json", gin.WrapH(handler))
	return r, nil
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

// withHuma uses humaBearer, because an operation has no http.Handler. huma makes the document
// and serves it at /openapi.json.
func withHuma(auth *oauth2pw.Auth) (http.Handler, error) {
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	config := huma.DefaultConfig("app", "1.0.0")
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{openapi.SchemeName: humaScheme(auth)}
	api := humago.New(mux, config)
	me := []string{"me"}
	type output struct{ Body string }
	huma.Register(api, huma.Operation{
		Method: http.MethodGet, Path: "/hello",
		Middlewares: huma.Middlewares{humaBearer(auth, me...)}, Security: openapi.Requirements(me...),
	}, func(ctx context.Context, _ *struct{}) (*output, error) {
		p, _ := oauth2pw.PrincipalFrom(ctx)
		return &output{"hello, user " + p.Subject}, nil
	})
	return mux, nil
}

// humaScheme is the security scheme in the types of huma.
func humaScheme(auth *oauth2pw.Auth) *huma.SecurityScheme {
	s := openapi.SchemeOf(auth.PasswordBearer("token"))
	scheme := &huma.SecurityScheme{Type: s.Type, Scheme: s.Scheme}
	if s.Flows != nil { // nil without the password grant
		flow := s.Flows.Password
		scheme.Flows = &huma.OAuthFlows{Password: &huma.OAuthFlow{TokenURL: flow.TokenURL, RefreshURL: flow.RefreshURL, Scopes: flow.Scopes}}
	}
	return scheme
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

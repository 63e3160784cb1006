// Metrics is an app with metrics of its logins for Prometheus. The files beside this program
// are for the operator: rules.yml has alert rules, and grafana.json is a dashboard.
//
//	go run ./metrics -addr 127.0.0.1:8000 -metrics 127.0.0.1:9464
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
	"github.com/oauth2pw/passwordflow/tokens"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8000", "`address` of the app")
	metricsAddr := flag.String("metrics", "127.0.0.1:9464", "`address` of /metrics, which is not for everybody")
	flag.Parse()
	h := hasher.Default()
	app, watch, err := newApp(context.Background(), h)
	if err != nil {
		log.Fatal(err)
	}
	stopped := make(chan error, 2)
	for address, handler := range map[string]http.Handler{*addr: app, *metricsAddr: watch} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
		go func() { stopped <- server.Serve(l) }()
	}
	fmt.Printf("app on http://%s, metrics on http://%s/metrics; log in as johndoe / secret\n", *addr, *metricsAddr)
	log.Fatal(<-stopped)
}

// newApp returns the app, and the handler that Prometheus reads.
func newApp(ctx context.Context, h *hasher.Hasher) (app, watch http.Handler, err error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := newMetrics(registry, h)
	logEvent := oauth2pw.LogEvents(slog.New(slog.NewTextHandler(os.Stderr, nil)))

	hash, err1 := h.Hash(ctx, "secret")
	users, err2 := store.NewUsers(oauth2pw.User{ID: "1", Username: "johndoe", PasswordHash: oauth2pw.Secret(hash)})
	key, _, err3 := tokens.NewKey("")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, nil, err
	}
	jwt, err := tokens.New(tokens.Config{Keys: []tokens.Key{key}, Issuer: "https://api.example.com", Audience: "api"})
	if err != nil {
		return nil, nil, err
	}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Users: users, Hasher: h, Issuer: jwt, DefaultScopes: []string{"me"},
		Sessions: new(store.Sessions), Secrets: []oauth2pw.Secret{oauth2pw.NewSecret()},
		OnEvent: func(ctx context.Context, e oauth2pw.Event) {
			logEvent(ctx, e)
			m.event(ctx, e)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("/revoke", auth.RevokeHandler())
	mux.Handle("GET /me", auth.RequireBearer("me")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, _ := oauth2pw.PrincipalFrom(r.Context())
		fmt.Fprintf(w, "user %s\n", p.Subject)
	})))
	watching := http.NewServeMux()
	watching.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux, watching, nil
}

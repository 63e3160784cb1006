package program

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// drainTime is the time limit of the requests in flight when the server stops.
const drainTime = 30 * time.Second

// Listen opens the port and returns its URL, which is the issuer, too, if -issuer is not set.
func (o *Flags) Listen() (net.Listener, string, error) {
	l, url, err := o.listen()
	if err != nil || o.Issuer != "" {
		return l, url, err
	}
	if err := checkIssuer(url); err != nil {
		l.Close()
		return nil, "", fmt.Errorf("-issuer must be given, or -tls-cert, when -addr is not loopback: tokens of %s would be plain http's", url)
	}
	o.Issuer = url
	return l, url, nil
}

func (o *Flags) listen() (net.Listener, string, error) {
	scheme := "http"
	var config *tls.Config
	if o.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, "", fmt.Errorf("the certificate: %w", err)
		}
		scheme, config = "https", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	}
	l, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, "", fmt.Errorf("-addr %s: %w", o.Addr, err)
	}
	url := scheme + "://" + l.Addr().String()
	if a, ok := l.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() && o.Issuer == "" {
		l.Close()
		return nil, "", errors.New("-issuer must be given when -addr names no host")
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, url, nil
}

// Serve answers requests until ctx ends, then lets requests in flight finish. connState is
// that of an http.Server, or nil.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, connState func(net.Conn, http.ConnState), logger *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ConnState:         connState,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if err := server.Shutdown(drain); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("requests were cut off after %s: %w", drainTime, err)
	}
	return nil
}

// OpenKeys returns the signing keys: from the file of -key, from the file beside the
// database, or, with a database in memory, a new key.
func (o *Flags) OpenKeys() ([]tokens.Key, error) {
	switch {
	case o.Key != "":
		return tokens.ReadKeys(o.Key)
	case o.onServer():
		return nil, errors.New("-key must be given with this -db: all processes sign with the same key")
	case o.DB == MemoryDB:
		key, _, err := tokens.NewKey("")
		return []tokens.Key{key}, err
	default:
		return tokens.OpenKeys(o.DB + ".jwk")
	}
}

// OpenSecrets returns the secrets of refresh tokens and tickets, in the same way as OpenKeys.
func (o *Flags) OpenSecrets() ([]oauth2pw.Secret, error) {
	switch {
	case o.Secret != "":
		return oauth2pw.ReadSecrets(o.Secret)
	case o.onServer():
		return nil, errors.New("-secret must be given with this -db: all processes have the same secrets")
	case o.DB == MemoryDB:
		return []oauth2pw.Secret{oauth2pw.NewSecret()}, nil
	default:
		return oauth2pw.OpenSecrets(o.DB + ".secret")
	}
}

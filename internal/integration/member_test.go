package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// member has the settings of a process of a fleet: a server over a database that the fleet
// shares, with a clock of its own.
type member struct {
	Driver, DSN string
	Dialect     sqlstore.Dialect
	Keys        string        // the file of the secrets; the signing keys are beside it
	Offset      time.Duration // of the clock
	Limit       time.Duration // Config.StoreTimeout
	Quiet       bool          // expects every event
}

// open opens the database of a fleet.
func (m member) open() (*sqlstore.Store, *sql.DB, error) {
	db, err := sql.Open(m.Driver, m.DSN)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	st, err := sqlstore.New(db, sqlstore.Config{Dialect: m.Dialect})
	return st, db, err
}

// config returns the Config of a member, with the default grace period.
func (m member) config(st *sqlstore.Store) (oauth2pw.Config, error) {
	now := func() time.Time { return time.Now().Add(m.Offset) }
	secrets, err := oauth2pw.OpenSecrets(m.Keys)
	if err != nil {
		return oauth2pw.Config{}, err
	}
	keys, err := tokens.OpenKeys(m.Keys + ".jwk")
	if err != nil {
		return oauth2pw.Config{}, err
	}
	jwt, err := tokens.New(tokens.Config{Keys: keys, Issuer: "https://api.example.com", Audience: "api", Now: now})
	return oauth2pw.Config{
		Users: st.Users, Hasher: plainHasher{}, Issuer: jwt, Sessions: st.Sessions, Secrets: secrets, LoadUser: true,
		DefaultScopes: []string{"me"}, StoreTimeout: m.Limit, Now: now, OnEvent: m.alarm,
	}, err
}

// alarm ends the process at an event that a fleet does not expect: the lost connections fail the
// test.
func (m member) alarm(_ context.Context, e oauth2pw.Event) {
	if m.Quiet {
		return
	}
	switch e.Kind {
	case oauth2pw.EventRefreshReuse, oauth2pw.EventStoreRollback, oauth2pw.EventPanic:
		fmt.Fprintf(os.Stderr, "the clock %v: %s %s, session %s: %v\n", m.Offset, e.Kind, e.Reason, e.SessionID, e.Err)
		os.Exit(1)
	}
}

// serveMember prints the URL of the server, and serves until the process is killed, or until the
// test ends.
func serveMember(settings string) {
	var m member
	must(json.Unmarshal([]byte(settings), &m))
	must(mysql.SetLogger(&mysql.NopLogger{})) // each cut connection is a line otherwise
	st, _, err := m.open()
	must(err)
	must(st.Migrate(context.Background()))
	c, err := m.config(st)
	must(err)
	auth, err := oauth2pw.New(c)
	must(err)
	server := httptest.NewServer(auth.TokenHandler())
	_, err = os.Stdout.WriteString(server.URL + "\n")
	must(err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

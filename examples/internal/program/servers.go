package program

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/oauth2pw/passwordflow/store/sqlstore"
)

// DB is a database with its dialect.
type DB struct {
	*sql.DB
	Dialect sqlstore.Dialect
	Name    string // for errors: -db without a password
}

// SQL writes a statement with "?" for each argument as the database reads it.
func (d *DB) SQL(statement string) string {
	if d.Dialect != sqlstore.PostgreSQL {
		return statement
	}
	parts := strings.Split(statement, "?")
	text := parts[0]
	for i, part := range parts[1:] {
		text += fmt.Sprintf("$%d%s", i+1, part)
	}
	return text
}

// onServer reports whether -db names a database server.
func (o *Flags) onServer() bool { return strings.Contains(o.DB, "://") }

func (o *Flags) checkDB() error {
	scheme, _, _ := strings.Cut(o.DB, "://")
	switch {
	case o.DB == "":
		return errors.New("-db is empty")
	case !o.onServer():
		return nil
	case !o.Servers:
		return errors.New("-db takes :memory: or a SQLite file")
	case scheme != "postgres" && scheme != "postgresql" && scheme != "mysql":
		return errors.New("-db takes :memory:, a SQLite file, postgres://… or mysql://…")
	}
	return nil
}

// Open opens the database of -db, and reads from it once.
func (o *Flags) Open(ctx context.Context) (*DB, error) {
	if !o.onServer() {
		db, err := OpenDB(ctx, o.DB)
		return &DB{db, sqlstore.SQLite, o.DB}, err
	}
	u, err := url.Parse(o.DB)
	if err != nil {
		return nil, errors.New("-db is no URL") // the error of url.Parse has the password
	}
	shown := *u
	shown.RawQuery = "" // PostgreSQL takes a password there, too
	d := &DB{Dialect: sqlstore.PostgreSQL, Name: shown.Redacted()}
	if u.Scheme == "mysql" {
		d.Dialect = sqlstore.MySQL
		for name := range u.Query() {
			if name != "tls" {
				return nil, fmt.Errorf("-db: the setting %q is not known: mysql:// takes tls=true or tls=skip-verify", name)
			}
		}
		d.DB, err = sql.Open("mysql", mySQLOf(u))
	} else {
		d.DB, err = sql.Open("pgx", o.DB)
	}
	if err == nil {
		err = d.PingContext(ctx)
	}
	if err != nil {
		if d.DB != nil {
			d.Close()
		}
		return nil, fmt.Errorf("the database %s: %s", d.Name, withoutPassword(err, u))
	}
	d.SetMaxOpenConns(32)
	d.SetMaxIdleConns(32)
	return d, nil
}

// mySQLOf returns the DSN of a URL. The driver has a form of its own.
func mySQLOf(u *url.URL) string {
	c := mysql.NewConfig()
	c.User = u.User.Username()
	c.Passwd, _ = u.User.Password()
	c.Net, c.Addr, c.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	c.ClientFoundRows, c.InterpolateParams = true, true
	c.Params = map[string]string{"innodb_lock_wait_timeout": "2", "lock_wait_timeout": "2"}
	c.TLSConfig = u.Query().Get("tls")
	return c.FormatDSN()
}

// withoutPassword returns the text of an error, in which a driver may have quoted the URL.
func withoutPassword(err error, u *url.URL) string {
	text := err.Error()
	password, _ := u.User.Password()
	for _, secret := range []string{password, u.Query().Get("password"), u.Query().Get("sslpassword")} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "xxxxx")
		}
	}
	return text
}

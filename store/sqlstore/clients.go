package sqlstore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.ClientStore = (*Clients)(nil)

// Clients is an oauth2pw.ClientStore over the table of this package.
type Clients struct {
	db                           database
	byID, insert, update, delete string // statements
}

func newClients(db database, table string) *Clients {
	const columns = "id, secret_sha256, grants, scopes, introspect"
	table = db.quote(table)
	same := func(column string) string { return column + " " + db.same + " ?" }
	return &Clients{
		db:     db,
		byID:   db.sql("SELECT " + columns + ", secret_sha256 IS NULL FROM " + table + " WHERE id = ?"),
		insert: db.sql("INSERT INTO " + table + " (" + columns + ") VALUES (?, ?, ?, ?, ?)" + db.onConflict),
		update: db.sql("UPDATE " + table + " SET secret_sha256 = ?, grants = ?, scopes = ?, introspect = ?" +
			" WHERE id = ? AND " + same("secret_sha256") + " AND " + same("grants") + " AND " + same("scopes") + " AND " + same("introspect")),
		delete: db.sql("DELETE FROM " + table + " WHERE id = ?"),
	}
}

// Check reports that a Clients was not made by New; see oauth2pw.Checker.
func (s *Clients) Check() error {
	if s.byID == "" {
		return errZeroStore
	}
	return nil
}

// ClientByID implements oauth2pw.ClientStore.
func (s *Clients) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	row, err := s.row(ctx, id)
	if err != nil {
		return nil, err
	}
	return row.client(), nil
}

// clientRow is a row as it is stored.
type clientRow struct {
	id             string
	secret         []byte
	grants, scopes sql.NullString
	introspect     bool
}

func (r *clientRow) client() *oauth2pw.Client {
	return &oauth2pw.Client{
		ID: r.id, SecretSHA256: slices.Clone(r.secret), Introspect: r.introspect,
		Grants: splitList(r.grants), Scopes: splitList(r.scopes),
	}
}

// splitList converts a column; NULL is nil, and an empty text is an empty slice.
func splitList(s sql.NullString) []string {
	if !s.Valid {
		return nil
	}
	return append([]string{}, strings.Fields(s.String)...)
}

func (s *Clients) row(ctx context.Context, id string) (*clientRow, error) {
	var (
		r      clientRow
		public bool // an empty digest may be read as nil
	)
	err := s.db.QueryRowContext(ctx, s.byID, id).Scan(&r.id, &r.secret, &r.grants, &r.scopes, &r.introspect, &public)
	if errors.Is(err, sql.ErrNoRows) || s.db.isImpossible(err) || err == nil && r.id != id {
		return nil, errNoClient
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: reading a client: %w", scanError(err))
	}
	if !public {
		if err := checkDigest(r.secret); err != nil {
			return nil, err
		}
	}
	return &r, nil
}

var errNoClient = fmt.Errorf("sqlstore: client: %w", oauth2pw.ErrNotFound)

func checkDigest(sum []byte) error {
	if len(sum) != sha256.Size {
		return fmt.Errorf("sqlstore: the SecretSHA256 of the client has %d bytes, not 32; nil (NULL) is for a public client", len(sum))
	}
	return nil
}

func checkClient(c *oauth2pw.Client) error {
	if c.ID == "" {
		return errors.New("sqlstore: a client needs an ID")
	}
	if err := cmp.Or(SpacesBetween.check(c.Grants), SpacesBetween.check(c.Scopes)); err != nil {
		return fmt.Errorf("sqlstore: the Grants or Scopes of a client: %w", err)
	}
	if c.SecretSHA256 != nil {
		return checkDigest(c.SecretSHA256)
	}
	return nil
}

// Add inserts a client, which needs an ID. Its SecretSHA256 has 32 bytes, or is nil. The
// error wraps oauth2pw.ErrExists if another client has the ID.
func (s *Clients) Add(ctx context.Context, c oauth2pw.Client) error {
	if err := checkClient(&c); err != nil {
		return err
	}
	added, err := s.db.insert(ctx, s.insert, c.ID, c.SecretSHA256, SpacesBetween.write(c.Grants), SpacesBetween.write(c.Scopes), c.Introspect)
	if err != nil {
		return fmt.Errorf("sqlstore: adding a client: %w", err)
	}
	if !added {
		return fmt.Errorf("sqlstore: the client %q %w", c.ID, oauth2pw.ErrExists)
	}
	return nil
}

// Update changes a client. change gets the client and edits it, except for the ID. Update
// calls change again with the newer client if the row changes meanwhile. If change returns an
// error, nothing changes, and Update returns that error. Update's own errors wrap
// oauth2pw.ErrNotFound if there is no such client.
func (s *Clients) Update(ctx context.Context, id string, change func(c *oauth2pw.Client) error) error {
	for range updateTries {
		old, err := s.row(ctx, id)
		if err != nil {
			return err
		}
		c := old.client()
		if err := change(c); err != nil {
			return err
		}
		if c.ID != id {
			return fmt.Errorf("sqlstore: the ID of the client %q cannot change", id)
		}
		if err := checkClient(c); err != nil {
			return err
		}
		updated, err := s.db.exec(ctx, s.update, c.SecretSHA256, SpacesBetween.write(c.Grants), SpacesBetween.write(c.Scopes), c.Introspect,
			id, old.secret, old.grants, old.scopes, old.introspect)
		if err != nil {
			return fmt.Errorf("sqlstore: updating a client: %w", err)
		}
		if updated == 1 {
			return nil
		}
	}
	return fmt.Errorf("sqlstore: the client %q changed each time it was read", id)
}

// Delete deletes a client. The error wraps oauth2pw.ErrNotFound if there is no such client.
// The sessions of the client stay, and cannot be refreshed any more.
func (s *Clients) Delete(ctx context.Context, id string) error {
	deleted, err := s.db.exec(ctx, s.delete, id)
	if err != nil {
		return fmt.Errorf("sqlstore: deleting a client: %w", err)
	}
	if deleted == 0 {
		return errNoClient
	}
	return nil
}

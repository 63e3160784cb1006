package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.ClientStore = (*ClientStore)(nil)

// ClientStore is an oauth2pw.ClientStore over the table of this package.
type ClientStore struct {
	db           database
	byID, insert string // statements
}

func newClientStore(db database, table string) *ClientStore {
	const columns = "id, secret_sha256, grants, scopes, introspect"
	return &ClientStore{
		db:     db,
		byID:   "SELECT " + columns + ", secret_sha256 IS NULL FROM " + quote(table) + " WHERE id = ?",
		insert: "INSERT INTO " + quote(table) + " (" + columns + ") VALUES (?, ?, ?, ?, ?)",
	}
}

// Check reports that a ClientStore was not made by New; see oauth2pw.Checker.
func (s *ClientStore) Check() error {
	if s.byID == "" {
		return errZeroStore
	}
	return nil
}

// ClientByID implements oauth2pw.ClientStore.
func (s *ClientStore) ClientByID(ctx context.Context, id string) (*oauth2pw.Client, error) {
	var (
		c              oauth2pw.Client
		grants, scopes sql.NullString
		public         bool // an empty digest may be read as nil
	)
	err := s.db.QueryRowContext(ctx, s.byID, id).Scan(&c.ID, &c.SecretSHA256, &grants, &scopes, &c.Introspect, &public)
	if errors.Is(err, sql.ErrNoRows) || err == nil && c.ID != id {
		return nil, fmt.Errorf("sqlstore: client: %w", oauth2pw.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: reading a client: %w", scanError(err))
	}
	if !public {
		if err := checkDigest(c.SecretSHA256); err != nil {
			return nil, err
		}
	}
	c.Grants, c.Scopes = splitList(grants), splitList(scopes)
	return &c, nil
}

func checkDigest(sum []byte) error {
	if len(sum) != sha256.Size {
		return fmt.Errorf("sqlstore: the SecretSHA256 of the client has %d bytes, not 32; nil (NULL) is for a public client", len(sum))
	}
	return nil
}

// Add inserts a client. A SecretSHA256 of another length than 32 bytes is an error, nil
// excepted.
func (s *ClientStore) Add(ctx context.Context, c oauth2pw.Client) error {
	if c.ID == "" {
		return errors.New("sqlstore: a client needs an ID")
	}
	if c.SecretSHA256 != nil {
		if err := checkDigest(c.SecretSHA256); err != nil {
			return err
		}
	}
	if _, err := s.db.exec(ctx, s.insert, c.ID, c.SecretSHA256, joinList(c.Grants), joinList(c.Scopes), c.Introspect); err != nil {
		return fmt.Errorf("sqlstore: adding a client: %w", err)
	}
	return nil
}

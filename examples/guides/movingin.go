package guides

import (
	"context"
	"crypto/hmac"
	"crypto/sha512"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store/sqlstore"
	"github.com/oauth2pw/passwordflow/tokens"
)

// movingIn is the app. TestMovingIn, TestMovingOthers, TestKeycloakHash and TestSpringHash are
// its tests; TestForeignHashes and TestAliases are those of package hasher.
func movingIn(db *sql.DB, jwt oauth2pw.TokenIssuer, schemes []hasher.Scheme) (*oauth2pw.Auth, error) {
	users, err := djangoUsers(db)
	if err != nil {
		return nil, err
	}
	passwords, err := hasher.New(hasher.Config{Schemes: schemes}) // nil, if this page names no Scheme
	if err != nil {
		return nil, err
	}
	return oauth2pw.New(oauth2pw.Config{Users: users, Hasher: passwords, Issuer: jwt, DefaultScopes: []string{"me"}})
}

func movingKey() (tokens.Key, []byte, error) {
	key, _, err := tokens.NewKey("EdDSA")
	if err != nil {
		return key, nil, err
	}
	_, jwk, err := tokens.NewKey("ES256")
	return key, jwk, err
}

func djangoUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "auth_user", ID: "id", Username: "username", PasswordHash: "password", Active: "is_active"})
	return users, err
}

func flaskUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "user", ID: "id", Username: "username", PasswordHash: "password_hash"})
	return users, err
}

func flaskSecurityUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "user", ID: "id", Username: "email", PasswordHash: "password", Active: "active"})
	return users, err
}

func laravelUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "users", ID: "id", Username: "email", PasswordHash: "password"})
	return users, err
}

func deviseUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "users", ID: "id", Username: "email", PasswordHash: "encrypted_password"})
	return users, err
}

func railsUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "users", ID: "id", Username: "email", PasswordHash: "password_digest"})
	return users, err
}

func springUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "users", ID: "username", Username: "username", PasswordHash: "password", Active: "enabled"})
	return users, err
}

func aspNetUsers(db *sql.DB) (oauth2pw.UserStore, error) {
	users, err := sqlstore.NewUsers(db, sqlstore.SQLite, sqlstore.UserTable{Table: "AspNetUsers", ID: "Id", Username: "NormalizedUserName", PasswordHash: "PasswordHash"})
	return users, err
}

// movedHasher reads prefixes of other systems. Leave out the systems that you do not move from.
func movedHasher(devisePepper, flaskSalt, firebaseKey oauth2pw.Secret) (oauth2pw.PasswordHasher, error) {
	firebase, err := hasher.FirebaseScrypt{
		SignerKey:     firebaseKey, // base64_signer_key
		SaltSeparator: "Bw==",      // base64_salt_separator
		Rounds:        8,           // rounds
		MemoryCost:    14,          // mem_cost
	}.Scheme()
	if err != nil {
		return nil, err
	}
	passwords, err := hasher.New(hasher.Config{Schemes: []hasher.Scheme{
		{Prefix: "{bcrypt}", As: "$2"}, // Spring Security
		{Prefix: "{argon2}", As: "$argon2id$"},
		{Prefix: "{argon2@SpringSecurity_v5_8}", As: "$argon2id$"},
		{Prefix: "{BLF-CRYPT}", As: "$2"}, // Dovecot
		{Prefix: "{ARGON2ID}", As: "$argon2id$"},
		{Prefix: "{ARGON2I}", As: "$argon2i$"},
		{Prefix: "{ARGON2}", As: "$argon2"}, // OpenLDAP
		{Prefix: "{CRYPT}", As: "$"},
		firebase,
	}})
	if err != nil {
		return nil, err
	}
	return otherInput{passwords, map[string]func(string) string{
		"{devise}":         devise(devisePepper),
		"{flask-security}": flaskSecurity(flaskSalt),
		"{wp}":             func(password string) string { return strings.Trim(password, " \t\n\r\x00\v") },
	}}, nil
}

// otherInput reads the hashes of systems that hash more than the password: a prefix marks each
// hash, and has the function that makes the input of the hash from the password.
type otherInput struct {
	*hasher.Hasher
	inputs map[string]func(password string) string
}

func (o otherInput) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	for prefix, input := range o.inputs {
		if rest, found := strings.CutPrefix(hash, prefix); found {
			ok, _, err = o.Hasher.Verify(ctx, rest, input(password))
			return ok, ok, err
		}
	}
	return o.Hasher.Verify(ctx, hash, password)
}

// normalized hashes the normal form of each password.
type normalized struct {
	*hasher.Hasher
	form func(password string) string // norm.NFC.String of golang.org/x/text/unicode/norm
}

func (n normalized) Hash(ctx context.Context, password string) (string, error) {
	return n.Hasher.Hash(ctx, n.form(password))
}

func (n normalized) Verify(ctx context.Context, hash, password string) (ok, outdated bool, err error) {
	return n.Hasher.Verify(ctx, hash, n.form(password))
}

// devise is the input of Devise: the password and the pepper, and the first 72 bytes of both,
// because bcrypt ignores the rest.
func devise(pepper oauth2pw.Secret) func(password string) string {
	return func(password string) string { return first72(password + string(pepper)) }
}

// flaskSecurity is the input of Flask-Security: an HMAC of the password. Argon2 and PBKDF2 read
// more than 72 bytes of the HMAC: leave out first72 for them.
func flaskSecurity(salt oauth2pw.Secret) func(password string) string {
	return func(password string) string {
		h := hmac.New(sha512.New, []byte(salt)) // SECURITY_PASSWORD_SALT
		h.Write([]byte(password))
		return first72(base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
}

func first72(s string) string { return s[:min(len(s), 72)] }

// keycloakHash makes a hash of the columns credential_data and secret_data.
func keycloakHash(credentialData, secretData string) (string, error) {
	var cost struct {
		Algorithm            string
		HashIterations       uint32
		AdditionalParameters map[string][]string
	}
	var secret struct{ Value, Salt []byte }
	if err := errors.Join(json.Unmarshal([]byte(credentialData), &cost), json.Unmarshal([]byte(secretData), &secret)); err != nil {
		return "", err
	}
	if cost.Algorithm != "argon2" {
		return pbkdf2Hash(strings.TrimPrefix(cost.Algorithm, "pbkdf2-"), cost.HashIterations, secret.Salt, secret.Value)
	}
	more := func(name string) string { return strings.Join(cost.AdditionalParameters[name], " ") }
	if v := more("version"); v != "" && v != "1.3" {
		return "", fmt.Errorf("no format for version %q of argon2", v)
	}
	return fmt.Sprintf("$argon2%s$v=19$m=%s,t=%d,p=%s$%s$%s", more("type"), more("memory"), cost.HashIterations, more("parallelism"),
		base64.RawStdEncoding.EncodeToString(secret.Salt), base64.RawStdEncoding.EncodeToString(secret.Value)), nil
}

// pbkdf2Hash makes a readable hash of PBKDF2. A key longer than the hash function is cut: the
// rest of the key takes more time, and adds nothing.
func pbkdf2Hash(function string, iterations uint32, salt, key []byte) (string, error) {
	passlib := func(b []byte) string {
		return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(b), "+", ".")
	}
	switch function {
	case "sha256":
		return fmt.Sprintf("$pbkdf2-sha256$%d$%s$%s", iterations, passlib(salt), passlib(key[:min(len(key), 32)])), nil
	case "sha512":
		return fmt.Sprintf("$pbkdf2-sha512$%d$%s$%s", iterations, passlib(salt), passlib(key)), nil
	case "pbkdf2", "sha1": // the form of ASP.NET Core Identity, which has a binary salt and SHA-1
		b := []byte{1, 0, 0, 0, 0}
		b = binary.BigEndian.AppendUint32(b, iterations)
		b = binary.BigEndian.AppendUint32(b, uint32(len(salt)))
		return base64.StdEncoding.EncodeToString(slices.Concat(b, salt, key[:min(len(key), 20)])), nil
	}
	return "", fmt.Errorf("no format for %q", function)
}

// springHash makes a readable hash of {pbkdf2} and {scrypt} of Spring Security. Other hashes
// stay unchanged.
func springHash(hash string) (string, error) {
	id, rest, _ := strings.Cut(hash, "}")
	switch id {
	case "{pbkdf2", "{pbkdf2@SpringSecurity_v5_8":
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) < 16+32 && id != "{pbkdf2" || len(b) < 8+32 {
			return "", errors.New("want the hex of salt and key")
		}
		if id == "{pbkdf2" {
			return pbkdf2Hash("sha1", 185_000, b[:8], b[8:])
		}
		return pbkdf2Hash("sha256", 310_000, b[:16], b[16:])
	case "{scrypt", "{scrypt@SpringSecurity_v5_8":
		fields := strings.Split(strings.ReplaceAll(rest, "=", ""), "$") // "", costs, salt, key
		if len(fields) != 4 {
			return "", errors.New("want costs, salt and key")
		}
		costs, err := strconv.ParseUint(fields[1], 16, 32)
		return fmt.Sprintf("$scrypt$ln=%d,r=%d,p=%d$%s$%s", costs>>16, costs>>8&255, costs&255, fields[2], fields[3]), err
	}
	return hash, nil
}

func movingSettings(c *oauth2pw.Config) {
	c.LaxForm = true
	c.KeepHashes = true
	c.LoadUser = true
	c.FoldName = strings.ToLower
	c.FoldName = strings.ToUpper
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	c.DefaultScopes = []string{"me", "offline_access"}
}

// The functions are here to be compiled.
var _ = []any{movingIn, movingKey, djangoUsers, flaskUsers, flaskSecurityUsers, laravelUsers, deviseUsers, railsUsers, springUsers, aspNetUsers, movedHasher, keycloakHash, springHash, movingSettings}

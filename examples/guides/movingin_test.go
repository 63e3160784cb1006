package guides

import (
	"database/sql"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/hasher"
	"github.com/oauth2pw/passwordflow/oauth2pw"
)

const movingGuide = "../../docs/moving-in.md"

// The secrets of the hashes in the guide, and of the scripts in internal/moving.
const (
	devisePepper    = "pep"
	longPepper      = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	flaskSalt       = "146585145368132386173505678016728509634"
	movingSignerKey = "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
)

func movedPasswords(t *testing.T, pepper oauth2pw.Secret) otherInput {
	t.Helper()
	h, err := movedHasher(pepper, flaskSalt, movingSignerKey)
	require.NoError(t, err)
	return h.(otherInput)
}

// requireVerified: the hash verifies the password.
func requireVerified(t *testing.T, h oauth2pw.PasswordHasher, hash, password string) {
	t.Helper()
	ok, _, err := h.Verify(t.Context(), hash, password)
	require.NoError(t, err, hash)
	require.True(t, ok, hash)
}

// requireMatch: the hash verifies the password, and no other password.
func requireMatch(t *testing.T, h oauth2pw.PasswordHasher, hash, password string) {
	t.Helper()
	requireVerified(t, h, hash, password)
	ok, _, err := h.Verify(t.Context(), hash, "y"+password)
	require.False(t, ok, "%s %v", hash, err)
}

// TestMovingIn: the hasher of the guide reads the hashes of its table, except those that are
// not readable.
func TestMovingIn(t *testing.T) {
	h := movedPasswords(t, devisePepper)
	rows := regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([^`]+)` \\| ([^|]+) \\| ([^|]*)\\|$").FindAllStringSubmatch(read(t, movingGuide), -1)
	require.Greater(t, len(rows), 25)
	for _, row := range rows {
		who, hash, how := row[1], row[2], row[3]
		direct := hasher.Default().Reads(hash)
		switch {
		case strings.HasPrefix(how, "**not**"):
			require.False(t, h.Reads(hash), who)
			continue
		case how == "directly", strings.HasPrefix(how, "rewritten"):
			require.True(t, direct, who)
		case who == "Flask-Bcrypt with `BCRYPT_HANDLE_LONG_PASSWORDS`":
		default:
			require.False(t, direct, who)
		}
		requireVerified(t, h, hash, "secret")
	}
}

// TestMovingSQL: each SELECT of the guide finds one user, with a hash of the table of formats.
func TestMovingSQL(t *testing.T) {
	const direct = "$2b$05$DVXwXd0kUDqUlCXbw4hQ4.YaP2ip5UMThjJXdWZ2t99EXQmsgDR0u"
	tables := map[string]string{
		"Django": `CREATE TABLE auth_user (id INTEGER, username TEXT, password TEXT, is_active BOOL);
			INSERT INTO auth_user VALUES (1, 'johndoe', '` + direct + `', 1), (2, 'alice', '` + direct + `', 0), (3, 'bob', '!x', 1)`,
		"Flask-Bcrypt with BCRYPT_HANDLE_LONG_PASSWORDS": `CREATE TABLE user (id INTEGER, username TEXT, password_hash BLOB);
			INSERT INTO user VALUES (1, 'johndoe', CAST('$2b$05$Ws0HeZJiGnD3MANKOczQveYwqCk5nPE4RZRq4t0Z92niArOiJ5Ram' AS BLOB))`,
		"Flask-Security": `CREATE TABLE user (id INTEGER, email TEXT, password TEXT, active BOOL);
			INSERT INTO user VALUES (1, 'johndoe', '$2b$05$VVBJZRrARh/4qtxJ.hAg4.T.0HM8oK8urCbHcPhgYoYnXCKLV15la', 1), (2, 'alice', '', 0)`,
		"Laravel": `CREATE TABLE users (id INTEGER, email TEXT, password TEXT); INSERT INTO users VALUES (1, 'johndoe', '` + direct + `')`,
		"Devise with a pepper": `CREATE TABLE users (id INTEGER, email TEXT, encrypted_password TEXT);
			INSERT INTO users VALUES (1, 'johndoe', '$2a$05$bwd9HaT3Dm9h8ML9yDQJSOY2KhaSTg8Hio8pyghztYaLoTrs4OjOW'), (2, 'alice', '')`,
		"ASP.NET Core Identity": `CREATE TABLE AspNetUsers (Id TEXT, NormalizedUserName TEXT, PasswordHash TEXT);
			INSERT INTO AspNetUsers VALUES ('1', 'johndoe', '` + direct + `'), ('2', 'alice', NULL)`,
		"WordPress": `CREATE TABLE wp_users (ID INTEGER, user_login TEXT, user_pass TEXT, user_status INTEGER);
			INSERT INTO wp_users VALUES (1, 'johndoe', '$P$Bdw8s.3QXiw5i2v/.aBphUC/5A/5AB.', 0)`,
		"better-auth": `CREATE TABLE user (id TEXT, email TEXT); CREATE TABLE account ("userId" TEXT, "providerId" TEXT, password TEXT);
			INSERT INTO user VALUES ('1', 'johndoe'); INSERT INTO account VALUES ('1', 'github', NULL),
			('1', 'credential', '51f14eef14208da0a409cc511aa1b752:07ad852735365eb8e332f7aa964e7eb427007536f51ed2c2d226fc64cd7f80ebd648f1e0656a9cac0caed9094e6c40b4ccb75f04797619a0ec4751a92b4ac87b')`,
	}
	tables["WordPress, with spaces"] = tables["WordPress"]
	guide, seen := read(t, movingGuide), 0
	for _, block := range tildes(t, "sql") {
		name, _, _ := strings.Cut(strings.TrimPrefix(block, "-- "), "\n")
		if strings.HasSuffix(name, "(not tried)") {
			continue
		}
		require.Contains(t, tables, name)
		seen++
		db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "old.db"))
		require.NoError(t, err)
		defer db.Close()
		_, err = db.ExecContext(t.Context(), tables[name])
		require.NoError(t, err, name)
		rows, err := db.QueryContext(t.Context(), block)
		require.NoError(t, err, name)
		var users []string
		for rows.Next() {
			var id, user, hash string
			require.NoError(t, rows.Scan(&id, &user, &hash))
			users = append(users, id+user)
			require.Contains(t, guide, "`"+strings.TrimPrefix(hash, "{wp}")+"`")
		}
		require.NoError(t, rows.Err())
		require.Equal(t, []string{"1johndoe"}, users, name)
	}
	require.Equal(t, len(tables), seen)
}

// TestMovingTables: the tables of the guide are mapped without a copy.
func TestMovingTables(t *testing.T) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "old.db"))
	require.NoError(t, err)
	defer db.Close()
	for _, test := range []struct {
		table string
		open  func(*sql.DB) (oauth2pw.UserStore, error)
	}{
		{`auth_user (id INTEGER PRIMARY KEY, username TEXT UNIQUE, password TEXT, is_active BOOL)`, djangoUsers},
		{`user (id INTEGER PRIMARY KEY, username TEXT UNIQUE, password_hash BLOB)`, flaskUsers},
		{`users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, password TEXT)`, laravelUsers},
		{`users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, encrypted_password TEXT)`, deviseUsers},
		{`users (id INTEGER PRIMARY KEY, email TEXT UNIQUE, password_digest TEXT)`, railsUsers},
		{`users (username TEXT PRIMARY KEY, x TEXT, password TEXT, enabled BOOL)`, springUsers},
		{`AspNetUsers (Id TEXT PRIMARY KEY, NormalizedUserName TEXT UNIQUE, PasswordHash TEXT)`, aspNetUsers},
	} {
		name, columns, _ := strings.Cut(test.table, " ")
		values := "'1', 'johndoe', CAST('hash' AS BLOB)" + strings.Repeat(", 1", strings.Count(columns, ",")-2)
		_, err := db.ExecContext(t.Context(), "CREATE TABLE "+test.table+"; INSERT INTO "+name+" VALUES ("+values+")")
		require.NoError(t, err)
		users, err := test.open(db)
		require.NoError(t, err)
		if name == "users" && strings.HasPrefix(columns, "(username") {
			u, err := users.UserByName(t.Context(), "1")
			require.NoError(t, err)
			require.Equal(t, "1", u.ID)
		} else {
			u, err := users.UserByName(t.Context(), "johndoe")
			require.NoError(t, err)
			require.Equal(t, "1", u.ID)
			require.Equal(t, oauth2pw.Secret("hash"), u.PasswordHash)
			require.False(t, u.Disabled)
		}
		_, err = db.ExecContext(t.Context(), "DROP TABLE "+name)
		require.NoError(t, err)
	}
}

func TestKeycloakHash(t *testing.T) {
	h := hasher.Default()
	for _, test := range []struct{ credential, secret, want string }{
		{`{"hashIterations":5,"algorithm":"argon2","additionalParameters":{"hashLength":["32"],"memory":["7168"],"type":["id"],"version":["1.3"],"parallelism":["1"]}}`,
			`{"value":"cvvSEg8NG1TV6jeb93eLbDt6nfu1xDTHg+bVzAJp3iU=","salt":"bf99b/DURYnTUbkQRreSTQ==","additionalParameters":{}}`,
			"$argon2id$v=19$m=7168,t=5,p=1$bf99b/DURYnTUbkQRreSTQ$cvvSEg8NG1TV6jeb93eLbDt6nfu1xDTHg+bVzAJp3iU"},
		{`{"algorithm":"pbkdf2-sha1024"}`, `{}`, ""},
		{`{"algorithm":"argon2","additionalParameters":{"version":["1.0"]}}`, `{}`, ""},
		{`[]`, `{}`, ""},
		{`{}`, `{"value":"?"}`, ""},
	} {
		got, err := keycloakHash(test.credential, test.secret)
		require.Equal(t, test.want == "", err != nil)
		require.Equal(t, test.want, got)
		if err == nil {
			requireVerified(t, h, got, "secret")
		}
	}
}

// TestSpringHash: hashes of the classes of Spring Security 7.2.
func TestSpringHash(t *testing.T) {
	h := movedPasswords(t, devisePepper)
	for _, hash := range []string{
		"{argon2}$argon2id$v=19$m=4096,t=3,p=1$Ug2clMrr1No39DAQU4/Hwg$8YAgCLlxoiPiD6BOekO+RpUIAjruTwcqCKjXKE65vfI",
		"{pbkdf2}ae7965fe2d77fd7f88b32df51264ee34ad373abb39dfc7515d14a1ccfecb2b2fc6cc81d66d8abea8",
		"{pbkdf2@SpringSecurity_v5_8}47d9407921890eb3877643421496b37849f68119d7357f75f70f8a1cb46e9ccbb3e4c769f41cb4e3017f7b7e86f08108",
		"{scrypt}$e0801$XKkpHZGTNvyn/rkvgJ2XH7VqSTl+9OlhueVKokw6fa7Cg98XNxpyJNOjS7Sgg6S9itQu31Ox7CihmLmy/ZCanQ==$idayDeJHCBXK+btdK7gKNVWZkQhDZRnvRpYnaXnhq4Y=",
		"{scrypt@SpringSecurity_v5_8}$100801$wM3qLEUGeDPQ0o3E/R+08A==$IDCp9rgy25ZssMIQc1w2y9EPG2YXsDy+qqmMH9oPPt4=",
	} {
		readable, err := springHash(hash)
		require.NoError(t, err)
		requireVerified(t, h, readable, "secret")
	}
	for _, hash := range []string{"{pbkdf2}00", "{pbkdf2@SpringSecurity_v5_8}zz", "{scrypt}$1", "{scrypt}$x$y$z"} {
		_, err := springHash(hash)
		require.Error(t, err)
	}
}

// TestNormalized: a hash of one form verifies the other only with the wrapper.
func TestNormalized(t *testing.T) {
	const nfc, nfd = "p\u00e4ssword", "pa\u0308ssword"
	plain := cheap(t)
	hash, err := plain.Hash(t.Context(), nfc)
	require.NoError(t, err)
	ok, _, err := plain.Verify(t.Context(), hash, nfd)
	require.NoError(t, err)
	require.False(t, ok)

	wrapped := normalized{plain, strings.NewReplacer("a\u0308", "\u00e4").Replace}
	require.NoError(t, wrapped.Check())
	hash, err = wrapped.Hash(t.Context(), nfd)
	require.NoError(t, err)
	requireMatch(t, wrapped, hash, nfc)
	requireMatch(t, wrapped, hash, nfd)

	hash, err = plain.Hash(t.Context(), nfd) // a hash older than the wrapper
	require.NoError(t, err)
	ok, _, err = wrapped.Verify(t.Context(), hash, nfd)
	require.NoError(t, err)
	require.False(t, ok)
}

// tildes returns the blocks between tildes in the guide.
func tildes(t *testing.T, language string) []string {
	t.Helper()
	var blocks []string
	for _, part := range strings.Split(read(t, movingGuide), "\n~~~"+language+"\n")[1:] {
		block, _, found := strings.Cut(part, "~~~\n")
		require.True(t, found)
		blocks = append(blocks, block)
	}
	return blocks
}

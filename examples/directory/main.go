// Directory is an app without passwords of its own: a directory, such as an LDAP server,
// checks each name and password.
//
// The library needs one function, Config.Authenticate. Users and Hasher stay nil, because the
// app stores no hash. Without a store of users there are no sessions and no refresh tokens: a
// token is valid until it expires, even if the directory locks the account before.
//
// First the endpoint counts the attempt, next Authenticate calls the directory, and last the
// endpoint makes a token for the person, whose groups become scopes.
//
// These are the duties of Authenticate:
//
//   - A wrong name or password is an error that wraps oauth2pw.ErrNotFound. Any other error is
//     a failure: the answer is 503, and the attempt is not counted.
//   - An unknown name takes as long as a wrong password. A search that finds no entry must
//     therefore be followed by a bind all the same, with a name that no entry has.
//   - User.ID never changes and is never used for a second person: entryUUID in OpenLDAP,
//     objectGUID in Active Directory, and not the name.
//   - Authenticate needs a time limit of its own, because Config.StoreTimeout is for stores.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/tokens"
)

// directory is the part of an LDAP client that the app needs.
type directory interface {
	// bind logs in with a name and a password (RFC 4513, section 5.1.3), and returns the entry
	// of the person. For a wrong name or password the error wraps errCredentials.
	//
	// The name comes from the request: an LDAP client must escape it in a filter and in a DN.
	// An empty password would be an anonymous bind, which succeeds (section 5.1.2). The library
	// never passes an empty name or password to Authenticate.
	bind(ctx context.Context, name, password string) (*person, error)
}

// errCredentials is the LDAP result invalidCredentials.
var errCredentials = errors.New("invalid credentials")

// person is an entry of the directory.
type person struct {
	uuid   string
	groups []string // a group with the name of a scope allows the scope
	locked bool
}

func main() {
	jwt, err := tokens.Open("signing.jwk", "http://127.0.0.1:8000", "api")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := routes(demo{}, 5*time.Second, jwt)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:8000", handler))
}

// plainName are the names that the directory gets. LDAP takes many spellings for one name: it
// ignores spaces at the ends, case, and the forms of Unicode (RFC 4518, section 2). Every
// spelling would have limits of its own.
var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@-]{0,99}$`)

// routes returns the app. limit is the time limit of one call of the directory.
func routes(d directory, limit time.Duration, jwt *tokens.Ring) (http.Handler, error) {
	scopes := map[string]string{"me": "Read your name.", "reports": "Read reports."}
	auth, err := oauth2pw.New(oauth2pw.Config{
		Issuer: jwt, Scopes: scopes, DefaultScopes: []string{"me"},
		FoldName: strings.ToLower, // all spellings are counted together; plainName refuses the others
		Authenticate: func(ctx context.Context, name, password string) (*oauth2pw.User, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			if !plainName.MatchString(name) {
				return nil, oauth2pw.ErrNotFound
			}
			p, err := d.bind(ctx, name, password)
			if errors.Is(err, errCredentials) {
				return nil, oauth2pw.ErrNotFound
			}
			if err != nil {
				return nil, fmt.Errorf("the directory: %w", err) // for Config.OnEvent, never for the client
			}
			allowed := []string{"me"}
			for _, group := range p.groups {
				if _, isScope := scopes[group]; isScope {
					allowed = append(allowed, group)
				}
			}
			return &oauth2pw.User{ID: p.uuid, Username: name, Disabled: p.locked, Scopes: allowed}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/token", auth.TokenHandler())
	mux.Handle("GET /me", auth.RequireBearer("me")(http.HandlerFunc(hello)))
	mux.Handle("GET /reports", auth.RequireBearer("reports")(http.HandlerFunc(hello)))
	return mux, nil
}

func hello(w http.ResponseWriter, r *http.Request) {
	p, _ := oauth2pw.PrincipalFrom(r.Context())
	fmt.Fprintf(w, "hello, %s\n", p.Subject)
}

// demo is a directory of one person. Write your LDAP client instead.
type demo struct{}

func (demo) bind(_ context.Context, name, password string) (*person, error) {
	if subtle.ConstantTimeCompare([]byte(name+"\x00"+password), []byte("johndoe\x00secret")) == 0 {
		return nil, errCredentials
	}
	return &person{uuid: "6a2f7c1e-0c52-4a0b-9d3e-1f2b3c4d5e6f", groups: []string{"reports", "staff"}}, nil
}

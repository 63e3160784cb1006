package hasher

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Policy says which new passwords are good, for an app's own sign-up and for
// oauth2pw.Config.CheckNewPassword. The zero value follows NIST SP 800-63B and
// OWASP ASVS 5.0, 6.2: 8 characters at least, none of the passwords that everybody
// uses, and no rules of composition. It is safe for concurrent use.
type Policy struct {
	// MinLength is the least number of characters: code points. Zero: 8. 15 is
	// better where the password is all there is.
	MinLength int
	// Denied reports whether a password, in lower case, is one that everybody
	// uses. Nil: [CommonPassword].
	Denied func(password string) bool
	// Breached asks a service whether a password has been seen in a breach. An
	// error says that it could not be asked, and is passed on: the password is
	// neither good nor bad. Nil: none is asked.
	Breached func(ctx context.Context, password string) (bool, error)
}

// Check returns nil for a good password. For one that is refused it returns an
// *oauth2pw.Error with the code "invalid_request" and the status 422 that tells the user why; any
// other error is that of Breached. The user may be nil; a password that is the
// user's name is refused.
func (p Policy) Check(ctx context.Context, u *oauth2pw.User, password string) error {
	least := withDefault(p.MinLength, 8)
	denied := p.Denied
	if denied == nil {
		denied = CommonPassword
	}
	folded := strings.ToLower(password)
	switch {
	case utf8.RuneCountInString(password) < least:
		return refused(fmt.Sprintf("The password must have %d characters or more.", least))
	case len(password) > MaxPassword:
		return refused(fmt.Sprintf("The password must have %d bytes or fewer.", MaxPassword))
	case denied(folded):
		return refused("The password is one that many people use.")
	case u != nil && u.Username != "" && folded == strings.ToLower(u.Username):
		return refused("The password is the name of the user.")
	}
	if p.Breached == nil {
		return nil
	}
	breached, err := p.Breached(ctx, password)
	if err != nil {
		return err
	}
	if breached {
		return refused("The password has appeared in a data breach.")
	}
	return nil
}

func refused(description string) error {
	return &oauth2pw.Error{Code: "invalid_request", Status: http.StatusUnprocessableEntity, Description: description}
}

//go:embed deny/passwords.txt
var commonPasswords string

// commonSet is made when it is first needed.
var commonSet = sync.OnceValue(func() map[string]struct{} {
	set := make(map[string]struct{}, 20_000)
	for line := range strings.Lines(commonPasswords) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
})

// CommonPassword reports whether a password, in any case, is among those that most
// people use: the top 3,000, and over ten thousand more of 8 characters and up.
func CommonPassword(password string) bool {
	_, found := commonSet()[strings.ToLower(password)]
	return found
}

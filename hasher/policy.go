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

// Policy accepts or refuses new passwords, for an app's own sign-up and for
// oauth2pw.Config.CheckNewPassword. The zero value follows NIST SP 800-63B and OWASP ASVS
// 5.0, 6.2: at least 8 characters, no common password, and no rules of composition. A
// Policy is safe for concurrent use.
type Policy struct {
	// MinLength is the least number of characters: code points. Zero: 8. 15 is better
	// where the password is the only factor.
	MinLength int
	// Denied reports whether a password, in lower case, is a common password: the user reads
	// that many people have the password. For other rules write a CheckNewPassword that calls
	// Check. Nil: [CommonPassword].
	Denied func(password string) bool
	// Breached calls a service that knows the passwords of data breaches, and reports
	// whether the password is among them. An error is reserved for a failure of the
	// service: Check returns this error, and the password is not judged.
	// Nil: Check calls no service. See [Breached].
	Breached func(ctx context.Context, password string) (bool, error)
}

// Check returns nil for an accepted password. For a refused password the error is an
// *oauth2pw.Error with the code "invalid_request", the status 422 and the reason for the
// user. Any other error is the error of Breached. The user may be nil; a password equal to
// the name of the user is refused.
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

// commonSet returns the set of commonPasswords, which the first call makes.
var commonSet = sync.OnceValue(func() map[string]struct{} {
	set := make(map[string]struct{}, 20_000)
	for line := range strings.Lines(commonPasswords) {
		set[strings.TrimSuffix(line, "\n")] = struct{}{}
	}
	return set
})

// CommonPassword reports whether a password, in any case of letters, is in the built-in
// list: the 3,000 most used passwords, and over ten thousand more of at least 8 characters.
func CommonPassword(password string) bool {
	_, found := commonSet()[strings.ToLower(password)]
	return found
}

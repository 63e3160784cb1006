package hasher

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	rangeURL     = "https://api.pwnedpasswords.com/range/"
	rangeDigits  = 5 // of the hash, as the path of the URL
	rangeTimeout = 2 * time.Second
	maxRange     = 1 << 20 // bytes; an answer has about 1,000 lines of 40 bytes
)

// Breached returns a check for Policy.Breached. The check reports whether a password is in the
// data breaches that Have I Been Pwned knows, by a request to the range API of Pwned
// Passwords. See [BreachedFailOpen] for an app that must accept new passwords while this
// service fails.
//
// An error of the check is the end of the context, or a failure of the service: no answer
// within 2 seconds, a status other than 200 (redirects too), or an answer that is empty,
// malformed or over 1 MiB. With Config.CheckNewPassword a failure is a 503, and no new
// password is accepted.
//
// The request has the first 5 of the 40 hex digits of the SHA-1 of the password. The service
// answers with all its hashes that begin with these digits. The password and the rest of its
// hash stay in the process. The bytes of the password are hashed as they are.
//
// No error of the check contains the 5 digits. With them a thief of the log and of the stored
// hash would skip all guesses except one in a million, without computing their slow hashes.
// The transport of the app must not log or trace the path of the URL.
//
// The check uses the Transport and the Timeout of the client, and a Timeout over 2 seconds
// changes nothing. A nil client, or a nil Transport: http.DefaultTransport, with the proxies
// of the environment. The check is safe for concurrent use.
func Breached(client *http.Client) func(ctx context.Context, password string) (bool, error) {
	own := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if client != nil {
		own.Transport, own.Timeout = client.Transport, client.Timeout
	}
	return func(ctx context.Context, password string) (bool, error) {
		sum := fmt.Sprintf("%X", sha1.Sum([]byte(password)))
		prefix, suffix := sum[:rangeDigits], sum[rangeDigits:]
		found := false
		answer, err := getRange(ctx, &own, prefix)
		if err == nil {
			found, err = inRange(answer, suffix)
		}
		if err != nil {
			return false, fmt.Errorf("hasher: the service of breached passwords: %w", withoutPrefix(err, prefix))
		}
		return found, nil
	}
}

// BreachedFailOpen returns the check of [Breached] for an app that must accept new passwords
// while the service fails: a failure means "not breached", even for a breached password. Each
// failure goes to onError, which is called concurrently. BreachedFailOpen panics if onError is
// nil.
//
// The check returns an error only if the context of the caller has ended.
func BreachedFailOpen(client *http.Client, onError func(ctx context.Context, err error)) func(ctx context.Context, password string) (bool, error) {
	if onError == nil {
		panic("hasher: BreachedFailOpen: onError is nil")
	}
	check := Breached(client)
	return func(ctx context.Context, password string) (bool, error) {
		breached, err := check(ctx, password)
		if err == nil || ctx.Err() != nil {
			return breached, err
		}
		onError(ctx, err)
		return false, nil
	}
}

// getRange gets the lines for all hashes that begin with a prefix.
func getRange(ctx context.Context, client *http.Client, prefix string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rangeURL+prefix, nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("Add-Padding", "true")                                           // hides the number of hashes, which may reveal the prefix despite TLS
	r.Header.Set("User-Agent", "passwordflow (github.com/oauth2pw/passwordflow)") // the API requires a name
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() // the body was only read
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the status of the answer is %d", resp.StatusCode)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxRange+1))
	if err != nil {
		return "", err
	}
	if len(answer) > maxRange {
		return "", errors.New("the answer is larger than 1 MiB")
	}
	return string(answer), nil
}

// inRange looks for a hash, without its first digits, in an answer of the range API. A line
// is the rest of a hash, a colon and the number of its occurrences in breaches. A line with
// the number 0 is padding.
func inRange(answer, suffix string) (found bool, err error) {
	if answer == "" { // the service has hashes for every prefix
		return false, errors.New("the answer is empty")
	}
	for line := range strings.Lines(answer) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		rest, number, _ := strings.Cut(line, ":")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil || len(rest) != 2*sha1.Size-rangeDigits || strings.Trim(rest, "0123456789ABCDEFabcdef") != "" {
			return false, errors.New("the answer is malformed")
		}
		found = found || n > 0 && strings.EqualFold(rest, suffix)
	}
	return found, nil
}

// withoutPrefix returns the error of a request without its URL. If the text still has the
// prefix, for example in a header of the answer or by a transport of the app, the error is
// replaced.
func withoutPrefix(err error, prefix string) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	if strings.Contains(strings.ToUpper(err.Error()), prefix) {
		return errors.New("the request failed, and its error is not shown because it has digits of the hash")
	}
	return err
}

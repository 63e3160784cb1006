//go:build linux || darwin

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/oauth2"
)

// client calls the server. The timeout is shorter than Config.RefreshGrace, so that a refresh
// without an answer can be repeated. No redirect is followed, because the server that it names
// would get the password or the token.
var client = &http.Client{
	Timeout:       10 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// session is the login in a file.
type session struct{ file string }

// A session is a source for an oauth2.Transport, too.
var _ oauth2.TokenSource = (*session)(nil)

// saved is the content of the file. The server is saved with its token, so that no other
// server gets the token.
type saved struct {
	Server string        `json:"server"`
	Token  *oauth2.Token `json:"token"`
}

var (
	errLoggedOut = errors.New("you are not logged in")
	errEnded     = errors.New("the session has ended: log in again")
)

func (s *session) login(ctx context.Context, server, name, password string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	token, err := config(server).PasswordCredentialsToken(withClient(ctx), name, password)
	if isInvalidGrant(err) {
		return errors.New("wrong name or password")
	}
	if err != nil {
		return err
	}
	return s.save(saved{server, token})
}

// logout ends the session at the server, and then removes the file.
func (s *session) logout(ctx context.Context) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	login, err := s.load()
	if err != nil {
		return err
	}
	form := url.Values{"token": {login.Token.RefreshToken}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, login.Server+"/revoke", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the session is still live, try again: the server answers %s", resp.Status)
	}
	return os.Remove(s.file)
}

// get sends a request with the access token, and once more after a refresh if the server
// refuses the token.
func (s *session) get(ctx context.Context, path string) (*http.Response, error) {
	refused := ""
	for {
		login, err := s.current(ctx, refused)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, login.Server+path, nil)
		if err != nil {
			return nil, err
		}
		login.Token.SetAuthHeader(r)
		resp, err := client.Do(r)
		if err != nil || refused != "" || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			return resp, err
		}
		resp.Body.Close()
		refused = login.Token.AccessToken
	}
}

// Token implements oauth2.TokenSource.
func (s *session) Token() (*oauth2.Token, error) {
	login, err := s.current(context.Background(), "")
	return login.Token, err
}

// current returns the saved login, after a refresh if its access token has expired or is the
// refused one.
func (s *session) current(ctx context.Context, refused string) (saved, error) {
	unlock, err := s.lock()
	if err != nil {
		return saved{}, err
	}
	defer unlock()
	login, err := s.load()
	if err != nil || login.Token.Valid() && login.Token.AccessToken != refused {
		return login, err
	}
	ctx = context.WithoutCancel(ctx) // a cancelled refresh may have happened
	source := config(login.Server).TokenSource(withClient(ctx), &oauth2.Token{RefreshToken: login.Token.RefreshToken})
	token, err := source.Token()
	if isInvalidGrant(err) {
		return saved{}, errors.Join(errEnded, os.Remove(s.file))
	}
	if err != nil {
		return saved{}, err // the file stays: the next command tries again
	}
	login.Token = token
	return login, s.save(login)
}

// config has an AuthStyle, because otherwise x/oauth2 sends a refused login or refresh twice.
func config(server string) *oauth2.Config {
	return &oauth2.Config{Endpoint: oauth2.Endpoint{TokenURL: server + "/token", AuthStyle: oauth2.AuthStyleInParams}}
}

func withClient(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, client)
}

func isInvalidGrant(err error) bool {
	var e *oauth2.RetrieveError
	return errors.As(err, &e) && e.Response.StatusCode == http.StatusBadRequest && e.ErrorCode == "invalid_grant"
}

// lock excludes all other processes and goroutines until unlock. The lock file stays: a process
// may wait for it. The kernel unlocks the file of a killed process.
func (s *session) lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(s.file), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(s.file+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); {
		case err == nil:
			return func() { f.Close() }, nil
		case !errors.Is(err, syscall.EINTR):
			f.Close()
			return nil, fmt.Errorf("the lock %s: %w", f.Name(), err)
		}
	}
}

func (s *session) load() (login saved, err error) {
	data, err := os.ReadFile(s.file)
	if errors.Is(err, fs.ErrNotExist) {
		return login, errLoggedOut
	}
	if err != nil {
		return login, err
	}
	if err := json.Unmarshal(data, &login); err != nil || login.Token == nil {
		return login, fmt.Errorf("%s is damaged: remove the file, and log in again", s.file)
	}
	return login, nil
}

// save replaces the file in one step: a crash leaves the old file or the new one.
func (s *session) save(login saved) error {
	data, err := json.Marshal(login)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.file), ".session-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.file)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

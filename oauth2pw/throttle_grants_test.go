package oauth2pw_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// grantApp has a grant "otp": the account is in the parameter whose, and counts where
// counted is set; the code right-code is right.
func grantApp(t *testing.T, edits ...func(*oauth2pw.Config)) *app {
	return newApp(t, append(edits, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				if r.Param("counted") != "" {
					if err := r.Guess(ctx, r.Param("whose")); err != nil && r.Param("stubborn") == "" {
						return nil, err
					}
				}
				switch r.Param("otp") {
				case "down":
					return nil, errors.New("down")
				case "more":
					return nil, &oauth2pw.Error{Code: "mfa_required", Description: "Send the code too."}
				case "wrong":
					return nil, &oauth2pw.Error{Code: "invalid_grant", Description: "The code is wrong."}
				case "panic":
					panic("otp")
				case "right-code":
					return &oauth2pw.User{ID: r.Param("who")}, nil
				}
				return nil, oauth2pw.ErrNotFound
			},
		}
	})...)
}

// TestThrottleGrants: a grant of the app's own counts for the address, and for a user
// where it says so; only invalid_grant is a wrong guess.
func TestThrottleGrants(t *testing.T) {
	const otp = "grant_type=otp&username=johndoe&who=u1&otp="
	t.Run("for the address", func(t *testing.T) {
		a := grantApp(t)
		for range 150 {
			require.Equal(t, 200, a.serve(post(otp+"right-code", from(home))).StatusCode)
			a.serve(post(otp+"down", from(home))).isError(t, 503, "temporarily_unavailable")
			a.serve(post(otp+"more", from(home))).isError(t, 400, "mfa_required")
			a.serve(post(otp+"right-code&scope=admin", from(home))).isError(t, 400, "invalid_scope")
		}
		for i := range 100 {
			a.serve(post(otp+[]string{"x", "wrong"}[i%2], from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(otp+"right-code", from(home))).isThrottled(t)
		require.Equal(t, 200, a.serve(post(otp+"right-code", from(away))).StatusCode)
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode, "passwords count apart")
		for i := range 10 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
	})
	t.Run("144_a parameter says nothing", func(t *testing.T) {
		a := grantApp(t)
		for i := range 9 {
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		require.Equal(t, 200, a.serve(post("grant_type=otp&otp=right-code&username=johndoe&who=u3", from(home))).StatusCode, "somebody else logs in")
		a.serve(post(wrong("johndoe", 9), from(home))).isError(t, 400, "invalid_grant")
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		b := grantApp(t)
		require.Equal(t, 200, b.serve(post("grant_type=otp&otp=right-code&username=johndoe&who=u3", from(home))).StatusCode)
		b.attackAccount("johndoe")
		b.serve(post(right("johndoe"), from(home))).isThrottled(t) // and the address is not known to johndoe
	})
	t.Run("it makes the address known to who logs in", func(t *testing.T) {
		a := grantApp(t)
		require.Equal(t, 200, a.serve(post(otp+"right-code", from(home))).StatusCode)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(home))).StatusCode)
	})
	t.Run("for a user", func(t *testing.T) {
		guess := otp + "right-code&counted=1&whose=u1"
		a := grantApp(t)
		for i := range 5 {
			a.serve(post(strings.Replace(guess, "right-code", fmt.Sprint(i), 1), from(home))).isError(t, 400, "invalid_grant")
			a.serve(post(wrong("johndoe", i), from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(guess, from(home))).isThrottled(t)
		a.serve(post(right("johndoe"), from(home))).isThrottled(t)
		a.serve(post(guess+"&stubborn=1", from(home))).isThrottled(t) // although the grant ignores the error of Guess
		a.serve(post(otp+"x&counted=1&whose=u1&stubborn=1", from(home))).isThrottled(t)
		const phone = "198.51.100.7"
		require.Equal(t, 200, a.serve(post(guess, from(phone))).StatusCode, "and the address is known from now on")
		a.clock.Advance(time.Hour)
		a.attackAccount("johndoe")
		require.Equal(t, 200, a.serve(post(right("johndoe"), from(phone))).StatusCode)
	})
	t.Run("what is no guess", func(t *testing.T) {
		a := grantApp(t)
		for range 20 {
			a.serve(post(otp+"more&counted=1&whose=u1", from(home))).isError(t, 400, "mfa_required")
			a.serve(post(otp+"down&counted=1&whose=u1", from(home))).isError(t, 503, "temporarily_unavailable")
			require.Equal(t, 200, a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).StatusCode)
			a.serve(post(otp+"x&counted=1&whose=", from(home))).isError(t, 400, "invalid_grant") // nobody's
		}
		require.Equal(t, 200, a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).StatusCode)
	})
	t.Run("no free repeats", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			a.serve(post(otp+"000000&counted=1&whose=u1", from(home))).isError(t, 400, "invalid_grant")
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t)
	})
	t.Run("a code that opens somebody else", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			require.Equal(t, 200, a.serve(post("grant_type=otp&otp=right-code&who=u3&counted=1&whose=u1", from(home))).StatusCode)
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t) // it was no right guess at this one
	})
	t.Run("a panic counts", func(t *testing.T) {
		a := grantApp(t)
		for range 10 {
			a.serve(post(otp+"panic&counted=1&whose=u1", from(home))).isError(t, 500, "server_error")
		}
		a.serve(post(otp+"right-code&counted=1&whose=u1", from(home))).isThrottled(t)
	})
	t.Run("outside of a grant", func(t *testing.T) {
		require.NoError(t, new(oauth2pw.TokenRequest).Guess(t.Context(), "u1"))
	})
}

// TestGuessesOfAGrant: the try of one code at several users counts for each of them, even if
// a later one is blocked, with any context.
func TestGuessesOfAGrant(t *testing.T) {
	looked := 0
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"otp": func(_ context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				for _, id := range []string{"u1", "u3"} {
					if err := r.Guess(context.Background(), id); err != nil {
						return nil, err
					}
					if id == "u1" {
						looked++
					}
				}
				return nil, oauth2pw.ErrNotFound
			},
		}
	})
	for i := range 10 {
		a.serve(post(wrong("old", i), from(away))).isError(t, 400, "invalid_grant") // blocks u3 there
	}
	for i := range 300 {
		a.serve(post(fmt.Sprint("grant_type=otp&otp=", i), from(away))).isThrottled(t)
	}
	require.Equal(t, 10, looked)
	a.serve(post("grant_type=otp&otp=1", from(home))).isError(t, 400, "invalid_grant")
	require.Equal(t, 11, looked, "another address")
}

// TestConnectionReset: a client that hangs up in the middle of a custom grant does not make
// its guesses free.
func TestConnectionReset(t *testing.T) {
	a := newApp(t, func(c *oauth2pw.Config) {
		c.Grants = map[string]oauth2pw.GrantFunc{
			"x": func(ctx context.Context, r *oauth2pw.TokenRequest) (*oauth2pw.User, error) {
				if err := r.Guess(ctx, "u1"); err != nil {
					return nil, err
				}
				if ctx.Err() != nil {
					return nil, errors.New("the client is gone")
				}
				return &oauth2pw.User{ID: "u1"}, nil
			},
		}
	})
	for range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a.serve(post("grant_type=x", during(ctx))).isError(t, 503, "temporarily_unavailable")
	}
	a.serve(post("grant_type=x")).isThrottled(t)
}

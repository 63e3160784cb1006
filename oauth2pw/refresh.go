package oauth2pw

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const grantRefresh = "refresh_token"

// A refresh token is "rt1." and the base64url of
//
//	session id (16 bytes) ‖ generation (8 bytes) ‖ MAC (32 bytes)
//
// where MAC = HMAC-SHA256(K, "rt1" ‖ salt ‖ id ‖ generation), all of fixed width,
// and K = HKDF-SHA256 of the server secret that the session's key id names. The
// store alone makes no token, nor does the secret alone; and the successor of a
// token is a function of it, so that a repeated request gets the same answer.
const (
	refreshVersion = "rt1"
	refreshPrefix  = refreshVersion + "."
	refreshLength  = 16 + 8 + sha256.Size // bytes
)

var base64url = base64.RawURLEncoding.Strict()

// refreshToken is a refresh token taken apart. Nothing says yet that it is ours.
type refreshToken struct {
	sessionID  string
	generation uint64
	mac        []byte
}

func parseRefreshToken(s string) (refreshToken, bool) {
	encoded, ok := strings.CutPrefix(s, refreshPrefix)
	if !ok || len(encoded) != base64url.EncodedLen(refreshLength) || strings.ContainsAny(encoded, "\r\n") {
		return refreshToken{}, false
	}
	raw, err := base64url.DecodeString(encoded)
	if err != nil {
		return refreshToken{}, false
	}
	t := refreshToken{
		sessionID:  base64url.EncodeToString(raw[:16]),
		generation: binary.BigEndian.Uint64(raw[16:24]),
		mac:        raw[24:],
	}
	return t, 0 < t.generation && t.generation < math.MaxInt64 // which every database can count
}

// refreshKeys makes the MACs of refresh tokens. The keys stand in the closure
// alone, where no %+v finds them.
type refreshKeys struct {
	first string // the key id for new sessions; "": there is no secret
	// mac returns false for a key id that no secret has.
	mac func(s *Session, generation uint64) ([]byte, bool)
}

func newRefreshKeys(secrets []Secret) (refreshKeys, error) {
	keys := make(map[string]func(func([]byte) []byte) [sha256.Size]byte, len(secrets))
	k := refreshKeys{}
	for i, secret := range secrets {
		if len(secret) < minSecret {
			return k, fmt.Errorf("oauth2pw: Config.Secrets[%d] has %d bytes; %d are needed", i, len(secret), minSecret)
		}
		key, err1 := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh token "+refreshVersion, sha256.Size)
		name, err2 := hkdf.Key(sha256.New, []byte(secret), nil, "passwordflow refresh key id", 9)
		if err := errors.Join(err1, err2); err != nil {
			return k, fmt.Errorf("oauth2pw: Config.Secrets: %w", err)
		}
		id := base64url.EncodeToString(name)
		if _, twice := keys[id]; twice {
			return k, fmt.Errorf("oauth2pw: Config.Secrets[%d] is there twice", i)
		}
		keys[id] = newMAC(key)
		if i == 0 {
			k.first = id
		}
	}
	k.mac = func(s *Session, generation uint64) ([]byte, bool) {
		mac, known := keys[s.KeyID]
		if !known {
			return nil, false
		}
		var id [16]byte
		if n, err := base64url.Decode(id[:], []byte(s.ID)); err != nil || n != len(id) {
			return nil, false
		}
		sum := mac(func(b []byte) []byte {
			b = append(b, refreshVersion...)
			b = append(b, s.Salt[:]...)
			b = append(b, id[:]...)
			return binary.BigEndian.AppendUint64(b, generation)
		})
		return sum[:], true
	}
	return k, nil
}

// refreshTokenOf returns the refresh token of a generation of a session; "" if the
// secret that makes it is gone.
func (c *config) refreshTokenOf(s *Session, generation uint64) Secret {
	mac, known := c.keys.mac(s, generation)
	if !known {
		return ""
	}
	raw := make([]byte, 0, refreshLength)
	raw, err := base64url.AppendDecode(raw, []byte(s.ID))
	if err != nil {
		return ""
	}
	raw = binary.BigEndian.AppendUint64(raw, generation)
	raw = append(raw, mac...)
	return Secret(refreshPrefix + base64url.EncodeToString(raw))
}

// ownSession returns the session that a refresh token proves to be of, over or
// not, or why it proves nothing.
func (c *config) ownSession(ctx context.Context, t refreshToken) (s *Session, reason string, err error) {
	s, err = c.getSession(ctx, t.sessionID)
	if err != nil {
		return nil, "", err
	}
	if s == nil {
		return nil, "unknown", nil
	}
	mac, known := c.keys.mac(s, t.generation)
	switch {
	case !known:
		return nil, "unknown_secret", nil
	case !hmac.Equal(mac, t.mac):
		return nil, "forged", nil
	}
	return s, "", nil
}

// refreshAttempts is how often a refresh decides anew because another one was
// first. Each time it knows more, so that a second time is rare.
const refreshAttempts = 4

// refresh is the refresh_token grant (RFC 6749, section 6), with rotation (RFC
// 9700, section 4.14.2).
func (c *config) refresh(ctx context.Context, r *TokenRequest) (*Tokens, error) {
	t, ok := parseRefreshToken(r.Param("refresh_token"))
	if !ok {
		return nil, refreshRefused("malformed")
	}
	for range refreshAttempts {
		tokens, err := c.refreshOnce(ctx, r, t)
		if tokens != nil || err != nil {
			return tokens, err
		}
	}
	return nil, plugError("SessionStore.Advance", errors.New("the session changed each time it was read"))
}

// refreshOnce reads the session and decides. No tokens and no error say that the
// session has changed since it was read.
func (c *config) refreshOnce(ctx context.Context, r *TokenRequest, t refreshToken) (*Tokens, error) {
	s, reason, err := c.ownSession(ctx, t)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return nil, refreshRefused(reason)
	}
	r.event.UserID, r.event.SessionID = s.UserID, s.ID
	if reason := s.over(r.now); reason != "" {
		if reason != "ended" {
			if err := c.endOne(ctx, s, reason); err != nil {
				return nil, err
			}
		}
		return nil, refreshRefused(reason)
	}
	if c.owner(s.ClientID) != r.Client.id() {
		return nil, refreshRefused("wrong_client") // and nothing is spent
	}
	use := s.use(t.generation, r.now, c.RefreshGrace)
	switch use {
	case useReuse:
		if err := c.endOne(ctx, s, "reuse"); err != nil {
			return nil, err
		}
		return nil, errInvalidGrant.because(EventRefreshReuse, otherPlace(ctx, s, r), nil)
	case useSuperseded, useEarly:
		return nil, refreshRefused(string(use)) // and nothing ends
	}
	u, reason, err := c.standing(ctx, s.UserID, s.AuthenticatedAt)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		// A change of the password ends the sessions itself, but for one, which it may
		// not have moved on yet.
		if reason != "password_changed" {
			if err := c.endOne(ctx, s, reason); err != nil {
				return nil, err
			}
		}
		return nil, refreshRefused(reason)
	}
	scope, err := c.refreshScope(ctx, s, u, r)
	if err != nil {
		return nil, err
	}

	next, event := *s, Event{Kind: EventRefresh}
	switch use {
	case useRepeat:
		event = Event{Kind: EventRefreshRepeat, Reason: otherPlace(ctx, s, r)}
	case useAhead:
		event.Kind = EventStoreRollback // the store has forgotten what it once answered
		fallthrough
	default:
		next.Generation = t.generation + 1
		next.RefreshedAt = latest(r.now, s.AuthenticatedAt) // see Session.use
		next.IdleExpiresAt = c.idleExpiry(s, r.now)
	}
	// A token says whole seconds, and it must not say zero of them.
	if next.end().Sub(r.now) < time.Second {
		return nil, refreshRefused("age")
	}
	tokens, err := c.makeTokens(ctx, &next, u, scope)
	if err != nil {
		return nil, err
	}
	if tokens.RefreshToken = c.refreshTokenOf(&next, next.Generation); tokens.RefreshToken == "" {
		return nil, refreshRefused("unknown_secret")
	}
	if use != useRepeat {
		advanced, err := c.Sessions.Advance(ctx, s.Generation, &next, r.now)
		if err != nil {
			return nil, plugError("SessionStore.Advance", err)
		}
		if !advanced {
			return nil, nil
		}
	}
	event.Grant, event.UserID, event.ClientID, event.SessionID = grantRefresh, s.UserID, s.ClientID, s.ID
	c.emit(ctx, event)
	return tokens, nil
}

// refreshUse is what a genuine refresh token of a live session is good for.
type refreshUse string

const (
	useNext       refreshUse = "next"       // the next refresh
	useAhead      refreshUse = "ahead"      // the same: the store has gone back in time
	useRepeat     refreshUse = "repeat"     // its successor once more
	useSuperseded refreshUse = "superseded" // nothing: the password has changed since, or was proved again
	useEarly      refreshUse = "early"      // nothing: the clock was set back since it was replaced
	useReuse      refreshUse = "reuse"      // nothing, and the session ends
)

// use decides by the generation of a refresh token. An older one than that of the
// session is genuine but already replaced, so somebody has a copy: that is reuse at any
// age, with two exceptions while a grace period lasts. The token just replaced may come
// again, because its answer may have been lost, or another tab has sent it. And within a
// grace period after a change of the password, which moves the session on by two
// generations, a token from before is only refused, because another tab may have been about
// to refresh.
//
// Two processes may disagree about the time by less than a grace period. A replaced token
// that is younger than that says that a clock was set back.
func (s *Session) use(generation uint64, now time.Time, grace time.Duration) refreshUse {
	switch {
	case generation == s.Generation:
		return useNext
	case generation > s.Generation:
		return useAhead
	case grace <= 0:
		return useReuse
	}
	within := func(since time.Time, yes refreshUse) refreshUse {
		switch age := now.Sub(since); {
		case age >= grace:
			return useReuse
		case age < -max(grace, leastSkew):
			return useEarly
		}
		return yes
	}
	switch {
	case s.AuthenticatedAt.After(s.RefreshedAt): // the last step was a change
		return within(s.RefreshedAt, useSuperseded)
	case generation == s.Generation-1:
		return within(s.RefreshedAt, useRepeat)
	case s.AuthenticatedAt.After(s.CreatedAt) && s.AuthenticatedAt.Equal(s.AuthenticatedAt.Truncate(time.Second)):
		// There was a change, and there were refreshes since. Which token is from
		// before it is not known: none of them is worth anything.
		if within(s.AuthenticatedAt, useSuperseded) == useSuperseded {
			return useSuperseded
		}
	}
	return useReuse
}

// leastSkew: a refresh in the second after a change is noted at its end.
const leastSkew = 2 * time.Second

func refreshRefused(reason string) *Error {
	return errInvalidGrant.because(EventRefreshFailed, reason, nil)
}

// refreshScope returns the scope of the next access token: what was asked for, at
// most what the login was granted, as far as user and client may still have it.
// (RFC 6749, section 6)
func (c *config) refreshScope(ctx context.Context, s *Session, u *User, r *TokenRequest) (string, error) {
	for _, scope := range r.Scopes {
		if !hasScope(s.Scope, scope) {
			return "", errScopeNotAllowed
		}
	}
	asked := r.Scopes
	if asked == nil {
		asked = strings.Fields(s.Scope)
	}
	scopes, err := c.keepScopes(ctx, u, r.Client, asked)
	if err != nil {
		return "", err
	}
	if r.Scopes != nil && len(scopes) < len(r.Scopes) {
		return "", errScopeNotAllowed
	}
	return strings.Join(scopes, " "), nil
}

// otherPlace says how a request differs from the login of its session.
func otherPlace(ctx context.Context, s *Session, r *TokenRequest) string {
	address := s.Address != ClientAddress(ctx)
	agent := s.UserAgent != cleanUserAgent(r.userAgent)
	switch {
	case address && agent:
		return "other_address_and_user_agent"
	case address:
		return "other_address"
	case agent:
		return "other_user_agent"
	}
	return "same_place"
}

package oauth2pw

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// logins is the last step of every login: it grants the scopes, stores the session and
// makes the tokens.
type logins struct {
	plugs    *plugs
	clients  *clients
	scopes   *scopePolicy
	sessions *sessions
	events   *reporter
}

// Login logs in a user whom the app has identified itself, for example right after a
// sign-up. The result is the tokens of a login at the token endpoint. r is the request of
// the user, for its address and user agent. clientID is the client of the request; "": no
// client is named. Without scopes the default scopes are granted. Login is not an attempt:
// the throttle is not called, and the address does not become known to the user.
// Config.CheckLogin is not called: a user with a second factor, or with an address that must
// be verified first, logs in at the token endpoint.
//
// The error is an [*Error], for [Auth.WriteError]: invalid_grant for a missing or disabled
// user, invalid_client for a missing client, invalid_scope, or a failure.
func (a *Auth) Login(r *http.Request, userID, clientID string, scopes ...string) (tokens *Tokens, err error) {
	ctx := a.proxies.withAddress(r)
	event := Event{Kind: EventRequestRefused, UserID: userID}
	err = a.answers.told(ctx, &event, func() error {
		request := newRequest(r, a.logins.events.clock.time(), &event)
		tokens, err = a.logins.identified(ctx, request, userID, clientID, scopes)
		return err
	})
	return tokens, err
}

// identified logs in a user whom the app has identified.
func (l *logins) identified(ctx context.Context, r *TokenRequest, userID, clientID string, scopes []string) (_ *Tokens, err error) {
	if clientID == "" {
		r.Client, err = l.clients.unnamed(ctx)
	} else if r.Client, err = l.clients.find(ctx, clientID); err == nil && r.Client == nil {
		err = errInvalidBodyClient.because(EventClientFailed, ReasonUnknownClient, nil)
	}
	if err != nil {
		return nil, err
	}
	r.event.ClientID = r.Client.id()
	for _, s := range scopes {
		if !validScopeToken(s) {
			return nil, &Error{Code: "invalid_scope", Description: "The scope is malformed."}
		}
		r.Scopes = addScopes(r.Scopes, s)
	}
	u, err := l.plugs.userByID(ctx, userID)
	if err != nil {
		return nil, err
	}
	if reason := u.dead(maxTime); reason != "" {
		return nil, errInvalidGrant.because(EventLoginFailed, reason, nil)
	}
	return l.open(ctx, r, &proof{user: u, at: latest(r.now, u.SessionsValidFrom)})
}

// loginAttempts is the number of tries of a login while the user changes.
const loginAttempts = 3

// open is the last step of every login.
func (l *logins) open(ctx context.Context, r *TokenRequest, p *proof) (*Tokens, error) {
	for range loginAttempts {
		tokens, err := l.openOnce(ctx, r, p)
		if tokens != nil || err != nil {
			return tokens, err
		}
	}
	return nil, plugError("UserStore.UserByID", errors.New("the user changed each time it was read"))
}

// openOnce returns no tokens and no error if the login is valid, but the user has changed
// since p.user was read. p then has the current user.
func (l *logins) openOnce(ctx context.Context, r *TokenRequest, p *proof) (*Tokens, error) {
	u := p.user
	r.event.UserID = u.ID
	if u.ID == r.Client.id() {
		// RFC 9068, section 5: the sub of a user must not be mistaken for a client's.
		return nil, plugError("UserStore", errors.New("a user whose ID is that of the client"))
	}
	granted, err := l.scopes.grant(ctx, u, r.Client, r.Scopes)
	if err != nil {
		return nil, err
	}
	scope := strings.Join(granted, " ")
	s := &Session{UserID: u.ID, ClientID: r.Client.id(), AuthenticatedAt: p.at}
	if l.sessions.on() {
		if s, err = l.sessions.new(ctx, r, p, scope); err != nil {
			return nil, err
		}
	}
	tokens, err := l.tokens(ctx, s, u, scope)
	if err != nil {
		return nil, err
	}
	place := EventReason("")
	switch {
	case l.sessions.on():
		if l.sessions.mayRefresh(r.Client) {
			tokens.RefreshToken = l.sessions.keys.token(s, s.Generation)
		} else { // without a refresh the session expires with its access token
			s.ExpiresAt, s.IdleExpiresAt = tokens.expires, tokens.expires
		}
		var opened bool
		opened, place, err = l.sessions.open(ctx, s, u.SessionsValidFrom, func() (bool, EventReason, error) { return l.recheck(ctx, p) })
		if !opened || err != nil {
			return nil, err
		}
	case p.holds != nil:
		moved, refusal, err := l.recheck(ctx, p)
		if refusal != "" {
			return nil, errInvalidGrant.because(EventLoginFailed, refusal, nil)
		}
		if moved || err != nil {
			return nil, err
		}
	}
	l.events.emit(ctx, Event{Kind: EventLogin, Reason: place, Grant: r.GrantType, UserID: u.ID, ClientID: s.ClientID, SessionID: s.ID})
	return tokens, nil
}

// recheck reads the user again, after every read and write of the login: a later change of
// the user finds the session. refusal is the reason of a refused login, or "". moved means
// that User.SessionsValidFrom is later than p.at: the login is valid, and must begin again
// with a later time.
func (l *logins) recheck(ctx context.Context, p *proof) (moved bool, refusal EventReason, err error) {
	u, err := l.plugs.userByID(ctx, p.user.ID)
	if err != nil {
		return false, "", err
	}
	if u == nil && p.plug != "" {
		return false, "", plugError("UserStore.UserByID", errors.New("there is no user with the ID that "+p.plug+" has returned: with Config.Sessions, Config.Users must find its users"))
	}
	if reason := u.dead(maxTime); reason != "" {
		return false, reason, nil
	}
	moved = p.at.Before(u.SessionsValidFrom)
	if p.holds == nil {
		if moved {
			return false, ReasonPasswordChanged, nil
		}
		return false, "", nil
	}
	ok, err := p.holds(ctx, u)
	switch {
	case err != nil:
		return false, "", err
	case !ok:
		return false, ReasonPasswordChanged, nil
	case moved:
		p.user, p.at = u, u.SessionsValidFrom
	}
	return moved, "", nil
}

// tokens makes an access token of a session. Without Config.Sessions the ID of the session
// is "".
func (l *logins) tokens(ctx context.Context, s *Session, u *User, scope string) (*Tokens, error) {
	p := Principal{
		Subject: s.UserID, ClientID: l.clients.owner(s.ClientID), Scope: scope, SessionID: s.ID,
		AuthTime: authTime(s.AuthenticatedAt, u.SessionsValidFrom), User: u,
	}
	if s.ID != "" {
		p.ExpiresAt = s.end()
	}
	token, issued, err := l.plugs.issue(ctx, p)
	if err != nil {
		return nil, err
	}
	return &Tokens{
		AccessToken: Secret(token),
		ExpiresIn:   issued.ExpiresAt.Sub(issued.IssuedAt).Truncate(time.Second),
		Scope:       scope,
		SessionID:   s.ID,
		expires:     issued.ExpiresAt,
	}, nil
}

// authTime cuts the time of a login to the whole second, as tokens have it, but never to a
// time before validFrom, because the token would be refused.
func authTime(at, validFrom time.Time) time.Time {
	t := at.Truncate(time.Second)
	if t.Before(validFrom) {
		t = t.Add(time.Second)
	}
	return t
}

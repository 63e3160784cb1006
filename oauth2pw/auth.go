package oauth2pw

import (
	"errors"
	"maps"
	"slices"
	"time"
)

// Auth is the login of an app, made by [New]. An Auth is safe for concurrent use.
type Auth struct{ *parts } // behind a pointer: printing an Auth prints no plug

// parts are the parts of an Auth. Each part uses only parts above it.
type parts struct {
	answers   answerer
	proxies   *proxies
	scopes    *scopePolicy
	clients   *clients
	sessions  *sessions
	verifiers *verifiers
	logins    *logins
	tickets   *tickets
	accounts  *accounts

	endpoints    *endpoints
	revoker      *revoker
	introspector *introspector
	supported    supported
	laxForm      bool
}

// New checks a Config and returns an Auth. The error names the wrong field. New computes no
// hash, opens no connection and starts no goroutine. The app must not change a map or slice
// of the Config afterwards.
func New(c Config) (*Auth, error) {
	now := clock(c.Now)
	if c.Now == nil {
		now = time.Now
	}
	if !onlyVSChar(c.Realm) {
		return nil, errors.New("oauth2pw: Config.Realm must be printable ASCII")
	}
	events := newReporter(c.OnEvent, c.RequestID, now)
	answers := answerer{withDefault(c.Realm, defaultRealm), c.ErrorBody, events}
	plugs, err := newPlugs(&c)
	if err != nil {
		return nil, err
	}
	proxies, err := newProxies(&c, events)
	if err != nil {
		return nil, err
	}
	scopes, err := newScopePolicy(&c)
	if err != nil {
		return nil, err
	}
	guard, err := newGuard(&c, plugs, now, answers)
	if err != nil {
		return nil, err
	}
	clients, err := newClients(&c, plugs, guard)
	if err != nil {
		return nil, err
	}
	secrets, err := newServerSecrets(c.Secrets)
	if err != nil {
		return nil, err
	}
	sessions, err := newSessions(&c, plugs, clients, secrets, events)
	if err != nil {
		return nil, err
	}
	verifiers, err := newVerifiers(&c, plugs, sessions)
	if err != nil {
		return nil, err
	}
	logins := &logins{plugs, clients, scopes, sessions, events}
	if c.CheckLogin != nil && c.ThrottleLimit == 1 {
		return nil, errors.New("oauth2pw: with Config.CheckLogin, Config.ThrottleLimit is at least 2: a login counts twice until it has succeeded")
	}
	check := &loginCheck{guard, c.CheckLogin}
	passwords := &passwords{plugs: plugs, guard: guard, check: check, events: events, keepHashes: c.KeepHashes, fold: c.FoldName, authenticate: c.Authenticate}
	refresher := &refresher{plugs, clients, scopes, sessions, logins, events}
	grants, err := newGrants(&c, passwords, logins, refresher, guard, check)
	if err != nil {
		return nil, err
	}
	return &Auth{&parts{
		answers: answers, proxies: proxies, scopes: scopes, clients: clients, sessions: sessions, verifiers: verifiers, logins: logins,
		tickets:      &tickets{plugs, now, secrets, issuerOf(c.Issuer) + "\n" + answers.realm},
		accounts:     &accounts{plugs, guard, passwords, clients, scopes, sessions, logins, verifiers, answers, events, now, c.CheckNewPassword},
		endpoints:    &endpoints{proxies, clients, grants, answers, now},
		revoker:      &revoker{clients, sessions, verifiers},
		introspector: &introspector{plugs, clients, sessions, verifiers},
		supported:    supported{issuerOf(c.Issuer), slices.Sorted(maps.Keys(scopes.all)), grantTypes(&c), c.Clients != nil},
		laxForm:      c.LaxForm,
	}}, nil
}

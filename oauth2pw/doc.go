// Package oauth2pw gives an existing net/http app a login: a token endpoint that exchanges
// a username and a password for a bearer token (the password grant of RFC 6749, section
// 4.3), and a middleware that opens a handler only to such a token (RFC 6750).
//
// RFC 9700, section 2.4, forbids the password grant, and OAuth 2.1 omits it. Use the grant
// only in a first-party app, where you own both the client and the server; see the README.
//
// # How to wire it
//
// [New] takes every plug, checks each plug once and returns an [Auth]:
//
//	jwt, err := tokens.Open("signing.jwk", "https://api.example.com", "api")
//	if err != nil {
//		return err
//	}
//	auth, err := oauth2pw.New(oauth2pw.Config{
//		Users: users{db}, Hasher: hasher.Default(), Issuer: jwt, DefaultScopes: []string{"me"},
//	})
//	if err != nil {
//		return err
//	}
//	mux.Handle("/token", auth.TokenHandler())
//	mux.Handle("GET /users/me", auth.RequireBearer("me")(http.HandlerFunc(usersMe)))
//
// Mount the token endpoint without a method: with a pattern such as "POST /token", ServeMux
// itself answers other methods, in plain text. Beside "/token" ServeMux refuses the pattern
// "GET /": mount pages at "/", or at "GET /{$}".
//
// Refresh tokens, and the end of a login before its tokens expire, need a store of
// sessions:
//
//	secrets, err := oauth2pw.OpenSecrets("refresh.secret")
//	…
//	Sessions: st.Sessions, Secrets: secrets,
//	…
//	mux.Handle("/revoke", auth.RevokeHandler())
//
// A session ends by [Auth.EndSession], [Auth.ChangePassword] and [Auth.RevokeHandler], by
// reuse, and at a refresh for a disabled user. A session expires by idle time and by age.
// Call [Auth.SweepSessions] to delete ended and expired sessions.
//
// Package openapi describes the login in an OpenAPI document, for Swagger UI.
//
// An app that writes its own endpoints uses [ParsePasswordRequestForm], [PasswordBearer]
// and [WriteError] instead of an Auth.
//
// # Words
//
//   - Attempt: a try with a secret, such as a password. An attempt is counted before the
//     secret is checked, and uncounted afterwards unless the secret was wrong. Above a
//     limit an attempt is blocked: the answer is 429, even for the correct password.
//   - Client: a program that requests tokens; see [Client].
//   - Client address: the IP address of the client. The client address is that of the peer,
//     or the address that a trusted proxy names.
//   - Generation: the number of a refresh token in its session. A login makes generation 1,
//     each refresh adds 1, and a change of the password adds 2.
//   - Grace period: the time after a refresh in which the last replaced token gets the same
//     successor again; see [Config.RefreshGrace].
//   - Plug: a dependency that the app brings in the [Config]: a store, a hasher, an issuer,
//     a verifier, a throttle or a function.
//   - Principal: the content of a verified access token; see [Principal].
//   - Refused: answered with an error, without tokens and without access.
//   - Replaced token: a refresh token that has a successor.
//   - Reuse: the use of a replaced token outside of the grace period. Reuse ends the
//     session.
//   - Session: one login, one row in the [SessionStore]. All tokens of the login carry the
//     ID of the session. A session is live, ended (by a request or by the app) or expired
//     (by time).
//   - Store failure: any error of a store other than a miss ([ErrNotFound]). The answer is
//     503.
//
// # Security
//
// The defaults are safe:
//
//   - The endpoints refuse credentials in the URL, and plain HTTP from other machines.
//     [Config.InsecureAllowHTTP] allows plain HTTP.
//   - An unknown user, a disabled user and a wrong password get the same answer, byte for
//     byte, after the same work.
//   - A store failure, or the failure of another plug, is answered with 503, never as a
//     wrong password and never with access. The error of the plug goes only to
//     [Config.OnEvent], or to slog.Default if OnEvent is nil.
//   - No [Error], no [Event] and no error answer contains a password, a token, a secret or
//     a hash. A [Secret] prints as [redacted].
//   - Attempts are counted for the user and for the client address, unless
//     [Config.InsecureNoThrottle] is set. At an address from which a user has logged in,
//     the user is never blocked before a wrong password for this user comes from this
//     address. The built-in [Throttle] counts in one process;
//     module store/redisstore has one for several.
//
// Behind a proxy set [Config.TrustedProxies], otherwise all clients share one client
// address. A store that accepts several names for one user needs [Config.FoldName].
//
// A login with a password succeeds only if the verified hash is still the hash of the user
// after the session is stored. No login with the old password survives a change of the
// password. [UserStore] must therefore return the same record by name and by ID. After
// [Auth.ChangePassword] every older token is refused, and the caller gets new tokens. (An
// access token is refused only if Sessions or LoadUser checks it.)
//
// A refresh token is used once and has one successor. Within the grace period the last
// replaced token gets the same successor, so that a lost answer does not end the login.
// Reuse ends the session, because somebody has a copy of the token. Rotation does not stop
// a thief who has a copy and refreshes within every grace period. The session store and the
// refresh secrets together can make every refresh token: they must not share a backup.
//
// # Concurrency
//
// An [Auth], and every handler and middleware made from it, is safe for concurrent use.
// Plugs are called concurrently, in the goroutines of requests. New starts no goroutine.
//
// # Compatibility
//
// The status, the headers, and the members "error" and "error_description" of an answer are
// stable. The wording of descriptions may change. The sets of [Event] kinds and reasons may
// grow.
package oauth2pw

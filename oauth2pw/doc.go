// Package oauth2pw gives an existing net/http app a login: a token endpoint
// that exchanges a username and a password for a bearer token (the password
// grant of RFC 6749, section 4.3), and a middleware that opens a handler only
// to such a token (RFC 6750).
//
// RFC 9700, section 2.4, says that the password grant must not be used, and
// OAuth 2.1 drops it. It suits a first-party app that owns both ends and
// nothing else; see the README.
//
// # How to wire it
//
// [New] takes every plug, checks them once and returns an [Auth]:
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
// Mount the token endpoint without a method: a pattern such as "POST /token"
// makes ServeMux itself answer other methods, in plain text.
//
// With a store of sessions there are refresh tokens, and an end to every login:
//
//	secrets, err := oauth2pw.OpenSecrets("refresh.secret")
//	…
//	Sessions: st.Sessions, Secrets: secrets,
//	…
//	mux.Handle("/revoke", auth.RevokeHandler())
//
// A [Session] is one login, one row, whatever happens to it; all tokens that
// descend from the login carry its id. [Auth.EndSession], [Auth.ChangePassword]
// and [Auth.RevokeHandler] end it, and so do idle time, age, a disabled user and
// the reuse of a refresh token. Call [Auth.SweepSessions] to delete
// ended sessions.
//
// Beneath that stands a lower floor, for an app that writes its own endpoints:
// [ParsePasswordRequestForm], [PasswordBearer] and [WriteError].
//
// # Security
//
// Nothing has to be configured to be safe. The token endpoint refuses plain
// HTTP except from loopback ([Config.InsecureAllowHTTP] turns that off),
// refuses credentials in the URL, answers an unknown user, a disabled user and
// a wrong password with the same bytes after the same work, and treats a plug
// that fails as "try again later" (503), never as "wrong password" and never
// as "allowed". No password, token, secret or hash reaches an [Error], an
// [Event] or a response; values that hold one print as [redacted].
//
// Guessing is bounded, unless [Config.InsecureNoThrottle] says otherwise. Each attempt is
// counted before it is checked, for the user whom the password would open and for the
// address; above the limit the answer is 429, even for the correct password. Nobody but
// somebody who guesses at this very name from this very address can lock a user out of an
// address that the user has logged in from. The built-in [Throttle] counts in one process.
// The address is the peer's: behind a proxy set [Config.TrustedProxies], or all clients
// share one. A store that takes several names for one user needs [Config.FoldName].
//
// A login holds only if the password hash that it has verified is still the user's once its
// session is stored, so that none outlives a change of the password; [UserStore] must
// return the same record by name and by ID. [Auth.ChangePassword] makes every token from
// before worthless, and answers with new ones.
//
// A refresh token is used once, and replaced by its one successor. Used again
// within [Config.RefreshGrace] it gets the same successor, so that a lost answer
// costs nobody the login; at any other time that ends the session, for the owner
// and a thief cannot both hold it. What this does not stop: a thief who holds a
// copy and comes inside every grace period. Whoever has both the session store
// and the refresh secrets can make every refresh token: they must not share a
// backup.
//
// What a failing plug reported is told to [Config.OnEvent] alone, or to slog.Default where
// that is nil.
//
// # Concurrency
//
// An [Auth], and every handler and middleware made from it, is safe for
// concurrent use. Plugs are called concurrently, from the goroutines of
// requests. New starts no goroutine.
//
// # Compatibility
//
// The status, the headers, and the members "error" and "error_description" of
// an answer are part of the promise; the wording of descriptions is not. The
// set of [Event] kinds and reasons may grow.
package oauth2pw

-- The tables of version 3: those of version 2, and the step of the program of that time.
-- A user, a client and a live session follow: the session is that of migrate_test.go.
CREATE TABLE IF NOT EXISTS "oauth2pw_schema" (version INTEGER NOT NULL) STRICT;
INSERT INTO "oauth2pw_schema" (version) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM "oauth2pw_schema");
-- Scopes and grants are lists with single spaces between. NULL stands for the nil of Go.
-- Times are Unix microseconds.
CREATE TABLE IF NOT EXISTS "oauth2pw_users" (
	id            TEXT NOT NULL PRIMARY KEY,
	username      TEXT NOT NULL UNIQUE,
	password_hash TEXT NOT NULL,
	disabled      INTEGER NOT NULL DEFAULT 0,
	scopes        TEXT,
	sessions_from INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS "oauth2pw_clients" (
	id            TEXT NOT NULL PRIMARY KEY,
	secret_sha256 BLOB,
	grants        TEXT,
	scopes        TEXT,
	introspect    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS "oauth2pw_sessions" (
	id               TEXT NOT NULL PRIMARY KEY,
	user_id          TEXT NOT NULL,
	client_id        TEXT NOT NULL, -- '' where no client was named
	scopes           TEXT NOT NULL,
	salt             BLOB NOT NULL,
	key_id           TEXT NOT NULL,
	generation       INTEGER NOT NULL,
	created_at       INTEGER NOT NULL,
	authenticated_at INTEGER NOT NULL,
	advanced_at      INTEGER NOT NULL,
	idle_expires_at  INTEGER NOT NULL, -- never after expires_at
	expires_at       INTEGER NOT NULL,
	ended_at         INTEGER, -- NULL: not ended
	end_reason       TEXT NOT NULL DEFAULT '',
	address          TEXT NOT NULL DEFAULT '',
	user_agent       TEXT NOT NULL DEFAULT '',
	data             BLOB
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS "oauth2pw_sessions_user" ON "oauth2pw_sessions" (user_id);
CREATE INDEX IF NOT EXISTS "oauth2pw_sessions_idle" ON "oauth2pw_sessions" (idle_expires_at);
CREATE INDEX IF NOT EXISTS "oauth2pw_sessions_ended" ON "oauth2pw_sessions" (ended_at) WHERE ended_at IS NOT NULL;

-- An ended session stays until it is swept. This index keeps it out of the way of the
-- live ones.
CREATE INDEX IF NOT EXISTS "oauth2pw_sessions_user_ended" ON "oauth2pw_sessions" (user_id, ended_at);
DROP INDEX IF EXISTS "oauth2pw_sessions_user";
UPDATE "oauth2pw_schema" SET version = 2;

INSERT INTO "oauth2pw_users" (id, username, password_hash, disabled, scopes, sessions_from)
VALUES ('1', 'johndoe', 'secret', 0, NULL, NULL);
INSERT INTO "oauth2pw_clients" (id, secret_sha256, grants, scopes, introspect)
VALUES ('webapp', NULL, 'password refresh_token', NULL, 0);
INSERT INTO "oauth2pw_sessions" (id, user_id, client_id, scopes, salt, key_id, generation, created_at, authenticated_at, advanced_at, idle_expires_at, expires_at, ended_at, end_reason, address, user_agent, data)
VALUES ('K52pHqLnF791hGXJf1VHDg', '1', 'webapp', 'me', x'7d8e6ddc50d82b1bf8111a1624cc5f00', '5Zms46tZfSeH', 2, 1767323045678901, 1767323045678901, 1767326645678901, 1768536245678901, 1775099045678901, NULL, '', '127.0.0.1', 'Go-http-client/1.1', NULL);

ALTER TABLE "oauth2pw_sessions" ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
-- Microseconds. 0 is the idle time of the configuration.
ALTER TABLE "oauth2pw_sessions" ADD COLUMN idle INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "oauth2pw_sessions" ADD COLUMN label TEXT NOT NULL DEFAULT '';
-- The column data stays, because a step only adds. A program of this version neither reads
-- nor writes it.

-- A login reads the live sessions of the user. This index has neither the ended sessions nor,
-- in the range of a query, the expired ones.
CREATE INDEX IF NOT EXISTS "oauth2pw_sessions_user_live" ON "oauth2pw_sessions" (user_id, idle_expires_at) WHERE ended_at IS NULL;
DROP INDEX IF EXISTS "oauth2pw_sessions_user_ended";
UPDATE "oauth2pw_schema" SET version = 3;

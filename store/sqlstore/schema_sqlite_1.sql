-- Scopes and grants are lists with single spaces between. NULL stands for the nil of Go.
-- Times are Unix microseconds.
CREATE TABLE IF NOT EXISTS "{prefix}users" (
	id            TEXT NOT NULL PRIMARY KEY,
	username      TEXT NOT NULL UNIQUE,
	password_hash TEXT NOT NULL,
	disabled      INTEGER NOT NULL DEFAULT 0,
	scopes        TEXT,
	sessions_from INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS "{prefix}clients" (
	id            TEXT NOT NULL PRIMARY KEY,
	secret_sha256 BLOB,
	grants        TEXT,
	scopes        TEXT,
	introspect    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE IF NOT EXISTS "{prefix}sessions" (
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

CREATE INDEX IF NOT EXISTS "{prefix}sessions_user" ON "{prefix}sessions" (user_id);
CREATE INDEX IF NOT EXISTS "{prefix}sessions_idle" ON "{prefix}sessions" (idle_expires_at);
CREATE INDEX IF NOT EXISTS "{prefix}sessions_ended" ON "{prefix}sessions" (ended_at) WHERE ended_at IS NOT NULL;

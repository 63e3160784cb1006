-- Scopes and grants are lists with single spaces between; NULL stands for Go's nil.
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

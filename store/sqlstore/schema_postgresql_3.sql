-- Scopes and grants are lists with single spaces between. NULL stands for the nil of Go.
-- Times are Unix microseconds. Texts compare byte for byte.
CREATE TABLE "{prefix}users" (
	id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	username      TEXT COLLATE "C" NOT NULL UNIQUE,
	password_hash TEXT NOT NULL,
	disabled      BOOLEAN NOT NULL DEFAULT FALSE,
	scopes        TEXT,
	sessions_from BIGINT
);

CREATE TABLE "{prefix}clients" (
	id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	secret_sha256 BYTEA,
	grants        TEXT,
	scopes        TEXT,
	introspect    BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE "{prefix}sessions" (
	id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	user_id          TEXT COLLATE "C" NOT NULL,
	client_id        TEXT NOT NULL, -- '' where no client was named
	scopes           TEXT NOT NULL,
	salt             BYTEA NOT NULL,
	key_id           TEXT NOT NULL,
	generation       BIGINT NOT NULL,
	forgiven         BIGINT NOT NULL DEFAULT 0,
	created_at       BIGINT NOT NULL,
	authenticated_at BIGINT NOT NULL,
	advanced_at      BIGINT NOT NULL,
	idle_expires_at  BIGINT NOT NULL, -- never after expires_at
	expires_at       BIGINT NOT NULL,
	ended_at         BIGINT, -- NULL: not ended
	end_reason       TEXT NOT NULL DEFAULT '',
	address          TEXT NOT NULL DEFAULT '',
	user_agent       TEXT NOT NULL DEFAULT '',
	idle             BIGINT NOT NULL DEFAULT 0, -- microseconds; 0 is the idle time of the configuration
	label            TEXT NOT NULL DEFAULT ''
) WITH (fillfactor = 80); -- a rotation finds room for the new row in the same page

CREATE INDEX "{prefix}sessions_user_live" ON "{prefix}sessions" (user_id, idle_expires_at) WHERE ended_at IS NULL;
CREATE INDEX "{prefix}sessions_idle" ON "{prefix}sessions" (idle_expires_at);
CREATE INDEX "{prefix}sessions_ended" ON "{prefix}sessions" (ended_at) WHERE ended_at IS NOT NULL;

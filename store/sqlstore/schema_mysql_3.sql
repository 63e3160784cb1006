-- Scopes and grants are lists with single spaces between. NULL stands for the nil of Go.
-- Times are Unix microseconds. VARBINARY compares byte for byte, spaces at the end included.
CREATE TABLE IF NOT EXISTS {prefix}users (
	id            VARBINARY(255) NOT NULL PRIMARY KEY,
	username      VARBINARY(1024) NOT NULL,
	password_hash VARBINARY(1024) NOT NULL,
	disabled      BOOLEAN NOT NULL DEFAULT FALSE,
	scopes        BLOB,
	sessions_from BIGINT,
	UNIQUE KEY username (username)
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS {prefix}clients (
	id            VARBINARY(255) NOT NULL PRIMARY KEY,
	secret_sha256 VARBINARY(255),
	grants        BLOB,
	scopes        BLOB,
	introspect    BOOLEAN NOT NULL DEFAULT FALSE
) ENGINE=InnoDB;

CREATE TABLE IF NOT EXISTS {prefix}sessions (
	id               VARBINARY(255) NOT NULL PRIMARY KEY,
	user_id          VARBINARY(255) NOT NULL,
	client_id        VARBINARY(255) NOT NULL,
	scopes           BLOB NOT NULL,
	salt             VARBINARY(16) NOT NULL,
	key_id           VARBINARY(255) NOT NULL,
	generation       BIGINT NOT NULL,
	forgiven         BIGINT NOT NULL DEFAULT 0,
	created_at       BIGINT NOT NULL,
	authenticated_at BIGINT NOT NULL,
	advanced_at      BIGINT NOT NULL,
	idle_expires_at  BIGINT NOT NULL,
	expires_at       BIGINT NOT NULL,
	ended_at         BIGINT,
	end_reason       VARBINARY(255) NOT NULL DEFAULT '',
	address          VARBINARY(255) NOT NULL DEFAULT '',
	user_agent       VARBINARY(1024) NOT NULL DEFAULT '',
	idle             BIGINT NOT NULL DEFAULT 0,
	label            VARBINARY(1024) NOT NULL DEFAULT '',
	KEY user_live (user_id, ended_at, idle_expires_at),
	KEY idle (idle_expires_at),
	KEY ended (ended_at)
) ENGINE=InnoDB;

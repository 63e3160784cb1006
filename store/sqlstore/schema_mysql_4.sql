-- When Sweep looks at a session: not after idle_expires_at. A refresh leaves it as it is, so that
-- no index changes at a refresh. One statement, because MySQL does all of it or nothing.
ALTER TABLE {prefix}sessions
	ADD COLUMN sweep_at BIGINT NOT NULL DEFAULT 0,
	ADD KEY sweep (sweep_at),
	ADD KEY user_lifetime (user_id, ended_at, expires_at),
	DROP KEY idle,
	DROP KEY user_live;

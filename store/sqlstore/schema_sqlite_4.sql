-- When Sweep looks at a session: not after idle_expires_at. A refresh leaves it as it is, so that
-- no index changes at a refresh.
ALTER TABLE "{prefix}sessions" ADD COLUMN sweep_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX IF NOT EXISTS "{prefix}sessions_sweep" ON "{prefix}sessions" (sweep_at);
-- A login reads the live sessions of the user. This index has neither the ended sessions nor, in
-- the range of a query, those at the end of their lifetime.
CREATE INDEX IF NOT EXISTS "{prefix}sessions_user_lifetime" ON "{prefix}sessions" (user_id, expires_at) WHERE ended_at IS NULL;
DROP INDEX IF EXISTS "{prefix}sessions_idle";
DROP INDEX IF EXISTS "{prefix}sessions_user_live";

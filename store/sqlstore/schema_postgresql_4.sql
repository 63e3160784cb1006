-- When Sweep looks at a session: not after idle_expires_at. A refresh leaves it as it is, so that
-- no index changes at a refresh.
ALTER TABLE "{prefix}sessions" ADD COLUMN sweep_at BIGINT NOT NULL DEFAULT 0;

CREATE INDEX "{prefix}sessions_sweep" ON "{prefix}sessions" (sweep_at, id); -- the order of Sweep
CREATE INDEX "{prefix}sessions_user_lifetime" ON "{prefix}sessions" (user_id, expires_at) WHERE ended_at IS NULL;
DROP INDEX "{prefix}sessions_idle";
DROP INDEX "{prefix}sessions_user_live";

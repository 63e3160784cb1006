ALTER TABLE "{prefix}sessions" ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
-- Microseconds. 0 is the idle time of the configuration.
ALTER TABLE "{prefix}sessions" ADD COLUMN idle INTEGER NOT NULL DEFAULT 0;
ALTER TABLE "{prefix}sessions" ADD COLUMN label TEXT NOT NULL DEFAULT '';
-- The column data stays, because a step only adds. A program of this version neither reads
-- nor writes it.

-- A login reads the live sessions of the user. This index has neither the ended sessions nor,
-- in the range of a query, the expired ones.
CREATE INDEX IF NOT EXISTS "{prefix}sessions_user_live" ON "{prefix}sessions" (user_id, idle_expires_at) WHERE ended_at IS NULL;
DROP INDEX IF EXISTS "{prefix}sessions_user_ended";

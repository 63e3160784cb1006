-- An ended session stays until it is swept. This index keeps it out of the way of the
-- live ones.
CREATE INDEX IF NOT EXISTS "{prefix}sessions_user_ended" ON "{prefix}sessions" (user_id, ended_at);
DROP INDEX IF EXISTS "{prefix}sessions_user";

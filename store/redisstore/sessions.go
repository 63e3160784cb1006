package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

var _ oauth2pw.SessionStore = (*Sessions)(nil)

// Sessions is an oauth2pw.SessionStore. A Sessions is safe for concurrent use.
type Sessions struct{ conn }

// NewSessions returns a store over a client of Redis, Redis Cluster or Sentinel. NewSessions
// sends nothing. The error names the setting that is wrong.
func NewSessions(client redis.UniversalClient, c Config) (*Sessions, error) {
	s, err := newConn(client, c.Prefix)
	if err != nil {
		return nil, err
	}
	return &Sessions{s}, nil
}

// Check reports that a Sessions was not made by NewSessions; see oauth2pw.Checker.
func (s *Sessions) Check() error {
	if s.client == nil {
		return errors.New("redisstore: a zero Sessions: it is made by NewSessions")
	}
	return nil
}

// kept is the time for which a session stays after its end, for the reuse of its tokens.
const kept = 25 * time.Hour

// life returns the time until a key expires: at the end of a session whose next end is known.
func life(n *oauth2pw.Session, now time.Time) int64 {
	end := n.IdleExpiresAt
	if n.ExpiresAt.Before(end) {
		end = n.ExpiresAt
	}
	return max(end.Sub(now), 0).Milliseconds() + kept.Milliseconds()
}

var (
	// addToUser adds a session to the list of its user, which expires after its longest entry.
	addToUser = redis.NewScript(`
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`)

	// The client sends a script again whose answer is lost. A session with the same salt is that
	// of the first call.
	create = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then
	if redis.call('HMGET', KEYS[1], 'salt', 'generation')[1] == ARGV[2] then return 1 end
	return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1`)

	// get removes a field that no session has: a replica refuses the write, and so the read. A
	// master that refuses all writes because it cannot save (MISCONF) still reads.
	get = redis.NewScript(`
local r = redis.pcall('HDEL', KEYS[1], '')
if type(r) == 'table' and r.err and not string.find(r.err, 'MISCONF', 1, true) then return r end
return redis.call('HGETALL', KEYS[1])`)

	// Numbers up to 2^53 are exact in Lua. The generation is compared as text.
	advance = redis.NewScript(`
local s = redis.call('HMGET', KEYS[1], 'generation', 'ended_at', 'expires_at', 'idle_expires_at', 'user_id', 'created_at')
if not s[1] or s[1] ~= ARGV[1] or s[2] ~= '' then return {} end
local now = tonumber(ARGV[2])
if tonumber(s[3]) <= now or tonumber(s[4]) <= now then return {} end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {s[5], s[6], s[3]}`)

	// The call has a nonce: a call that is sent again finds its own end.
	end = redis.NewScript(`
local s = redis.call('HMGET', KEYS[1], 'user_id', 'ended_at', 'authenticated_at', 'ended_by')
if s[1] ~= ARGV[1] then return 0 end
if s[2] ~= '' then
	if s[4] == ARGV[6] then return 1 end
	return 0
end
if ARGV[2] ~= '' and tonumber(s[3]) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'ended_at', ARGV[3], 'end_reason', ARGV[4], 'ended_by', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)
)

func micro(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }

func fromMicro(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	return time.UnixMicro(n).UTC(), err
}

// Create implements oauth2pw.SessionStore. The error for an ID that is there already wraps
// oauth2pw.ErrExists.
func (s *Sessions) Create(ctx context.Context, n *oauth2pw.Session) error {
	if n.ID == "" || n.UserID == "" {
		return errors.New("redisstore: a session needs an ID and a UserID")
	}
	ended, address := "", ""
	if !n.EndedAt.IsZero() {
		ended = micro(n.EndedAt)
	}
	if n.Address.IsValid() {
		address = n.Address.String()
	}
	ttl := life(n, n.CreatedAt)
	if ended == "" {
		if err := s.add(ctx, n.UserID, n.ID, n.CreatedAt, n.ExpiresAt, n.CreatedAt); err != nil {
			return s.failed("creating a session", err)
		}
	}
	created, err := create.Run(ctx, s.client, []string{s.keys.session(n.ID)}, ttl, n.Salt[:],
		"id", n.ID, "user_id", n.UserID, "client_id", n.ClientID, "scopes", n.Scope, "salt", n.Salt[:], "key_id", n.KeyID,
		"generation", n.Generation, "forgiven", n.Forgiven, "created_at", micro(n.CreatedAt), "authenticated_at", micro(n.AuthenticatedAt),
		"advanced_at", micro(n.RefreshedAt), "idle_expires_at", micro(n.IdleExpiresAt), "expires_at", micro(n.ExpiresAt),
		"ended_at", ended, "end_reason", n.EndReason, "address", address, "user_agent", n.UserAgent, "idle", n.Idle.Microseconds(), "label", n.Label).Int()
	if err != nil {
		return s.failed("creating a session", err)
	}
	if created == 0 {
		return fmt.Errorf("redisstore: the session %w", oauth2pw.ErrExists)
	}
	return nil
}

// add writes a session into the set of its user. A refresh moves the idle expiry, and never the
// absolute one.
func (s *Sessions) add(ctx context.Context, userID, id string, createdAt, expiresAt, now time.Time) error {
	ttl := max(expiresAt.Sub(now), 0).Milliseconds() + kept.Milliseconds()
	return addToUser.Run(ctx, s.client, []string{s.keys.user(userID)}, createdAt.UnixMicro(), id, ttl).Err()
}

var errNoSession = fmt.Errorf("redisstore: session: %w", oauth2pw.ErrNotFound)

// Get implements oauth2pw.SessionStore.
func (s *Sessions) Get(ctx context.Context, id string) (*oauth2pw.Session, error) {
	fields, err := get.Run(ctx, s.client, []string{s.keys.session(id)}).StringSlice()
	if err != nil {
		return nil, s.failed("reading a session", err)
	}
	return read(id, fields)
}

// read converts the names and values of a hash. None are a miss.
func read(id string, list []string) (*oauth2pw.Session, error) {
	fields := make(map[string]string, len(list)/2)
	for pair := range slices.Chunk(list, 2) {
		if len(pair) == 2 {
			fields[pair[0]] = pair[1]
		}
	}
	if len(fields) == 0 || fields["id"] != id {
		return nil, errNoSession
	}
	n := &oauth2pw.Session{
		ID: fields["id"], UserID: fields["user_id"], ClientID: fields["client_id"], Scope: fields["scopes"], KeyID: fields["key_id"],
		EndReason: fields["end_reason"], UserAgent: fields["user_agent"], Label: fields["label"],
	}
	var failed error
	number := func(name string) int64 {
		v, err := strconv.ParseInt(fields[name], 10, 64)
		failed = errors.Join(failed, err)
		return v
	}
	n.Generation, n.Forgiven, n.Idle = uint64(number("generation")), uint64(number("forgiven")), time.Duration(number("idle"))*time.Microsecond
	for name, t := range map[string]*time.Time{
		"created_at": &n.CreatedAt, "authenticated_at": &n.AuthenticatedAt, "advanced_at": &n.RefreshedAt,
		"idle_expires_at": &n.IdleExpiresAt, "expires_at": &n.ExpiresAt, "ended_at": &n.EndedAt,
	} {
		if name == "ended_at" && fields[name] == "" {
			continue
		}
		var err error
		*t, err = fromMicro(fields[name])
		failed = errors.Join(failed, err)
	}
	if address := fields["address"]; address != "" {
		var err error
		n.Address, err = netip.ParseAddr(address)
		failed = errors.Join(failed, err)
	}
	if _, has := fields["ended_at"]; !has {
		failed = errors.Join(failed, errors.New("no ended_at"))
	}
	if copy(n.Salt[:], fields["salt"]) != len(n.Salt) || len(fields["salt"]) != len(n.Salt) || n.UserID == "" || failed != nil {
		return nil, errors.New("redisstore: a session has a field that is missing or damaged")
	}
	return n, nil
}

// Advance implements oauth2pw.SessionStore.
func (s *Sessions) Advance(ctx context.Context, from uint64, n *oauth2pw.Session, now time.Time) (bool, error) {
	stored, err := advance.Run(ctx, s.client, []string{s.keys.session(n.ID)}, from, now.UnixMicro(), life(n, now),
		"generation", n.Generation, "forgiven", n.Forgiven, "authenticated_at", micro(n.AuthenticatedAt),
		"advanced_at", micro(n.RefreshedAt), "idle_expires_at", micro(n.IdleExpiresAt)).StringSlice()
	if err != nil {
		return false, s.failed("advancing a session", err)
	}
	if len(stored) != 3 {
		return false, nil
	}
	// A fail-over may have lost the entry. The refresh has happened already.
	createdAt, err1 := fromMicro(stored[1])
	expiresAt, err2 := fromMicro(stored[2])
	if err1 == nil && err2 == nil {
		_ = s.add(ctx, stored[0], n.ID, createdAt, expiresAt, now)
	}
	return true, nil
}

// ofUser returns the ids in the list of a user, the newest first.
func (s *Sessions) ofUser(ctx context.Context, userID string) ([]string, error) {
	return s.client.ZRangeArgs(ctx, redis.ZRangeArgs{Key: s.keys.user(userID), Start: 0, Stop: -1, Rev: true}).Result()
}

// List implements oauth2pw.SessionStore.
func (s *Sessions) List(ctx context.Context, userID string, now time.Time) ([]*oauth2pw.Session, error) {
	ids, err := s.ofUser(ctx, userID)
	if err != nil {
		return nil, s.failed("listing sessions", err)
	}
	var list []*oauth2pw.Session
	var lost []any
	hashes := make([]*redis.Cmd, len(ids))
	if len(ids) > 0 {
		if _, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, id := range ids {
				hashes[i] = get.Eval(ctx, p, []string{s.keys.session(id)})
			}
			return nil
		}); err != nil {
			return nil, s.failed("listing sessions", err)
		}
	}
	for i, id := range ids {
		fields, err := hashes[i].StringSlice()
		if err != nil {
			return nil, s.failed("listing sessions", err)
		}
		n, err := read(id, fields)
		switch {
		case errors.Is(err, oauth2pw.ErrNotFound):
			lost = append(lost, id)
		case err != nil:
			return nil, err
		case n.UserID == userID && n.EndedAt.IsZero() && now.Before(n.ExpiresAt) && now.Before(n.IdleExpiresAt):
			list = append(list, n)
		}
	}
	// An entry without a session is that of an expired session, or of a login that has not
	// written its session yet: only an old entry is removed.
	if len(lost) > len(list)+100 {
		if err := s.client.ZRem(ctx, s.keys.user(userID), lost[100:]...).Err(); err != nil {
			return nil, s.failed("listing sessions", err)
		}
	}
	slices.SortStableFunc(list, func(a, b *oauth2pw.Session) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// End implements oauth2pw.SessionStore.
func (s *Sessions) End(ctx context.Context, f oauth2pw.SessionFilter, reason string, now time.Time) ([]string, error) {
	ids, err := []string{f.ID}, error(nil)
	if f.ID == "" {
		ids, err = s.ofUser(ctx, f.UserID)
	}
	before := ""
	if !f.AuthenticatedBefore.IsZero() {
		before = micro(f.AuthenticatedBefore)
	}
	var ended []string
	nonce := rand.Text()
	for _, id := range ids {
		if err != nil {
			break
		}
		if f.Except != "" && id == f.Except {
			continue
		}
		var n int
		n, err = end.Run(ctx, s.client, []string{s.keys.session(id)}, f.UserID, before, micro(now), reason, kept.Milliseconds(), nonce).Int()
		if n == 1 {
			ended = append(ended, id)
		}
	}
	if err == nil && len(ended) > 0 {
		members := make([]any, len(ended))
		for i, id := range ended {
			members[i] = id
		}
		_ = s.client.ZRem(ctx, s.keys.user(f.UserID), members...).Err() // List ignores the entries
	}
	if err != nil {
		return nil, s.failed("ending sessions", err)
	}
	return ended, nil
}

// Sweep implements oauth2pw.SessionStore. Sessions expire by themselves a day after their end:
// Sweep finds only those of the last day, and reads all keys for it.
func (s *Sessions) Sweep(ctx context.Context, before time.Time, limit int) (int, error) {
	var mu sync.Mutex
	swept := 0
	err := eachMaster(ctx, s.client, func(ctx context.Context, client *redis.Client) error {
		scan := client.Scan(ctx, 0, escape(s.keys.prefix)+"s:{*", 1000).Iterator()
		for scan.Next(ctx) {
			mu.Lock()
			if swept >= limit {
				mu.Unlock()
				return nil
			}
			n, err := s.sweepKey(ctx, client, scan.Val(), before)
			swept += n
			mu.Unlock()
			if err != nil {
				return err
			}
		}
		return scan.Err()
	})
	if err != nil {
		return swept, s.failed("sweeping sessions", err)
	}
	return swept, nil
}

// sweepKey deletes a session that ended or expired before a time. Such a session never becomes
// live again, so that the read and the delete need no script.
func (s *Sessions) sweepKey(ctx context.Context, client *redis.Client, key string, before time.Time) (int, error) {
	fields, err := client.HMGet(ctx, key, "ended_at", "idle_expires_at", "expires_at").Result()
	if err != nil {
		return 0, err
	}
	for _, f := range fields {
		text, _ := f.(string)
		if text == "" {
			continue
		}
		t, err := fromMicro(text)
		if err != nil {
			return 0, errors.New("a session has a field that is damaged")
		}
		if t.Before(before) {
			n, err := client.Del(ctx, key).Result()
			return int(n), err
		}
	}
	return 0, nil
}

// escape quotes the characters of a pattern.
func escape(s string) string {
	var b []byte
	for i := range len(s) {
		if slices.Contains([]byte(`*?[]\^-`), s[i]) {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(b)
}

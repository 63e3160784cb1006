package sqlstore

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// TimeFormat is the format of the times in a column.
type TimeFormat int

const (
	UnixMicro   TimeFormat = iota // an integer: microseconds since 1970
	UnixSeconds                   // an integer: seconds since 1970
	// Timestamp is the type of the database for times: TIMESTAMPTZ in PostgreSQL, DATETIME in
	// MySQL (with parseTime=true), TEXT or DATETIME in SQLite. A time is written in whole seconds,
	// rounded up, because a column may have no fractions.
	Timestamp
)

func (f TimeFormat) valid() bool { return UnixMicro <= f && f <= Timestamp }

// read converts the value of a column; nil is the zero time. A number of another unit is an
// error, because it would be a time near 1970, or far in the future. textTimes is the error of a
// time in a text; nil: a text is converted.
func (f TimeFormat) read(value any, textTimes error) (time.Time, error) {
	const wrong = "set UserTable.SessionsValidFromFormat"
	switch v := value.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		if f != Timestamp {
			return time.Time{}, errors.New("it has times of the database: " + wrong)
		}
		return v.UTC(), nil
	case []byte:
		return f.read(string(v), textTimes)
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return f.read(n, textTimes)
		}
		if f != Timestamp {
			return time.Time{}, errors.New("it has texts, and no numbers: " + wrong)
		}
		if textTimes != nil {
			return time.Time{}, textTimes
		}
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999 -0700 MST"} {
			if t, err := time.Parse(layout, strings.TrimSpace(v)); err == nil {
				return t.UTC(), nil
			}
		}
		return time.Time{}, errors.New("it has a text that is no time")
	case uint64:
		return f.read(strconv.FormatUint(v, 10), textTimes)
	case int64:
		const year1973, year5000 = 100_000_000, 95_617_584_000 // in seconds
		switch {
		case f == Timestamp:
			return time.Time{}, errors.New("it has numbers, and no times of the database: " + wrong)
		case f == UnixSeconds && (v < 0 || v > year5000), f == UnixMicro && v != 0 && (v < year1973*1_000_000 || v/1_000_000 > year5000):
			return time.Time{}, fmt.Errorf("the number %d is no time in this unit: %s", v, wrong)
		case f == UnixSeconds:
			return time.Unix(v, 0).UTC(), nil
		default:
			return time.UnixMicro(v).UTC(), nil
		}
	default:
		return time.Time{}, fmt.Errorf("it has a %T, which is no time", value)
	}
}

// write rounds up to the unit: a login of the same unit, but before, must not survive. The zero
// time is NULL. The result is comparable.
func (f TimeFormat) write(t time.Time) any {
	up := func(unit time.Duration) time.Time { return t.Add(unit - 1).Truncate(unit).UTC() }
	switch {
	case t.IsZero():
		return nil
	case f == UnixSeconds:
		return up(time.Second).Unix()
	case f == Timestamp:
		return up(time.Second)
	default:
		return up(time.Microsecond).UnixMicro()
	}
}

// IDFormat is the format of the ids in a column.
type IDFormat int

const (
	PlainID   IDFormat = iota // a text, an integer or a UUID, as the database writes it
	UUIDBytes                 // 16 bytes; User.ID is the UUID, in lower case: 0190b0a0-0000-7000-8000-000000000001
	HexBytes                  // bytes; User.ID is in hexadecimal, in lower case
)

func (f IDFormat) valid() bool { return PlainID <= f && f <= HexBytes }

// read returns the User.ID of a value.
func (f IDFormat) read(value string) (string, error) {
	switch {
	case f == HexBytes:
		return hex.EncodeToString([]byte(value)), nil
	case f == UUIDBytes && len(value) == 16:
		x := hex.EncodeToString([]byte(value))
		return strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-"), nil
	case f == UUIDBytes:
		return "", fmt.Errorf("an id has %d bytes, and not 16: set UserTable.IDFormat", len(value))
	case !utf8.ValidString(value):
		return "", errors.New("an id is no text: set UserTable.IDFormat")
	default:
		return value, nil
	}
}

// write returns the value of a User.ID, or reports that no row can have it.
func (f IDFormat) write(id string) (value any, possible bool) {
	if f == PlainID {
		return id, utf8.ValidString(id)
	}
	digits := id
	if f == UUIDBytes {
		digits = strings.ReplaceAll(id, "-", "")
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, false
	}
	same, err := f.read(string(b)) // in lower case, and with the hyphens in their places
	return b, err == nil && same == id
}

// ListFormat is the format of the scopes in a column.
type ListFormat int

const (
	SpacesBetween ListFormat = iota // me items
	CommasBetween                   // me,items; with spaces after the commas, too
	JSONArray                       // ["me","items"], in a text, JSON or JSONB
)

func (f ListFormat) valid() bool { return SpacesBetween <= f && f <= JSONArray }

// read converts a column; NULL is nil, and an empty text is an empty slice. A text in another
// format is an error, as far as it is no list of scopes (RFC 6749, section 3.3).
func (f ListFormat) read(s sql.NullString) ([]string, error) {
	if !s.Valid {
		return nil, nil
	}
	list := []string{}
	switch text := strings.TrimSpace(s.String); {
	case text == "":
	case f == JSONArray:
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, errors.New("it has a text that is no JSON array of strings: set UserTable.ScopesFormat")
		}
	case f == CommasBetween:
		for member := range strings.SplitSeq(text, ",") {
			if member = strings.TrimSpace(member); member != "" {
				list = append(list, member)
			}
		}
	default:
		list = append(list, strings.Fields(text)...)
	}
	if f.check(list) != nil {
		return nil, errors.New("it has a text that is no list of scopes in this format: set UserTable.ScopesFormat")
	}
	return list, nil
}

// check returns an error for a scope that would be read as another one, or as two.
func (f ListFormat) check(list []string) error {
	for _, scope := range list {
		if scope == "" || scope == "[]" || strings.ContainsFunc(scope, notInScope) || f == CommasBetween && strings.Contains(scope, ",") {
			return fmt.Errorf("%.50q is no scope", scope)
		}
	}
	return nil
}

func notInScope(r rune) bool { return r <= ' ' || r == '"' || r == '\\' || r > '~' }

// write converts a slice; nil is NULL.
func (f ListFormat) write(list []string) sql.NullString {
	if list == nil {
		return sql.NullString{}
	}
	text := strings.Join(list, " ")
	switch f {
	case CommasBetween:
		text = strings.Join(list, ",")
	case JSONArray:
		b, _ := json.Marshal(list) // texts have no error
		text = string(b)
	}
	return sql.NullString{String: text, Valid: true}
}

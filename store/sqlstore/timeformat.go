package sqlstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
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

package sqlstore

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestFlag: a value that is neither yes nor no is an error, and an empty one is like NULL.
func TestFlag(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{nil, "null"}, {"", "null"}, {"  ", "null"},
		{true, "yes"}, {int64(2), "yes"}, {int64(-1), "yes"}, {uint64(1), "yes"}, {float32(1), "yes"}, {0.5, "yes"}, {time.Unix(1, 0), "yes"},
		{"t", "yes"}, {"Y", "yes"}, {" TRUE ", "yes"}, {[]byte("on"), "yes"}, {[]byte("1"), "yes"}, {"2.0", "yes"},
		{false, "no"}, {int64(0), "no"}, {uint64(0), "no"}, {float32(0), "no"}, {0.0, "no"}, {"f", "no"}, {[]byte("N"), "no"}, {"off", "no"}, {"0", "no"}, {[]byte("0"), "no"},
		{[]byte{0}, "no"}, {[]byte{0, 0}, "no"}, // BIT(n)
		{[]byte{1}, "yes"}, {[]byte{9}, "yes"}, {[]byte{0, 32}, "yes"}, {[]byte(" "), "yes"},
		{"perhaps", "error"}, {[]byte("é"), "error"}, {math.NaN(), "error"}, {"nan", "error"}, {"inf", "error"}, {struct{}{}, "error"},
	} {
		var f flag
		err := f.Scan(test.value)
		got := map[bool]string{true: "yes", false: "no"}[f.set]
		if f.null {
			got = "null"
		}
		if err != nil {
			got = "error"
			require.NotContains(t, err.Error(), "perhaps")
		}
		require.Equal(t, test.want, got, "%T %v", test.value, test.value)
	}
}

// TestTimeFormat: a time of another unit is an error, and a written time is never earlier.
func TestTimeFormat(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, test := range []struct {
		format TimeFormat
		value  any
		good   bool
	}{
		{UnixMicro, at.UnixMicro(), true}, {UnixMicro, uint64(at.UnixMicro()), true}, {UnixMicro, []byte(fmt.Sprint(at.UnixMicro())), true},
		{UnixMicro, at.Unix(), false}, {UnixMicro, at.UnixMilli(), false}, {UnixMicro, at.UnixNano(), false}, {UnixMicro, int64(-5), false}, {UnixMicro, at, false}, {UnixMicro, "2026-05-06 07:08:09", false},
		{UnixSeconds, at.Unix(), true}, {UnixSeconds, at.UnixMicro(), false}, {UnixSeconds, at.UnixMilli(), false}, {UnixSeconds, int64(-1), false}, {UnixSeconds, at, false},
		{Timestamp, at, true}, {Timestamp, at.In(time.FixedZone("", 3600)), true}, {Timestamp, "2026-05-06 07:08:09", true}, {Timestamp, "2026-05-06T09:08:09+02:00", true},
		{Timestamp, at.Unix(), false}, {Timestamp, "yesterday", false}, {Timestamp, 1.5, false},
	} {
		got, err := test.format.read(test.value, nil)
		if !test.good {
			require.Error(t, err, "%d %v", test.format, test.value)
			continue
		}
		require.NoError(t, err, "%d %v", test.format, test.value)
		require.Equal(t, at, got, "%d %v", test.format, test.value)
	}
	for _, f := range []TimeFormat{UnixMicro, UnixSeconds, Timestamp} {
		require.Nil(t, f.write(time.Time{}))
		for _, d := range []time.Duration{0, 1, 999, time.Microsecond, time.Second - 1} {
			back, err := f.read(f.write(at.Add(d)), nil)
			require.NoError(t, err)
			require.False(t, back.Before(at.Add(d)), "%d %s", f, d)
			require.Less(t, back.Sub(at.Add(d)), time.Second)
		}
	}
	require.False(t, TimeFormat(3).valid())
	_, err := Timestamp.read([]byte("2026-05-06 07:08:09"), mySQL.textTimes)
	require.ErrorContains(t, err, "parseTime=true")
}

package sqlstore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// flag is a yes or no of a table that another program has made.
type flag struct{ null, set bool }

// Scan implements sql.Scanner.
func (f *flag) Scan(value any) error {
	*f = flag{}
	switch v := value.(type) {
	case nil:
		f.null = true
	case bool:
		f.set = v
	case int64:
		f.set = v != 0
	case uint64:
		f.set = v != 0
	case float64:
		return f.number(v)
	case float32:
		return f.number(float64(v))
	case time.Time:
		f.set = true
	case []byte:
		if len(v) > 0 && (v[0] < ' ' || len(v) == 1 && v[0] == ' ') { // BIT(n): a number in bytes
			f.set = len(bytes.Trim(v, "\x00")) > 0
			return nil
		}
		return f.parse(string(v))
	case string:
		return f.parse(v)
	default:
		return fmt.Errorf("a value of the type %T is neither yes nor no", value)
	}
	return nil
}

func (f *flag) parse(text string) error {
	switch text = strings.ToLower(strings.TrimSpace(text)); text {
	case "t", "true", "y", "yes", "on":
		f.set = true
	case "f", "false", "n", "no", "off":
	case "":
		f.null = true
	default:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errNoFlag
		}
		return f.number(n)
	}
	return nil
}

func (f *flag) number(n float64) error {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return errNoFlag
	}
	f.set = n != 0
	return nil
}

var errNoFlag = errors.New("a value is neither yes nor no") // without the value, which may be anything

// flagLike returns the value of a flag in the manner of the stored one. A typed database has its
// own text for each type, and converts it; another one converts a number where the column has
// texts.
func flagLike(stored string, set, typed bool) any {
	if stored != "" && stored[0] < ' ' || !typed && (stored == "0" || stored == "1") { // BIT(n), or a number
		if set {
			return 1
		}
		return 0
	}
	for _, words := range [...][2]string{{"0", "1"}, {"f", "t"}, {"false", "true"}, {"n", "y"}, {"no", "yes"}, {"off", "on"}} {
		i := 0
		if set {
			i = 1
		}
		for _, style := range []func(string) string{strings.ToLower, strings.ToUpper, title} {
			if stored == style(words[0]) || stored == style(words[1]) {
				return style(words[i])
			}
		}
	}
	return set
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

package sqlstore

import (
	"fmt"
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
	case float64:
		f.set = v != 0
	case time.Time:
		f.set = true
	case []byte:
		if len(v) == 1 && v[0] <= 1 { // BIT(1)
			f.set = v[0] == 1
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
	case "f", "false", "n", "no", "off", "":
	default:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("a text is neither yes nor no") // without the text, which may be anything
		}
		f.set = n != 0
	}
	return nil
}

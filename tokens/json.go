package tokens

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This scanner reads the claims of a token at every request. The scanner refuses everything
// that encoding/json refuses, and also duplicate names. A string without escapes takes no
// allocation. FuzzJSON compares the scanner with encoding/json.

const (
	maxMembers = 256 // members of an object
	maxDepth   = 32  // levels of objects and arrays inside of this object
)

var (
	errJSON      = errors.New("no JSON object")
	errDuplicate = errors.New("a duplicate member")
	errTooMany   = errors.New("too many members")
	errTooDeep   = errors.New("nested too deeply")
)

// eachMember calls f for each member of the JSON object in text, with the decoded name and the
// text of the value. The value is well-formed; f may ignore the value. Duplicate names,
// another value than an object, and trailing data are errors.
func eachMember(text string, f func(name, value string) error) error {
	if !utf8.ValidString(text) {
		return errJSON
	}
	i := skipSpace(text, 0)
	if i == len(text) || text[i] != '{' {
		return errJSON
	}
	i = skipSpace(text, i+1)
	var buffer [32]string
	seen := buffer[:0]
	for more := i == len(text) || text[i] != '}'; more; {
		name, value, end, err := nextMember(text, i)
		if err != nil {
			return err
		}
		if slices.Contains(seen, name) {
			return errDuplicate
		}
		if len(seen) == maxMembers {
			return errTooMany
		}
		seen = append(seen, name)
		if err := f(name, value); err != nil {
			return err
		}
		i = skipSpace(text, end)
		if more = i < len(text) && text[i] == ','; more {
			i = skipSpace(text, i+1)
		}
	}
	if i == len(text) || text[i] != '}' || skipSpace(text, i+1) != len(text) {
		return errJSON
	}
	return nil
}

// nextMember reads the member at i, and returns the end of the member.
func nextMember(text string, i int) (name, value string, end int, err error) {
	if end, err = skipString(text, i); err != nil {
		return "", "", 0, err
	}
	if name, err = jsonString(text[i:end]); err != nil {
		return "", "", 0, err
	}
	if i = skipSpace(text, end); i == len(text) || text[i] != ':' {
		return "", "", 0, errJSON
	}
	i = skipSpace(text, i+1)
	if end, err = skipValue(text, i, maxDepth); err != nil {
		return "", "", 0, err
	}
	return name, text[i:end], end, nil
}

func skipSpace(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the value at i.
func skipValue(text string, i, depth int) (int, error) {
	if i == len(text) {
		return 0, errJSON
	}
	switch c := text[i]; {
	case c == '"':
		return skipString(text, i)
	case c == '{' || c == '[':
		return skipNested(text, i, depth)
	case c == '-' || '0' <= c && c <= '9':
		return skipNumber(text, i)
	}
	for _, literal := range []string{"true", "false", "null"} {
		if strings.HasPrefix(text[i:], literal) {
			return i + len(literal), nil
		}
	}
	return 0, errJSON
}

// skipNested returns the end of the object or array at i.
func skipNested(text string, i, depth int) (end int, err error) {
	if depth == 0 {
		return 0, errTooDeep
	}
	object := text[i] == '{'
	closing := byte(']')
	if object {
		closing = '}'
	}
	if i = skipSpace(text, i+1); i < len(text) && text[i] == closing {
		return i + 1, nil
	}
	for {
		if object {
			if i, err = skipString(text, i); err != nil {
				return 0, err
			}
			if i = skipSpace(text, i); i == len(text) || text[i] != ':' {
				return 0, errJSON
			}
			i = skipSpace(text, i+1)
		}
		if i, err = skipValue(text, i, depth-1); err != nil {
			return 0, err
		}
		i = skipSpace(text, i)
		switch {
		case i == len(text):
			return 0, errJSON
		case text[i] == closing:
			return i + 1, nil
		case text[i] != ',':
			return 0, errJSON
		}
		i = skipSpace(text, i+1)
	}
}

// skipString returns the end of the string at i, and checks the escapes.
func skipString(text string, i int) (int, error) {
	if i == len(text) || text[i] != '"' {
		return 0, errJSON
	}
	for i++; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return i + 1, nil
		case c < 0x20:
			return 0, errJSON
		case c == '\\':
			if i++; i == len(text) {
				return 0, errJSON
			}
			if text[i] == 'u' {
				for range 4 {
					if i++; i == len(text) || !isHex(text[i]) {
						return 0, errJSON
					}
				}
			} else if !strings.ContainsRune(`"\/bfnrt`, rune(text[i])) {
				return 0, errJSON
			}
		}
	}
	return 0, errJSON
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// skipNumber returns the end of the number at i (RFC 8259, section 6).
func skipNumber(text string, i int) (int, error) {
	digits := func() bool {
		start := i
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		return i > start
	}
	if text[i] == '-' {
		i++
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else if !digits() {
		return 0, errJSON
	}
	if i < len(text) && text[i] == '.' {
		if i++; !digits() {
			return 0, errJSON
		}
	}
	if i < len(text) && (text[i] == 'e' || text[i] == 'E') {
		if i++; i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		if !digits() {
			return 0, errJSON
		}
	}
	return i, nil
}

var errType = errors.New("a value of the wrong type")

// jsonString decodes a string.
func jsonString(value string) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errType
	}
	if strings.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	if err := json.Unmarshal([]byte(value), &s); err != nil {
		return "", errJSON
	}
	return s, nil
}

// jsonInt decodes an integer.
func jsonInt(value string) (int64, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, errType
	}
	return n, nil
}

// maxTime is the end of the year 9999.
const maxTime = 253402300799

// jsonTime decodes a NumericDate (RFC 7519, section 2) and cuts it to seconds.
func jsonTime(value string) (int64, error) {
	if value == "" || value[0] == '"' {
		return 0, errType
	}
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(f) {
		return 0, errType
	}
	if f < 0 || f > maxTime {
		return 0, errTime
	}
	return int64(f), nil
}

// jsonStrings decodes a string or an array of strings.
func jsonStrings(value string) ([]string, error) {
	if strings.HasPrefix(value, `"`) {
		s, err := jsonString(value)
		return []string{s}, err
	}
	var list []*string
	if !strings.HasPrefix(value, "[") || json.Unmarshal([]byte(value), &list) != nil {
		return nil, errType
	}
	all := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return nil, errType
		}
		all[i] = *s
	}
	return all, nil
}

package oauth2pw

import (
	"fmt"
	"io"
)

// Secret is a string that never prints: under fmt, log/slog, encoding/json and
// encoding/xml it is "[redacted]". Convert it to string where its value is
// needed. A database/sql row scans into it as into a string.
type Secret string

const redacted = "[redacted]"

// Format prints "[redacted]" for every verb.
func (Secret) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

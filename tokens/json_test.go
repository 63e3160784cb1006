package tokens

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"unicode/utf8"
)

// FuzzJSON: what the scanner accepts, encoding/json accepts and reads the same;
// what encoding/json refuses, it refuses.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` {"a" : 1 , "b":[{},[],"x",null,true,false,-0.5e+3]} `, `{"a":"\u0061\ud83d\ude00\n"}`, `{"a":1,"\u0061":2}`, `{"a":1,}`, `{,}`, `{"a"}`,
		`{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":1e}`, `{"a":nul}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", `{"a":1}x`, `[]`, ``, `{"a":[1,]}`, `{"a":{"b":1,}}`, `{"a":tru}`, `{"a":"`, `{"a":"\`, `{"a":[`, `{"exp":1e3}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		values := make(map[string]string)
		err := eachMember(text, func(name, value string) error {
			values[name] = value
			return nil
		})
		var oracle map[string]json.RawMessage
		oracleErr := json.Unmarshal([]byte(text), &oracle)
		if err != nil {
			if oracleErr == nil && errors.Is(err, errJSON) && utf8.ValidString(text) && oracle != nil {
				t.Fatalf("%q is refused, and is good", text)
			}
			return
		}
		if oracleErr != nil {
			t.Fatalf("%q is accepted: %v", text, oracleErr)
		}
		if len(oracle) != len(values) {
			t.Fatalf("%q: %d members, not %d", text, len(values), len(oracle))
		}
		for name, raw := range oracle {
			value, ok := values[name]
			if !ok || value != string(raw) {
				t.Fatalf("%q: %q is %q, not %q", text, name, value, raw)
			}
			var s string
			if got, err := jsonString(value); value[0] == '"' && (json.Unmarshal(raw, &s) != nil || err != nil || got != s) {
				t.Fatalf("%q: %q, not %q (%v)", value, got, s, err)
			}
			var n int64
			if got, err := jsonInt(value); err == nil && (json.Unmarshal(raw, &n) != nil || got != n) {
				t.Fatalf("%q: %d, not %d", value, got, n)
			}
			if list, err := jsonStrings(value); err == nil && value[0] == '[' {
				var want []string
				if json.Unmarshal(raw, &want) != nil || !slices.Equal(list, want) {
					t.Fatalf("%q: %q, not %q", value, list, want)
				}
			}
			if got, err := jsonTime(value); err == nil && (got < 0 || got > maxTime) {
				t.Fatalf("%q: %d", value, got)
			}
		}
	})
}

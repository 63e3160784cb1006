package oauth2pw

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxBody   = 64 << 10
	maxParams = 256
)

// oauthParams are the parameters that must not be repeated in a form (RFC 6749, section
// 3.2) and must not be in the URL (section 2.3.1).
var oauthParams = []string{
	"grant_type", "username", "password", "scope", "client_id", "client_secret",
	"refresh_token", "token", "token_type_hint",
}

// form is a decoded application/x-www-form-urlencoded body. A form has secrets: it must not
// be printed, and must not be in an exported field.
type form []param

type param struct{ name, value string }

// get returns the value of a parameter, or "" if the parameter is absent, empty or
// repeated. (RFC 6749, section 3.2: a parameter without a value is treated as omitted.)
func (f form) get(name string) string {
	value, seen := "", false
	for _, p := range f {
		if p.name == name {
			if seen {
				return ""
			}
			value, seen = p.value, true
		}
	}
	return value
}

// without returns the parameters with other names.
func (f form) without(name string) form {
	return slices.DeleteFunc(slices.Clone(f), func(p param) bool { return p.name == name })
}

// readForm reads and checks the form of a token, revocation or introspection request. lax
// accepts multipart/form-data too.
func readForm(r *http.Request, lax bool) (form, error) {
	if encoded := r.Header["Content-Encoding"]; len(encoded) > 0 && !(len(encoded) == 1 && equalFold(encoded[0], "identity")) {
		return nil, badRequest("A Content-Encoding is not supported.")
	}
	types := r.Header["Content-Type"]
	isForm := len(types) == 1 && isMediaType(types[0], "application/x-www-form-urlencoded")
	isMultipart := lax && len(types) == 1 && isMediaType(types[0], "multipart/form-data")
	switch {
	case isForm, isMultipart:
	case lax:
		return nil, badRequest("The Content-Type must be application/x-www-form-urlencoded or multipart/form-data.")
	default:
		return nil, badRequest("The Content-Type must be application/x-www-form-urlencoded.")
	}
	if queryNamesOAuthParam(r.URL.RawQuery) {
		return nil, badRequest("OAuth parameters belong in the body, never in the URL.")
	}
	f, err := bodyParams(r, isMultipart)
	if err != nil {
		return nil, err
	}
	for i, p := range f {
		if !utf8.ValidString(p.name) || !utf8.ValidString(p.value) {
			return nil, badRequest("The form is not valid UTF-8.")
		}
		if slices.Contains(oauthParams, p.name) &&
			slices.ContainsFunc(f[:i], func(q param) bool { return q.name == p.name }) {
			return nil, badRequest("The parameter " + p.name + " is repeated.")
		}
	}
	return f, nil
}

func isMediaType(contentType, want string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	return equalFold(strings.Trim(mediaType, " \t"), want)
}

// queryNamesOAuthParam looks only at names, and takes ";" for a separator too, because a
// server on the way might read the parameter as a password.
func queryNamesOAuthParam(query string) bool {
	if query == "" {
		return false
	}
	for pair := range strings.FieldsFuncSeq(query, func(c rune) bool { return c == '&' || c == ';' }) {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if slices.Contains(oauthParams, name) {
			return true
		}
	}
	return false
}

var (
	errTooLarge      = &Error{Code: "invalid_request", Description: "The body is larger than 64 KiB.", Status: http.StatusRequestEntityTooLarge}
	errTooManyParams = badRequest("The form has too many parameters.")
)

// bodyParams returns the parameters of the body, or the result of an earlier ParseForm.
func bodyParams(r *http.Request, isMultipart bool) (form, error) {
	if r.ContentLength > maxBody {
		return nil, errTooLarge
	}
	if r.PostForm != nil && (!isMultipart || r.MultipartForm != nil) {
		return parsedParams(r, isMultipart)
	}
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if tooLarge := (*http.MaxBytesError)(nil); len(body) > maxBody || errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, badRequest("The body could not be read.").because("", ReasonUnreadableBody, err)
	}
	if isMultipart {
		return multipartParams(r.Header.Get("Content-Type"), body)
	}
	return parseParams(string(body))
}

var errMultipart = badRequest("The multipart body is malformed, or holds a file.")

// multipartParams decodes multipart/form-data (RFC 7578), in which every part is a
// parameter.
func multipartParams(contentType string, body []byte) (form, error) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" || !bytes.Contains(body, []byte("--"+params["boundary"]+"--")) {
		return nil, errMultipart // multipart.Reader accepts a body without its end
	}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	f := make(form, 0, 8)
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err != nil || len(part.Header["Content-Disposition"]) != 1 || part.FormName() == "" || part.FileName() != "" || part.Header.Get("Content-Transfer-Encoding") != "" {
			return nil, errMultipart
		}
		if len(f) == maxParams {
			return nil, errTooManyParams
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, errMultipart
		}
		f = append(f, param{part.FormName(), string(value)})
	}
}

// parseParams decodes a body. Unlike url.ParseQuery, parseParams fails at the first
// malformed escape, and ";" is an ordinary character.
func parseParams(body string) (form, error) {
	f := make(form, 0, 8)
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		if len(f) == maxParams {
			return nil, errTooManyParams
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, badRequest("The form has a malformed percent-encoding.")
		}
		f = append(f, param{name, value})
	}
	return f, nil
}

// parsedParams returns the result of an earlier ParseForm. ParseForm drops malformed parts,
// and its error is lost; but then the parameters do not fit the length of the body.
func parsedParams(r *http.Request, isMultipart bool) (form, error) {
	if isMultipart && len(r.MultipartForm.File) > 0 {
		return nil, errMultipart
	}
	f, size := make(form, 0, 8), 0
	for name, vs := range r.PostForm {
		for _, v := range vs {
			if size += len(name) + len(v); size > maxBody {
				return nil, errTooLarge
			}
			if len(f) == maxParams {
				return nil, errTooManyParams
			}
			f = append(f, param{name, v})
		}
	}
	if !isMultipart && r.ContentLength >= 0 && !f.makesUp(r.ContentLength) {
		return nil, badRequest("The form is malformed.")
	}
	return f, nil
}

// makesUp reports whether the parameters can be a whole body of this length. A character
// has one byte, or three bytes if an encoder escapes it.
func (f form) makesUp(length int64) bool {
	least, most := int64(max(len(f)-1, 0)), int64(max(len(f)-1, 0)) // "&"
	for _, p := range f {
		if p.value != "" {
			least++
		}
		most++ // "="
		for _, s := range [...]string{p.name, p.value} {
			for i := range len(s) {
				least++
				most++
				if c := lower(s[i]); (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
					most += 2
				}
			}
		}
	}
	return least <= length && length <= most
}

// PasswordRequestForm is a request of the password grant (RFC 6749, section 4.3.2), like
// FastAPI's OAuth2PasswordRequestForm.
type PasswordRequestForm struct {
	GrantType    string // "password", or "" if the client omitted it
	Username     string
	Password     Secret   // exactly as sent
	Scopes       []string // in the order of the request, without duplicates
	ClientID     string   // only from the body, not from an Authorization header
	ClientSecret Secret   // only from the body
}

// ParsePasswordRequestForm reads the form of a token request, for an app with its own token
// endpoint; [Auth.TokenHandler] is a complete token endpoint. The grant_type may be
// omitted, as in FastAPI.
//
// The request must be a POST of application/x-www-form-urlencoded or multipart/form-data,
// with at most 64 KiB and 256 parameters of UTF-8. ParsePasswordRequestForm refuses an
// OAuth parameter that is repeated or in the URL (RFC 6749, section 3.2), a missing
// username or password, and a malformed scope. The error is an [*Error], for [WriteError].
// After an earlier call of r.ParseForm, r.PostForm is read; a malformed body is then
// refused only if its Content-Length shows the defect.
//
// ParsePasswordRequestForm does not check transport security, does not authenticate the
// user or the client, and counts no attempt.
func ParsePasswordRequestForm(r *http.Request) (*PasswordRequestForm, error) {
	return parsePasswordRequest(r, false)
}

// ParsePasswordRequestFormStrict is [ParsePasswordRequestForm] for clients that follow the
// RFC: the grant_type is required, and multipart/form-data is refused.
func ParsePasswordRequestFormStrict(r *http.Request) (*PasswordRequestForm, error) {
	return parsePasswordRequest(r, true)
}

func parsePasswordRequest(r *http.Request, strict bool) (*PasswordRequestForm, error) {
	if err := requirePost(r); err != nil {
		return nil, err
	}
	f, err := readForm(r, !strict)
	if err != nil {
		return nil, err
	}
	grantType := f.get("grant_type")
	if strict {
		if err := requireParam(f.get, "grant_type"); err != nil {
			return nil, err
		}
	}
	if grantType != "" && grantType != grantPassword {
		return nil, errUnsupportedGrantType
	}
	if err := requirePassword(f.get); err != nil {
		return nil, err
	}
	scopes, err := parseScope(f.get("scope"))
	if err != nil {
		return nil, err
	}
	return &PasswordRequestForm{
		GrantType: grantType, Username: f.get("username"), Password: Secret(f.get("password")), Scopes: scopes,
		ClientID: f.get("client_id"), ClientSecret: Secret(f.get("client_secret")),
	}, nil
}

var errUnsupportedGrantType = &Error{Code: "unsupported_grant_type"}

func requirePost(r *http.Request) error {
	if r.Method == http.MethodPost {
		return nil
	}
	return &Error{Code: "invalid_request", Description: "The method must be POST.",
		Status: http.StatusMethodNotAllowed, allow: http.MethodPost}
}

func requireParam(param func(name string) string, name string) error {
	if param(name) == "" {
		return badRequest("The parameter " + name + " is missing.")
	}
	return nil
}

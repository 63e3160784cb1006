package tokens

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// IssuerVerifier is a verifier of one issuer's tokens: a [Ring], a [Verifier], a [Remote], or
// the result of [InsecureLegacyHS256], whose tokens name no issuer.
type IssuerVerifier interface {
	oauth2pw.TokenVerifier
	Issuer() string // the iss of the tokens; "": the tokens have no iss
}

// ByIssuer returns a verifier that passes each token to the verifier of its iss, and reads
// nothing else of the token before. The error names two verifiers of one issuer, a nil
// verifier, or a verifier that was not made by its constructor.
func ByIssuer(verifiers ...IssuerVerifier) (oauth2pw.TokenVerifier, error) {
	b := make(byIssuer, len(verifiers))
	for i, v := range verifiers {
		if p := reflect.ValueOf(v); !p.IsValid() || p.Kind() == reflect.Pointer && p.IsNil() {
			return nil, fmt.Errorf("tokens: ByIssuer: verifier %d is nil", i)
		}
		if c, ok := v.(oauth2pw.Checker); ok {
			if err := c.Check(); err != nil {
				return nil, fmt.Errorf("tokens: ByIssuer: verifier %d: %w", i, err)
			}
		}
		if _, twice := b[v.Issuer()]; twice {
			return nil, fmt.Errorf("tokens: ByIssuer: two verifiers of %q", v.Issuer())
		}
		b[v.Issuer()] = v
	}
	if len(b) == 0 {
		return nil, errors.New("tokens: ByIssuer: there is no verifier")
	}
	return b, nil
}

type byIssuer map[string]IssuerVerifier

func (b byIssuer) Verify(ctx context.Context, token string) (oauth2pw.Principal, error) {
	issuer, err := issuerOf(token)
	if err != nil {
		return oauth2pw.Principal{}, refused(err)
	}
	v, known := b[issuer]
	if !known {
		return oauth2pw.Principal{}, refused(mismatch("issuer", []string{issuer}, slices.Sorted(maps.Keys(b))))
	}
	return v.Verify(ctx, token)
}

// issuerOf returns the iss of a token that is not verified yet, "" if the token has no iss.
func issuerOf(token string) (issuer string, err error) {
	if len(token) > maxToken {
		return "", errTooLong
	}
	_, rest, _ := strings.Cut(token, ".")
	encoded, _, found := strings.Cut(rest, ".")
	if !found {
		return "", errors.New("not three parts")
	}
	payload, err := decodeText(encoded)
	if err != nil {
		return "", errors.New("the payload is not base64url")
	}
	err = eachMember(payload, func(name, value string) (err error) {
		if name == "iss" {
			if issuer, err = jsonString(value); err == nil && issuer == "" {
				err = errors.New("an empty issuer") // "" means a missing iss
			}
		}
		return err
	})
	return issuer, err
}

package storetest

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

// Clients tests a ClientStore. open returns a new store that holds these clients
// and nothing else.
func Clients(t *testing.T, open func(t *testing.T, clients []oauth2pw.Client) oauth2pw.ClientStore) {
	run(t, clientRules, func(t *testing.T) oauth2pw.ClientStore { return open(t, testClients()) })
}

func testClients() []oauth2pw.Client {
	return []oauth2pw.Client{
		{ID: "webapp", Grants: []string{"password", "refresh_token"}},
		{ID: "backend", SecretSHA256: digest(0, 1, 2, 255), Grants: []string{"password"}, Scopes: []string{"me", "items"}, Introspect: true},
		{ID: "c id:%+", SecretSHA256: digest(3), Scopes: []string{}},
	}
}

var clientRules = []rule[oauth2pw.ClientStore]{
	{"a client has every field as it is stored", func(t *testing.T, s oauth2pw.ClientStore) {
		for _, want := range testClients() {
			checkClient(t, s, want)
		}
	}},

	{"a miss is ErrNotFound", func(t *testing.T, s oauth2pw.ClientStore) {
		for _, id := range []string{"", "nobody"} {
			c, err := s.ClientByID(context.Background(), id)
			checkMiss(t, quoted("ClientByID", id), c != nil, err)
		}
	}},

	{"IDs are compared byte for byte", func(t *testing.T, s oauth2pw.ClientStore) {
		for _, id := range []string{"Webapp", "webapp ", " webapp", "%", "web_pp", "' OR 1=1 --"} {
			c, err := s.ClientByID(context.Background(), id)
			checkMiss(t, quoted("ClientByID", id), c != nil, err)
		}
	}},

	{"an ended context is a failure", func(t *testing.T, s oauth2pw.ClientStore) {
		_, client := s.ClientByID(ended(), "webapp")
		_, nobody := s.ClientByID(ended(), "nobody")
		checkEnded(t, map[string]error{"ClientByID of a client": client, "ClientByID of nobody": nobody})
	}},

	{"clients are found concurrently", func(t *testing.T, s oauth2pw.ClientStore) {
		parallel(8, func(i int) { checkClient(t, s, testClients()[i%3]) })
	}},
}

func checkClient(t *testing.T, s oauth2pw.ClientStore, want oauth2pw.Client) {
	t.Helper()
	call := quoted("ClientByID", want.ID)
	got, err := s.ClientByID(context.Background(), want.ID)
	if err != nil || got == nil {
		t.Errorf("%s returned no client and the error %v: the client is there.", call, err)
		return
	}
	call += " returned the client, but not as it is stored"
	checkField(t, call, "ID", got.ID, want.ID)
	switch {
	case !bytes.Equal(got.SecretSHA256, want.SecretSHA256):
		t.Errorf("%s: the SecretSHA256 is %x, and not %x.", call, got.SecretSHA256, want.SecretSHA256)
	case want.SecretSHA256 == nil && got.SecretSHA256 != nil:
		t.Errorf("%s: the SecretSHA256 is empty, and not nil, as a public client has it.", call)
	}
	if !slices.Equal(got.Grants, want.Grants) {
		t.Errorf("%s: the Grants are %q, and not %q.", call, got.Grants, want.Grants)
	}
	checkScopes(t, call, got.Scopes, want.Scopes)
	checkField(t, call, "Introspect", got.Introspect, want.Introspect)
}

// Package generated uses the OpenAPI document of the quickstart as other programs do: a
// validator reads it, and a client is generated from it. ../openapi.test.mjs writes
// openapi.json, generates the client, and runs the tests.
package generated

import (
	"context"
	"net/http"
	"os"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/oauth2pw/passwordflow/internal/clients/generated/api"
)

//go:generate go tool oapi-codegen -generate types,client -package api -o api/api.go openapi.json

// checked sends requests, and compares requests and answers with the document.
type checked struct {
	*testing.T
	validator validator.Validator
}

func (c checked) Do(r *http.Request) (*http.Response, error) {
	if ok, problems := c.validator.ValidateHttpRequest(r); !ok {
		c.Errorf("%s %s: %v", r.Method, r.URL, problems)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if ok, problems := c.validator.ValidateHttpResponse(r, resp); !ok {
		c.Errorf("%s %s: %d: %v", r.Method, r.URL, resp.StatusCode, problems)
	}
	return resp, nil
}

func Test(t *testing.T) {
	text, err := os.ReadFile("openapi.json")
	must(t, err)
	document, err := libopenapi.NewDocument(text)
	must(t, err)
	v, problems := validator.NewValidator(document)
	if problems != nil {
		t.Fatal(problems)
	}
	if ok, problems := v.ValidateDocument(); !ok {
		t.Fatal(problems)
	}

	ctx := context.Background()
	url := os.Getenv("URL_OF_API")
	client, err := api.NewClientWithResponses(url, api.WithHTTPClient(checked{t, v}))
	must(t, err)
	wrong, err := client.LoginWithFormdataBodyWithResponse(ctx, api.LoginFormdataRequestBody{GrantType: "password", Username: p("johndoe"), Password: p("wrong")})
	must(t, err)
	if wrong.StatusCode() != 400 || wrong.JSON400.Error != "invalid_grant" {
		t.Fatal(wrong.Status(), string(wrong.Body))
	}
	login, err := client.LoginWithFormdataBodyWithResponse(ctx, api.LoginFormdataRequestBody{
		GrantType: "password", Username: p("johndoe"), Password: p("secret"), Scope: p("me items"),
	})
	must(t, err)
	if login.StatusCode() != 200 {
		t.Fatal(login.Status(), string(login.Body))
	}
	token := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+login.JSON200.AccessToken)
		return nil
	}
	user, err := client.ReadUserWithResponse(ctx, token)
	must(t, err)
	if user.JSON200 == nil || user.JSON200.Username != "johndoe" {
		t.Fatal(user.Status(), string(user.Body))
	}
	items, err := client.ReadItemsWithResponse(ctx, token)
	must(t, err)
	if items.JSON200 == nil || len(*items.JSON200) != 1 {
		t.Fatal(items.Status(), string(items.Body))
	}
	sessions, err := client.ListSessionsWithResponse(ctx, token)
	must(t, err)
	if sessions.JSON200 == nil || len(*sessions.JSON200) != 1 || (*sessions.JSON200)[0].ClientId != nil {
		t.Fatal(sessions.Status(), string(sessions.Body))
	}
	if ended, err := client.EndSessionsWithResponse(ctx, token); err != nil || ended.StatusCode() != 204 {
		t.Fatal(err, ended.Status())
	}
}

func p(s string) *string { return &s }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

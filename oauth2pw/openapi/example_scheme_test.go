package openapi_test

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/oauth2pw/openapi"
)

// The security scheme as a struct, for a router that makes its own document.
func ExampleSchemeOf() {
	login := oauth2pw.PasswordBearer{TokenURL: "token", Scopes: map[string]string{"me": "Read your profile."}}
	elsewhere := oauth2pw.PasswordBearer{Description: "A token of login.example.com."}
	for _, b := range []oauth2pw.PasswordBearer{login, elsewhere} {
		text, err := json.Marshal(openapi.SchemeOf(b))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(text))
	}
	// Output:
	// {"type":"oauth2","flows":{"password":{"tokenUrl":"token","scopes":{"me":"Read your profile."}}}}
	// {"type":"http","description":"A token of login.example.com.","scheme":"bearer"}
}

// The security of an operation as a struct, for a router that makes its own document.
func ExampleRequirements() {
	text, err := json.Marshal(map[string]any{"security": openapi.Requirements("me", "items")})
	fmt.Println(string(text), err)
	// Output: {"security":[{"OAuth2PasswordBearer":["me","items"]}]} <nil>
}

// A router other than http.ServeMux: the app names the handler of each operation.
func ExampleDocument_Operation() {
	hello := newAuth().RequireBearer("me")(http.NotFoundHandler())
	file := []byte(`{"openapi":"3.1.0","info":{"title":"app","version":"1"},"paths":{"/hello":{"get":{}}}}`)
	doc, err := openapi.Parse(file, oauth2pw.PasswordBearer{TokenURL: "token"})
	if err != nil {
		log.Fatal(err)
	}

	if err := doc.Operation("GET", "/hello", hello); err != nil {
		log.Fatal(err)
	}
	var read struct {
		Paths map[string]map[string]struct{ Security []openapi.Requirement }
	}
	body, err := json.Marshal(doc)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(body, &read); err != nil {
		log.Fatal(err)
	}
	fmt.Println(read.Paths["/hello"]["get"].Security)
	// Output: [map[OAuth2PasswordBearer:[me]]]
}

package oauth2pw_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/oauth2pw/passwordflow/oauth2pw"
	"github.com/oauth2pw/passwordflow/store"
)

// The first start of an app makes the file, and every other start reads it.
func ExampleOpenSecrets() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "refresh.secret") // not in the backup of the database

	first, err := oauth2pw.OpenSecrets(file)
	if err != nil {
		log.Fatal(err)
	}
	again, err := oauth2pw.OpenSecrets(file)
	if err != nil {
		log.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(first), first[0] == again[0], info.Mode())
	// Output: 1 true -rw-------
}

// A rotation: a new secret in the first line makes the tokens of new sessions, and the old
// secret still verifies the tokens of older sessions.
func ExampleReadSecrets() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "refresh.secret")
	old, err := oauth2pw.OpenSecrets(file)
	if err != nil {
		log.Fatal(err)
	}

	// First an administrator inserts a line. On a command line, openssl rand -base64 32 makes it.
	text, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	line := base64.StdEncoding.EncodeToString([]byte(oauth2pw.NewSecret()))
	if err := os.WriteFile(file, []byte(line+"\n"+string(text)), 0o600); err != nil {
		log.Fatal(err)
	}

	// Next every process starts again. Unlike OpenSecrets, ReadSecrets makes no file.
	secrets, err := oauth2pw.ReadSecrets(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(secrets), secrets[1] == old[0])
	_, err = oauth2pw.ReadSecrets(filepath.Join(dir, "other.secret"))
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// 2 true
	// true
}

// A test loses its sessions anyway, and needs no file.
func ExampleNewSecret() {
	c := exampleConfig()
	c.Sessions = new(store.Sessions)
	c.Secrets = []oauth2pw.Secret{oauth2pw.NewSecret()}
	auth, err := oauth2pw.New(c)
	fmt.Println(auth != nil, err)
	// Output: true <nil>
}

// A secret prints as [redacted], as part of a struct and as JSON too.
func ExampleSecret() {
	form := oauth2pw.PasswordRequestForm{Username: "johndoe", Password: "secret"}
	fmt.Printf("%+v\n", form)
	text, err := json.Marshal(form.Password)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
	fmt.Println(string(form.Password) == "secret") // a conversion has the value
	// Output:
	// {GrantType: Username:johndoe Password:[redacted] Scopes:[] ClientID: ClientSecret:[redacted]}
	// "[redacted]"
	// true
}

package integration

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/oauth2pw/passwordflow"

// TestImportRule: arrows point one way: examples to store, hasher, tokens to
// oauth2pw to the standard library. jwx stands in one file.
func TestImportRule(t *testing.T) {
	allowed := map[string][]string{
		"/oauth2pw":         {module + "/oauth2pw/internal/attempts", module + "/internal/keyfile"},
		"/hasher":           {module + "/oauth2pw", "golang.org/x/crypto/argon2", "golang.org/x/crypto/bcrypt", "golang.org/x/crypto/scrypt", "golang.org/x/sync/semaphore"},
		"/tokens":           {module + "/oauth2pw", module + "/internal/keyfile", "github.com/lestrrat-go/jwx/v2/"},
		"/oauth2pw/openapi": {module + "/oauth2pw"},
		"/store":            {module + "/oauth2pw"},
		"/store/sqlstore":   {module + "/oauth2pw"},
		"/store/storetest":  {module + "/oauth2pw"},

		"/oauth2pw/internal/attempts": {},
		"/internal/keyfile":           {},
	}
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"/...")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath, Dir  string
			GoFiles, Imports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else {
			require.NoError(t, err)
		}
		rule, known := allowed[strings.TrimPrefix(p.ImportPath, module)]
		require.True(t, known, "%s is not in the table of this test", p.ImportPath)
		seen++
		for _, path := range p.Imports {
			first, _, _ := strings.Cut(path, "/")
			ok := !strings.Contains(first, ".") // the standard library
			for _, prefix := range rule {
				ok = ok || path == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix)
			}
			require.True(t, ok, "%s imports %s", p.ImportPath, path)
		}
		for _, file := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, file))
			require.NoError(t, err)
			if file != "jwx.go" {
				require.NotContains(t, string(source), `"github.com/lestrrat-go/`, file)
			}
		}
	}
	require.Equal(t, len(allowed), seen)
}

// TestScratchModule: an app that imports oauth2pw, hasher, tokens and store finds
// no SQL driver, Redis client or web framework in its go.sum.
func TestScratchModule(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	require.NoError(t, err)
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module scratch\n\ngo 1.25.0\n\nrequire "+module+" v0.0.0\n\nreplace "+module+" => "+root+"\n")
	write("main.go", `package main

import (
	_ "`+module+`/hasher"
	_ "`+module+`/oauth2pw"
	_ "`+module+`/store"
	_ "`+module+`/tokens"
)

func main() {}
`)
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-o", os.DevNull, "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	require.NoError(t, err)
	require.Contains(t, string(sum), "jwx")
	for _, unwanted := range []string{"sqlite", "pgx", "lib/pq", "mysql", "redis", "gin-gonic", "go-chi", "labstack", "huma", "golang.org/x/oauth2"} {
		require.NotContains(t, string(sum), unwanted)
	}
}

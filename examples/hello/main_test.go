package main

import (
	"net/http/httptest"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// TestREADME: the README shows this program to the letter, and its commands print what it
// says, the second time too.
func TestREADME(t *testing.T) {
	program, err := os.ReadFile("main.go")
	require.NoError(t, err)
	require.Contains(t, readme.Blocks(t, "go"), string(program))
	block := readme.Blocks(t, "console")[0]
	t.Chdir(t.TempDir()) // the key is made where the program runs
	for range 2 {
		handler, err := routes()
		require.NoError(t, err)
		server := httptest.NewServer(handler)
		readme.Run(t, block, server.URL, t.TempDir())
		server.Close()
	}
}

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"
	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/examples/internal/readme"
)

// oathtool is the test's program of this name, for machines without the real one: the code of
// a secret, now or in 30 seconds.
func oathtool() {
	step := time.Now().Unix() / totpPeriod
	if slices.Contains(os.Args, "--now=30 seconds") {
		step++
	}
	code, err := hotp.GenerateCode(os.Args[len(os.Args)-1], uint64(step))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(code)
}

// TestReadme runs the commands of the README of this folder.
func TestReadme(t *testing.T) {
	bin := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(bin, "oathtool")))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))

	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "account.log"))
	require.NoError(t, err)
	defer log.Close()
	// As in the README: tee writes the mails into a file.
	cmd := exec.Command(binary, "-addr=127.0.0.1:0", cheapHash)
	cmd.Dir = dir
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	go func() { _, _ = lines.WriteTo(log) }()

	blocks := readme.BlocksOf(t, "README.md", "console")
	require.NotEmpty(t, blocks)
	readme.Run(t, strings.Join(blocks, ""), url, dir)
}

package oauth2pw_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oauth2pw/passwordflow/oauth2pw"
)

func TestNewSecrets(t *testing.T) {
	require.NotEqual(t, string(oauth2pw.NewSecret()), string(oauth2pw.NewSecret()))
	secret, sum := oauth2pw.NewClientSecret()
	other, _ := oauth2pw.NewClientSecret()
	require.Len(t, sum, 32)
	require.GreaterOrEqual(t, len(string(secret)), 26)
	require.NotEqual(t, string(secret), string(other))
	require.NotContains(t, fmt.Sprintf("%+v %#v %s", secret, secret, secret), string(secret))
}

// TestOpenSecrets: processes that start at once agree on one secret, in a file of mode 0600.
func TestOpenSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "app.secret")
	_, err := oauth2pw.ReadSecrets(file)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, file)
	var wg sync.WaitGroup
	opened, errs := make([][]oauth2pw.Secret, 8), make([]error, 8)
	for i := range opened {
		wg.Go(func() { opened[i], errs[i] = oauth2pw.OpenSecrets(file) })
	}
	wg.Wait()
	for i, secrets := range opened {
		require.NoError(t, errs[i])
		require.Len(t, secrets, 1)
		require.Len(t, string(secrets[0]), 32)
		require.Equal(t, string(opened[0][0]), string(secrets[0]))
	}
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	left, err := filepath.Glob(file + "*")
	require.NoError(t, err)
	require.Equal(t, []string{file}, left)

	_, err = oauth2pw.OpenSecrets("")
	require.EqualError(t, err, "oauth2pw: the name of the file is empty")
}

func TestReadSecrets(t *testing.T) {
	first, second := strings.Repeat("a", 32), strings.Repeat("b", 40)
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, test := range map[string]struct {
		content string
		want    []string // nil: an error
	}{
		"two, the first first":  {encoded(first) + "\r\n\n  " + encoded(second) + "  \n", []string{first, second}},
		"no newline at the end": {encoded(first), []string{first}},
		"empty":                 {"\n\n", nil},
		"too short":             {encoded("short") + "\n", nil},
		"not padded":            {strings.TrimRight(encoded(first), "=") + "\n", nil},
		"no base64":             {"correct horse battery staple correct horse\n", nil},
		"one good, one bad":     {encoded(first) + "\nx\n", nil},
		"larger than 64 KiB":    {strings.Repeat(encoded(first)+"\n", 2000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "app.secret")
			require.NoError(t, os.WriteFile(file, []byte(test.content), 0o600))
			secrets, err := oauth2pw.ReadSecrets(file)
			if test.want == nil {
				require.ErrorContains(t, err, file)
				require.NotContains(t, err.Error(), encoded(first))
				return
			}
			require.NoError(t, err)
			require.Len(t, secrets, len(test.want))
			for i, s := range secrets {
				require.Equal(t, test.want[i], string(s))
			}
		})
	}
}

package program

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestIssuerOfAddress: the issuer that follows from -addr is checked as a given one is.
func TestIssuerOfAddress(t *testing.T) {
	for issuer, good := range map[string]bool{
		"http://127.0.0.1:8000": true, "http://[::1]:8000": true, "https://192.0.2.2:8000": true, "https://api.example.com/t1": true, "http://localhost": true,
		"http://192.0.2.2:8000": false, "http://[2001:db8::1]:8000": false, "http://host.example": false,
	} {
		if good {
			require.NoError(t, checkIssuer(issuer), issuer)
		} else {
			require.ErrorContains(t, checkIssuer(issuer), "-issuer", issuer)
		}
	}
}

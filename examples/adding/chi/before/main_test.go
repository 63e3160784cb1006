package main

import (
	"testing"

	"github.com/oauth2pw/passwordflow/examples/adding/internal/check"
)

func TestApp(t *testing.T) { check.Before(t, newApp) }

package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/oauth2pw/passwordflow/examples/internal/program"
)

// options are the parsed flags: those of every example program, and -recent.
type options struct {
	program.Flags
	recent time.Duration
}

// parseFlags reads the command line. The usage text, for -h, goes to w.
func parseFlags(args []string, w io.Writer) (*options, error) {
	o := new(options)
	f := o.NewFlagSet("account")
	f.DurationVar(&o.recent, "recent", 5*time.Minute, "how fresh a password must be for something dangerous, in whole seconds")
	if err := o.Parse(f, args, w); err != nil {
		return nil, err
	}
	switch {
	case o.recent < time.Second || o.recent%time.Second != 0:
		return nil, errors.New("-recent must be a positive number of whole seconds")
	case o.RefreshForgive > longSession:
		return nil, fmt.Errorf("-refresh-forgive must be at most %s", longSession)
	}
	return o, nil
}

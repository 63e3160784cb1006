// Package program has the parts that are the same in the example programs with flags: the
// start and the end of a program, its flags, and its files.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Main runs a program until a signal: parse reads the command line and writes the usage text
// to its writer, and run does the work. Main ends the process: with status 2 after an error
// of parse, with status 1 after an error of run.
func Main[O any](name string, parse func(args []string, w io.Writer) (O, error), run func(ctx context.Context, o O, stdout, stderr io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	o, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		complain(name, err)
		os.Exit(2)
	}
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		complain(name, err)
		os.Exit(1)
	}
}

// complain prints an error on exactly one line.
func complain(name string, err error) {
	fmt.Fprintln(os.Stderr, name+":", strings.Join(strings.Fields(err.Error()), " "))
}

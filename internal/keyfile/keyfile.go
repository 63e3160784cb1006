// Package keyfile reads files of keys and secrets, and makes missing files.
package keyfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const maxSize = 64 << 10 // bytes

// Read parses a file. The error begins with pkg, the package that the app has called, and
// names the file.
func Read[T any](pkg, file string, parse func([]byte) (T, error)) (T, error) {
	var none T
	if file == "" {
		return none, fmt.Errorf("%s: the name of the file is empty", pkg)
	}
	f, err := os.Open(file)
	if err != nil {
		return none, fmt.Errorf("%s: %w", pkg, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return none, fmt.Errorf("%s: %w", pkg, err)
	}
	if len(data) > maxSize {
		return none, fmt.Errorf("%s: %s is larger than 64 KiB", pkg, file)
	}
	v, err := parse(data)
	if err != nil {
		return none, fmt.Errorf("%w (in %s)", err, file)
	}
	return v, nil
}

// Open is [Read], and makes a missing file, with mode 0600. If several processes start at
// the same time, the first makes the file, and all read it.
func Open[T any](pkg, file string, parse func([]byte) (T, error), content func() ([]byte, error)) (T, error) {
	v, err := Read(pkg, file, parse)
	if !errors.Is(err, fs.ErrNotExist) {
		return v, err
	}
	data, err := content()
	if err != nil {
		return v, err
	}
	if err := writeExclusive(file, data); err != nil && !errors.Is(err, fs.ErrExist) {
		return v, fmt.Errorf("%s: making the file %s: %w", pkg, file, err)
	}
	return Read(pkg, file, parse)
}

// writeExclusive makes a complete file or no file: the file is written under another name,
// and linked to its own name only if this name is free.
func writeExclusive(file string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), file)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// destination is where a backup goes.
type destination interface {
	io.Writer
	// keep makes what was written last, once it is known to be whole.
	keep() error
	// discard throws away what is not kept.
	discard()
}

// standardOutput is a destination that keeps what it gets.
type standardOutput struct{ io.Writer }

func (standardOutput) keep() error { return nil }
func (standardOutput) discard()    {}

// newFile is a file that gets its name only when it is whole and on the disk. Nobody but its owner can read it.
type newFile struct {
	*os.File
	path string
}

// newFile makes a file beside path, and asks first if there is one already.
func (r *remote) newFile(ctx context.Context, path string) (destination, error) {
	switch info, err := os.Stat(path); {
	case err == nil && !info.Mode().IsRegular():
		return nil, &usageError{path + " is no file", "Name a FILE, or - for standard output."}
	case err == nil:
		if err := r.confirm(ctx, fmt.Sprintf("%s exists already. The backup replaces it once it is whole.", path)); err != nil {
			return nil, err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.part") // which has the mode 0600
	if err != nil {
		return nil, err
	}
	return &newFile{file, path}, nil
}

// keep implements destination. Data first, then the name, then the directory that has the name: a power cut leaves
// what was there before or all of this.
func (f *newFile) keep() error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(f.path))
}

// discard implements destination. After keep it does nothing.
func (f *newFile) discard() {
	_ = f.Close()           // it is thrown away, or closed already
	_ = os.Remove(f.Name()) // there is none any more if it was kept
}

func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such thing
	}
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fileSystem is all that the store does to files, so that tests can fail or cut it short at
// each step. Names are relative to the data directory and use slashes; "." is the directory.
type fileSystem interface {
	// Lock takes the directory for this process until the lock is closed. Whoever finds it
	// taken gets an *InUseError.
	Lock() (io.Closer, error)
	// List returns the names in a directory, fs.ErrNotExist if there is none.
	List(dir string) ([]string, error)
	ReadFile(name string) ([]byte, error)
	// Mkdir makes a directory unless it is there.
	Mkdir(dir string) error
	OpenFile(name string, flag int) (file, error)
	OpenDir(dir string) (directory, error)
	// Rename replaces to, if it is there, in one step.
	Rename(from, to string) error
	Remove(name string) error
}

// file is an open file.
type file interface {
	io.ReadWriteCloser
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	// Sync returns when the file's content and length would survive a power cut.
	Sync() error
}

// directory is an open directory.
type directory interface {
	// Sync returns when the names in the directory would survive a power cut.
	Sync() error
	// SyncAll returns when all files and names below the directory would survive a power cut.
	// It fails if any of them could not be written since the directory was opened.
	SyncAll() error
	Close() error
}

const (
	readOnly  = os.O_RDONLY
	readWrite = os.O_RDWR
	inPlace   = os.O_WRONLY | os.O_CREATE
	createNew = os.O_RDWR | os.O_CREATE | os.O_EXCL
)

// osFS is the file system of the machine below root.
type osFS struct{ root string }

// newOSFS makes the directory root, durably, unless it is there.
func newOSFS(root string) (osFS, error) {
	var made []string
	for dir := root; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return osFS{}, fmt.Errorf("data directory: %s is not a directory", dir)
		}
		if err == nil || dir == filepath.Dir(dir) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return osFS{}, fmt.Errorf("data directory: %w", err)
		}
		made = append(made, dir)
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return osFS{}, fmt.Errorf("data directory: %w", err)
	}
	for _, dir := range made { // a new directory is durable once its parent is synced
		if err := syncNames(filepath.Dir(dir)); err != nil {
			return osFS{}, fmt.Errorf("data directory: %w", err)
		}
	}
	return osFS{root}, nil
}

func syncNames(path string) error {
	d, err := openDirectory(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (o osFS) path(name string) string { return filepath.Join(o.root, filepath.FromSlash(name)) }

// List implements fileSystem.
func (o osFS) List(dir string) ([]string, error) {
	d, err := os.Open(o.path(dir))
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

// ReadFile implements fileSystem.
func (o osFS) ReadFile(name string) ([]byte, error) { return os.ReadFile(o.path(name)) }

// Mkdir implements fileSystem.
func (o osFS) Mkdir(dir string) error {
	if err := os.Mkdir(o.path(dir), 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// OpenFile implements fileSystem. Files are for their owner alone.
func (o osFS) OpenFile(name string, flag int) (file, error) {
	f, err := os.OpenFile(o.path(name), flag, 0o600)
	if err != nil {
		return nil, err
	}
	return dataFile{f}, nil
}

// OpenDir implements fileSystem.
func (o osFS) OpenDir(dir string) (directory, error) { return openDirectory(o.path(dir)) }

// Rename implements fileSystem.
func (o osFS) Rename(from, to string) error { return os.Rename(o.path(from), o.path(to)) }

// Remove implements fileSystem.
func (o osFS) Remove(name string) error { return os.Remove(o.path(name)) }

// Lock keeps the file "lock" open with the operating system's lock on it, which ends with the
// process, however that ends. The file holds the process id for the message to the next one.
// It is never removed: the next one could be locking the very file that is going away.
func (o osFS) Lock() (io.Closer, error) {
	f, err := os.OpenFile(o.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		text, _ := io.ReadAll(io.LimitReader(f, 32)) // without it the message names no process
		f.Close()                                    // nothing was written
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return nil, &InUseError{Dir: o.root, PID: pid}
	}
	_, err = f.WriteAt(fmt.Appendf(nil, "%-10d\n", os.Getpid()), 0)
	if err != nil && !isFull(err) { // on a full disk the lock holds without its text
		f.Close() // the error before it is the one to tell
		return nil, err
	}
	return f, nil
}

// errLocked is returned by lockFile if another open file holds the lock.
var errLocked = errors.New("locked")

// InUseError is returned by Open if another Store has the directory open, in this process or
// another.
type InUseError struct {
	// Dir is the data directory.
	Dir string
	// PID is the process that has it, 0 if that cannot be told.
	PID int
}

// Error implements error.
func (e *InUseError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("data directory %s is in use by another process", e.Dir)
	}
	return fmt.Sprintf("data directory %s is in use by process %d", e.Dir, e.PID)
}

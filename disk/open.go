package disk

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/version"
)

// The layout of a data directory; see the package documentation.
const (
	topDir     = "."
	keysDir    = "keys"
	stateDir   = "state"
	tmpDir     = "tmp"
	formatFile = "format"
	newFormat  = "format.new"
	nodeFile   = "node"

	// Format is the first line of the file "format": the one layout that this release reads
	// and writes.
	Format = "snakes data format 1"
)

// FormatError is returned by Open for a data directory that another release wrote.
type FormatError struct {
	// Dir is the data directory, Found what its format file says.
	Dir, Found string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("data directory %s has format %.80q, this release reads %q only; use the release that wrote it",
		e.Dir, e.Found, Format)
}

// ErrForeign is wrapped by the error of Open for a directory that has files in it, but not
// those of a data directory.
var ErrForeign = errors.New("neither empty nor a data directory")

// Open opens the data directory, which it makes if need be, and reads the headers of all
// records. Damage to records is logged and does not keep it from opening. What a process before
// began to set aside is set aside first.
//
// A directory of another format, one that is not ours, or one that another process has open is
// left as it is: *FormatError, ErrForeign, *InUseError. The store must be closed.
func Open(cfg Config) (*Store, error) {
	if cfg.Dir == "" && cfg.fs == nil {
		return nil, errors.New("open store: no data directory given")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.fs == nil {
		osFiles, err := newOSFS(cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		cfg.fs = osFiles
	}
	if _, err := isBlank(cfg.fs, cfg.Dir); err != nil { // before even the lock file is made
		return nil, fmt.Errorf("open store: %w", err)
	}
	lock, err := cfg.fs.Lock()
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := open(cfg, lock)
	if err != nil {
		closeRead(lock)
		return nil, fmt.Errorf("open store %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// open does the rest with the directory locked.
func open(cfg Config, lock io.Closer) (_ *Store, err error) {
	s := &Store{
		volume: &volume{fs: cfg.fs, logger: cfg.Logger, reserve: cmp.Or(cfg.reserveBytes, reserveBytes)},
		logger: cfg.Logger,
		lock:   lock,
		index:  newIndex(),
		dirs:   make(map[string]bool),
	}
	if err := s.prepare(cfg.Dir); err != nil {
		return nil, err
	}
	if s.node, err = s.nodeID(); err != nil {
		return nil, err
	}
	if s.seen, err = readSeenLog(s.volume, cmp.Or(cfg.logEntries, logEntries)); err != nil {
		return nil, err
	}
	found, err := s.load()
	if err != nil {
		return nil, err
	}
	if err := s.seen.start(found); err != nil {
		return nil, err
	}
	if err := s.volume.refill(); err != nil && s.volume.broken() != nil {
		closeRead(s.seen.file)
		return nil, err
	}
	return s, nil
}

// isBlank reports whether the directory has yet to become a data directory. It returns an
// error if it must not become one.
func isBlank(files fileSystem, dir string) (bool, error) {
	names, err := files.List(topDir)
	if err != nil {
		return false, err
	}
	blank := true
	for _, name := range names {
		switch name {
		case "lock", newFormat, "lost+found": // the last is in the root of a new volume
		case formatFile:
			found, err := files.ReadFile(formatFile)
			if err != nil {
				return false, err
			}
			line, _, _ := strings.Cut(string(found), "\n")
			if line != Format {
				return false, &FormatError{Dir: dir, Found: line}
			}
			return false, nil
		default:
			blank = false
		}
	}
	if !blank {
		return false, fmt.Errorf("%s: %w", dir, ErrForeign)
	}
	return true, nil
}

// prepare makes the directory a data directory, removes leftovers, and makes durable what a
// process that was killed left half done. The names of the directories that it makes become
// durable with the next file that is replaced in the top directory, which is in this Open.
func (s *Store) prepare(dir string) error {
	v := s.volume
	blank, err := isBlank(v.fs, dir)
	if err != nil {
		return err
	}
	if blank { // the format comes first: with anything else, the directory would be foreign
		if err := v.fs.Remove(newFormat); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := v.create(newFormat, []byte(Format+"\n")); err != nil {
			return v.judge(err)
		}
		if err := v.fs.Rename(newFormat, formatFile); err != nil {
			return v.judge(err)
		}
	}
	if err := v.settle(topDir); err != nil {
		return err
	}
	for _, dir := range []string{tmpDir, keysDir, stateDir} {
		if err := v.judge(v.fs.Mkdir(dir)); err != nil {
			return err
		}
	}
	for _, dir := range []string{keysDir, stateDir} {
		if err := v.settle(dir); err != nil {
			return err
		}
	}
	v.adopt()
	leftovers, err := v.fs.List(tmpDir)
	if err != nil {
		return err
	}
	for _, name := range leftovers {
		if err := v.fs.Remove(join(tmpDir, name)); err != nil {
			return err
		}
	}
	return v.resume()
}

// nodeID reads the identity of this node, or draws one.
func (s *Store) nodeID() (string, error) {
	data, err := s.volume.fs.ReadFile(nodeFile)
	if errors.Is(err, fs.ErrNotExist) {
		var random [16]byte
		rand.Read(random[:]) // it never fails
		id := hex.EncodeToString(random[:])
		err := s.volume.attempt(true, func() error {
			return s.volume.replace(topDir, nodeFile, "node", []byte(id+"\n"))
		})
		return id, err
	}
	if err != nil {
		return "", err
	}
	id := strings.TrimSuffix(string(data), "\n")
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || strings.ToLower(id) != id {
		return "", fmt.Errorf("file node: %w: %.40q is not 32 hexadecimal digits", errFormat, data)
	}
	return id, nil
}

// load fills the index from the headers of all record files and returns the versions that the
// history does not hold, or that raise its floor.
func (s *Store) load() ([]version.Version, error) {
	names, err := s.volume.fs.List(keysDir)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards found and failed
	var found []version.Version
	var failed error
	each(names, maxWriters, func(name string) {
		if !isKeyDir(name) {
			s.logger.Warn("stray file among the keys is left alone", "file", join(keysDir, name))
			return
		}
		versions, err := s.loadDir(join(keysDir, name))
		mu.Lock()
		defer mu.Unlock()
		found = append(found, versions...)
		failed = errors.Join(failed, err)
		s.dirs[join(keysDir, name)] = true
	})
	return found, failed
}

func isKeyDir(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 1
}

// loadDir loads one directory of keys. It is settled first, so that nothing is told of a
// record whose name a power cut would still take away.
func (s *Store) loadDir(dir string) (found []version.Version, err error) {
	if err := s.volume.settle(dir); err != nil {
		return nil, err
	}
	names, err := s.volume.fs.List(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		file := join(dir, name)
		h, sizeOK, err := s.readHeader(file)
		switch {
		case isBusy(err):
			return nil, fmt.Errorf("read %s: %w", file, err)
		case err != nil:
			s.logger.Error("record is damaged", "file", file, "error", err)
			s.index.setUnreadable(file)
			continue
		case keyPath(h.key) != file:
			s.logger.Warn("stray record is left alone", "file", file, "key", h.key)
			continue
		case !sizeOK:
			s.logger.Error("record is damaged", "key", h.key, "file", file, "error", "wrong size")
		}
		s.index.set(entry{key: h.key, meta: h.meta, damaged: !sizeOK})
		if v := h.meta.Version; sizeOK && !s.seen.durable.holds(v) {
			found = append(found, v)
		}
	}
	return found, nil
}

// readHeader reads the header of a record file and whether the file has the size that it says.
func (s *Store) readHeader(name string) (h header, sizeOK bool, err error) {
	f, err := s.volume.fs.OpenFile(name, readOnly)
	if err != nil {
		return header{}, false, err
	}
	defer closeRead(f)
	info, err := f.Stat()
	if err != nil {
		return header{}, false, err
	}
	buffer := make([]byte, 0, 512) // enough for the header of nearly every record
	for {
		n, err := f.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		if line, _, found := bytes.Cut(buffer, []byte("\n")); found {
			h, err := parseHeader(line)
			return h, info.Size() == int64(len(line))+1+h.meta.Size, err
		}
		if err != nil || len(buffer) >= maxHeader {
			return header{}, false, fmt.Errorf("%w: no header: %w", errFormat, cmp.Or(err, io.ErrShortBuffer))
		}
		if len(buffer) == cap(buffer) {
			buffer = append(make([]byte, 0, 8*cap(buffer)), buffer...)
		}
	}
}

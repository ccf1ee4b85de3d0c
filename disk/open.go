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
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication/seen"
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

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("data directory %s has format %.80q, this release reads %q only; use the release that wrote it",
		e.Dir, e.Found, Format)
}

// ErrForeign is wrapped by the error of Open for a directory that has files in it, but not
// those of a data directory.
var ErrForeign = errors.New("neither empty nor a data directory")

// Open opens the data directory, which it makes if need be, and reads what the last process
// saved of its index and what its journal tells since; without a save, the headers of all
// records. Damage is logged and does not keep it from opening. What a process before began to set
// aside is set aside first.
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
	cfg.CheckpointBytes = cmp.Or(cfg.CheckpointBytes, DefaultCheckpointBytes)
	if cfg.segmentBytes == 0 {
		cfg.CheckpointBytes = max(cfg.CheckpointBytes, MinCheckpointBytes)
		cfg.segmentBytes = min(cfg.CheckpointBytes/16, maxSegment)
	}
	s := &Store{
		dir:             cfg.Dir,
		volume:          &volume{fs: cfg.fs, logger: cfg.Logger, reserve: cmp.Or(cfg.reserveBytes, reserveBytes)},
		logger:          cfg.Logger,
		lock:            lock,
		index:           newIndex(),
		memory:          &memory{durable: newHistory()},
		segmentBytes:    cfg.segmentBytes,
		checkpointBytes: cfg.CheckpointBytes,
		backlogRecords:  cmp.Or(cfg.backlogRecords, backlogRecords),
		backlog:         backlog{limit: cmp.Or(cfg.backlogBytes, backlogBytes)},
		cache:           cache{limit: cmp.Or(cfg.cacheBytes, cacheBytes)},
		dirs:            make(map[string]bool),
		saves:           make(map[string]bool),
		awake:           make(chan struct{}, 1),
		stop:            make(chan struct{}),
	}
	if err := s.prepare(cfg.Dir); err != nil {
		return nil, err
	}
	if s.node, err = s.nodeID(); err != nil {
		return nil, err
	}
	if s.keysDirectory, err = s.volume.fs.OpenDir(keysDir); err != nil {
		return nil, err
	}
	if err = s.recall(cfg.Synced); err == nil {
		if err = s.volume.refill(); s.volume.broken() == nil {
			err = nil // without room for it, values are refused
		}
	}
	if err != nil {
		closeRead(s.keysDirectory)
		if s.journal != nil {
			closeRead(s.journal)
		}
		return nil, err
	}
	s.wake() // there may be records to file, and a segment to prepare
	if !cfg.untended {
		s.tending.Go(func() { s.tend(s.stop) })
		s.tending.Go(func() { s.scrub(s.stop) })
	}
	return s, nil
}

// recall fills the index and the memory: from a save, or without one from all files, and then
// from what the journal tells since. synced is for the journal.
func (s *Store) recall(synced func(time.Duration)) error {
	found, err := s.loadSave()
	if err != nil {
		return err
	}
	if err := s.recallBegin(); err != nil {
		return err
	}
	from := uint64(0)
	if found {
		from = s.saved.Load() + 1
	}
	if err := s.loadDirs(!found); err != nil {
		return err
	}
	s.journal, err = journal.Open(journal.Config{
		Files:        journalFiles{s.volume.fs},
		SegmentBytes: s.segmentBytes,
		SlackBytes:   min(maxSlack, s.segmentBytes/4),
		Passing:      func(err error) bool { return isFull(err) || isBusy(err) },
		Synced:       synced,
	}, from, s.replayer())
	if err != nil {
		return s.volume.judge(err)
	}
	s.index.countDamage()
	if !found {
		s.logDamage()
	}
	return nil
}

// logDamage tells of the records that files and journal together do not have whole. A file that
// was being written when the process or the power ended is none of them.
func (s *Store) logDamage() {
	for _, name := range s.index.whole().unreadable {
		s.logger.Error("record is damaged", "file", name, "error", "no header can be read")
	}
	for e := range s.index.scan("") {
		if e.damaged {
			s.logger.Error("record is damaged", "key", e.key, "file", keyPath(e.key), "error", "wrong size")
		}
	}
}

const (
	// maxSegment is how long a segment of the journal is at most.
	maxSegment = 4 << 20
	// maxSlack at the end of each is for Begin.
	maxSlack = 64 << 10
)

// replayer returns what is told the entries of the journal, in order.
//
// Where entries are lost, a dot without a record may rely on a record among them, and so may a
// set that was united. None are taken from there on, so that the node asks others for what it
// may lack. A record stands for itself.
func (s *Store) replayer() journal.Replay {
	lost := false
	h := &s.memory.durable // nobody else is there
	return func(at journal.Position, payload []byte, damage error) error {
		if damage == nil {
			damage = s.replay(h, at, payload, lost)
		}
		if damage != nil {
			lost = true
			s.logger.Error("journal is damaged, writes may be lost", "error", damage)
		}
		return nil
	}
}

// replay does what an entry tells.
func (s *Store) replay(h *history, at journal.Position, payload []byte, lost bool) error {
	kind, data := byte(0), payload
	if len(payload) > 0 {
		kind, data = payload[0], payload[1:]
	}
	switch kind {
	case recordEntry:
		r, err := parseRecord(data)
		if err != nil {
			return err
		}
		current, exists := s.index.find(r.Key)
		if !exists || r.Version.Compare(current.meta.Version) >= 0 { // equal: its file may be half written
			r.Key, r.ContentType = strings.Clone(r.Key), "" // both are parts of something larger
			s.take(r, at, nil)
		}
		h.noteAll([]version.Version{r.Version})
	case dotsEntry:
		versions, err := decodeDots(data)
		if err != nil {
			return err
		}
		if h.raise(versions); !lost {
			h.noteAll(versions)
		}
	case historyEntry:
		more, err := decodeHistory(data)
		if err != nil {
			return err
		}
		if lost {
			more.seen = new(seen.Set)
		}
		h.merge(more)
	case dropEntry:
		key, v, err := decodeDrop(data)
		if err != nil {
			return err
		}
		h.raiseTo(v.Timestamp)
		if current, _ := s.index.find(key); current.meta.Version.Compare(v) <= 0 {
			s.index.remove(key)
			s.backlog.put(key, &unfiled{version: v, gone: true, at: at})
		}
	default:
		return fmt.Errorf("%w: entry of kind %q", errFormat, kind)
	}
	return nil
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
// process that was killed left half done.
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
	for _, dir := range []string{tmpDir, keysDir, stateDir, journalDir} {
		if err := v.judge(v.fs.Mkdir(dir)); err != nil {
			return err
		}
	}
	for _, dir := range []string{topDir, stateDir} {
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

// loadDirs looks which directories of keys there are. If told so, it fills index and memory from
// the headers of all files in them, durably.
func (s *Store) loadDirs(scan bool) error {
	names, err := s.volume.fs.List(keysDir)
	if err != nil {
		return err
	}
	var dirs []string
	for _, name := range names {
		if !isKeyDir(name) {
			s.logger.Warn("stray file among the keys is left alone", "file", join(keysDir, name))
			continue
		}
		dirs = append(dirs, join(keysDir, name))
		s.dirs[join(keysDir, name)] = true
	}
	if !scan || len(dirs) == 0 {
		return nil
	}
	s.logger.Info("no saved index, reading the headers of all records")
	if err := s.keysDirectory.SyncAll(); err != nil { // a process that was killed may have written any of them
		return s.volume.latch(err)
	}
	var mu sync.Mutex // guards found and failed
	var found []version.Version
	var failed error
	each(dirs, maxWorkers, func(dir string) {
		versions, err := s.loadDir(dir)
		mu.Lock()
		defer mu.Unlock()
		found = append(found, versions...)
		failed = errors.Join(failed, err)
	})
	s.memory.durable.noteAll(found)
	return failed
}

func isKeyDir(name string) bool {
	b, err := hex.DecodeString(name)
	return err == nil && len(b) == 1
}

// loadDir loads the headers in one directory of keys and returns the versions of sound records.
func (s *Store) loadDir(dir string) (found []version.Version, err error) {
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
			s.index.setUnreadable(file) // the journal may have what was to be in it
			continue
		case keyPath(h.key) != file:
			s.logger.Warn("stray record is left alone", "file", file, "key", h.key)
			continue
		}
		s.index.set(entry{key: h.key, meta: h.meta, damaged: !sizeOK})
		if sizeOK {
			found = append(found, h.meta.Version)
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

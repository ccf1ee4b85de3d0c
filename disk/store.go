package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Config says where a Store is and how it speaks.
type Config struct {
	// Dir is the data directory. It is made if it is not there.
	Dir string
	// Logger is told of damage, of leftovers, and once when the disk fails. nil: nobody is.
	Logger hclog.Logger
	// CheckpointBytes of journal bring about a checkpoint; 0 means DefaultCheckpointBytes, less than
	// MinCheckpointBytes those. Lower, and all files are synced more often, and the journal takes less room,
	// of which up to four times as much may be there. Segments have a sixteenth of it.
	CheckpointBytes int64
	// Synced, unless nil, is told how long each sync of the journal took, for which writers waited.
	// It must not block.
	Synced func(took time.Duration)

	fs             fileSystem // nil: that of the machine
	reserveBytes   int        // 0: reserveBytes
	segmentBytes   int64      // with this, CheckpointBytes may be anything; 0: a sixteenth of it
	backlogBytes   int64      // 0: backlogBytes
	backlogRecords int        // 0: backlogRecords
	cacheBytes     int64      // 0: cacheBytes
	untended       bool       // without goroutines: nothing is filed but by checkpoints and for want of room
}

// Store is a replication.Store in a directory. It is safe for concurrent use; [Store.Close]
// ends it.
//
// It has two goroutines, which [Open] starts and Close ends. One files records (see backlog) and
// makes checkpoints; the other reads all files again and again, slowly (see scrub).
type Store struct {
	dir             string // of data, for Space alone
	volume          *volume
	logger          hclog.Logger
	lock            io.Closer
	node            string
	index           *index
	memory          *memory
	keys            keyLocks
	journal         *journal.Journal
	segmentBytes    int64
	checkpointBytes int64
	backlogRecords  int
	served          atomic.Int64 // look-ups and records written, see load

	// applying is shared from before an entry is appended to the journal until what it says is
	// told, and held to divide what came before from what comes later.
	applying sync.RWMutex
	unsaved  atomic.Bool // something was appended since the last division

	drops   drops
	backlog backlog
	cache   cache
	filing  group           // runs file
	dirs    map[string]bool // directories of keys that are there; for file only
	awake   chan struct{}   // has an element when there is something to file
	stop    chan struct{}   // closed to end the goroutines
	tending sync.WaitGroup  // the goroutines

	checkpoints   group // runs checkpoint, which alone uses the next three
	generation    uint64
	saves         map[string]bool // the files of saves that are there
	keysDirectory directory
	saved         atomic.Uint64 // the segment up to which the last save has everything
	savedBytes    atomic.Int64  // the length of the last save
	ended         atomic.Uint64 // checkpoints that were completed
	endedAt       atomic.Int64  // when the last one was, in nanoseconds since 1970; 0: none in this process

	stateMu sync.RWMutex // held while state files are written, shared while they are read

	use    sync.RWMutex // shared by operations on files, held by Close; guards closed
	closed bool
}

var _ replication.Store = (*Store)(nil)

// enter begins an operation on files. leave ends it, unless there was an error.
func (s *Store) enter() error {
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return fmt.Errorf("store: %w", os.ErrClosed)
	}
	return nil
}

func (s *Store) leave() { s.use.RUnlock() }

// NodeID returns the identity of this node: 32 lower-case hexadecimal digits, drawn when the
// directory was made.
func (s *Store) NodeID() string { return s.node }

// Lookup implements replication.Store. It reads memory only.
func (s *Store) Lookup(key string) (replication.Meta, error) {
	s.served.Add(1)
	e, found := s.index.find(key)
	switch {
	case !found:
		return replication.Meta{}, replication.ErrNotFound
	case e.damaged:
		return replication.Meta{}, replication.ErrDamaged
	}
	return e.meta, nil
}

// Get implements replication.Store. It reads the key's file, what is to be written there, or what
// was written or read there not long ago. A file that
// cannot be read or does not hold what it should is replaced from the journal, if that
// still has the record; else the key is damaged from then on. Only when the machine is out of
// file handles does Get return that error, and the key stays as it is.
func (s *Store) Get(key string) (replication.Record, error) {
	if err := s.enter(); err != nil {
		return replication.Record{}, err
	}
	defer s.leave()
	return s.get(key, s.readFile)
}

// get is Get for who has entered, with readFile, or its like.
func (s *Store) get(key string, readFile fileReader) (replication.Record, error) {
	r, err := s.read(key, readFile)
	if !errors.Is(err, errMismatch) {
		return r, err
	}
	// Either the key was written meanwhile, and its file with it, or the file is damaged. With
	// the key locked, nobody writes it, and its file only if it is in the backlog.
	s.keys.lock(key)
	defer s.keys.unlock(key)
	r, err = s.read(key, readFile)
	if !errors.Is(err, errMismatch) {
		return r, err
	}
	e, _ := s.index.find(key)
	if r, found := s.readJournal(e); found {
		s.index.noteMended()
		s.logger.Warn("damaged file is replaced from the journal", "key", key, "file", keyPath(key), "error", err)
		return r, nil
	}
	s.markDamaged(e, err)
	return replication.Record{}, replication.ErrDamaged
}

// errMismatch is wrapped by errors about a file that does not hold what the index says.
var errMismatch = errors.New("not the record of the index")

// fileReader returns the record that a key's file should hold.
type fileReader func(key string, want replication.Meta) (replication.Record, error)

func (s *Store) read(key string, readFile fileReader) (replication.Record, error) {
	want, err := s.Lookup(key)
	if err != nil {
		return replication.Record{}, err
	}
	u := s.backlog.get(key)
	switch {
	case u == nil || u.version != want.Version:
		return readFile(key, want)
	case u.content != nil:
		return u.record(key), nil
	}
	if r, found := s.cache.get(key, want); found {
		return r, nil
	}
	content, err := s.contentOf(u)
	r, err := parseRead(content, err, key, want)
	if err == nil {
		s.cache.put(r)
	}
	return r, err
}

// readFile returns the record that the key's file should hold, from the cache if it was there
// not long ago.
func (s *Store) readFile(key string, want replication.Meta) (replication.Record, error) {
	if r, found := s.cache.get(key, want); found {
		return r, nil
	}
	r, err := s.readUncached(key, want)
	if err == nil {
		s.cache.put(r)
	}
	return r, err
}

// readUncached is readFile without the cache.
func (s *Store) readUncached(key string, want replication.Meta) (replication.Record, error) {
	content, err := s.volume.fs.ReadFile(keyPath(key))
	return parseRead(content, err, key, want)
}

// parseRead reads content that was read with an error or none, and that should hold a certain
// record.
func parseRead(content []byte, err error, key string, want replication.Meta) (replication.Record, error) {
	switch {
	case isBusy(err):
		return replication.Record{}, fmt.Errorf("read record: %w", err)
	case err != nil:
		return replication.Record{}, fmt.Errorf("%w: %w", errMismatch, err)
	}
	return parseExpected(content, key, want)
}

// parseExpected reads the content of a file that should hold a certain record.
func parseExpected(content []byte, key string, want replication.Meta) (replication.Record, error) {
	r, err := parseRecord(content)
	if err != nil {
		return replication.Record{}, fmt.Errorf("%w: %w", errMismatch, err)
	}
	if r.Key != key || r.Meta() != want {
		return replication.Record{}, fmt.Errorf("%w: file holds another record, at %v", errMismatch, r.Version)
	}
	return r, nil
}

// readJournal returns the record of e if the journal still has it, and has its file written
// again. The key is locked.
func (s *Store) readJournal(e entry) (replication.Record, bool) {
	if e.at == (place{}) {
		return replication.Record{}, false
	}
	payload, err := s.journal.ReadAt(e.at.position())
	if err != nil || len(payload) == 0 {
		return replication.Record{}, false
	}
	r, err := parseExpected(payload[1:], e.key, e.meta)
	if err != nil {
		return replication.Record{}, false
	}
	s.backlog.put(e.key, &unfiled{
		version: e.meta.Version, deleted: r.Deleted, at: e.at.position(), contentType: r.ContentType, content: payload[1:],
		size: e.meta.Size,
	})
	s.wake()
	return r, true
}

// markDamaged notes that the record of e cannot be read whole. The key is locked.
func (s *Store) markDamaged(e entry, cause error) {
	e.damaged = true
	s.index.set(e)
	if u := s.backlog.get(e.key); u != nil {
		s.backlog.done(e.key, u)
	}
	s.logger.Error("record is damaged", "key", e.key, "file", keyPath(e.key), "error", cause)
}

// Seen implements replication.Store.
func (s *Store) Seen() *seen.Set { return s.memory.set() }

// SeenHash implements replication.Store.
func (s *Store) SeenHash() uint64 { return s.memory.hash() }

// Unite implements replication.Store. It writes the set into the journal, and nothing if all of
// the dots are seen already.
func (s *Store) Unite(dots *seen.Set) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	err := s.volume.broken()
	if err == nil && s.memory.lacks(dots) {
		err = s.appendHistory(history{seen: dots.Clone()}, false)
	}
	if err != nil {
		return fmt.Errorf("unite seen set: %w", err)
	}
	return nil
}

// Lacking implements replication.Store. It reads memory only. Damaged records count with the
// dot that their header tells. A file that nobody has read since it was damaged is not known
// to be; a file of which Open finds no trace cannot be missed.
func (s *Store) Lacking(theirs *seen.Set) (keys []string, complete bool) {
	return s.index.lacking(theirs)
}

// Digest implements replication.Store. Damaged records are left out.
func (s *Store) Digest() uint64 {
	_, digest := s.index.sum()
	return digest
}

// Buckets implements replication.Store. Damaged records are left out.
func (s *Store) Buckets() []uint64 { return s.index.parts() }

// Contents implements replication.Store. It reads memory only, the entries of all keys, in some
// tens of milliseconds for a million.
func (s *Store) Contents(buckets ...int) []replication.Held { return s.index.contents(buckets) }

// Tombstones implements replication.Store. It reads memory only.
func (s *Store) Tombstones() iter.Seq2[string, version.Version] {
	return func(yield func(string, version.Version) bool) {
		for e := range s.index.tombstones() {
			if !yield(e.key, e.meta.Version) {
				return
			}
		}
	}
}

// TombstoneCount implements replication.Store.
func (s *Store) TombstoneCount() int { return s.index.tombstoneCount() }

// Len implements replication.Store. Damaged records are not counted.
func (s *Store) Len() int {
	live, _ := s.index.sum()
	return live
}

// Scan implements replication.Store. It yields the keys as they are when it begins, and
// costs what it yields, however many keys there are.
func (s *Store) Scan(after string) iter.Seq2[string, replication.Meta] {
	return func(yield func(string, replication.Meta) bool) {
		for e := range s.index.scan(after) {
			if !e.damaged && !yield(e.key, e.meta) {
				return
			}
		}
	}
}

// Range implements replication.Store. It reads memory only. Writes wait for it, a thousand keys
// for about a tenth of a millisecond.
func (s *Store) Range(span replication.Span) (replication.Stretch, error) {
	found, known := s.index.stretch(span)
	if !known {
		return replication.Stretch{}, fmt.Errorf("%w: of unknown keys", replication.ErrDamaged)
	}
	return found, nil
}

// Writable implements replication.Store. While the disk is full it is for telling people, not
// for refusing PUTs: the next one that is applied is what finds out that there is room again.
func (s *Store) Writable() error { return s.volume.writable() }

// Probe returns once the journal has made durable what came before the call, and a mark after it that means nothing: a disk or a
// journal that hangs keeps it waiting. Errors are those of Apply; they are an answer, too.
func (s *Store) Probe() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.applying.RLock()
	defer s.applying.RUnlock()
	if err := s.volume.broken(); err != nil {
		return err
	}
	_, err := s.journal.Append(make([]journal.Position, 0, 1), encodeHistoryEntry(history{seen: new(seen.Set)}))
	if err := s.judgeJournal(err); err != nil {
		return err
	}
	s.wake() // many of them fill a segment
	return nil
}

// Begin notes durably that this process stamps versions with origin, which is not 0, and
// returns the highest timestamp that processes of this node are known to have stamped before,
// or of a tombstone that they dropped, so that a clock can start above it: others may have the
// tombstone still. Otherwise timestamps of other nodes do not count. A process may
// begin anew with another origin. Errors are those of Apply; ErrDiskFull comes only when many
// processes have begun on a disk that had no room all the time.
func (s *Store) Begin(origin uint64) (floor version.Timestamp, err error) {
	if origin == 0 {
		return version.Timestamp{}, errors.New("origin 0 names no process")
	}
	if err := s.enter(); err != nil {
		return version.Timestamp{}, err
	}
	defer s.leave()
	begun := history{seen: new(seen.Set), own: map[uint64]bool{origin: true}}
	if err := s.appendHistory(begun, true); err != nil {
		return version.Timestamp{}, err
	}
	return s.memory.floor(), nil
}

// LoadState returns what SaveState was given last under name; if the last SaveState failed, that
// or what was there before. The error wraps fs.ErrNotExist if there is nothing; it is another
// one if the data cannot be read or is damaged.
func (s *Store) LoadState(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	s.stateMu.RLock()
	defer s.stateMu.RUnlock()
	data, err := s.volume.fs.ReadFile(join(stateDir, name))
	if err == nil {
		data, err = unseal("state", data)
	}
	if err != nil {
		return nil, fmt.Errorf("load state %s: %w", name, err)
	}
	return data, nil
}

// SaveState keeps a small piece of data, such as a list of nodes, under name: 1 to 64 lower-
// case letters, digits and "-". It returns when the data is durable; after a crash there is
// either the old data or the new. It keeps no reference to data. Errors are those of Apply; a
// full disk has the reserve for it.
func (s *Store) SaveState(name string, data []byte) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	err := s.volume.attempt(true, func() error {
		return s.volume.replace(stateDir, name, "state", seal("state", data))
	})
	if err != nil {
		return fmt.Errorf("save state %s: %w", name, err)
	}
	return nil
}

func checkName(name string) error {
	ok := 1 <= len(name) && len(name) <= 64
	for _, c := range []byte(name) {
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	}
	if !ok {
		return fmt.Errorf("name %.80q: %w", name, fs.ErrInvalid)
	}
	return nil
}

// Close waits for operations under way, writes all files that are not yet, saves what makes the
// next Open quick, and gives the directory free. What was acknowledged is durable whether it succeeds or not. Operations that
// need files return an error that wraps os.ErrClosed from then on; closing again does nothing.
func (s *Store) Close() error {
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := errors.Join(s.closeJournal(), s.lock.Close()); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

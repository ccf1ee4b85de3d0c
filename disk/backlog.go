package disk

import (
	"cmp"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// backlog is what the journal holds and files do not yet: of each key the newest record.
type backlog struct {
	limit int64 // how many bytes of content are kept; 0: backlogBytes

	mu    sync.Mutex // guards the fields below
	keys  map[string]*unfiled
	bytes int64 // of content
	size  int64 // of values, be they kept or not
	added int   // how many records came since growth was asked for
}

// backlogBytes bounds the memory for records that are not in their files. The content of more
// of them is left to the journal to keep.
const backlogBytes = 32 << 20

// backlogRecords are how many there may be before all are filed whatever the load: what each takes
// besides its content, 250 bytes or so, is bounded by this.
const backlogRecords = 1 << 18

// unfiled is what a key's file is to become. It never changes.
type unfiled struct {
	version version.Version
	deleted bool // the record is a tombstone
	gone    bool // there is no record any more: the file is to be removed
	at      journal.Position
	content []byte // nil: only in the journal
	// contentType is the record's. It means nothing without content.
	contentType string
	size        int64 // of the value
}

// record returns the record, which is key's; u has its content. The value ends the content, whatever
// the header is.
func (u *unfiled) record(key string) replication.Record {
	end := len(u.content)
	return replication.Record{
		Key: key, Version: u.version, Deleted: u.deleted, ContentType: u.contentType,
		Value: u.content[end-int(u.size) : end : end],
	}
}

func (b *backlog) put(key string, u *unfiled) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys == nil {
		b.keys = make(map[string]*unfiled)
	}
	if old := b.keys[key]; old != nil {
		b.bytes -= int64(len(old.content))
		b.size -= old.size
	}
	if b.bytes+int64(len(u.content)) > b.limit {
		u.content = nil
	}
	b.bytes += int64(len(u.content))
	b.size += u.size
	b.keys[key] = u
	b.added++
}

// growth returns how many records came since it was called last.
func (b *backlog) growth() (added int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	added, b.added = b.added, 0
	return added
}

func (b *backlog) get(key string) *unfiled {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[key]
}

// done takes u out, unless something newer has taken its place.
func (b *backlog) done(key string, u *unfiled) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.keys[key] == u {
		b.bytes -= int64(len(u.content))
		b.size -= u.size
		delete(b.keys, key)
	}
	if len(b.keys) == 0 {
		b.keys = nil // a map does not shrink
	}
}

// all returns the keys there are now, ascending.
func (b *backlog) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.keys))
}

// upTo returns the keys, ascending, of what is in segments up to the given one.
func (b *backlog) upTo(segment uint64) (keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, u := range b.keys {
		if u.at.Segment <= segment {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// total returns how many records there are, and the bytes of their values.
func (b *backlog) total() (records int, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.keys), b.size
}

func (b *backlog) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.keys)
}

// contentOf returns what is to be in the file of u.
func (s *Store) contentOf(u *unfiled) ([]byte, error) {
	if u.content != nil {
		return u.content, nil
	}
	payload, err := s.journal.ReadAt(u.at)
	if err != nil {
		return nil, err
	}
	return payload[1:], nil
}

// file writes all records of the backlog to their files, and removes those of what was dropped. It is
// a run of s.filing.
func (s *Store) file() error {
	if err := s.settleDrops(); err != nil {
		return err // what was dropped is in the backlog from here on
	}
	return s.fileKeys(s.backlog.all())
}

// fileKeys writes those records to their files which the backlog has of keys. Nothing is synced:
// until a checkpoint has done that, the journal keeps them. Each file is written in place; half
// written, it can only be seen by the next process, which writes it again before it is read.
//
// When the disk has no room for some, those stay in the backlog, and the first such error is
// returned once all have been tried: deletes make room for others. Nobody else files meanwhile.
func (s *Store) fileKeys(keys []string) error {
	var full error
	for _, key := range keys {
		if err := s.volume.broken(); err != nil {
			return err
		}
		u := s.backlog.get(key)
		if u == nil {
			continue // another round has filed it
		}
		switch err := s.fileOne(key, u); {
		case err == nil:
			if u.content != nil && !u.gone && !u.deleted {
				s.cache.put(u.record(key)) // whoever has just written it may well read it
			}
			s.backlog.done(key, u)
		case errors.Is(err, replication.ErrDiskFull):
			full = cmp.Or(full, err)
		default:
			return err
		}
	}
	return full
}

func (s *Store) fileOne(key string, u *unfiled) error {
	path := keyPath(key)
	if u.gone {
		return s.volume.remove(path)
	}
	content, err := s.contentOf(u)
	if isBusy(err) {
		return err
	}
	if err != nil { // whoever reads the key finds that its file is not what it should be
		s.logger.Error("record cannot be read from the journal", "key", key, "error", err)
		return nil
	}
	return s.volume.attempt(u.deleted, func() error {
		if dir, _ := split(path); !s.dirs[dir] {
			if err := s.volume.fs.Mkdir(dir); err != nil {
				return s.volume.judge(err)
			}
			s.dirs[dir] = true
		}
		return s.volume.judge(s.overwrite(path, content))
	})
}

// overwrite gives a file its content in place.
func (s *Store) overwrite(path string, content []byte) error {
	f, err := s.volume.fs.OpenFile(path, inPlace)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil && info.Size() > int64(len(content)) {
			err = f.Truncate(int64(len(content)))
		}
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

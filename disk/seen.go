package disk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// What this node has seen is kept in two files: a snapshot, and a log of versions since.
//
// The log has a fixed length, so that appending to it needs no room on the disk and changes no
// length that a sync would have to write as well. It is filled from the front; when it is
// nearly full a new snapshot is written and synced, and filling starts over at the front. The
// old entries that are left behind the new ones do no harm: each says that a version was seen,
// and the snapshot says so too. That makes reading simple as well: every entry whose checksum
// holds is taken, wherever it is, and torn ones are skipped. An entry is written only after
// the record it tells of is durable, so it is true however it got to the disk.
//
// While the disk has no room for a snapshot, it is put off, by Open and Close too: filling goes
// on behind the last entry that the snapshot lacks, and never over one of those.
const (
	snapshotFile = "seen"
	logFile      = "seen.log"
	// damagedSuffix marks a snapshot that could not be read.
	damagedSuffix = ".damaged"
	// entrySize is a version and the CRC32C of it.
	entrySize = version.Size + 4
	// logEntries is the capacity of the log, 2 MiB.
	logEntries = 64 << 10
)

// history is what must not be forgotten: the dots seen, the origins that processes of this
// node stamped with, and the highest timestamp that is known of any of those.
type history struct {
	seen  *seen.Set
	own   map[uint64]bool
	floor version.Timestamp
}

// holds reports whether noting v would change nothing.
func (h *history) holds(v version.Version) bool {
	return h.seen.Has(v.Dot) && !(h.own[v.Origin] && v.Timestamp.Compare(h.floor) > 0)
}

// noteAll adds versions, in any order. A version without a counter stands for an origin of this
// node.
func (h *history) noteAll(versions []version.Version) {
	dots := make([]version.Dot, 0, len(versions))
	for _, v := range versions {
		if v.Counter == 0 {
			h.own[v.Origin] = true
		} else {
			dots = append(dots, v.Dot)
		}
	}
	h.seen.Union(seen.Of(dots...))
	for _, v := range versions { // now that all own origins are known
		if v.Counter > 0 && h.own[v.Origin] && v.Timestamp.Compare(h.floor) > 0 {
			h.floor = v.Timestamp
		}
	}
}

func (h *history) clone() history {
	return history{seen: h.seen.Clone(), own: maps.Clone(h.own), floor: h.floor}
}

// encode returns floor (8 and 4 bytes), the number of own origins (4) and each of them (8) in
// ascending order, then the set. decodeHistory accepts nothing else.
func (h *history) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(h.floor.Wall))
	b = binary.BigEndian.AppendUint32(b, h.floor.Logical)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.own)))
	for _, origin := range slices.Sorted(maps.Keys(h.own)) {
		b = binary.BigEndian.AppendUint64(b, origin)
	}
	b, _ = h.seen.AppendBinary(b) // its error is always nil
	return b
}

func decodeHistory(b []byte) (history, error) {
	if len(b) < 16 {
		return history{}, fmt.Errorf("%w: history cut short", errFormat)
	}
	h := history{own: make(map[uint64]bool)}
	h.floor = version.Timestamp{Wall: int64(binary.BigEndian.Uint64(b)), Logical: binary.BigEndian.Uint32(b[8:])}
	n, b := int(binary.BigEndian.Uint32(b[12:])), b[16:]
	if n < 0 || n > len(b)/8 || h.floor.Wall < 0 {
		return history{}, fmt.Errorf("%w: history of %d origins", errFormat, n)
	}
	previous := uint64(0)
	for range n {
		origin := binary.BigEndian.Uint64(b)
		if origin <= previous {
			return history{}, fmt.Errorf("%w: history: origins out of order", errFormat)
		}
		h.own[origin] = true
		previous, b = origin, b[8:]
	}
	set, rest, err := seen.Decode(b)
	if err != nil || len(rest) > 0 {
		return history{}, fmt.Errorf("%w: history: %w", errFormat, cmp.Or(err, errors.New("too long")))
	}
	h.seen = set
	return h, nil
}

// seenLog keeps the history durably.
type seenLog struct {
	volume   *volume
	capacity int // in entries
	file     file
	commits  group
	// used is how many entries from the front must not be overwritten: behind them is none that
	// the snapshot lacks. Written by who runs commits, or runs alone there.
	used atomic.Int64
	late bool // a snapshot was put off, and that was logged; guarded like used
	// kept is what the used entries held when they were read, until start.
	kept []byte

	mu      sync.Mutex // guards the fields below
	durable history    // what is told: all of it would survive a power cut
	pending []version.Version
	// borrowed: there was no room to note the floor, which a record on disk tells alone.
	borrowed bool
}

// readSeenLog reads what the files hold. It is not told as durable yet: see start.
func readSeenLog(v *volume, capacity int) (*seenLog, error) {
	l := &seenLog{volume: v, capacity: capacity}
	err := l.readSnapshot()
	if err != nil {
		return nil, err
	}
	log, err := v.fs.ReadFile(logFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("seen log: %w", err)
	}
	versions, torn := parseLog(log)
	if torn > 0 {
		v.logger.Info("seen log has torn entries, as a crash leaves them", "entries", torn)
	}
	l.kept = log[:entrySize*l.durable.unsaved(log)]
	l.durable.noteAll(versions)
	l.used.Store(int64(len(l.kept) / entrySize))
	return l, nil
}

// unsaved returns how many entries from the front of log must be kept, as h, the snapshot,
// lacks something of the last of them. An origin begins before its dots, so a snapshot with one
// of its dots has the origin, too.
func (h *history) unsaved(log []byte) int {
	kept, at := 0, 0
	for entry := range slices.Chunk(log, entrySize) {
		at++
		v, ok := parseEntry(entry)
		saved := v.Counter > 0 && h.holds(v) || v.Counter == 0 && h.own[v.Origin]
		if ok && !saved {
			kept = at
		}
	}
	return kept
}

// readSnapshot reads the snapshot. A damaged one is kept under another name: the set is then
// smaller than what this node told others, who can tell that, but no dot in it is wrong.
func (l *seenLog) readSnapshot() error {
	l.durable = history{seen: new(seen.Set), own: make(map[uint64]bool)}
	data, err := l.volume.fs.ReadFile(snapshotFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("seen set: %w", err)
	}
	payload, err := unseal("seen", data)
	if err == nil {
		var h history
		if h, err = decodeHistory(payload); err == nil {
			l.durable = h
			return nil
		}
	}
	l.volume.logger.Error("seen set is damaged, going on with what records and log tell",
		"error", err, "kept", snapshotFile+damagedSuffix)
	err = l.volume.fs.Rename(snapshotFile, snapshotFile+damagedSuffix)
	if err != nil && !isFull(err) { // with no room for the name, it stays until there is a new one
		return fmt.Errorf("rename damaged seen set: %w", err)
	}
	return nil
}

// parseLog returns the versions in a log and how many entries are neither whole nor blank.
func parseLog(log []byte) (versions []version.Version, torn int) {
	blank := make([]byte, entrySize)
	for entry := range slices.Chunk(log, entrySize) {
		if v, ok := parseEntry(entry); ok {
			versions = append(versions, v)
		} else if !bytes.Equal(entry, blank[:len(entry)]) {
			torn++
		}
	}
	return versions, torn
}

// parseEntry returns the version in an entry of a log, and whether it is a whole one.
func parseEntry(entry []byte) (version.Version, bool) {
	v, err := version.Decode(entry)
	ok := len(entry) == entrySize && err == nil && v.Origin > 0 &&
		crc32.Checksum(entry[:version.Size], castagnoli) == binary.BigEndian.Uint32(entry[version.Size:])
	return v, ok
}

func encodeLog(versions []version.Version) []byte {
	b := make([]byte, 0, len(versions)*entrySize)
	for _, v := range versions {
		start := len(b)
		b, _ = v.AppendBinary(b) // its error is always nil
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	}
	return b
}

// start adds the versions of records that were found on disk and makes everything durable.
// What is in the files may have been written by a process that died before it synced them, so
// a snapshot is written in any case; without room for it, the log is written again instead.
func (l *seenLog) start(found []version.Version) error {
	next := l.durable.clone()
	next.noteAll(found)
	unsaved := l.adopt(next)
	if unsaved != nil && !errors.Is(unsaved, replication.ErrDiskFull) {
		return unsaved
	}
	size := int64(l.capacity) * entrySize
	f, err := l.volume.fs.OpenFile(logFile, readWrite)
	if err == nil {
		if info, err := f.Stat(); err == nil && info.Size() == size {
			l.file = f
			if unsaved != nil {
				return l.resume(found, next.floor)
			}
			return nil
		}
		closeRead(f)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seen log: %w", err)
	}
	if unsaved != nil { // the log that is there must not be replaced
		return unsaved
	}
	// Synced in full: from here on a sync of an entry has no length or place to write.
	if err := l.volume.replace(topDir, logFile, "log", make([]byte, size)); err != nil {
		return fmt.Errorf("seen log: %w", err)
	}
	if l.file, err = l.volume.fs.OpenFile(logFile, readWrite); err != nil {
		return fmt.Errorf("seen log: %w", err)
	}
	return nil
}

// resume goes on filling the log where it was left. The entries that the snapshot lacks are
// written once more, each over itself, as a sync alone does not help after one that failed.
//
// Of the versions found, those with no room in the log are not told. Their records are durable
// and will be found again; until then the clock must start above them all the same.
func (l *seenLog) resume(found []version.Version, floor version.Timestamp) error {
	all := len(found)
	found = found[:min(len(found), int(max(0, l.limit()-l.used.Load())))]
	if log := append(l.kept, encodeLog(found)...); len(log) > 0 {
		if err := l.write(log, 0); err != nil {
			closeRead(l.file)
			return err
		}
	}
	l.kept = nil
	l.used.Add(int64(len(found)))
	l.durable.noteAll(found)
	l.durable.floor = floor
	l.borrowed = len(found) < all
	return nil
}

// write writes entries into the log, durably.
func (l *seenLog) write(entries []byte, offset int64) error {
	if _, err := l.file.WriteAt(entries, offset); err != nil {
		return l.volume.latch(fmt.Errorf("write %s: %w", logFile, err))
	}
	if err := l.file.Sync(); err != nil {
		return l.volume.latch(fmt.Errorf("sync %s: %w", logFile, err))
	}
	return nil
}

// save makes h the snapshot, durably. It is small and may use the reserve. Nobody else runs
// commits.
func (l *seenLog) save(h *history) error {
	err := l.volume.attempt(true, func() error {
		return l.volume.replace(topDir, snapshotFile, "seen", seal("seen", h.encode()))
	})
	if err == nil {
		l.late = false
		return nil
	}
	if errors.Is(err, replication.ErrDiskFull) && !l.late {
		l.late = true
		l.volume.logger.Warn("no room for a snapshot of the seen set, its log is kept instead", "error", err)
	}
	return fmt.Errorf("seen set: %w", err)
}

// limit is how many entries may be used before a snapshot is due. The quarter above it is for
// writes that are under way when the disk has no room for a snapshot.
func (l *seenLog) limit() int64 { return int64(l.capacity) * 3 / 4 }

// room returns nil if there is room in the log for writes that begin now. It writes a snapshot
// if one is due, and returns an error that wraps replication.ErrDiskFull if that fails for
// want of room.
func (l *seenLog) room() error {
	if l.used.Load() <= l.limit() {
		return nil
	}
	if err := l.commits.do(l.commit); err != nil {
		return err
	}
	if l.used.Load() > l.limit() {
		return fmt.Errorf("%w: seen log", replication.ErrDiskFull)
	}
	return nil
}

// add marks versions as seen. It returns when that is durable; all who wait share a sync. The
// records of the versions, or newer ones of their keys, are durable.
func (l *seenLog) add(versions ...version.Version) error {
	l.mu.Lock()
	l.pending = append(l.pending, versions...)
	l.mu.Unlock()
	return l.commits.do(l.commit)
}

// commit makes pending durable and then tells it. It is a run of l.commits.
func (l *seenLog) commit() error {
	if err := l.volume.broken(); err != nil {
		return err
	}
	l.mu.Lock()
	batch := l.pending
	l.pending = nil
	next := l.durable
	l.mu.Unlock()

	used := l.used.Load()
	fits := used+int64(len(batch)) <= int64(l.capacity)
	if used+int64(len(batch)) > l.limit() {
		next = next.clone()
		next.noteAll(batch)
		err := l.adopt(next)
		if err == nil {
			return nil
		}
		if !errors.Is(err, replication.ErrDiskFull) || len(batch) == 0 {
			return err
		}
		if !fits {
			return l.volume.latch(fmt.Errorf("seen log: %w", err))
		}
	}
	if len(batch) == 0 {
		return nil
	}
	if err := l.write(encodeLog(batch), used*entrySize); err != nil {
		return err
	}
	l.used.Add(int64(len(batch)))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable.noteAll(batch)
	return nil
}

// unite marks the dots of s as seen. It returns when that is durable, by a snapshot: a set can
// hold more than there is room for in the log, and its callers are few and far between.
// What waits for the next commit stays there, so that nobody else suffers if there is no room.
func (l *seenLog) unite(s *seen.Set) error {
	return l.commits.alone(func() error {
		if err := l.volume.broken(); err != nil {
			return err
		}
		l.mu.Lock()
		next := l.durable // nobody changes it but who runs commits
		l.mu.Unlock()
		if s.Missing(next.seen) == 0 {
			return nil
		}
		next = next.clone()
		next.seen.Union(s)
		return l.adopt(next)
	})
}

// adopt makes next, which holds all that is durable, the snapshot, and then tells it. The log
// starts over. On an error nothing changes. Nobody else runs commits.
func (l *seenLog) adopt(next history) error {
	if err := l.save(&next); err != nil {
		return err
	}
	l.used.Store(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable = next
	l.borrowed = false
	return nil
}

// begin notes that this node stamps with origin and returns the floor of its clock.
func (l *seenLog) begin(origin uint64) (version.Timestamp, error) {
	if origin == 0 {
		return version.Timestamp{}, errors.New("origin 0 names no process")
	}
	// One entry may go into the last quarter: without it, a node could not even be started.
	if err := l.room(); err != nil && l.used.Load() >= int64(l.capacity) {
		return version.Timestamp{}, err
	}
	if err := l.add(version.Version{Dot: version.Dot{Origin: origin}}); err != nil {
		return version.Timestamp{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.floor, nil
}

func (l *seenLog) holds(v version.Version) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.holds(v)
}

// keeps reports whether nothing of v is forgotten when its record is gone.
func (l *seenLog) keeps(v version.Version) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.holds(v) && !l.borrowed
}

func (l *seenLog) set() *seen.Set {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.seen.Clone()
}

func (l *seenLog) hash() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.seen.Hash()
}

// close writes a last snapshot, unless the volume is latched, and closes the log. With no room
// for it, the log is enough. Nobody uses l any more.
func (l *seenLog) close() error {
	var err error
	if l.used.Load() > 0 && l.volume.broken() == nil {
		if err = l.save(&l.durable); errors.Is(err, replication.ErrDiskFull) {
			err = nil
		}
	}
	closeRead(l.file) // what was acknowledged is synced
	return err
}

package disk

import (
	"errors"
	"time"

	"github.com/protocol7/snakes/replication"
)

// Stats is how a Store is, and what it has met since Open.
type Stats struct {
	// JournalBytes and JournalSegments are the length and number of the journal's segments.
	JournalBytes    int64
	JournalSegments int
	// Unfiled is how many records, removals included, are in the journal and not in their files
	// yet, UnfiledBytes the bytes of their values.
	Unfiled      int
	UnfiledBytes int64
	// Checkpoints is how many were completed, LastCheckpoint when the last one was; zero if
	// there was none.
	Checkpoints    uint64
	LastCheckpoint time.Time
	// Latched: the disk failed, and nothing is written until restart. Full: it had no room for
	// the last value.
	Latched, Full bool
	// NoRoom is how often there was no room for something.
	NoRoom uint64
	// Damaged is how many records cannot be read now.
	Damaged int
	// DamageFound is how many damaged records were found, those included that Open found,
	// DamageMended how many were replaced since, by the journal's copy or another node's or by a
	// newer record.
	DamageFound, DamageMended uint64
}

// Stats returns how the store is. It reads memory only, at a cost that does not grow with it.
func (s *Store) Stats() Stats {
	stats := Stats{
		JournalBytes: s.journal.Size(), JournalSegments: s.journal.Count(),
		Checkpoints: s.ended.Load(), NoRoom: s.volume.noRoom.Load(),
	}
	if at := s.endedAt.Load(); at != 0 {
		stats.LastCheckpoint = time.Unix(0, at)
	}
	stats.Unfiled, stats.UnfiledBytes = s.backlog.total()
	err := s.volume.writable()
	stats.Latched, stats.Full = errors.Is(err, replication.ErrReadOnly), errors.Is(err, replication.ErrDiskFull)
	stats.Damaged, stats.DamageFound, stats.DamageMended = s.index.damaged()
	return stats
}

// damage counts damaged records.
type damage struct {
	entries       int // in the index now
	found, mended uint64
}

// note enters that a record was damaged or not, and is now.
func (d *damage) note(was, is bool) {
	switch {
	case is && !was:
		d.found++
	case was && !is:
		d.mended++
	}
}

// noteMended enters that a damaged file was found and has got its content again.
func (x *index) noteMended() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.damage.found++
	x.damage.mended++
}

// countDamage begins to count with what is damaged now: what the journal had was none.
func (x *index) countDamage() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.damage.found, x.damage.mended = uint64(x.damage.entries+len(x.unreadable)), 0
}

// damaged returns how many records are damaged now, were found to be, and were mended.
func (x *index) damaged() (now int, found, mended uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.damage.entries + len(x.unreadable), x.damage.found, x.damage.mended
}

// Space returns the room on the volume of the data directory; the zero Room if that is not known. See RoomAt.
func (s *Store) Space() Room {
	room, err := RoomAt(s.dir)
	if err != nil {
		return Room{} // it is for people to look at; a disk that fails says so when it is written
	}
	return room
}

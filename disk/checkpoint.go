package disk

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
)

// Of journal since the last checkpoint, or as many bytes as the last save had if that is more,
// bring about the next: so saves never write more than the journal does. See Config.
const (
	DefaultCheckpointBytes = 128 << 20
	MinCheckpointBytes     = 1 << 20
)

const (
	// maxJournal checkpoints' worth of segments may be there before writers wait for one. Two
	// are there in the course of things, for the older save and the newer.
	maxJournal = 4
	// filingPause is between two rounds of filing, at least.
	filingPause = 100 * time.Millisecond
	// busyWrites in a filingPause are a load under which filing is put off: opening and closing a
	// file costs more than all the rest of a write, and keys that are written again need one file.
	busyWrites = 25
	// busyRate is how many reads and writes in a second are a load that filing leaves the processors to.
	busyRate = 250
	// fewFiles are written at a time, and then restShare times as long nothing is while there is load.
	// A thousand keys take a second then.
	fewFiles  = 16
	restShare = 9
	// hurryShare is restShare once a checkpoint has begun, which is to end before the next is due.
	hurryShare = 3
	// looksInPause is how often in a filingPause a round looks whether writers are back.
	looksInPause = 5
	// retryPause is between two rounds of filing while there is no room.
	retryPause = time.Second
)

// wake has tend file what is in the backlog.
func (s *Store) wake() {
	select {
	case s.awake <- struct{}{}:
	default: // it is about to
	}
}

// tend files records and makes checkpoints until stop is closed.
func (s *Store) tend(stop <-chan struct{}) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-stop:
			return
		case <-s.awake:
		}
		again := filingPause
		work := s.round
		if s.canPutOff() {
			work = s.prepareSegment
			s.wake()
		}
		if err := work(); err != nil {
			if s.volume.broken() != nil {
				return // nothing is written any more
			}
			again = retryPause
			s.wake()
		}
		pause.Reset(again)
		select {
		case <-stop:
			return
		case <-pause.C:
		}
	}
}

// canPutOff reports whether filing may wait for another filingPause: so much is being written that
// many keys will be written again, and there is room for more.
func (s *Store) canPutOff() bool {
	return s.backlog.growth() >= busyWrites && !s.mustFile() && s.sinceCheckpoint() < s.checkpointDue()
}

// mustFile reports whether all of the backlog is to be filed now: it has grown too long, or the disk
// is full, and then there is nothing to gain by waiting.
func (s *Store) mustFile() bool {
	return s.backlog.len() >= s.backlogRecords || !s.volume.hasRoom()
}

// round does what there is to do now.
func (s *Store) round() error {
	var err error
	switch {
	case s.mustFile():
		err = s.filing.do(s.file)
	case s.sinceCheckpoint() < s.checkpointDue():
		err = s.fileWhileQuiet()
	}
	if prepared := s.prepareSegment(); err == nil {
		err = prepared
	}
	if err == nil && s.sinceCheckpoint() >= s.checkpointDue() {
		err = s.checkpoints.do(s.checkpoint)
	}
	return err
}

// fileWhileQuiet is file, but leaves the rest to another round once writers are back: they would have
// to share the processors with it for as long as it takes to write all that a burst left behind.
func (s *Store) fileWhileQuiet() error {
	if err := s.filing.alone(func() error { return s.settleDrops() }); err != nil {
		return err // what was dropped is in the backlog from here on
	}
	s.backlog.growth() // what came until now may wait no longer
	looked, back := time.Now(), false
	err := s.fileAFewAtATime(s.backlog.all(), restShare, func() bool {
		if since := time.Since(looked); since >= filingPause/looksInPause {
			back = s.backlog.growth() >= busyWrites/looksInPause
			looked = time.Now()
		}
		return !back
	})
	if back {
		s.wake()
	}
	return err
}

// fileAFewAtATime is fileKeys with rests while there is load, each rest times as long as the filing
// before it took. It goes on as long as goOn says so.
func (s *Store) fileAFewAtATime(keys []string, rest time.Duration, goOn func() bool) error {
	var full error
	load := s.watchLoad()
	for few := range slices.Chunk(keys, fewFiles) {
		began := time.Now()
		err := s.filing.alone(func() error { return s.fileKeys(few) })
		if errors.Is(err, replication.ErrDiskFull) {
			full = cmp.Or(full, err) // as in fileKeys
		} else if err != nil {
			return err
		}
		if !goOn() {
			return full
		}
		if load.isHigh() && !s.hurries() {
			if err := s.prepareSegment(); err != nil {
				return err
			}
			s.rest(rest * time.Since(began))
		}
	}
	return full
}

// hurries reports whether writers are about to wait for a checkpoint.
func (s *Store) hurries() bool {
	return s.journal.Size() >= maxJournal*s.checkpointDue()*3/4 || !s.volume.hasRoom()
}

// rest waits for d, or until the store is closed.
func (s *Store) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.stop:
	}
}

// load tells how much is asked of a store.
type load struct {
	done  *atomic.Int64
	since time.Time
	from  int64
}

func (s *Store) watchLoad() load { return load{&s.served, time.Now(), s.served.Load()} }

// isHigh reports whether there was much to do since it was asked last.
func (l *load) isHigh() bool {
	now, done := time.Now(), l.done.Load()
	high := float64(done-l.from) >= busyRate*now.Sub(l.since).Seconds() && done > l.from
	l.since, l.from = now, done
	return high
}

// prepareSegment has the journal's next segment ready before it is needed.
func (s *Store) prepareSegment() error { return s.judgeJournal(s.journal.Prepare()) }

// checkpointDue is how many bytes of journal bring about the next checkpoint.
func (s *Store) checkpointDue() int64 { return max(s.checkpointBytes, s.savedBytes.Load()) }

func (s *Store) sinceCheckpoint() int64 {
	_, current := s.journal.Segments()
	return int64(current-s.saved.Load()) * s.segmentBytes
}

// keepUp waits for a checkpoint if the journal has outgrown its bounds. It returns an error if
// the store is latched.
func (s *Store) keepUp() error {
	if err := s.volume.broken(); err != nil {
		return err
	}
	if s.journal.Size() < maxJournal*s.checkpointDue() {
		return nil
	}
	err := s.checkpoints.do(s.checkpoint)
	if errors.Is(err, replication.ErrDiskFull) { // what is written next takes room that is there, or is refused
		return nil
	}
	return err
}

// findRoom returns nil if values can be taken, now that the disk is not full or no longer. It
// is full until every record has found its room in a file, and there is a reserve for when it
// is full the next time: for deletes, the room left in the journal, and a file for the rest.
func (s *Store) findRoom() error {
	if s.volume.hasRoom() {
		return nil
	}
	err := s.filing.do(s.file)
	if err == nil {
		err = s.volume.refill()
	}
	if err == nil {
		err = s.prepareSegment()
	}
	if err == nil {
		s.volume.foundRoom()
	}
	return err
}

// checkpoint takes what old segments of the journal tell to where it rests, and removes them.
// In this order:
//
//  1. a new segment begins, with the history: all that is older is in the ones before;
//  2. every record of those is written to its file;
//  3. all files, and the names that lead to them, are synced;
//  4. the index is saved, in place of the older of the two saves, and synced;
//  5. the segments are removed that neither save needs.
//
// So whatever happens at any time, there is a save, or files that can be read instead, and
// every segment with what they lack. It is a run of s.checkpoints.
func (s *Store) checkpoint() error {
	ended, snapshot, err := s.divide()
	if err != nil {
		return err
	}
	if err = s.filing.alone(func() error { return s.settleDrops() }); err == nil {
		err = s.fileAFewAtATime(s.backlog.upTo(ended), hurryShare, func() bool { return true })
	}
	if err != nil && !errors.Is(err, replication.ErrDiskFull) || len(s.backlog.upTo(ended)) > 0 {
		return err
	}
	if err := s.volume.broken(); err != nil {
		return err
	}
	if err := s.keysDirectory.SyncAll(); err != nil {
		return s.volume.latch(err)
	}
	previous := s.saved.Load()
	if err := s.save(ended, snapshot); err != nil {
		return err
	}
	if err := s.journal.Remove(previous); err != nil {
		return s.volume.judge(err)
	}
	s.ended.Add(1)
	s.endedAt.Store(time.Now().UnixNano())
	return nil
}

// divide ends the segment of the journal and returns its number, and what there was then.
func (s *Store) divide() (ended uint64, snapshot contents, err error) {
	s.applying.Lock()
	defer s.applying.Unlock()
	if err := s.volume.broken(); err != nil {
		return 0, contents{}, err
	}
	if ended, err = s.journal.Rotate(); err != nil {
		return 0, contents{}, s.judgeJournal(err)
	}
	h := s.memory.copy()
	if _, err = s.journal.Append(nil, encodeHistoryEntry(h)); err != nil {
		return 0, contents{}, s.judgeJournal(err)
	}
	s.unsaved.Store(false)
	snapshot = s.index.whole()
	snapshot.history = h
	return ended, snapshot, nil
}

// appendHistory makes what h adds durable, and then tells it. last: it may take room that is
// left to nothing else.
func (s *Store) appendHistory(h history, last bool) error {
	s.applying.RLock()
	defer s.applying.RUnlock()
	if err := s.volume.broken(); err != nil {
		return err
	}
	payload := encodeHistoryEntry(h)
	var err error
	if last {
		err = s.journal.AppendLast(payload)
	} else {
		_, err = s.journal.Append(make([]journal.Position, 0, 1), payload)
	}
	if err != nil {
		return s.judgeJournal(err)
	}
	s.unsaved.Store(true)
	s.memory.merge(h)
	return nil
}

// closeJournal ends filing and makes a last checkpoint, so that the next Open is quick, unless
// the store is latched. With no room for it, the journal is enough. Nobody uses the store.
func (s *Store) closeJournal() error {
	close(s.stop)
	s.tending.Wait()
	var err error
	if s.volume.broken() == nil && (s.unsaved.Load() || s.backlog.len() > 0 || s.drops.count.Load() > 0) {
		if err = s.checkpoint(); errors.Is(err, replication.ErrDiskFull) {
			err = nil
		}
	}
	closeRead(s.keysDirectory)
	if closed := s.journal.Close(); closed != nil && err == nil && s.volume.broken() == nil {
		err = fmt.Errorf("journal: %w", closed)
	}
	return err
}

package disk

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/protocol7/snakes/replication"
)

const (
	// scrubPeriod is about how long the scrub takes to read everything once. Shorter, and it
	// wears a disk for nothing; longer, and a second copy may be damaged before the first is found.
	scrubPeriod = 7 * 24 * time.Hour
	// maxScrubPause is the longest pause between two records, so that it follows when keys become
	// many.
	maxScrubPause = time.Minute
	// scrubBytes limits what it reads in a second, whatever the period.
	scrubBytes = 8 << 20
	// scrubStretch is how many keys it looks up at a time. It holds on to no more of the index.
	scrubStretch = 256
)

// scrub reads every file again and again, slowly, until stop is closed, so that damage is found
// while other nodes still have what it took: a record that is known to be damaged is missing
// from the digest, which makes them compare. It begins anywhere, since a process that is
// restarted every day should get to the last key as often as to the first.
func (s *Store) scrub(stop <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := func(d time.Duration) (ended bool) {
		timer.Reset(d)
		select {
		case <-stop:
			return true
		case <-timer.C:
			return false
		}
	}
	if pause(maxScrubPause) { // a start has enough to do
		return
	}
	for after := s.somewhere(); ; {
		entries := s.next(after)
		for _, e := range entries {
			if pause(s.scrubPause(e.meta.Size)) {
				return
			}
			s.verify(e.key)
		}
		if len(entries) == scrubStretch {
			after = entries[scrubStretch-1].key
			continue
		}
		if after = ""; pause(maxScrubPause) {
			return
		}
	}
}

// somewhere returns any of the keys, none rarer than others: keys have prefixes in common, so that
// most made-up ones are below or above all of them. It looks at half of the index, once.
func (s *Store) somewhere() string {
	skip := rand.IntN(s.index.len() + 1)
	for e := range s.index.scan("") {
		if skip == 0 {
			return e.key
		}
		skip--
	}
	return ""
}

// next returns the entries that the scrub looks at now, up to scrubStretch after a key. Holding on
// to a scan for a week would keep what the index was when it began.
func (s *Store) next(after string) []entry {
	var next []entry
	for e := range s.index.scan(after) {
		if next = append(next, e); len(next) == scrubStretch {
			break
		}
	}
	return next
}

// scrubPause returns how long to wait before a record of that size is read: an even pace, unless
// that is too slow to notice that keys became many, or too fast for the disk.
func (s *Store) scrubPause(size int64) time.Duration {
	even := scrubPeriod / time.Duration(s.index.len()+1)
	return max(min(even, maxScrubPause), time.Duration(size)*time.Second/scrubBytes)
}

// verify reads the record of key from its file, if it is there by now, whatever the cache has.
func (s *Store) verify(key string) {
	if !s.use.TryRLock() { // not enter: who closes the store has that locked, and waits for the scrub
		return
	}
	defer s.leave()
	if _, err := s.get(key, s.readUncached); err != nil && !errors.Is(err, replication.ErrNotFound) && !errors.Is(err, replication.ErrDamaged) {
		s.logger.Debug("record not verified", "key", key, "error", err) // damage is told by get
	}
}

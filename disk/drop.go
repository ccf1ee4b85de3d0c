package disk

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication/version"
)

// drops is the tombstones that were dropped and of which the journal does not tell yet.
type drops struct {
	count   atomic.Int64
	mu      sync.Mutex // held while the journal is told; guards waiting
	waiting map[string]version.Version
}

func (d *drops) add(key string, v version.Version) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = make(map[string]version.Version)
	}
	d.waiting[key] = v
	d.count.Store(int64(len(d.waiting)))
}

// Drop implements replication.Store. Different keys are dropped side by side.
//
// It touches no file. The journal is told before the next round of filing, of all that were
// dropped at once, and files are removed only when that is durable. So after a crash either the
// tombstone is back, from the journal or with its file, or replay, from whatever save, comes to
// where nothing that an older entry tells of the key is left. Should the tombstone's own entry
// be damaged, this one still stands for it. A removal that a power cut undoes is done again,
// since the segment with the entry is kept until the removal is synced.
func (s *Store) Drop(key string, v version.Version) (bool, error) {
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.leave()
	s.keys.lock(key)
	defer s.keys.unlock(key)
	if err := s.volume.broken(); err != nil {
		return false, err
	}
	e, found := s.index.find(key)
	if !found || !e.meta.Deleted || e.meta.Version != v || !s.memory.holds(v) {
		return false, nil
	}
	s.drops.add(key, v)
	s.index.remove(key)
	s.wake()
	return true, nil
}

// settleDrops tells the journal of dropped tombstones, if one of the keys is among them: what
// is written to it then must come later. Without keys, it tells of all in any case.
func (s *Store) settleDrops(keys ...string) error {
	d := &s.drops
	if d.count.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	due := len(keys) == 0
	for _, key := range keys {
		_, found := d.waiting[key]
		due = due || found
	}
	if !due || len(d.waiting) == 0 {
		return nil
	}
	s.applying.RLock()
	defer s.applying.RUnlock()
	keys = keys[:0:0]
	payloads := make([][]byte, 0, len(d.waiting))
	for key, v := range d.waiting {
		keys = append(keys, key)
		payloads = append(payloads, encodeDrop(key, v))
	}
	at, err := s.journal.Append(make([]journal.Position, 0, len(keys)), payloads...)
	if err != nil {
		return s.judgeJournal(err)
	}
	s.unsaved.Store(true)
	for i, key := range keys {
		s.memory.noteDrop(d.waiting[key])
		s.backlog.put(key, &unfiled{version: d.waiting[key], gone: true, at: at[i]})
	}
	clear(d.waiting)
	d.count.Store(0)
	return nil
}

// remove removes a file, if it is there. The name may be back after a power cut.
func (v *volume) remove(name string) error {
	err := v.fs.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return v.judge(err)
}

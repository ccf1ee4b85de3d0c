package disk

import (
	"slices"
	"strings"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

const (
	// maxBatch is how many records share one round of writing.
	maxBatch = 1024
	// maxWriters is how many files of one batch are written, or directories synced, at once.
	maxWriters = 8
)

// Apply implements replication.Store. A batch acts like its records one by one, in order; of a
// key that is in it twice only the last record is written. Different batches run side by side
// unless they share a key.
//
// What is synced, in this order:
//
//  1. each new file in tmp, so that no name ever leads to half a record;
//  2. "keys", if a directory in it is new;
//  3. after the renames, once each, the directories renamed into; now the record is durable,
//     and Lookup and Get tell it;
//  4. the seen log, shared with all who wait; now the dot is durable and Seen tells it.
//
// A dot is never durable before its record: a node that has a dot is never sent the record
// again.
func (s *Store) Apply(records []replication.Record) []replication.Outcome {
	outcomes := make([]replication.Outcome, 0, len(records))
	for batch := range slices.Chunk(records, maxBatch) {
		outcomes = append(outcomes, s.applyBatch(batch)...)
	}
	return outcomes
}

func (s *Store) applyBatch(records []replication.Record) []replication.Outcome {
	outcomes := make([]replication.Outcome, len(records))
	var keys []string
	for i, r := range records {
		if outcomes[i].Err = check(r); outcomes[i].Err == nil {
			keys = append(keys, r.Key)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)

	err := s.enter()
	if err == nil {
		defer s.leave()
		s.keys.lock(keys...)
		defer s.keys.unlock(keys...)
		if err = s.volume.broken(); err == nil {
			err = s.seen.room() // now, while nothing is written that would have to be noted there
		}
	}
	if err != nil {
		for i := range outcomes {
			if outcomes[i].Err == nil {
				outcomes[i].Err = err
			}
		}
		return outcomes
	}
	writes := s.plan(records, outcomes)
	s.write(writes)
	for _, w := range writes {
		if w.err == nil {
			s.index.set(entry{key: w.record.Key, meta: w.record.Meta()})
		}
	}
	s.markSeen(records, outcomes, writes)
	return outcomes
}

// write is a record on its way to its file.
type write struct {
	record replication.Record
	path   string
	staged string
	err    error // once set, the write is over
}

// plan decides what becomes of each record and fills in its outcome, should the writes that it
// returns succeed. There is at most one for each key.
func (s *Store) plan(records []replication.Record, outcomes []replication.Outcome) map[string]*write {
	writes := make(map[string]*write)
	for i, r := range records {
		if outcomes[i].Err != nil {
			continue
		}
		w := writes[r.Key]
		current, exists := s.index.find(r.Key)
		if w != nil {
			current, exists = entry{meta: w.record.Meta()}, true
		}
		newer := r.Version.Compare(current.meta.Version)
		if exists && (newer < 0 || newer == 0 && !current.damaged) {
			outcomes[i].Current = current.meta
			continue
		}
		if w == nil {
			w = &write{path: keyPath(r.Key)}
			writes[r.Key] = w
		}
		w.record = r
		outcomes[i].Current = r.Meta()
	}
	return writes
}

// write brings records to their files. Each write ends with an error or is durable.
func (s *Store) write(writes map[string]*write) {
	byDir := make(map[string][]*write)
	all := make([]*write, 0, len(writes))
	for _, w := range writes {
		all = append(all, w)
		dir := w.path[:strings.LastIndexByte(w.path, '/')]
		byDir[dir] = append(byDir[dir], w)
	}
	each(all, maxWriters, func(w *write) {
		w.err = s.volume.attempt(w.record.Deleted, func() (err error) {
			w.staged, err = s.volume.stage("record", encodeHeader(w.record), w.record.Value)
			return err
		})
	})
	dirs := make([]string, 0, len(byDir))
	for dir := range byDir {
		dirs = append(dirs, dir)
	}
	each(dirs, maxWriters, func(dir string) {
		staged := slices.DeleteFunc(byDir[dir], func(w *write) bool { return w.err != nil })
		if len(staged) > 0 {
			s.place(dir, staged)
		}
	})
}

// place renames staged files into dir and syncs it once for all of them.
func (s *Store) place(dir string, staged []*write) {
	fail := func(err error) {
		for _, w := range staged {
			if w.err == nil {
				w.err = err
			}
		}
	}
	small := slices.ContainsFunc(staged, func(w *write) bool { return w.record.Deleted })
	d, err := s.openKeyDir(dir, small)
	if err != nil {
		for _, w := range staged {
			s.volume.discard(w.staged)
		}
		fail(err)
		return
	}
	defer closeRead(d)
	for _, w := range staged {
		w.err = s.volume.attempt(w.record.Deleted, func() error { return s.volume.move(w.staged, w.path) })
		if w.err != nil {
			s.volume.discard(w.staged)
		}
	}
	if err := s.volume.syncNames(dir, d); err != nil {
		fail(err)
	}
}

// openKeyDir opens a directory of keys and makes it if need be, durably.
func (s *Store) openKeyDir(dir string, small bool) (directory, error) {
	s.dirsMu.Lock()
	made := s.dirs[dir]
	s.dirsMu.Unlock()
	if !made {
		err := s.volume.attempt(small, func() error {
			return s.volume.mkdir(keysDir, strings.TrimPrefix(dir, keysDir+"/"))
		})
		if err != nil {
			return nil, err
		}
		s.dirsMu.Lock()
		s.dirs[dir] = true
		s.dirsMu.Unlock()
	}
	d, err := s.volume.fs.OpenDir(dir)
	return d, s.volume.judge(err)
}

// markSeen makes the dots durable of all records that are stored or superseded, and gives the
// outcomes of the others their errors.
func (s *Store) markSeen(records []replication.Record, outcomes []replication.Outcome, writes map[string]*write) {
	var versions []version.Version
	var waiting []int
	for i, r := range records {
		if outcomes[i].Err != nil {
			continue
		}
		if w := writes[r.Key]; w != nil && w.err != nil {
			outcomes[i] = replication.Outcome{Err: w.err}
			continue
		}
		if !s.seen.holds(r.Version) {
			versions = append(versions, r.Version)
			waiting = append(waiting, i)
		}
	}
	if len(versions) == 0 {
		return
	}
	if err := s.seen.add(versions...); err != nil {
		for _, i := range waiting {
			outcomes[i] = replication.Outcome{Err: err}
		}
	}
}

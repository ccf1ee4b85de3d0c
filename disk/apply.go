package disk

import (
	"errors"
	"slices"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

const (
	// maxBatch is how many records are planned together.
	maxBatch = 1024
	// maxAppend is how many bytes of them go into the journal together, and at least a record.
	maxAppend = 1 << 20
	// maxWorkers is how many directories are read at once.
	maxWorkers = 8
)

// Apply implements replication.Store. A batch acts like its records one by one, in order; of a
// key that is in it twice only the last record is written. Different batches run side by side
// unless they share a key.
//
// Records and dots are appended to the journal, which all who wait share a sync of. Once that
// is done they are durable, and Lookup, Get and Seen tell them; the files follow. A dot goes
// into the journal with its record or, if that is superseded, behind the one that supersedes
// it: a node that has a dot is never sent the record again.
func (s *Store) Apply(records []replication.Record) []replication.Outcome {
	outcomes := make([]replication.Outcome, 0, len(records))
	for batch := range slices.Chunk(records, maxBatch) {
		outcomes = append(outcomes, s.applyBatch(batch)...)
	}
	return outcomes
}

func (s *Store) applyBatch(records []replication.Record) []replication.Outcome {
	outcomes := make([]replication.Outcome, len(records))
	keys := make([]string, 0, len(records))
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
		err = s.keepUp()
	}
	if err != nil {
		for i := range outcomes {
			if outcomes[i].Err == nil {
				outcomes[i].Err = err
			}
		}
		return outcomes
	}
	s.keys.lock(keys...)
	defer s.keys.unlock(keys...)
	writes, order := s.plan(records, outcomes)
	s.admit(order)
	if err := s.settleDrops(keys...); err != nil {
		for _, w := range order {
			w.err = err
		}
	}
	s.write(records, outcomes, writes, order)
	for i, r := range records {
		if w := writes[r.Key]; w != nil && w.err != nil && outcomes[i].Err == nil {
			outcomes[i] = replication.Outcome{Err: w.err}
		}
	}
	return outcomes
}

// write is a record on its way to the journal.
type write struct {
	record replication.Record
	entry  []byte
	err    error // once set, the write is over
}

// plan decides what becomes of each record and fills in its outcome, should the writes that it
// returns succeed. There is at most one for each key.
func (s *Store) plan(records []replication.Record, outcomes []replication.Outcome) (writes map[string]*write, order []*write) {
	writes = make(map[string]*write, len(records))
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
			w = new(write)
			writes[r.Key] = w
			order = append(order, w)
		}
		w.record = r
		outcomes[i].Current = r.Meta()
	}
	return writes, order
}

// admit refuses values while the disk has no room for them.
func (s *Store) admit(writes []*write) {
	values := slices.IndexFunc(writes, func(w *write) bool { return !w.record.Deleted })
	if values < 0 {
		return
	}
	if err := s.findRoom(); err != nil {
		for _, w := range writes {
			if !w.record.Deleted {
				w.err = err
			}
		}
	}
}

// write appends records to the journal, and at last the dots of those that are superseded.
func (s *Store) write(records []replication.Record, outcomes []replication.Outcome, writes map[string]*write, order []*write) {
	s.applying.RLock()
	defer s.applying.RUnlock()
	order = slices.DeleteFunc(order, func(w *write) bool { return w.err != nil })
	for last := false; !last; {
		var part []*write
		size := 0
		for len(order) > 0 && (size == 0 || size+len(order[0].record.Value) <= maxAppend) {
			size += 1 + len(order[0].record.Value)
			part, order = append(part, order[0]), order[1:]
		}
		var dots []version.Version
		var waiting []int
		if last = len(order) == 0; last {
			dots, waiting = s.superseded(records, outcomes, writes)
		}
		if err := s.append(part, dots); err != nil {
			for _, w := range part {
				w.err = err
			}
			for _, i := range waiting {
				outcomes[i] = replication.Outcome{Err: err}
			}
		}
	}
}

// superseded returns the versions that are not seen yet though no record of theirs is written,
// and whose records they are.
func (s *Store) superseded(records []replication.Record, outcomes []replication.Outcome, writes map[string]*write) (dots []version.Version, of []int) {
	for i, r := range records {
		w := writes[r.Key]
		if outcomes[i].Err != nil || w != nil && (w.err != nil || w.record.Version == r.Version) {
			continue
		}
		if !s.memory.holds(r.Version) {
			dots = append(dots, r.Version)
			of = append(of, i)
		}
	}
	return dots, of
}

// append makes writes and dots durable and tells them. s.applying is held, shared.
func (s *Store) append(writes []*write, dots []version.Version) error {
	payloads := make([][]byte, 0, len(writes)+1)
	versions := make([]version.Version, 0, len(writes)+len(dots))
	for _, w := range writes {
		w.entry = encodeRecord(w.record)
		payloads = append(payloads, w.entry)
		versions = append(versions, w.record.Version)
	}
	if len(dots) > 0 {
		payloads = append(payloads, encodeDots(dots))
		versions = append(versions, dots...)
	}
	if len(payloads) == 0 {
		return s.volume.broken()
	}
	at, err := s.journal.Append(make([]journal.Position, 0, len(payloads)), payloads...)
	if err != nil {
		return s.judgeJournal(err)
	}
	s.unsaved.Store(true)
	s.served.Add(int64(len(writes)))
	for i, w := range writes {
		s.take(w.record, at[i], w.entry[1:])
	}
	s.memory.note(versions) // once Lacking knows the records
	if len(writes) > 0 {
		s.wake()
	}
	return nil
}

// take makes a record that is durable in the journal the current one of its key. Of r's value
// it looks at the length alone. Without content, that is in the journal only.
func (s *Store) take(r replication.Record, at journal.Position, content []byte) {
	s.backlog.put(r.Key, &unfiled{version: r.Version, deleted: r.Deleted, at: at, contentType: r.ContentType, content: content, size: int64(len(r.Value))})
	s.index.set(entry{key: r.Key, meta: r.Meta(), at: placeOf(at)})
}

// judgeJournal returns the error to tell for one of the journal.
func (s *Store) judgeJournal(err error) error {
	if err == nil || errors.Is(err, journal.ErrNotWritten) {
		return s.volume.judge(err)
	}
	return s.volume.judge(syncError{err}) // whatever it is, what was written is unknown
}

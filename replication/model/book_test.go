package model

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// book is what was written and promised, and what was found broken. Guarded by world.mu.
type book struct {
	broken []string
	// records are all that was ever given to a disk, by dot; holders the disks on which each was
	// durable, or something newer of its key.
	records map[version.Dot]replication.Record
	holders map[version.Dot]map[*disk]bool
	// dropped is the highest version of a tombstone of each key that was collected somewhere.
	dropped   map[string]version.Version
	collected int // tombstones, everywhere
	// promises are the answers to clients that bind what others are answered later.
	promises []promise
	// rosters that ever were in force anywhere, by hash.
	rosters map[string]roster.Roster
	// forgotten are the nodes that somebody asked to forget.
	forgotten map[string]bool
}

// promise is what an answer to a client says to others: that key is at version or above.
type promise struct {
	key     string
	version version.Version
	holders []*disk
	// quorum says that a majority of the members, so many, has it, so that every quorum sees it.
	quorum   bool
	majority int
	what     string
}

func newBook() book {
	return book{
		records: make(map[version.Dot]replication.Record), holders: make(map[version.Dot]map[*disk]bool),
		dropped: make(map[string]version.Version), rosters: make(map[string]roster.Roster), forgotten: make(map[string]bool),
	}
}

// breaks notes that something is wrong.
func (w *world) breaks(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

// given notes records that a disk was given.
func (w *world) given(records []replication.Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		before, known := w.records[r.Version.Dot]
		same := before.Key == r.Key && before.Version == r.Version && before.Deleted == r.Deleted && bytes.Equal(before.Value, r.Value)
		if known && !same {
			w.broken = append(w.broken, fmt.Sprintf("one dot names two writes: %v of %s and %v of %s", before.Version, before.Key, r.Version, r.Key))
		}
		w.records[r.Version.Dot] = r
	}
}

// holds notes that a record is durable on a disk, and whether it is the current one.
func (w *world) holds(d *disk, r replication.Record, current bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holders[r.Version.Dot] == nil {
		w.holders[r.Version.Dot] = make(map[*disk]bool)
	}
	w.holders[r.Version.Dot][d] = true
	if gone := w.dropped[r.Key]; current && !d.lost && r.Version.Compare(gone) < 0 {
		w.broken = append(w.broken, fmt.Sprintf("I5: %s%s took %v of %s after the tombstone %v was collected", d.name, d.id[30:], r.Version, r.Key, gone))
	}
}

// collects notes that a tombstone was dropped.
func (w *world) collects(key string, v version.Version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.collected++
	if v.Compare(w.dropped[key]) > 0 {
		w.dropped[key] = v
	}
}

// leaves notes that a node left for good, which had waited until others have what it has.
func (w *world) leaves(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten[p.id] = true
	left := p.volume.disk
	for i := range w.promises {
		promise := &w.promises[i]
		if !slices.Contains(promise.holders, left) {
			continue
		}
		for _, d := range w.disks {
			if d != left && !d.lost && d.memory.Seen().Has(promise.version.Dot) && !slices.Contains(promise.holders, d) {
				promise.holders = append(promise.holders, d)
			}
		}
		if !slices.ContainsFunc(promise.holders, func(d *disk) bool { return d != left && !d.lost }) {
			w.broken = append(w.broken, fmt.Sprintf("I3: %s%s left, and nobody else has seen what %s promised", left.name, left.id[30:], promise.what))
		}
	}
}

// inForce notes a roster in force.
func (w *world) inForce(r roster.Roster) {
	if r.IsZero() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.rosters[r.Hash()]; known {
		return
	}
	for _, other := range w.rosters {
		if !r.Contains(other) && !other.Contains(r) {
			w.broken = append(w.broken, fmt.Sprintf("I8: rosters not of one chain: %v and %v", r, other))
		}
	}
	w.rosters[r.Hash()] = r
	for _, id := range r.Removed {
		d := w.disks[id]
		switch {
		case d == nil:
			w.broken = append(w.broken, "I8: a node was removed that never was: "+id)
			continue
		case !w.forgotten[id] && !w.replaced(d):
			w.broken = append(w.broken, fmt.Sprintf("I8: node %s%s was removed, which nobody asked for", d.name, d.id[30:]))
		}
		d.lost = true
	}
}

// replaced reports whether there was another node on the machine of a disk.
func (w *world) replaced(d *disk) bool {
	for id, other := range w.disks {
		if other.name == d.name && id != d.id {
			return true
		}
	}
	return false
}

// promised notes an answer to a client: key is at v or above, as w.holders says where.
func (w *world) promised(p promise, acks int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for d := range w.holders[p.version.Dot] {
		p.holders = append(p.holders, d)
	}
	if len(p.holders) < acks {
		w.broken = append(w.broken, fmt.Sprintf("I3: %s was answered for %d nodes, and was durable at %d", p.what, acks, len(p.holders)))
	}
	w.promises = append(w.promises, p)
}

// lost returns how many of the disks on which p was durable are lost.
func (p promise) lost() int {
	lost := 0
	for _, d := range p.holders {
		if d.lost {
			lost++
		}
	}
	return lost
}

// binds reports whether a read that counts as a quorum and began at a time must see p: whether
// fewer than a majority of its disks are lost, by other ways than that their nodes were
// forgotten, and it was known of the lost ones then. Of an old copy nobody may know for long.
func (w *world) binds(p promise, at time.Time) bool {
	for _, d := range p.holders {
		if d.lost && (w.forgotten[d.id] || !d.noticedBy(at)) {
			return false
		}
	}
	return p.quorum && p.lost() < p.majority
}

// noticedBy reports whether it was known at a time that a lost disk is lost, and that those are
// that came after it.
func (d *disk) noticedBy(at time.Time) bool {
	for ; d.next != nil; d = d.next {
		if d.noticed.After(at) {
			return false
		}
	}
	return !d.copied
}

// seesAll checks what a read found that counts as a quorum and began after the first so many
// promises were made.
func (w *world) seesAll(key string, found version.Version, began time.Time, promises int, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if found.IsZero() {
		found = w.dropped[key]
	}
	for _, p := range w.promises[:promises] {
		if p.key == key && found.Compare(p.version) < 0 && w.binds(p, began) {
			w.broken = append(w.broken, fmt.Sprintf("I7: %s found %v, after %s at %v, then on %s", what, found, p.what, p.version, places(p.holders)))
		}
	}
}

// places names disks, those that are lost in brackets.
func places(disks []*disk) string {
	var names []string
	for _, d := range disks {
		name := d.name + strings.TrimLeft(d.id, "0")
		if d.lost {
			name = "(" + name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// whole checks that a record read is one that was written.
func (w *world) whole(r replication.Record, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, known := w.records[r.Version.Dot]
	if !known || written.Version != r.Version || written.Key != r.Key || !bytes.Equal(written.Value, r.Value) || written.Deleted {
		w.broken = append(w.broken, fmt.Sprintf("I6: %s returned %q at %v, which was never written", what, r.Value, r.Version))
	}
}

// unfounded checks that whoever has seen a dot holds its record or a newer one, or a tombstone
// has taken its place that was collected since.
func (w *world) unfounded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		has := p.volume.Memory.Seen()
		for dot, r := range w.records {
			if !has.Has(dot) {
				continue
			}
			held, err := p.volume.Memory.Lookup(r.Key)
			collected := errors.Is(err, replication.ErrNotFound) && w.dropped[r.Key].Compare(r.Version) >= 0
			if !collected && held.Version.Compare(r.Version) < 0 {
				w.broken = append(w.broken, fmt.Sprintf("%s%s has seen %v of %s but holds %v", p.machine.name, p.id[30:], r.Version, r.Key, held.Version))
			}
		}
	}
}

// verdict returns what was found broken, each thing once.
func (w *world) verdict() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.broken) == 0 {
		return nil
	}
	var errs []error
	for _, what := range slices.Compact(w.broken)[:min(5, len(slices.Compact(w.broken)))] {
		errs = append(errs, errors.New(what))
	}
	return errors.Join(errs...)
}

// unsettled returns what is not yet as it must be when faults have ended and writes have stopped.
func (w *world) unsettled() error {
	var errs []error
	all := w.all()
	if len(all) == 0 {
		return errors.New("nobody is left")
	}
	first := all[0]
	force := first.ledger.Roster()
	for _, id := range force.Members() {
		if w.running(id) == nil {
			errs = append(errs, fmt.Errorf("%s counts for ever", w.called(id)))
		}
	}
	for _, p := range all {
		name := w.called(p.id)
		if r := p.ledger.Roster(); !r.Equal(force) || p.ledger.Pending() || !r.Has(p.id) || !p.syncer.Synced() {
			errs = append(errs, fmt.Errorf("%s, synced %v, is not settled in %v", name, p.syncer.Synced(), r))
		}
		if !p.volume.Seen().Equal(first.volume.Seen()) {
			errs = append(errs, fmt.Errorf("%s has seen %v, %s %v", name, p.volume.Seen(), w.called(first.id), first.volume.Seen()))
		}
		if l := p.ledger.Learners(); len(l) > 0 {
			errs = append(errs, fmt.Errorf("%s knows learners %v", name, l))
		}
		if p.volume.Digest() != first.volume.Digest() {
			errs = append(errs, fmt.Errorf("I4: digests of %s and %s differ", name, w.called(first.id)))
		}
		errs = append(errs, w.kept(p))
	}
	return errors.Join(errs...)
}

// uncollected returns which nodes have tombstones.
func (w *world) uncollected() error {
	var errs []error
	for _, p := range w.all() {
		if n := p.volume.TombstoneCount(); n > 0 {
			errs = append(errs, fmt.Errorf("I5: %s has %d tombstones: %+v", w.called(p.id), n, p.collector.Stats()))
		}
	}
	return errors.Join(errs...)
}

// kept returns which promises a node does not keep in the end: writes that were acknowledged by
// somebody who is a member still, with the disk that it had.
func (w *world) kept(p *process) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, made := range w.promises {
		held, err := p.volume.Memory.Lookup(made.key)
		collected := errors.Is(err, replication.ErrNotFound) && w.dropped[made.key].Compare(made.version) >= 0
		if made.lost() < len(made.holders) && !collected && held.Version.Compare(made.version) < 0 {
			return fmt.Errorf("I3: %s%s holds %v of %s, after %s at %v", p.machine.name, p.id[30:], held.Version, made.key, made.what, made.version)
		}
	}
	return nil
}

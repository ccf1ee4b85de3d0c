package replication

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Replica is the storing side of a node: what its own coordinator and those of its peers ask
// of it. It invents no version and looks at no roster. Safe for concurrent use.
type Replica struct {
	store   Store
	memory  *Memory
	clock   *version.Clock
	origin  uint64
	counter atomic.Uint64 // of the dot of origin that was allotted last
	now     func() time.Time

	// lagging: this node is not synced, as its Syncer says. Without a Syncer it always is.
	lagging  atomic.Bool
	copied   atomic.Pointer[seen.Set]     // what seen returned last
	progress atomic.Pointer[SyncProgress] // of a node that is not synced; nil for none

	changed bell // rings when records were applied

	writing  sync.WaitGroup // calls of Write under way
	freezing sync.RWMutex   // guards frozen, and writing against Add after Wait; held for no time
	frozen   error
}

// NewReplica returns the replica that keeps its records in store and tells others what memory
// has of them. origin is the number that this process drew, now its wall clock (nil:
// time.Now), the one that clock reads.
func NewReplica(store Store, memory *Memory, clock *version.Clock, origin uint64, now func() time.Time) *Replica {
	if now == nil {
		now = time.Now
	}
	r := &Replica{store: store, memory: memory, clock: clock, origin: origin, now: now}
	r.copied.Store(new(seen.Set))
	// Not 0 if this origin wrote before: a dot must never name two writes.
	r.counter.Store(store.Seen().Last(origin))
	return r
}

// nextDot allots the dot of a new write of this process.
func (r *Replica) nextDot() version.Dot {
	return version.Dot{Origin: r.origin, Counter: r.counter.Add(1)}
}

// seen returns this node's seen set, shared and never changed. It copies it only if it has
// grown since the last call.
func (r *Replica) seen() *seen.Set {
	mine := r.copied.Load()
	if mine.Hash() != r.store.SeenHash() {
		mine = r.store.Seen()
		r.copied.Store(mine)
	}
	return mine
}

// Write makes the clock follow the records' timestamps, as far as it may, and applies the
// records: see Store.Apply, whose outcomes it returns. It waits for the disk. After Freeze every
// record fails until Thaw.
func (r *Replica) Write(records []Record) []Outcome {
	if err := r.enter(); err != nil {
		outcomes := make([]Outcome, len(records))
		for i := range outcomes {
			outcomes[i].Err = err
		}
		return outcomes
	}
	defer r.writing.Done()
	return r.take(records)
}

// take is Write that Freeze does not end. What was pulled is with another node already.
func (r *Replica) take(records []Record) []Outcome {
	for i := range records {
		// A timestamp from too far ahead is stored like any other; it just moves no clock.
		r.clock.Observe(records[i].Version.Timestamp)
	}
	outcomes := r.store.Apply(records)
	r.changed.ring()
	return outcomes
}

// Freeze makes Write fail with err, which is not nil, for every record from now on until Thaw, and
// returns when those under way have ended. A node that is about to leave for good takes no more writes,
// so that what it has can be with the others before it goes.
func (r *Replica) Freeze(err error) {
	r.freezing.Lock()
	r.frozen = err
	r.freezing.Unlock()
	r.writing.Wait()
}

// Thaw undoes Freeze: Write takes records again. Without a Freeze before it does nothing.
func (r *Replica) Thaw() {
	r.freezing.Lock()
	defer r.freezing.Unlock()
	r.frozen = nil
}

// enter lets a Write in, or tells why not. Whoever was let in is done with writing at the end.
func (r *Replica) enter() error {
	r.freezing.RLock()
	defer r.freezing.RUnlock()
	if r.frozen == nil {
		r.writing.Add(1)
	}
	return r.frozen
}

// Lookup is Store.Lookup, for reads of other nodes. ErrNotReady: this node is not synced, so that
// what it has counts for no read. The asking node may have yet to hear of that: a process that
// restarted with an old copy of its data is back before gossip has told what it says of itself.
func (r *Replica) Lookup(key string) (Meta, error) {
	if r.lagging.Load() {
		return Meta{}, fmt.Errorf("%w: it has not caught up", ErrNotReady)
	}
	return r.store.Lookup(key)
}

// Fetch is Store.Get.
func (r *Replica) Fetch(key string) (Record, error) { return r.store.Get(key) }

// Range is Store.Range, for reads of other nodes. ErrNotReady as for Lookup; an error that wraps
// ErrBadSpan: span is none.
func (r *Replica) Range(span Span) (Stretch, error) {
	if err := span.Valid(); err != nil {
		return Stretch{}, err
	}
	if r.lagging.Load() {
		return Stretch{}, fmt.Errorf("%w: it has not caught up", ErrNotReady)
	}
	return r.store.Range(span)
}

// Buckets is Store.Buckets.
func (r *Replica) Buckets() []uint64 { return r.store.Buckets() }

// Contents is Store.Contents.
func (r *Replica) Contents(buckets []int) []Held { return r.store.Contents(buckets...) }

// Status answers node from in an exchange, which tells theirs of itself: Seen is nil if the
// hash of its seen set is the same, Recalled is there if it was asked for.
func (r *Replica) Status(from string, theirs Status) Status {
	s := r.status()
	if s.SeenHash != theirs.SeenHash {
		s.Seen = r.seen()
		s.SeenHash = s.Seen.Hash() // the set may have grown since
		s.Digest = r.store.Digest()
	}
	if theirs.Recall {
		s.Recalled, s.RecalledLife = r.memory.recall(from, theirs.Life)
	}
	s.Wall = r.now() // last: a long copy must not look like a slow clock
	return s
}

// status is what this node tells of itself, without its seen set.
func (r *Replica) status() Status {
	s := Status{
		Origin:   r.origin,
		Clock:    r.clock.Last(),
		Wall:     r.now(),
		Keys:     uint64(r.store.Len()),
		Life:     r.memory.life,
		SeenHash: r.store.SeenHash(),
	}
	s.Digest = r.store.Digest()
	s.Tombstones = uint64(r.store.TombstoneCount())
	if p := r.progress.Load(); p != nil {
		s.Pulled, s.Offered = p.Pulled, p.Offered
	}
	return s
}

// ErrGoneBack is wrapped by the reason why a node takes its data for an old copy of itself.
var ErrGoneBack = errors.New("data went back in time")

// compare returns nil, or an error that wraps ErrGoneBack if this node's data went back in
// time, to judge by what another node has seen and, unless recalled is nil, by all that this
// node ever told it to have seen itself.
func (r *Replica) compare(id string, theirs Status) error {
	// The counter moves before a dot goes anywhere, so none beyond it can be of this process as
	// it remembers itself.
	if last, own := theirs.Seen.Last(r.origin), r.counter.Load(); last > own {
		return fmt.Errorf("%w: node %s has seen write %d of this process, which has made %d", ErrGoneBack, id, last, own)
	}
	if theirs.Recalled == nil {
		return nil
	}
	if r.memory.recalled(theirs.RecalledLife); theirs.RecalledLife > r.memory.life {
		return fmt.Errorf("%w: node %s was told of life %d of this data, which is in life %d",
			ErrGoneBack, id, theirs.RecalledLife, r.memory.life)
	}
	// What was told was durable, and the set never shrinks.
	if missing := theirs.Recalled.Missing(r.seen()); missing > 0 {
		return fmt.Errorf("%w: %d writes that this node told node %s to have seen are not here", ErrGoneBack, missing, id)
	}
	return nil
}

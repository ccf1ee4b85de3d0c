package replication

import (
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Replica is the storing side of a node: what its own coordinator and those of its peers ask
// of it. It invents no version and looks at no roster. Safe for concurrent use.
type Replica struct {
	store  Store
	clock  *version.Clock
	origin uint64
	now    func() time.Time

	copied atomic.Pointer[seen.Set] // what seen returned last
}

// NewReplica returns the replica that keeps its records in store. origin is the number that
// this process drew, now its wall clock (nil: time.Now), the one that clock reads.
func NewReplica(store Store, clock *version.Clock, origin uint64, now func() time.Time) *Replica {
	if now == nil {
		now = time.Now
	}
	r := &Replica{store: store, clock: clock, origin: origin, now: now}
	r.copied.Store(new(seen.Set))
	return r
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
// records: see Store.Apply, whose outcomes it returns. It waits for the disk.
func (r *Replica) Write(records []Record) []Outcome {
	for i := range records {
		// A timestamp from too far ahead is stored like any other; it just moves no clock.
		r.clock.Observe(records[i].Version.Timestamp)
	}
	return r.store.Apply(records)
}

// Lookup is Store.Lookup.
func (r *Replica) Lookup(key string) (Meta, error) { return r.store.Lookup(key) }

// Fetch is Store.Get.
func (r *Replica) Fetch(key string) (Record, error) { return r.store.Get(key) }

// Status tells about this node, for a peer whose seen set has the hash theirs: Seen is nil if
// it is the same set.
func (r *Replica) Status(theirs uint64) Status {
	s := r.status()
	if s.SeenHash = r.store.SeenHash(); s.SeenHash != theirs {
		s.Seen = r.seen()
		s.SeenHash = s.Seen.Hash() // the set may have grown since
	}
	s.Wall = r.now() // last: a long copy must not look like a slow clock
	return s
}

// status is Status without the seen set.
func (r *Replica) status() Status {
	return Status{
		Origin: r.origin,
		Clock:  r.clock.Last(),
		Wall:   r.now(),
		Keys:   uint64(r.store.Len()),
	}
}

package disk

import (
	"strings"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/protocol7/snakes/replication"
)

const (
	// cacheBytes bounds the memory for values that are in their files: twice what the backlog may take,
	// and room for some 140,000 of 256 bytes.
	cacheBytes = 64 << 20
	// cacheShare of the room may be one value's. Reading a large one costs little more than
	// sending it, and it would push out thousands that cost more to open than to read.
	cacheShare = 64
	// cachedOverhead is about what a value takes in memory besides its own bytes and the key's.
	cachedOverhead = 200
)

// cache keeps records that were filed, or read from files whole, for the next reads of them. It does
// not hear of writes: who asks says which version the index has, and one that was overwritten since
// is not found. Only Get asks it: whoever wants to know what is in a file must read that.
//
// What makes room is found by CLOCK (Corbató, "A Paging Experiment with the Multics System",
// 1968): a hand goes round, and takes what was not found since it last came by. So a hit changes
// one bit under a lock that hits share, and keys that are read once do not push out hot ones.
// The zero cache holds nothing and takes nothing; limit makes it ready to use.
type cache struct {
	limit int64 // how many bytes are kept

	mu    sync.RWMutex // guards the fields below
	held  map[string]*cached
	slots []*cached // Invariant: those of held, each in its slot
	hand  int       // the slot to look at next
	bytes int64     // of those of held
}

// cached is a record in a cache. It never changes but for the last two fields.
type cached struct {
	record replication.Record
	found  atomic.Bool // since the hand last came by
	slot   int
}

func (c *cached) cost() int64 {
	return int64(len(c.record.Key)+len(c.record.Value)) + cachedOverhead
}

// get returns the record of key if it is the one that want tells of.
func (c *cache) get(key string, want replication.Meta) (replication.Record, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := c.held[key]
	if e == nil || e.record.Meta() != want {
		return replication.Record{}, false
	}
	if !e.found.Load() { // storing it each time would have processors wait for each other
		e.found.Store(true)
	}
	return e.record, true
}

// put takes r in, unless it is too large. It keeps no reference to what r is a part of.
func (c *cache) put(r replication.Record) {
	e := &cached{record: r}
	if e.cost() > c.limit/cacheShare {
		return
	}
	e.record.Key = strings.Clone(r.Key)
	e.record.ContentType = unique.Make(r.ContentType).Value() // there are few
	e.record.Value = append(make([]byte, 0, len(r.Value)), r.Value...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.held[r.Key]; old != nil {
		c.remove(old)
	}
	for c.bytes+e.cost() > c.limit {
		c.evict()
	}
	if c.held == nil {
		c.held = make(map[string]*cached)
	}
	e.slot = len(c.slots)
	c.slots = append(c.slots, e)
	c.held[e.record.Key] = e
	c.bytes += e.cost()
}

// evict makes room. Something is held, and mu.
func (c *cache) evict() {
	for ; ; c.hand++ {
		if c.hand >= len(c.slots) {
			c.hand = 0
		}
		if e := c.slots[c.hand]; !e.found.Swap(false) {
			c.remove(e)
			c.hand++ // past the one that has taken its place, which has yet to be found
			return
		}
	}
}

// remove takes e out; the one in the last slot moves to its slot. mu is held.
func (c *cache) remove(e *cached) {
	last := len(c.slots) - 1
	c.slots[e.slot] = c.slots[last]
	c.slots[e.slot].slot = e.slot
	c.slots[last] = nil
	c.slots = c.slots[:last]
	delete(c.held, e.record.Key)
	c.bytes -= e.cost()
}

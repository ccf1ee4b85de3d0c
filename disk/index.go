package disk

import (
	"iter"
	"sync"

	"github.com/google/btree"

	"github.com/protocol7/snakes/replication"
)

// index knows the durable record of every key: its meta data and whether it is damaged.
//
// It is a B-tree rather than a map, because a map has no order and sorting a million keys for
// a page of a thousand is out of the question. A snapshot of this one is made in constant time
// and shares its nodes with the tree, which copies those that it changes later. One structure
// serves look-ups and scans, at some 100 bytes a key beyond the key.
type index struct {
	mu   sync.RWMutex // guards the fields below
	tree *btree.BTreeG[entry]
	live int // how many entries are neither tombstones nor damaged
	// unreadable holds the paths of files from which not even a key could be read. The key
	// that such a file belongs to has no entry.
	unreadable map[string]bool
}

// entry is what is known of a key. Without a version: its file is there, but unreadable.
type entry struct {
	key     string
	meta    replication.Meta
	damaged bool
}

func (e entry) counts() bool { return !e.damaged && !e.meta.Deleted }

// treeDegree gives nodes of up to 63 entries, which is where copying a node for a change and
// searching in it are both cheap.
const treeDegree = 32

func newIndex() *index {
	return &index{
		tree:       btree.NewG(treeDegree, func(a, b entry) bool { return a.key < b.key }),
		unreadable: make(map[string]bool),
	}
}

// find returns the entry of key, if anything is known of it.
func (x *index) find(key string) (entry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e, found := x.tree.Get(entry{key: key}); found {
		return e, true
	}
	if len(x.unreadable) > 0 && x.unreadable[keyPath(key)] {
		return entry{key: key, damaged: true}, true
	}
	return entry{}, false
}

// set makes e what is known of its key.
func (x *index) set(e entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	old, replaced := x.tree.ReplaceOrInsert(e)
	if replaced && old.counts() {
		x.live--
	}
	if e.counts() {
		x.live++
	}
	if len(x.unreadable) > 0 {
		delete(x.unreadable, keyPath(e.key))
	}
}

// setUnreadable notes that nothing can be said of the key whose file is name.
func (x *index) setUnreadable(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unreadable[name] = true
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.live
}

// scan yields the entries above after, in order, as they are when it begins.
func (x *index) scan(after string) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		x.mu.Lock() // making the snapshot marks the nodes as shared
		snapshot := x.tree.Clone()
		x.mu.Unlock()
		snapshot.AscendGreaterOrEqual(entry{key: after}, func(e entry) bool {
			return e.key == after || yield(e)
		})
	}
}

package disk

import (
	"cmp"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/google/btree"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// index knows the durable record of every key: its meta data and whether it is damaged.
//
// It is two B-trees over the same entries, one in the order of keys and one in that of dots,
// and a third one over the tombstones among them.
// Maps have no order, and sorting a million keys for a page of a thousand is out of the
// question. A snapshot of a tree is made in constant time and shares its nodes with the tree,
// which copies those that it changes later. The trees hold pointers: an entry takes the same
// room however many orders it is in, and half-full nodes waste little.
type index struct {
	mu     sync.RWMutex // guards the fields below
	byKey  *btree.BTreeG[*entry]
	byDot  *btree.BTreeG[*entry] // Invariant: holds the entries of byKey
	graves *btree.BTreeG[*entry] // Invariant: holds the tombstones of byKey, damaged or not, by key
	live   int                   // how many entries are neither tombstones nor damaged
	damage damage
	// buckets has the XOR of replication.DigestOf over those, each in the bucket of its key,
	// and digest the XOR of all buckets.
	buckets [replication.DigestBuckets]uint64
	digest  uint64
	// unreadable holds the paths of files from which not even a key could be read. The key
	// that such a file belongs to has no entry.
	unreadable map[string]bool
}

// entry is what is known of a key. It never changes once it is in an index: snapshots have it.
// Without a version: its file is there, but unreadable; such an entry is in no index.
type entry struct {
	key     string
	meta    replication.Meta
	damaged bool
	bucket  uint16 // of the key; takes room that the alignment leaves
	at      place
}

// place is where in the journal the record is, unless its segment was removed; zero: nowhere.
type place struct{ segment, offset uint32 }

func placeOf(p journal.Position) place {
	if p.Segment > math.MaxUint32 || p.Offset > math.MaxUint32 {
		return place{} // it is only looked for there when its file is damaged
	}
	return place{uint32(p.Segment), uint32(p.Offset)}
}

func (p place) position() journal.Position {
	return journal.Position{Segment: uint64(p.segment), Offset: int64(p.offset)}
}

func (e *entry) counts() bool { return !e.damaged && !e.meta.Deleted }

func (e *entry) digest() uint64 { return replication.DigestOf(e.key, e.meta.Version) }

func compareKeys(a, b *entry) int { return cmp.Compare(a.key, b.key) }

// compareDots also compares keys: a dot names one write of one key, but nothing here may
// depend on all other nodes' being free of faults.
func compareDots(a, b *entry) int {
	v, w := &a.meta.Version, &b.meta.Version
	return cmp.Or(cmp.Compare(v.Origin, w.Origin), cmp.Compare(v.Counter, w.Counter), cmp.Compare(a.key, b.key))
}

// treeDegree gives nodes of up to 63 entries, which is where copying a node for a change and
// searching in it are both cheap.
const treeDegree = 32

func newIndex() *index {
	tree := func(compare func(a, b *entry) int) *btree.BTreeG[*entry] {
		return btree.NewG(treeDegree, func(a, b *entry) bool { return compare(a, b) < 0 })
	}
	return &index{
		byKey: tree(compareKeys), byDot: tree(compareDots), graves: tree(compareKeys),
		unreadable: make(map[string]bool),
	}
}

// find returns the entry of key, if anything is known of it.
func (x *index) find(key string) (entry, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e, found := x.byKey.Get(&entry{key: key}); found {
		return *e, true
	}
	if len(x.unreadable) > 0 && x.unreadable[keyPath(key)] {
		return entry{key: key, damaged: true}, true
	}
	return entry{}, false
}

// set makes e, which has a version, what is known of its key.
func (x *index) set(e entry) {
	var digest uint64
	if e.counts() {
		digest = e.digest()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	old, replaced := x.byKey.ReplaceOrInsert(&e)
	was := replaced && old.damaged || len(x.unreadable) > 0 && x.unreadable[keyPath(e.key)]
	x.damage.note(was, e.damaged)
	if replaced {
		e.key, e.bucket = old.key, old.bucket
		x.takeOut(old)
	} else {
		e.key = strings.Clone(e.key) // it may be a part of something larger that was read
		e.bucket = uint16(replication.BucketOf(e.key))
	}
	x.byDot.ReplaceOrInsert(&e)
	if e.meta.Deleted {
		x.graves.ReplaceOrInsert(&e)
	}
	if e.counts() {
		x.live++
		x.mix(e.bucket, digest)
	}
	if e.damaged {
		x.damage.entries++
	}
	if len(x.unreadable) > 0 {
		delete(x.unreadable, keyPath(e.key))
	}
}

// remove forgets key.
func (x *index) remove(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if old, found := x.byKey.Delete(&entry{key: key}); found {
		x.takeOut(old)
	}
	if len(x.unreadable) > 0 {
		delete(x.unreadable, keyPath(key))
	}
}

// takeOut takes the entry that was in byKey out of all the rest. x is locked.
func (x *index) takeOut(old *entry) {
	x.byDot.Delete(old)
	if old.damaged {
		x.damage.entries--
	}
	if old.meta.Deleted {
		x.graves.Delete(old)
	}
	if old.counts() {
		x.live--
		x.mix(old.bucket, old.digest())
	}
}

// mix adds a record's share to the digest, or takes it out again. x is locked.
func (x *index) mix(bucket uint16, share uint64) {
	x.buckets[bucket] ^= share
	x.digest ^= share
}

// setUnreadable notes that nothing can be said of the key whose file is name.
func (x *index) setUnreadable(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unreadable[name] = true
}

// sum returns how many live keys there are and the digest of their records.
func (x *index) sum() (live int, digest uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.live, x.digest
}

// len returns how many entries there are, tombstones and damaged ones included.
func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byKey.Len()
}

// parts returns a copy of the buckets.
func (x *index) parts() []uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return slices.Clone(x.buckets[:])
}

// tombstoneCount returns how many of the entries are tombstones.
func (x *index) tombstoneCount() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.graves.Len()
}

// snapshot returns tree, which is one of x, as it is now.
func (x *index) snapshot(tree *btree.BTreeG[*entry]) *btree.BTreeG[*entry] {
	x.mu.Lock() // it marks the nodes as shared
	defer x.mu.Unlock()
	return tree.Clone()
}

// scan yields the entries above after, in order, as they are when it begins.
func (x *index) scan(after string) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		x.snapshot(x.byKey).AscendGreaterOrEqual(&entry{key: after}, func(e *entry) bool {
			return e.key == after || yield(*e)
		})
	}
}

// stretch returns the entries of span, damaged ones too, and whether all keys are known.
func (x *index) stretch(span replication.Span) (found replication.Stretch, known bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if len(x.unreadable) > 0 {
		return found, false
	}
	x.byKey.AscendGreaterOrEqual(&entry{key: max(span.After, span.Prefix)}, func(e *entry) bool {
		switch {
		case !strings.HasPrefix(e.key, span.Prefix):
			return false
		case e.key == span.After:
			return true
		}
		if found.More = len(found.Entries) == span.Limit; found.More {
			return false
		}
		found.Entries = append(found.Entries, replication.Entry{Key: e.key, Meta: e.meta})
		return true
	})
	return found, true
}

// tombstones yields the tombstones in order of their keys, as they are when it begins.
func (x *index) tombstones() iter.Seq[*entry] {
	return func(yield func(*entry) bool) { x.snapshot(x.graves).Ascend(yield) }
}

// contents returns what the keys of the given buckets hold, in order, but for damage.
func (x *index) contents(buckets []int) (contents []replication.Held) {
	var wanted [replication.DigestBuckets]bool
	for _, bucket := range buckets {
		if 0 <= bucket && bucket < len(wanted) {
			wanted[bucket] = true
		}
	}
	x.snapshot(x.byKey).Ascend(func(e *entry) bool {
		if wanted[e.bucket] && !e.damaged {
			contents = append(contents, replication.Held{Key: e.key, Version: e.meta.Version, Deleted: e.meta.Deleted})
		}
		return true
	})
	return contents
}

// lacking returns the keys, ascending, whose dots are not in theirs, and whether no damage
// keeps it from knowing all of them. It looks at these entries, and at one more for each
// origin here and each gap of that in theirs.
func (x *index) lacking(theirs *seen.Set) (keys []string, complete bool) {
	x.mu.Lock()
	snapshot := x.byDot.Clone()
	complete = len(x.unreadable) == 0
	x.mu.Unlock()
	for origin := range origins(snapshot) {
		for first, last := range theirs.Gaps(origin) {
			more := false // whether the origin has entries here that no gap so far has passed
			for e := range from(snapshot, version.Dot{Origin: origin, Counter: first}) {
				more = e.meta.Version.Origin == origin
				if !more || e.meta.Version.Counter > last {
					break
				}
				if e.damaged {
					complete = false
				} else {
					keys = append(keys, e.key)
				}
			}
			if !more {
				break
			}
		}
	}
	slices.Sort(keys)
	return keys, complete
}

// origins yields the origins of the entries of byDot, ascending. It seeks each one.
func origins(byDot *btree.BTreeG[*entry]) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for origin, found := uint64(0), true; found; origin++ {
			found = false
			for e := range from(byDot, version.Dot{Origin: origin}) {
				origin, found = e.meta.Version.Origin, true
				break
			}
			if found && !yield(origin) || origin == math.MaxUint64 {
				return
			}
		}
	}
}

// from yields the entries of byDot from d on.
func from(byDot *btree.BTreeG[*entry], d version.Dot) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		byDot.AscendGreaterOrEqual(&entry{meta: replication.Meta{Version: version.Version{Dot: d}}}, yield)
	}
}

// whole returns all that x holds now.
func (x *index) whole() contents {
	x.mu.Lock()
	defer x.mu.Unlock()
	return contents{records: x.byKey.Clone(), unreadable: slices.Sorted(maps.Keys(x.unreadable))}
}

// loader fills an empty index with entries in the order of their keys. The order of dots is made
// meanwhile: most of the time is spent waiting for memory.
type loader struct {
	x     *index
	batch []*entry
	dots  chan []*entry
	done  chan struct{}
}

// loaderBatch entries are handed over at once.
const loaderBatch = 1024

func (x *index) loader() *loader {
	l := &loader{x: x, dots: make(chan []*entry, 8), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for batch := range l.dots {
			for _, e := range batch {
				x.byDot.ReplaceOrInsert(e)
			}
		}
	}()
	return l
}

// add puts e into x. Its key may be a part of something larger.
func (l *loader) add(e entry) {
	x := l.x
	e.key = strings.Clone(e.key)
	e.bucket = uint16(replication.BucketOf(e.key))
	x.byKey.ReplaceOrInsert(&e)
	if e.meta.Deleted {
		x.graves.ReplaceOrInsert(&e)
	}
	if e.counts() {
		x.live++
		x.mix(e.bucket, e.digest())
	}
	if e.damaged {
		x.damage.entries++
	}
	if l.batch = append(l.batch, &e); len(l.batch) == loaderBatch {
		l.dots <- l.batch
		l.batch = make([]*entry, 0, loaderBatch)
	}
}

// end waits until all is there.
func (l *loader) end() {
	l.dots <- l.batch
	close(l.dots)
	<-l.done
}

package replication

import (
	"iter"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Store keeps one record per key and the set of dots that this node has seen, durably.
// Package storetest has the suite that every Store must pass and a Store in memory.
//
// Only durable things can be read from a Store: a record, a version or a dot is told once it
// would survive a power cut, not before. All methods are safe for concurrent use.
type Store interface {
	// Apply stores each record unless the key's current version is as new or newer, marks its
	// dot as seen either way, and returns one outcome per record, in order. When it returns,
	// all that the outcomes tell is durable. It waits for the disk and keeps no reference to
	// the records' bytes. Keys must be valid and versions not zero.
	//
	// The version of a key never goes down (invariant I1).
	Apply(records []Record) []Outcome

	// Lookup returns the meta data of the key's current record, tombstones included.
	// ErrNotFound: there is none. ErrDamaged: it is there but known to be damaged.
	Lookup(key string) (Meta, error)

	// Get returns the key's current record, tombstones included, with its checksum verified
	// when it was read from the disk. The value may be shared and must not be changed.
	// ErrNotFound and ErrDamaged as for Lookup.
	Get(key string) (Record, error)

	// Seen returns a copy of the set of dots that were applied or discarded here.
	Seen() *seen.Set

	// SeenHash returns Seen().Hash() without copying.
	SeenHash() uint64

	// Unite marks all dots of s as seen, durably when it returns nil. It is for a pull that is
	// complete: whatever record a dot of s once named, this node now has that or a newer one.
	// s is not changed or kept. Errors as in Outcome.
	Unite(s *seen.Set) error

	// Lacking returns the keys, ascending, of current records whose dots are not in theirs,
	// tombstones included. complete is false if damaged records keep it from knowing all of
	// them. The cost is in proportion to what is lacking, not to the number of keys.
	Lacking(theirs *seen.Set) (keys []string, complete bool)

	// Digest returns a number that is equal on two nodes if they have the same live keys at
	// the same versions, and differs otherwise but by a chance of 2^-64. It costs no look at
	// the keys.
	Digest() uint64

	// Buckets returns the digest in DigestBuckets parts: part BucketOf(key) is the XOR of
	// DigestOf over the live records with such keys, and the XOR of all parts is Digest. It
	// costs no look at the keys. The caller owns the slice.
	Buckets() []uint64

	// Contents returns what the keys of the given buckets hold, ascending by key, tombstones
	// included and damaged records left out. Numbers that are no bucket hold nothing. It may
	// look at all keys, once for all the buckets; it is for finding out why digests differ.
	Contents(buckets ...int) []Held

	// Tombstones yields keys and versions of the tombstones, ascending by key, as they are when
	// it begins. A damaged record is one of them if it is known to be a tombstone. The cost is
	// in proportion to what is yielded. The consumer may be slow and may call the store.
	Tombstones() iter.Seq2[string, version.Version]

	// TombstoneCount returns how many Tombstones yields. It costs no look at the keys.
	TombstoneCount() int

	// Drop removes the record of key, damaged or not, if it is a tombstone at exactly version v
	// whose dot is seen, and reports whether it did. The dot stays seen. Nothing is left that
	// would keep an older record of key out: that none can come is for the caller to know.
	// It need not be durable: a crash may bring the tombstone back, and nothing else. Errors
	// as in Outcome; the tombstone may be gone after a restart then.
	Drop(key string, v version.Version) (bool, error)

	// Len returns the number of live keys, tombstones excluded.
	Len() int

	// Scan yields keys above after with their meta data in ascending order of key, tombstones
	// included and damaged records left out, as of some time during the scan. The consumer
	// may be slow and may call the store.
	Scan(after string) iter.Seq2[string, Meta]

	// Range returns what is known of the keys of span, tombstones included, and of damaged
	// records as far as they are known. ErrDamaged: there are damaged ones of which not even the
	// keys are known. The cost is in proportion to what is returned, not to the number of keys.
	// The caller owns the slice.
	Range(span Span) (Stretch, error)

	// Writable returns nil, or why the store accepts no writes: an error that wraps
	// ErrReadOnly or ErrDiskFull.
	Writable() error
}

// Outcome is what became of one record given to Store.Apply.
type Outcome struct {
	// Current tells the key's record right after this one of the batch had its turn: the
	// record's own version if it was stored or had been before, a higher one if it was
	// superseded.
	Current Meta
	// Err is nil, or why the record was neither stored nor its dot marked: ErrReadOnly,
	// ErrDiskFull, ErrBadKey, or another error of the disk. Current is then meaningless. After
	// an ErrReadOnly a restart may show that the record was stored after all.
	Err error
}

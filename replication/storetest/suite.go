package storetest

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Suite is the conformance suite with what it needs to know of the store under test.
type Suite struct {
	// Open returns an empty store. What must be done with it afterwards it leaves to t.Cleanup.
	Open func(t *testing.T) replication.Store
	// Reopen ends the use of a store that Open or Reopen returned and returns one with the
	// same data. nil: the store is not durable, and nothing is tested of that.
	Reopen func(t *testing.T, s replication.Store) replication.Store
	// Damage makes the data of the key's record, which is there, unreadable to the store.
	// nil: it cannot be done, and nothing is tested of that.
	Damage func(t *testing.T, s replication.Store, key string)
}

// Run runs the suite for a store that knows no more than Open.
func Run(t *testing.T, open func(t *testing.T) replication.Store) { Suite{Open: open}.Run(t) }

// Run runs every test of the suite as a subtest of t, each with a store of its own. If the
// store can be reopened, that is done after each test, and everything must be there as before.
func (s Suite) Run(t *testing.T) {
	tests := map[string]func(*testing.T, replication.Store){
		"AnEmptyStoreHoldsNothing":               emptyStore,
		"LastVersionWinsInAnyOrder":              lastVersionWins,
		"OutcomesTellTheCurrentRecord":           outcomes,
		"ABatchActsLikeItsRecordsOneByOne":       batchInOrder,
		"TombstonesAreRecordsThatAreNotLive":     tombstones,
		"ValuesAndTypesComeBackAsGiven":          values,
		"KeysOfAnyLegalFormAreDistinct":          keys,
		"BadKeysAreRefused":                      badKeys,
		"ScanIsInOrderAndStartsAfter":            scan,
		"ScanLetsItsConsumerWrite":               scanAndWrite,
		"NothingIsSharedWithTheCaller":           ownership,
		"ConcurrentWritesEndOnTheHighestVersion": concurrency,
		"UniteMarksDotsAndTouchesNoRecord":       unite,
		"AUnitedDotDoesNotKeepItsRecordOut":      applyUnited,
		"LackingIsWhatAScanFinds":                lacking,
		"LackingKnowsTheRecordsOfDotsToldBefore": lackingAmongWrites,
		"DigestIsThatOfAScanAndOfNoHistory":      digest,
		"BucketsAndContentsAreThoseOfAScan":      buckets,
		"RangeIsAPieceOfAScan":                   ranges,
		"TombstonesAreWhatAScanFinds":            listTombstones,
		"DropRemovesATombstoneAtItsVersionOnly":  drop,
		"DropAmongWritesRemovesNothingNewer":     dropAmongWrites,
	}
	if s.Damage != nil {
		tests["DamageIsUnknownNotAbsent"] = s.damage
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			store := s.Open(t)
			tests[name](t, store)
			if s.Reopen == nil || t.Failed() {
				return
			}
			before := observe(t, store)
			after := observe(t, s.Reopen(t, store))
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("reopening changed the store (-before +after):\n%s", diff)
			}
		})
	}
}

// observed is all that can be read from a store.
type observed struct {
	Records    []text
	Len        int
	Tombstones int
	Seen       string
	Hash       uint64
	Digest     uint64
}

func observe(t *testing.T, s replication.Store) observed {
	t.Helper()
	all := observed{
		Len: s.Len(), Tombstones: s.TombstoneCount(),
		Seen: s.Seen().String(), Hash: s.SeenHash(), Digest: s.Digest(),
	}
	if want := s.Seen().Hash(); all.Hash != want {
		t.Errorf("seen hash: got %x, want that of the set, %x", all.Hash, want)
	}
	if want := digestOfScan(s); all.Digest != want {
		t.Errorf("digest: got %x, want that of a scan, %x", all.Digest, want)
	}
	wantPartsOfScan(t, s)
	live := 0
	for key, meta := range s.Scan("") {
		r := get(t, s, key)
		if got := lookup(t, s, key); got != meta || r.Meta() != meta || r.Key != key {
			t.Errorf("%s: scan tells %v, lookup %v, get %v under %q", key, meta, got, r.Meta(), r.Key)
		}
		if !meta.Deleted {
			live++
		}
		all.Records = append(all.Records, asText(r))
	}
	if all.Len != live {
		t.Errorf("len: got %d, want the %d live keys of the scan", all.Len, live)
	}
	return all
}

// text is a record in a form that cmp shows well and compares quickly.
type text struct {
	Key, Version, ContentType, Value string
	Deleted                          bool
}

func asText(r replication.Record) text {
	return text{r.Key, r.Version.String(), r.ContentType, string(r.Value), r.Deleted}
}

// at returns the version that is the n-th in time of all those with n up to 9.
func at(n int) version.Version {
	return version.Version{
		Timestamp: version.Timestamp{Wall: 1_700_000_000_000_000_000 + int64(n)},
		Dot:       version.Dot{Origin: 0xabc, Counter: uint64(n)},
	}
}

func put(key string, n int, value string) replication.Record {
	return replication.Record{Key: key, Version: at(n), ContentType: "text/plain", Value: []byte(value)}
}

func tombstone(key string, n int) replication.Record {
	return replication.Record{Key: key, Version: at(n), Deleted: true}
}

// apply applies records as one batch that must be accepted, and returns what the outcomes tell.
func apply(t rapid.TB, s replication.Store, records ...replication.Record) []replication.Meta {
	t.Helper()
	outcomes := s.Apply(records)
	if len(outcomes) != len(records) {
		t.Fatalf("apply: got %d outcomes, want %d", len(outcomes), len(records))
	}
	metas := make([]replication.Meta, len(records))
	for i, o := range outcomes {
		if o.Err != nil {
			t.Fatalf("apply %s at %v: %v", records[i].Key, records[i].Version, o.Err)
		}
		metas[i] = o.Current
	}
	return metas
}

func get(t rapid.TB, s replication.Store, key string) replication.Record {
	t.Helper()
	r, err := s.Get(key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return r
}

func lookup(t rapid.TB, s replication.Store, key string) replication.Meta {
	t.Helper()
	m, err := s.Lookup(key)
	if err != nil {
		t.Fatalf("lookup %s: %v", key, err)
	}
	return m
}

// wantRecord checks that the store holds exactly want.
func wantRecord(t rapid.TB, s replication.Store, want replication.Record) {
	t.Helper()
	if diff := cmp.Diff(asText(want), asText(get(t, s, want.Key))); diff != "" {
		t.Errorf("get %.40s (-want +got):\n%s", want.Key, diff)
	}
	if got := lookup(t, s, want.Key); got != want.Meta() {
		t.Errorf("lookup %.40s: got %v, want %v", want.Key, got, want.Meta())
	}
}

// digestOfScan is what Digest returns, by looking at all records.
func digestOfScan(s replication.Store) (digest uint64) {
	for key, meta := range s.Scan("") {
		if !meta.Deleted {
			digest ^= replication.DigestOf(key, meta.Version)
		}
	}
	return digest
}

// wantPartsOfScan checks that all that tells a part of the records tells the same as a look at
// all of them. No record is damaged.
func wantPartsOfScan(t rapid.TB, s replication.Store) {
	t.Helper()
	contents := make(map[int][]replication.Held)
	buckets := make([]uint64, replication.DigestBuckets)
	tombstones := make([]replication.Held, 0)
	for key, meta := range s.Scan("") {
		held := replication.Held{Key: key, Version: meta.Version, Deleted: meta.Deleted}
		bucket := replication.BucketOf(key)
		contents[bucket] = append(contents[bucket], held)
		if meta.Deleted {
			tombstones = append(tombstones, held)
		} else {
			buckets[bucket] ^= replication.DigestOf(key, meta.Version)
		}
	}
	if got := s.Buckets(); !slices.Equal(got, buckets) {
		t.Errorf("buckets: they differ from those of a scan")
	}
	got := make([]replication.Held, 0)
	for key, v := range s.Tombstones() {
		got = append(got, replication.Held{Key: key, Version: v, Deleted: true})
	}
	if diff := cmp.Diff(tombstones, got); diff != "" {
		t.Errorf("tombstones (-scan +got):\n%s", diff)
	}
	if got, want := s.TombstoneCount(), len(tombstones); got != want {
		t.Errorf("tombstone count: got %d, want %d", got, want)
	}
	for bucket, want := range contents {
		if got := s.Contents(bucket); !slices.Equal(got, want) {
			t.Errorf("contents of bucket %d: got %v, want %v", bucket, got, want)
			return
		}
		if len(contents) > 20 { // each look may cost one at all keys
			return
		}
	}
}

// lackingByScan is what Lacking returns, by looking at all records.
func lackingByScan(s replication.Store, theirs *seen.Set) (keys []string) {
	for key, meta := range s.Scan("") {
		if !theirs.Has(meta.Version.Dot) {
			keys = append(keys, key)
		}
	}
	return keys
}

func scanned(s replication.Store, after string) []string {
	var keys []string
	for key := range s.Scan(after) {
		keys = append(keys, key)
	}
	return keys
}

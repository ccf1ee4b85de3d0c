package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// dropped drops the tombstone of key at v and checks what that tells.
func dropped(t rapid.TB, s replication.Store, key string, v version.Version, want bool) {
	t.Helper()
	if got, err := s.Drop(key, v); got != want || err != nil {
		t.Errorf("drop %s at %v: got %v, %v, want %v", key, v, got, err, want)
	}
}

func drop(t *testing.T, s replication.Store) {
	apply(t, s, put("value", 1, "v"), tombstone("a", 2), tombstone("b", 3), tombstone("c", 4))
	before := s.Seen()
	dropped(t, s, "value", at(1), false)
	dropped(t, s, "never", at(1), false)
	dropped(t, s, "", at(1), false)
	dropped(t, s, "a", at(1), false)
	dropped(t, s, "a", at(3), false)
	wantRecord(t, s, tombstone("a", 2))

	dropped(t, s, "a", at(2), true)
	dropped(t, s, "a", at(2), false)
	if got, want := scanned(s, ""), []string{"b", "c", "value"}; !slices.Equal(got, want) {
		t.Errorf("scan: got %v, want %v", got, want)
	}
	if _, err := s.Lookup("a"); err == nil || s.TombstoneCount() != 2 || s.Len() != 1 {
		t.Errorf("got %v, %d tombstones and %d keys, want ErrNotFound, 2 and 1", err, s.TombstoneCount(), s.Len())
	}
	if got := s.Seen(); !got.Equal(before) {
		t.Errorf("seen: got %v, want %v as before", got, before)
	}
	if keys, complete := s.Lacking(before); len(keys) > 0 || !complete {
		t.Errorf("lacking: got %v, %v, want nothing", keys, complete)
	}
	wantPartsOfScan(t, s)

	apply(t, s, put("b", 5, "back"))
	dropped(t, s, "b", at(3), false)
	wantRecord(t, s, put("b", 5, "back"))
	apply(t, s, put("a", 6, "again"), tombstone("c", 7))
	dropped(t, s, "c", at(4), false)
	dropped(t, s, "c", at(7), true)
	wantRecord(t, s, put("a", 6, "again"))
	wantPartsOfScan(t, s)
}

// dropAmongWrites deletes keys, and drops the tombstones while newer records come.
func dropAmongWrites(t *testing.T, s replication.Store) {
	const keys, rounds = 4, 10
	var writing sync.WaitGroup
	for k := range keys {
		writing.Go(func() {
			key := fmt.Sprint("k", k)
			write := func(n int, deleted bool) replication.Record {
				v := at(n)
				v.Dot = dot(uint64(k+1), n)
				r := replication.Record{Key: key, Version: v, Deleted: deleted}
				if o := s.Apply([]replication.Record{r})[0]; o.Err != nil || o.Current != r.Meta() {
					t.Errorf("apply %s at %v: got %v, %v", key, v, o.Current, o.Err)
				}
				return r
			}
			for n := 1; n < 2*rounds; n += 2 {
				grave := write(n, true)
				var dropping sync.WaitGroup
				dropping.Go(func() {
					if _, err := s.Drop(key, grave.Version); err != nil {
						t.Errorf("drop %s: %v", key, err)
					}
				})
				newer := write(n+1, n%4 == 1)
				dropping.Wait()
				if got, err := s.Get(key); err != nil || got.Version != newer.Version {
					t.Errorf("%s after a drop beside a write: got %v, %v, want %v", key, got.Version, err, newer.Version)
				}
			}
		})
	}
	writing.Wait()
	wantPartsOfScan(t, s)
}

// listTombstones has keys of its own for each round in the one store.
func listTombstones(t *testing.T, s replication.Store) {
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		for c := range rapid.IntRange(1, 8).Draw(t, "writes") {
			v := at(rapid.IntRange(0, 3).Draw(t, "wall"))
			v.Dot = dot(uint64(round), c+1)
			key := fmt.Sprintf("r%dk%d", round, rapid.IntRange(0, 3).Draw(t, "key"))
			apply(t, s, replication.Record{Key: key, Version: v, Deleted: rapid.Bool().Draw(t, "deleted")})
			if m, err := s.Lookup(key); rapid.Bool().Draw(t, "drop") && err == nil {
				dropped(t, s, key, m.Version, m.Deleted)
			}
		}
		wantPartsOfScan(t, s)
	})
	n := s.TombstoneCount()
	if n < 2 {
		t.Fatalf("got %d tombstones, too few to tell anything", n)
	}
	yielded := 0
	for key, v := range s.Tombstones() { // the consumer may call the store, and stop
		if yielded++; yielded == n {
			break
		}
		dropped(t, s, key, v, true)
	}
	if got := s.TombstoneCount(); yielded != n || got != 1 {
		t.Errorf("yielded %d of %d, and %d are left, want all and the last", yielded, n, got)
	}
}

func buckets(t *testing.T, s replication.Store) {
	var batch []replication.Record
	all := make(map[int]bool)
	for n := range 300 {
		r := put(fmt.Sprint("key", n), n+1, "v")
		if n%3 == 0 {
			r = tombstone(r.Key, n+1)
		}
		batch = append(batch, r)
		all[replication.BucketOf(r.Key)] = true
	}
	if got := s.Buckets(); len(got) != replication.DigestBuckets || slices.Max(got) != 0 {
		t.Errorf("buckets of an empty store: got %d, not all 0, want %d zeros", len(got), replication.DigestBuckets)
	}
	apply(t, s, batch...)
	wantPartsOfScan(t, s)

	var several []int // unordered, one of them twice, and some that are none
	for bucket := range all {
		if several = append(several, bucket); len(several) == 50 {
			break
		}
	}
	several = append(several, several[0], -1, replication.DigestBuckets)
	var want []replication.Held
	for key, meta := range s.Scan("") {
		if slices.Contains(several, replication.BucketOf(key)) {
			want = append(want, replication.Held{Key: key, Version: meta.Version, Deleted: meta.Deleted})
		}
	}
	if got := s.Contents(several...); !slices.Equal(got, want) {
		t.Errorf("contents of several buckets: got %v, want %v", got, want)
	}
	if got := s.Contents(); len(got) > 0 {
		t.Errorf("contents of no bucket: got %v", got)
	}
	got := s.Buckets()
	got[several[0]]++
	if slices.Equal(got, s.Buckets()) {
		t.Error("changing the buckets that were returned changed the store's")
	}
}

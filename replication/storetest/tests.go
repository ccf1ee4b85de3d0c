package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func emptyStore(t *testing.T, s replication.Store) {
	if _, err := s.Lookup("nothing"); !errors.Is(err, replication.ErrNotFound) {
		t.Errorf("lookup: got %v, want ErrNotFound", err)
	}
	if _, err := s.Get("nothing"); !errors.Is(err, replication.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
	if got := s.Apply(nil); len(got) != 0 {
		t.Errorf("empty batch: got %v, want no outcome", got)
	}
	if got := s.Seen(); !got.Equal(new(seen.Set)) || s.SeenHash() != got.Hash() {
		t.Errorf("seen: got %v, want nothing", got)
	}
	if got := scanned(s, ""); s.Len() != 0 || len(got) != 0 {
		t.Errorf("got %d live keys, scanned %v, want none", s.Len(), got)
	}
	if err := s.Writable(); err != nil {
		t.Errorf("writable: %v", err)
	}
}

// lastVersionWins compares the store with the obvious one: a map from key to the highest
// version so far. Every round uses keys and an origin of its own in the one store.
func lastVersionWins(t *testing.T, s replication.Store) {
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		key := rapid.Map(rapid.IntRange(0, 2), func(i int) string { return fmt.Sprintf("r%dk%d", round, i) })
		var written []replication.Record
		for i := range rapid.IntRange(1, 8).Draw(t, "writes") {
			v := at(0)
			v.Wall += rapid.Int64Range(0, 2).Draw(t, "wall") // so that ties are decided by the dots
			v.Dot = version.Dot{Origin: uint64(round), Counter: uint64(i + 1)}
			r := replication.Record{Key: key.Draw(t, "key"), Version: v, Deleted: rapid.Bool().Draw(t, "deleted")}
			if !r.Deleted {
				r.ContentType, r.Value = "text/plain", fmt.Append(nil, "value ", i)
			}
			written = append(written, r)
		}
		again := rapid.SliceOfN(rapid.SampledFrom(written), 0, 5).Draw(t, "duplicates")
		arriving := rapid.Permutation(slices.Concat(written, again)).Draw(t, "order")

		want := map[string]replication.Record{}
		for len(arriving) > 0 {
			n := rapid.IntRange(1, len(arriving)).Draw(t, "batch")
			for i, got := range apply(t, s, arriving[:n]...) {
				r := arriving[i]
				if r.Version.Compare(want[r.Key].Version) > 0 {
					want[r.Key] = r
				}
				if current := want[r.Key].Meta(); got != current {
					t.Fatalf("%s at %v: outcome tells %v, want %v", r.Key, r.Version, got, current)
				}
				if !s.Seen().Has(r.Version.Dot) {
					t.Fatalf("%s at %v: dot is not seen", r.Key, r.Version)
				}
			}
			for _, r := range want {
				wantRecord(t, s, r)
			}
			arriving = arriving[n:]
		}
		if got, want := s.Seen().Counters(uint64(round)), seenCounters(written); got != want {
			t.Fatalf("seen: got %s, want %s", got, want)
		}
	})
}

func seenCounters(records []replication.Record) string {
	var s seen.Set
	for _, r := range records {
		s.Add(r.Version.Dot)
	}
	return s.Counters(records[0].Version.Origin)
}

func outcomes(t *testing.T, s replication.Store) {
	steps := []struct {
		what    string
		record  replication.Record
		current replication.Record
	}{
		{"first", put("a", 3, "three"), put("a", 3, "three")},
		{"the same again", put("a", 3, "three"), put("a", 3, "three")},
		{"older", put("a", 1, "first"), put("a", 3, "three")},
		{"older tombstone", tombstone("a", 2), put("a", 3, "three")},
		{"newer", put("a", 5, "number five"), put("a", 5, "number five")},
		{"newer tombstone", tombstone("a", 7), tombstone("a", 7)},
		{"older than the tombstone", put("a", 6, "six"), tombstone("a", 7)},
		{"newer than the tombstone", put("a", 8, "eight"), put("a", 8, "eight")},
	}
	for _, step := range steps {
		if got := apply(t, s, step.record)[0]; got != step.current.Meta() {
			t.Errorf("%s: outcome tells %v, want %v", step.what, got, step.current.Meta())
		}
		wantRecord(t, s, step.current)
		if !s.Seen().Has(step.record.Version.Dot) {
			t.Errorf("%s: dot is not seen", step.what)
		}
	}
	if got, want := s.Seen().String(), "abc:1-3,5-8"; got != want {
		t.Errorf("seen: got %s, want %s", got, want)
	}
}

func batchInOrder(t *testing.T, s replication.Store) {
	batch := []replication.Record{
		put("up", 1, "old"), put("down", 4, "new"), put("up", 2, "new"),
		put("down", 3, "old"), put("twice", 5, "x"), put("twice", 5, "x"), put("gone", 6, "x"), tombstone("gone", 7),
	}
	want := []int{1, 4, 2, 4, 5, 5, 6, 7}
	for i, got := range apply(t, s, batch...) {
		if got.Version != at(want[i]) {
			t.Errorf("outcome %d (%s): got %v, want %v", i, batch[i].Key, got.Version, at(want[i]))
		}
	}
	for _, r := range []replication.Record{batch[2], batch[1], batch[4], batch[7]} {
		wantRecord(t, s, r)
	}
	if got, want := s.Seen().String(), "abc:1-7"; got != want {
		t.Errorf("seen: got %s, want %s", got, want)
	}
}

func tombstones(t *testing.T, s replication.Store) {
	apply(t, s, put("kept", 1, "v"), put("deleted", 2, "v"))
	apply(t, s, tombstone("deleted", 3), tombstone("never", 4))
	for _, r := range []replication.Record{tombstone("deleted", 3), tombstone("never", 4), put("kept", 1, "v")} {
		wantRecord(t, s, r)
	}
	if got := s.Len(); got != 1 {
		t.Errorf("len: got %d, want 1", got)
	}
	if got, want := scanned(s, ""), []string{"deleted", "kept", "never"}; !slices.Equal(got, want) {
		t.Errorf("scan: got %v, want %v", got, want)
	}
	apply(t, s, put("deleted", 5, "back"))
	if got := s.Len(); got != 2 {
		t.Errorf("len after writing a deleted key: got %d, want 2", got)
	}
}

func values(t *testing.T, s replication.Store) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	long := bytes.Repeat(every, 4097) // a bit more than 1 MiB
	var batch []replication.Record
	for _, value := range [][]byte{nil, {}, {0}, []byte("\n"), []byte("\r\n\n"), every, long} {
		for _, contentType := range []string{"", "text/plain; charset=utf-8", "a \"quoted\"\ttype\n\x00\xff and ü"} {
			n := len(batch) + 1
			batch = append(batch, replication.Record{
				Key: fmt.Sprintf("key%d", n), Version: at(n), ContentType: contentType, Value: value,
			})
		}
	}
	apply(t, s, batch...)
	for _, r := range batch {
		wantRecord(t, s, r)
	}
}

func keys(t *testing.T, s replication.Store) {
	names := []string{
		"foo", "Foo", "FOO", "fOO", "0", "00", "con", "CON", "nul", "NUL", "aux", "prn", "com1", "COM1", "lpt9",
		"metrics", "health", strings.Repeat("a", 255), strings.Repeat("A", 255), strings.Repeat("A", 254) + "a",
		strings.Repeat("a", 254) + "b", strings.Repeat("x", 254), strings.Repeat("Zz9", 85),
	}
	var batch []replication.Record
	for i, name := range names {
		batch = append(batch, put(name, i+1, "value of "+name))
	}
	apply(t, s, batch...)
	for _, r := range batch {
		wantRecord(t, s, r)
	}
	if got, want := scanned(s, ""), slices.Sorted(slices.Values(names)); !slices.Equal(got, want) {
		t.Errorf("scan: got %q, want %q", got, want)
	}
}

func badKeys(t *testing.T, s replication.Store) {
	for i, key := range []string{"", "..", "a/b", "a.b", "ä", "a\x00", strings.Repeat("a", 256)} {
		good := put("good", i+1, "v")
		got := s.Apply([]replication.Record{put(key, 99, "v"), good})
		if len(got) != 2 || !errors.Is(got[0].Err, replication.ErrBadKey) || got[1].Err != nil || got[1].Current != good.Meta() {
			t.Errorf("key %.20q and a good one: got %v, want ErrBadKey and %v", key, got, good.Meta())
		}
	}
	if s.Seen().Has(at(99).Dot) {
		t.Error("the dot of a refused record is seen")
	}
}

func scan(t *testing.T, s replication.Store) {
	shuffled := []string{"m", "B", "z9", "a", "z", "aa", "b", "0", "ab"}
	for i, key := range shuffled {
		apply(t, s, put(key, i+1, key))
	}
	sorted := slices.Sorted(slices.Values(shuffled))
	for _, after := range append(sorted, "", "1", "a0", "zzz") {
		want := slices.DeleteFunc(slices.Clone(sorted), func(key string) bool { return key <= after })
		if got := scanned(s, after); !slices.Equal(got, want) {
			t.Errorf("scan after %q: got %v, want %v", after, got, want)
		}
	}
	for key := range s.Scan("a") {
		if key != "aa" {
			t.Errorf("first key after a: got %q, want aa", key)
		}
		break
	}
}

// ranges has keys of its own for each round in the one store.
func ranges(t *testing.T, s replication.Store) {
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		var batch []replication.Record
		for i := range rapid.IntRange(0, 12).Draw(t, "records") {
			key := fmt.Sprintf("r%d%s", round%7, rapid.StringMatching(`[aB0]{1,3}`).Draw(t, "key"))
			batch = append(batch, replication.Record{
				Key: key, Version: at(100*round + i), Deleted: rapid.Bool().Draw(t, "deleted"),
			})
		}
		apply(t, s, batch...)
		span := replication.Span{
			Prefix: rapid.StringMatching(`(r[0-6][aB0]{0,2})?|r|q|s`).Draw(t, "prefix"),
			After:  rapid.StringMatching(`(r[0-6][aB0]{0,3})?|r|q|s`).Draw(t, "after"),
			Limit:  rapid.IntRange(1, 9).Draw(t, "limit"),
		}
		var want replication.Stretch
		for key, meta := range s.Scan(span.After) {
			if !strings.HasPrefix(key, span.Prefix) {
				continue
			}
			if want.More = len(want.Entries) == span.Limit; want.More {
				break
			}
			want.Entries = append(want.Entries, replication.Entry{Key: key, Meta: meta})
		}
		got, err := s.Range(span)
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || err != nil {
			t.Fatalf("range %+v: error %v (-scan +got):\n%s", span, err, diff)
		}
	})
}

func scanAndWrite(t *testing.T, s replication.Store) {
	for i := range 20 {
		apply(t, s, put(fmt.Sprintf("k%02d", i), i+1, "old"))
	}
	n := 0
	for key := range s.Scan("") {
		apply(t, s, put(key, 100+n, "new"))
		n++
		if n > 20 {
			t.Fatal("scan yields keys again that were written meanwhile")
		}
	}
	for i := range 20 {
		wantRecord(t, s, put(fmt.Sprintf("k%02d", i), 100+i, "new"))
	}
}

func ownership(t *testing.T, s replication.Store) {
	given := put("a", 1, "value")
	apply(t, s, given)
	copy(given.Value, "XXXXX")
	got := get(t, s, "a")
	_ = append(got.Value, "more"...)
	apply(t, s, put("a", 2, "VALUE"))
	if string(got.Value) != "value" {
		t.Errorf("a value that was returned is %q after the key was written again", got.Value)
	}
	wantRecord(t, s, put("a", 2, "VALUE"))

	s.Seen().Add(at(9).Dot)
	if s.Seen().Has(at(9).Dot) {
		t.Error("adding to the set that Seen returned changed the store's")
	}
	before := s.Seen()
	apply(t, s, put("a", 3, "value"))
	if before.Has(at(3).Dot) {
		t.Error("the store changed the set that Seen returned")
	}
}

// concurrency has writers race on few keys while readers check that versions only go up, that
// every record read is one whole record, and that a dot is never told before its record.
func concurrency(t *testing.T, s replication.Store) {
	const writers, rounds, keys = 8, 12, 3
	name := func(i int) string { return fmt.Sprintf("hot%d", i%keys) }
	record := func(writer, i int) replication.Record {
		v := at(i)
		v.Dot = version.Dot{Origin: uint64(writer + 1), Counter: uint64(i + 1)}
		return replication.Record{Key: name(writer + i), Version: v, Value: bytes.Repeat([]byte(v.String()), 1+i*50)}
	}
	done := make(chan struct{})
	var readers, writing sync.WaitGroup
	for range 2 {
		readers.Go(func() { readUntil(t, s, done, name, keys) })
	}
	for writer := range writers {
		writing.Go(func() {
			for _, i := range rand.Perm(rounds) {
				for _, o := range s.Apply([]replication.Record{record(writer, i), record(writer, (i+1)%rounds)}) {
					if o.Err != nil {
						t.Errorf("apply: %v", o.Err)
					}
				}
			}
		})
	}
	writing.Wait()
	close(done)
	readers.Wait()

	want := map[string]replication.Record{}
	for writer := range writers {
		for i := range rounds {
			if r := record(writer, i); r.Version.Compare(want[r.Key].Version) > 0 {
				want[r.Key] = r
			}
		}
	}
	for _, r := range want {
		wantRecord(t, s, r)
	}
	for writer := range writers {
		if got, want := s.Seen().Counters(uint64(writer+1)), fmt.Sprintf("1-%d", rounds); got != want {
			t.Errorf("seen of writer %d: got %s, want %s", writer, got, want)
		}
	}
}

func readUntil(t *testing.T, s replication.Store, done <-chan struct{}, name func(int) string, keys int) {
	last := map[string]version.Version{}
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		key := name(i % keys)
		r, err := s.Get(key)
		if errors.Is(err, replication.ErrNotFound) && last[key].IsZero() {
			continue
		}
		if err != nil {
			t.Errorf("get %s: %v", key, err)
			return
		}
		text := []byte(r.Version.String())
		if len(r.Value) == 0 || len(bytes.ReplaceAll(r.Value, text, nil)) != 0 {
			t.Errorf("get %s at %v: not its own value: %.100q", key, r.Version, r.Value)
		}
		if r.Version.Compare(last[key]) < 0 {
			t.Errorf("%s: version went down from %v to %v", key, last[key], r.Version)
		}
		last[key] = r.Version
		if m, err := s.Lookup(key); err != nil || m.Version.Compare(r.Version) < 0 {
			t.Errorf("%s: lookup tells %v, %v after get told %v", key, m.Version, err, r.Version)
		} else {
			last[key] = m.Version
		}
	}
}

func (s Suite) damage(t *testing.T, store replication.Store) {
	damaged := func(key string) {
		t.Helper()
		if _, err := store.Get(key); !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("get damaged %s: got %v, want ErrDamaged", key, err)
		}
		if _, err := store.Lookup(key); !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("lookup damaged %s: got %v, want ErrDamaged", key, err)
		}
	}
	apply(t, store, put("a", 2, "first"), put("b", 3, "other"), tombstone("c", 4))
	reads := func(n int, want ...string) {
		t.Helper()
		if got := scanned(store, ""); !slices.Equal(got, want) {
			t.Errorf("scan: got %v, want %v", got, want)
		}
		if got := store.Len(); got != n {
			t.Errorf("len: got %d, want %d", got, n)
		}
		if got, want := store.Digest(), digestOfScan(store); got != want {
			t.Errorf("digest: got %x, want that of a scan, %x", got, want)
		}
	}
	lacks := func(theirs *seen.Set, wantComplete bool, want ...string) {
		t.Helper()
		if got, complete := store.Lacking(theirs); !slices.Equal(got, want) || complete != wantComplete {
			t.Errorf("lacking of %v: got %v, complete %v, want %v, %v", theirs, got, complete, want, wantComplete)
		}
	}
	// Of a damaged record the version is known, or else it is known that something is not.
	ranges := func(n int) {
		t.Helper()
		got, err := store.Range(replication.Span{Limit: 1})
		if errors.Is(err, replication.ErrDamaged) {
			return
		}
		if err != nil || len(got.Entries) != 1 || got.Entries[0].Key != "a" || got.Entries[0].Version != at(n) || !got.More {
			t.Errorf("range with damaged a: got %+v, error %v, want a at %v, and more", got, err, at(n))
		}
	}
	holds := 2
	for _, repair := range []int{2, 5} { // with the same version, then with a newer one
		s.Damage(t, store, "a")
		damaged("a")
		reads(1, "b", "c")
		if got := apply(t, store, put("a", 1, "older"))[0]; got.Version != at(2) {
			t.Errorf("older record for a damaged one: outcome tells %v, want %v", got.Version, at(2))
		}
		damaged("a")
		ranges(holds)
		lacks(seen.Of(), false, "b", "c")
		lacks(seen.Of(at(3).Dot), false, "c")
		lacks(seen.Of(at(holds).Dot), true, "b", "c")
		wantRecord(t, store, put("b", 3, "other"))

		apply(t, store, put("a", repair, "repaired"))
		wantRecord(t, store, put("a", repair, "repaired"))
		holds = repair
		lacks(seen.Of(), true, "a", "b", "c")
		reads(2, "a", "b", "c")
	}
	s.Damage(t, store, "c")
	damaged("c")
	lacks(seen.Of(), false, "a", "b")
	apply(t, store, tombstone("c", 4))
	lacks(seen.Of(), true, "a", "b", "c")
	reads(2, "a", "b", "c")
	s.parts(t, store)
}

// parts is about what tells a part of the records when some of a store of a, b and c, which is
// deleted, are damaged.
func (s Suite) parts(t *testing.T, store replication.Store) {
	wantPartsOfScan(t, store)
	for _, key := range []string{"a", "c"} {
		s.Damage(t, store, key)
		if _, err := store.Get(key); !errors.Is(err, replication.ErrDamaged) { // now the store knows
			t.Errorf("get damaged %s: got %v, want ErrDamaged", key, err)
		}
		if got := store.Contents(replication.BucketOf(key)); len(got) > 0 {
			t.Errorf("contents around damaged %s: got %v, want nothing", key, got)
		}
	}
	if got, want := store.Buckets()[replication.BucketOf("a")], uint64(0); got != want {
		t.Errorf("bucket of damaged a: got %x, want %x", got, want)
	}
	if got := maps.Collect(store.Tombstones()); len(got) != 1 || got["c"] != at(4) || store.TombstoneCount() != 1 {
		t.Errorf("tombstones: got %v, want damaged c", got)
	}
	dropped(t, store, "a", at(5), false)
	dropped(t, store, "c", at(4), true)
	if _, err := store.Lookup("c"); !errors.Is(err, replication.ErrNotFound) {
		t.Errorf("lookup dropped c: got %v, want ErrNotFound", err)
	}
	apply(t, store, put("a", 5, "repaired"))
	wantPartsOfScan(t, store)
	if got := scanned(store, ""); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("scan: got %v, want a and b", got)
	}
}

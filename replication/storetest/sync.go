package storetest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func dot(origin uint64, counter int) version.Dot {
	return version.Dot{Origin: origin, Counter: uint64(counter)}
}

func dots(origin uint64) *rapid.Generator[[]version.Dot] {
	return rapid.SliceOf(rapid.Map(rapid.IntRange(1, 20), func(c int) version.Dot { return dot(origin, c) }))
}

// unite has an origin of its own for each round in the one store.
func unite(t *testing.T, s replication.Store) {
	apply(t, s, put("a", 1, "v"), put("b", 2, "v"), tombstone("b", 4))
	records := maps.Collect(s.Scan(""))
	round := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		round++
		for range 2 {
			before := s.Seen()
			given := seen.Of(dots(round).Draw(t, "dots")...)
			if rapid.Bool().Draw(t, "with the store's own") {
				given.Union(before)
			}
			kept := given.Clone()
			if err := s.Unite(given); err != nil {
				t.Fatalf("unite %v: %v", given, err)
			}
			if !given.Equal(kept) {
				t.Fatalf("unite changed its argument from %v to %v", kept, given)
			}
			want := before.Clone()
			want.Union(given)
			if got := s.Seen(); !got.Equal(want) || s.SeenHash() != want.Hash() {
				t.Fatalf("%v united with %v: got %v with hash %x, want %v with %x", before, given, got, s.SeenHash(), want, want.Hash())
			}
			given.Add(dot(round, 99))
			if s.Seen().Has(dot(round, 99)) {
				t.Fatal("adding to the set that Unite was given changed the store's")
			}
		}
	})
	if after := maps.Collect(s.Scan("")); !maps.Equal(after, records) || s.Len() != 1 {
		t.Errorf("unite changed the records from %v to %v", records, after)
	}
}

func applyUnited(t *testing.T, s replication.Store) {
	apply(t, s, put("a", 1, "old"))
	if err := s.Unite(seen.Of(at(2).Dot, at(3).Dot)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", 2, "new"), put("b", 3, "first"))
	wantRecord(t, s, put("a", 2, "new"))
	wantRecord(t, s, put("b", 3, "first"))
	if got, want := s.Seen().String(), "abc:1-3"; got != want {
		t.Errorf("seen: got %s, want %s", got, want)
	}
}

// lacking has keys and three origins of its own for each round in the one store.
func lacking(t *testing.T, s replication.Store) {
	round := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		round++
		theirs := new(seen.Set)
		if rapid.Bool().Draw(t, "in step before this round") {
			theirs = s.Seen()
		}
		origins := []uint64{2*round - 1, 2 * round, math.MaxUint64 - (round - 1)}
		var batch []replication.Record
		for _, origin := range origins {
			for c := range rapid.IntRange(0, 12).Draw(t, "writes") {
				v := at(rapid.IntRange(0, 3).Draw(t, "wall"))
				v.Dot = dot(origin, c+1)
				key := fmt.Sprintf("r%dk%d", round, rapid.IntRange(0, 9).Draw(t, "key"))
				batch = append(batch, replication.Record{Key: key, Version: v, Deleted: rapid.Bool().Draw(t, "deleted")})
			}
		}
		apply(t, s, batch...)
		for _, origin := range origins {
			theirs.Union(seen.Of(dots(origin).Draw(t, "dots")...))
		}
		got, complete := s.Lacking(theirs)
		if want := lackingByScan(s, theirs); !slices.Equal(got, want) || !complete {
			t.Fatalf("lacking of %v: got %v, complete %v, want %v", theirs, got, complete, want)
		}
	})
	if got, complete := s.Lacking(s.Seen()); len(got) > 0 || !complete {
		t.Errorf("lacking of a set in step: got %v, complete %v, want nothing", got, complete)
	}
	if got, complete := s.Lacking(new(seen.Set)); !slices.Equal(got, scanned(s, "")) || !complete {
		t.Errorf("lacking of an empty set: got %v, complete %v, want all keys", got, complete)
	}
}

// lackingAmongWrites checks what makes it right to unite a seen set that was taken before:
// each of its dots has a record here that is told, be it a newer one.
func lackingAmongWrites(t *testing.T, s replication.Store) {
	const writers, rounds = 4, 15
	key := func(writer, i int) string { return fmt.Sprintf("k%dof%d", i%5, writer) }
	done := make(chan struct{})
	var reader, writing sync.WaitGroup
	reader.Go(func() {
		for {
			told := s.Seen()
			keys, complete := s.Lacking(new(seen.Set))
			if !complete {
				t.Error("lacking is incomplete without damage")
			}
			for writer := range writers {
				for i := range rounds {
					if told.Has(dot(uint64(writer+1), i+1)) && !slices.Contains(keys, key(writer, i)) {
						t.Errorf("dot %d of writer %d was told, but no record of %s", i+1, writer, key(writer, i))
						return
					}
				}
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for writer := range writers {
		writing.Go(func() {
			for i := range rounds {
				v := at(i)
				v.Dot = dot(uint64(writer+1), i+1)
				if o := s.Apply([]replication.Record{{Key: key(writer, i), Version: v}}); o[0].Err != nil {
					t.Errorf("apply: %v", o[0].Err)
				}
			}
		})
	}
	writing.Wait()
	close(done)
	reader.Wait()
}

func digest(t *testing.T, s replication.Store) {
	if got := s.Digest(); got != 0 {
		t.Errorf("empty store: got %x, want 0", got)
	}
	is := func(what string, live ...replication.Record) {
		t.Helper()
		var want uint64
		for _, r := range live {
			want ^= replication.DigestOf(r.Key, r.Version)
		}
		if got := s.Digest(); got != want {
			t.Errorf("%s: got %x, want %x", what, got, want)
		}
	}
	apply(t, s, put("a", 1, "v"), put("b", 2, "v"))
	is("two keys", put("a", 1, "v"), put("b", 2, "v"))
	apply(t, s, put("a", 4, "v"), put("a", 3, "v"), put("b", 2, "v"))
	is("one written again", put("a", 4, "v"), put("b", 2, "v"))
	apply(t, s, tombstone("a", 5), tombstone("never", 6))
	is("one deleted", put("b", 2, "v"))
	apply(t, s, put("a", 7, "v"))
	is("and back", put("a", 7, "v"), put("b", 2, "v"))
	if err := s.Unite(seen.Of(dot(1, 5))); err != nil {
		t.Fatal(err)
	}
	is("dots without records", put("a", 7, "v"), put("b", 2, "v"))

	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		for c := range rapid.IntRange(1, 6).Draw(t, "writes") {
			v := at(rapid.IntRange(0, 3).Draw(t, "wall"))
			v.Dot = dot(uint64(round), c+1)
			key := fmt.Sprintf("r%dk%d", round, rapid.IntRange(0, 3).Draw(t, "key"))
			apply(t, s, replication.Record{Key: key, Version: v, Deleted: rapid.Bool().Draw(t, "deleted")})
			if got, want := s.Digest(), digestOfScan(s); got != want {
				t.Fatalf("after %s at %v: got %x, want %x", key, v, got, want)
			}
		}
	})
}

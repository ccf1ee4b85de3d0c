package replication_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// listed returns the keys of all pages from span on, as "key at version", and how many pages there
// were. It fails the test if they are not ascending or if a page is too long.
func listed(t rapid.TB, n *node, span replication.Span, level replication.Level) (keys []string, pages int) {
	t.Helper()
	for {
		page, _, err := n.List(context.Background(), span, level)
		if err != nil {
			t.Fatalf("list %+v: %v", span, err)
		}
		pages++
		if len(page.Keys) > span.Limit {
			t.Fatalf("list %+v: got %d keys", span, len(page.Keys))
		}
		for _, e := range page.Keys {
			if e.Key <= span.After {
				t.Fatalf("list %+v: got %s", span, e.Key)
			}
			span.After = e.Key
			keys = append(keys, e.Key+" at "+e.Version.String())
		}
		if page.Next == "" {
			return keys, pages
		}
		if page.Next < span.After || pages > 10000 {
			t.Fatalf("list %+v: goes on after %q", span, page.Next)
		}
		span.After = page.Next
	}
}

// The replicas differ in everything: each has some of the keys, at some versions, deleted or not.
// What is listed must be what one look at all of it tells, wherever the pages end.
func TestListIsTheNewestOfAllReplicas(t *testing.T) {
	inBubble := bubble(t, func(t *testing.T, in *rapid.T) string {
		cl := newCluster(t, "abc", setup{})
		defer cl.close()
		prefix := rapid.SampledFrom([]string{"", "k1", "k", "z"}).Draw(in, "prefix")
		newest := make(map[string]replication.Record)
		for _, id := range []string{"a", "b", "c"} {
			var batch []replication.Record
			for range rapid.IntRange(0, 400).Draw(in, "records of "+id) {
				i := rapid.IntRange(0, 999).Draw(in, "key")
				v := at(-rapid.IntRange(1, 3).Draw(in, "version"))
				v.Dot = version.Dot{Origin: 99, Counter: uint64(i*10 + int(v.Wall%7))}
				r := record(fmt.Sprintf("k%03d", i), "value", v)
				if rapid.Bool().Draw(in, "deleted") {
					r = tombstone(r.Key, v)
					r.Version.Logical = 1 // no two records share a version
				}
				if r.Version.Compare(newest[r.Key].Version) > 0 {
					newest[r.Key] = r
				}
				batch = append(batch, r)
			}
			cl[id].store.Apply(batch)
		}
		var want []string
		for _, key := range slices.Sorted(maps.Keys(newest)) {
			if r := newest[key]; !r.Deleted && strings.HasPrefix(key, prefix) {
				want = append(want, key+" at "+r.Version.String())
			}
		}
		span := replication.Span{Prefix: prefix, Limit: rapid.IntRange(1, 200).Draw(in, "limit")}
		got, _ := listed(in, cl["b"], span, replication.LevelAll)
		return cmp.Diff(want, got)
	})
	rapid.Check(t, func(t *rapid.T) {
		if diff := inBubble(t); diff != "" {
			t.Fatalf("keys (-want +got):\n%s", diff)
		}
	})
}

func TestListAsksAnotherReplicaForOneThatFails(t *testing.T) {
	for name, spoil := range map[string]func(cl cluster){
		"refuses":                 func(cl cluster) { cl.spoil("b", refuses) },
		"is not synced":           func(cl cluster) { cl.blank("b") },
		"has keys it cannot read": func(cl cluster) { cl["b"].store.Damage("unknown") },
		"answers out of order":    func(cl cluster) { cl.retold("b", reversed) },
		"answers other keys":      func(cl cluster) { cl.retold("b", nonsense("zz")) },
		"answers keys again":      func(cl cluster) { cl.retold("b", nonsense("k1")) },
		"never gets further":      func(cl cluster) { cl.retold("b", endless) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "abc", setup{})
				for i := range 3 {
					for _, id := range []string{"a", "b", "c"} {
						cl.put(t, id, record(fmt.Sprintf("k%d", i), "v", at(-9+i)))
					}
				}
				spoil(cl)
				for range 2 { // so that b has been the first one asked
					span := replication.Span{Prefix: "k", After: "k0", Limit: 1}
					page, receipt, err := cl["a"].List(t.Context(), span, 2)
					if err != nil || len(page.Keys) != 1 || page.Keys[0].Key != "k1" || page.Next != "k1" {
						t.Fatalf("got %+v, error %v, want k1 and more", page, err)
					}
					if receipt.Acks != 2 {
						t.Errorf("got %d acks, want 2", receipt.Acks)
					}
				}
				_, receipt, err := cl["a"].List(t.Context(), replication.Span{Limit: 1}, replication.LevelAll)
				if _, ok := errors.AsType[*replication.QuorumError](err); !ok || receipt.N != 3 || receipt.Acks > 2 {
					t.Errorf("at all three: got %v with %+v, want a quorum error", err, receipt)
				}
			})
		})
	}
}

func TestListGoesOnWhenAReplicaFailsBetweenTwoStretches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		var batch []replication.Record
		for i := range 1000 {
			batch = append(batch, tombstone(fmt.Sprintf("k%03d", i), at(-2000+i)))
		}
		batch = append(batch, record("z", "v", at(-9)))
		for _, id := range []string{"a", "b", "c"} {
			cl[id].store.Apply(batch)
		}
		var asked atomic.Int32
		cl["a"].peers.lost = func(_ context.Context, what, id string) error {
			if n := asked.Add(1); id == "b" && n > 4 {
				return errRefused
			}
			return nil
		}
		page, receipt, err := cl["a"].List(t.Context(), replication.Span{Limit: 1}, replication.LevelDefault)
		if err != nil || len(page.Keys) != 1 || page.Keys[0].Key != "z" || page.Next != "" {
			t.Errorf("got %+v, error %v, want z alone", page, err)
		}
		wantReceipt(t, receipt, "2/3 missing node-b")
	})
}

// However much was deleted, one page asks so often and no more, and tells where to go on.
func TestListOfDeletedKeysIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		var batch []replication.Record
		for i := range 5000 {
			batch = append(batch, tombstone(fmt.Sprintf("k%04d", i), at(-9000+i)))
		}
		batch = append(batch, record("z", "v", at(-9)))
		for _, id := range []string{"a", "b", "c"} {
			cl[id].store.Apply(batch)
		}
		page, _, err := cl["a"].List(t.Context(), replication.Span{Limit: 10}, replication.LevelAll)
		if err != nil || len(page.Keys) > 0 || page.Next < "k1" {
			t.Errorf("got %+v, error %v, want no keys and more", page, err)
		}
		if got := len(cl["a"].peers.called()); got > 40 {
			t.Errorf("%d calls for one page", got)
		}
		got, pages := listed(t, cl["a"], replication.Span{Limit: 10}, replication.LevelAll)
		if len(got) != 1 || pages > 5 {
			t.Errorf("got %v in %d pages, want z in a few", got, pages)
		}
	})
}

func TestListOfOneAsksTheOwnStoreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("mine", "v", at(-9)))
		cl.put(t, "b", record("theirs", "v", at(-9)))
		got, _ := listed(t, cl["a"], replication.Span{Limit: 10}, replication.LevelOne)
		if want := []string{"mine at " + at(-9).String()}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if calls := cl["a"].peers.called(); len(calls) > 0 {
			t.Errorf("calls: got %q, want none", calls)
		}
	})
}

func TestDamagedRecordsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		cl.put(t, "a", record("k", "v", at(-9)))
		cl["a"].store.Damage("k")
		if got, _ := listed(t, cl["a"], replication.Span{Limit: 10}, replication.LevelDefault); len(got) != 1 {
			t.Errorf("got %v, want k: what is damaged is not absent", got)
		}
	})
}

func TestBadSpansAreRefused(t *testing.T) {
	cl := newCluster(t, "a", setup{})
	for _, span := range []replication.Span{
		{Limit: 0},
		{Limit: -1},
		{Limit: replication.MaxSpan + 1},
		{Limit: 1, Prefix: "a-b"},
		{Limit: 1, After: "a b"},
		{Limit: 1, Prefix: strings.Repeat("x", 256)},
	} {
		if _, _, err := cl["a"].List(t.Context(), span, replication.LevelOne); !errors.Is(err, replication.ErrBadSpan) {
			t.Errorf("list %+v: got %v, want ErrBadSpan", span, err)
		}
		if _, err := cl["a"].Replica().Range(span); !errors.Is(err, replication.ErrBadSpan) {
			t.Errorf("range %+v: got %v, want ErrBadSpan", span, err)
		}
	}
}

// blank makes a node one that is not synced, which it knows and the others do not.
func (cl cluster) blank(id string) {
	for _, n := range cl {
		n.peers.set(id, func(context.Context) error { return replication.ErrNotReady })
	}
}

// retold has all nodes be told something else by a node than what it knows of a span.
func (cl cluster) retold(id string, change func(replication.Stretch) replication.Stretch) {
	for _, n := range cl {
		n.peers.stretch = func(from string, s replication.Stretch) replication.Stretch {
			if from != id {
				return s
			}
			return change(s)
		}
	}
}

func reversed(s replication.Stretch) replication.Stretch {
	s.Entries = slices.Clone(s.Entries)
	slices.Reverse(s.Entries)
	return s
}

func endless(replication.Stretch) replication.Stretch { return replication.Stretch{More: true} }

// nonsense puts a key before all others.
func nonsense(key string) func(replication.Stretch) replication.Stretch {
	return func(s replication.Stretch) replication.Stretch {
		s.Entries = append([]replication.Entry{{Key: key, Meta: replication.Meta{Version: at(-1)}}}, s.Entries...)
		return s
	}
}

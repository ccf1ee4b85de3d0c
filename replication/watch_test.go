package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// watcher is a client that keeps what it was told, and nothing else.
type watcher struct {
	t rapid.TB
	*replication.Watch
	// state is what it was told last of each key that has a value; resets are the reasons given.
	state  map[string]version.Version
	resets []string
	told   []string // "key" or "-key" per change
	marker *seen.Set
}

// watching returns a client of node n that goes on from a marker, nil for from now on.
func watching(t rapid.TB, n *node, prefix string, from *seen.Set) *watcher {
	t.Helper()
	w := &watcher{t: t, state: make(map[string]version.Version)}
	w.move(n, prefix, from)
	return w
}

// move goes on at another node.
func (w *watcher) move(n *node, prefix string, from *seen.Set) {
	w.t.Helper()
	watch, err := n.Replica().Watch(prefix, from)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Watch, w.marker = watch, watch.Marker().Clone()
}

// rest takes in all that comes until nothing has come for a minute. What it was told of a key never
// goes back, but by a reset.
func (w *watcher) rest() {
	w.t.Helper()
	for w.next(time.Minute) {
	}
}

// next takes in a batch and reports whether one came within the given time.
func (w *watcher) next(within time.Duration) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	batch, err := w.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		w.marker = w.Marker().Clone()
		return false
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if batch.Reset != "" {
		if len(batch.Changes) > 0 || len(w.Marker().Origins()) > 0 {
			w.t.Errorf("reset with %d changes and marker %v, want none", len(batch.Changes), w.Marker())
		}
		w.resets = append(w.resets, batch.Reset)
		clear(w.state)
	}
	for _, c := range batch.Changes {
		if old := w.state[c.Key]; c.Version.Compare(old) < 0 {
			w.t.Errorf("%s went back from %v to %v", c.Key, old, c.Version)
		}
		name := c.Key
		if w.state[c.Key] = c.Version; c.Deleted {
			delete(w.state, c.Key)
			name = "-" + name
		}
		w.told = append(w.told, name)
	}
	w.marker = w.Marker().Clone()
	return true
}

// wantState checks that the client knows what the node's store has, of the keys with prefix.
func (w *watcher) wantState(n *node, prefix string) {
	w.t.Helper()
	want := make(map[string]version.Version)
	for key, meta := range n.store.Scan("") {
		if !meta.Deleted && strings.HasPrefix(key, prefix) {
			want[key] = meta.Version
		}
	}
	for key := range want {
		if w.state[key] != want[key] {
			w.t.Errorf("%s: was told %v, want %v", key, w.state[key], want[key])
		}
	}
	for key := range w.state {
		if want[key].IsZero() {
			w.t.Errorf("%s: was told %v, and not that it is deleted", key, w.state[key])
		}
	}
}

// written writes records at a node, as a coordinator does.
func written(t testing.TB, n *node, records ...replication.Record) {
	t.Helper()
	for i, o := range n.Replica().Write(records) {
		if o.Err != nil {
			t.Fatalf("write %s: %v", records[i].Key, o.Err)
		}
	}
}

func TestWatchTellsWhatChangesFromNowOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		a := cl["a"]
		written(t, a, record("before", "v", at(-99)), record("x", "v", at(-98)))
		w := watching(t, a, "", nil)
		if !w.marker.Equal(a.store.Seen()) {
			t.Errorf("first marker: got %v, want %v", w.marker, a.store.Seen())
		}
		w.rest()
		written(t, a, record("foo", "v", at(-9)), tombstone("x", at(-8)))
		w.rest()
		written(t, a, record("foo", "new", at(-7)))
		w.rest()
		if want := []string{"foo", "-x", "foo"}; !slices.Equal(w.told, want) || len(w.resets) > 0 {
			t.Errorf("told %q, resets %q, want %q", w.told, w.resets, want)
		}
		if !w.marker.Equal(a.store.Seen()) {
			t.Errorf("last marker: got %v, want %v", w.marker, a.store.Seen())
		}
	})
}

func TestWatchTellsOfItsPrefixAloneAndItsMarkerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		w := watching(t, a, "us", nil)
		written(t, a, record("u", "v", at(-9)), record("us", "v", at(-8)), record("user", "v", at(-7)), record("z", "v", at(-6)))
		w.rest()
		written(t, a, record("z", "v", at(-5)))
		w.rest()
		if want := []string{"us", "user"}; !slices.Equal(w.told, want) {
			t.Errorf("told %q, want %q", w.told, want)
		}
		if !w.marker.Equal(a.store.Seen()) {
			t.Errorf("marker: got %v, want %v", w.marker, a.store.Seen())
		}
	})
}

func TestWatchCoalescesWhatChangesQuickly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		w := watching(t, a, "", nil)
		done := make(chan bool)
		go func() {
			defer close(done)
			for i := range 1000 {
				written(t, a, record("hot", "v", at(-2000+i)))
				time.Sleep(time.Millisecond)
			}
		}()
		w.rest()
		<-done
		w.rest()
		if n := len(w.told); n < 50 || n > 150 {
			t.Errorf("told %d times of 1000 changes in a second, want about 100", n)
		}
		w.wantState(a, "")
	})
}

// The whole promise: whatever is written and deleted, lost on its way, or collected, and wherever
// the client goes on with the last marker it got, it ends with what the nodes have.
func TestWatchThatMovesSeesEveryFinalState(t *testing.T) {
	inBubble := bubble(t, func(t *testing.T, in *rapid.T) bool {
		cl := newCluster(t, "abc", setup{})
		defer cl.close()
		ids := []string{"a", "b", "c"}
		w := watching(in, cl["a"], "", new(seen.Set))
		// Of each key the writes are in the order of their versions, on some nodes.
		n := 0
		for range rapid.IntRange(1, 40).Draw(in, "steps") {
			switch rapid.IntRange(0, 9).Draw(in, "step") {
			default:
				n++
				v := at(-1000 + n)
				r := record(fmt.Sprint("k", rapid.IntRange(0, 4).Draw(in, "key")), "v", v)
				if rapid.Bool().Draw(in, "deleted") {
					r = tombstone(r.Key, v)
				}
				for _, id := range ids {
					if rapid.Bool().Draw(in, "arrives at "+id) {
						written(t, cl[id], r)
					}
				}
			case 0, 1:
				from, to := rapid.SampledFrom(ids).Draw(in, "from"), rapid.SampledFrom(ids).Draw(in, "to")
				cl.sync(t, from, to)
			case 2, 3:
				w.next(time.Millisecond * time.Duration(rapid.SampledFrom([]int{1, 20, 1000, 9000}).Draw(in, "wait")))
			case 4:
				// What all have seen may be collected anywhere.
				cl.collect(t, rapid.SampledFrom(ids).Draw(in, "collects"))
			case 5:
				w.move(cl[rapid.SampledFrom(ids).Draw(in, "node")], "", w.marker)
			}
		}
		for range 3 {
			for _, from := range ids {
				for _, to := range ids {
					cl.sync(t, from, to)
				}
			}
		}
		w.rest()
		w.wantState(cl["a"], "")
		return true
	})
	rapid.Check(t, func(t *rapid.T) { inBubble(t) })
}

// sync has one node pull from another, as Syncer does.
func (cl cluster) sync(t testing.TB, from, to string) {
	t.Helper()
	if from == to {
		return
	}
	n := cl[to]
	pull, err := cl[from].offers.OpenPull(to, n.store.Seen())
	if err != nil {
		t.Fatal(err)
	}
	for next := uint64(0); ; {
		page, err := cl[from].offers.NextPage(pull.ID, next)
		if err != nil {
			t.Fatal(err)
		}
		written(t, n, page.Records...)
		if next = page.Next; next == 0 {
			break
		}
	}
	if err := errors.Join(n.memory.Collect(pull.Collected), n.store.Unite(pull.Seen)); err != nil {
		t.Fatal(err)
	}
	n.memory.Pull(from, 0, pull.Seen)
}

// collect has a node drop the tombstones that it has pulled from all others, as Collector does.
func (cl cluster) collect(t testing.TB, id string) {
	t.Helper()
	n := cl[id]
	if err := n.memory.Save(); err != nil {
		t.Fatal(err)
	}
	var dots []version.Dot
	var drops []replication.Held
	for key, v := range n.store.Tombstones() {
		stable := true
		for other := range cl {
			stable = stable && (other == id || n.memory.Pulled(other).Has(v.Dot))
		}
		if stable {
			dots = append(dots, v.Dot)
			drops = append(drops, replication.Held{Key: key, Version: v})
		}
	}
	if err := n.memory.Collect(n.store.Seen().Until(seen.Of(dots...))); err != nil {
		t.Fatal(err)
	}
	for _, d := range drops {
		if gone, err := n.store.Drop(d.Key, d.Version); err != nil || !gone {
			t.Fatalf("drop %s: %v, %v", d.Key, gone, err)
		}
	}
}

func TestWatchFromAMarkerOfBeforeACollectedDeleteBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a, b := cl["a"], cl["b"]
		for _, n := range cl {
			written(t, n, record("foo", "v", at(-99)), record("bar", "v", at(-98)))
		}
		w := watching(t, a, "", nil)
		w.state["foo"], w.state["bar"] = at(-99), at(-98) // as it was told before
		old := w.marker
		written(t, a, tombstone("foo", at(-9)))
		cl.sync(t, "a", "b")
		cl.sync(t, "b", "a")
		w.rest()
		recent := w.marker
		cl.collect(t, "a")
		if a.holds("foo") != "nothing" {
			t.Fatal("the tombstone was not collected")
		}

		// In step, or moved with a recent marker: nothing is told again.
		w.rest()
		w.move(a, "", recent)
		w.rest()
		if want := []string{"-foo"}; !slices.Equal(w.told, want) || len(w.resets) > 0 {
			t.Errorf("with a recent marker: told %q, resets %q, want %q", w.told, w.resets, want)
		}
		// Where the tombstone still is, an old marker is as good.
		w.state["foo"] = at(-99)
		w.move(b, "", old)
		w.rest()
		w.wantState(b, "")
		if len(w.resets) > 0 {
			t.Errorf("where the tombstone is: resets %q, want none", w.resets)
		}
		w.state["foo"] = at(-99)
		w.move(a, "", old)
		w.rest()
		w.wantState(a, "")
		if len(w.resets) != 1 || !strings.Contains(w.resets[0], "too old") {
			t.Errorf("where it was collected: resets %q, want one", w.resets)
		}
		// So it is on a node that has it from there, and after a restart.
		cl.sync(t, "a", "b")
		b.memory.Pull("a", 0, a.store.Seen())
		cl.collect(t, "b")
		for _, n := range []*node{a, b} {
			n.start(t)
			w = watching(t, n, "", old)
			w.state["foo"] = at(-99)
			w.rest()
			w.wantState(n, "")
		}
	})
}

// A node that came later never had the tombstone, only the seen set with its dot.
func TestWatchOnANodeThatNeverHadTheTombstoneBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a, b := cl["a"], cl["b"]
		written(t, a, record("foo", "v", at(-99)))
		w := watching(t, a, "", nil)
		w.state["foo"] = at(-99)
		written(t, a, tombstone("foo", at(-9)), record("bar", "v", at(-8)))
		// b was not known yet.
		if err := a.memory.Collect(a.store.Seen().Until(seen.Of(at(-9).Dot))); err != nil {
			t.Fatal(err)
		}
		if gone, err := a.store.Drop("foo", at(-9)); err != nil || !gone {
			t.Fatalf("drop: %v, %v", gone, err)
		}
		b.syncer(t, replication.SyncConfig{})
		time.Sleep(10 * time.Second)
		cl.wantEqual(t, "ab")
		w.move(b, "", w.marker)
		w.rest()
		w.wantState(b, "")
		if len(w.resets) != 1 {
			t.Errorf("resets: got %q, want one", w.resets)
		}
	})
}

func TestWatchWaitsForWhatWasToldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a, b := cl["a"], cl["b"]
		// The older write of foo was lost on its way to a, the newer one on its way to b.
		w := watching(t, a, "", new(seen.Set))
		written(t, a, record("foo", "new", at(-8)))
		written(t, b, record("foo", "old", at(-9)))
		w.rest()
		w.resets = nil
		w.move(b, "", w.marker)
		if w.next(time.Second) {
			t.Error("told an older record than before")
		}
		cl.sync(t, "a", "b")
		w.rest()
		w.wantState(b, "")
		if len(w.resets) > 0 {
			t.Errorf("resets: got %q, want none", w.resets)
		}
	})
}

func TestWatchBeginsAnewWhenWhatWasToldIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a, b := cl["a"], cl["b"]
		w := watching(t, a, "", new(seen.Set))
		written(t, a, record("foo", "new", at(-8)), record("only", "here", at(-7)))
		written(t, b, record("foo", "old", at(-9)))
		w.rest()
		w.resets = nil
		w.move(b, "", w.marker)
		w.rest()
		w.wantState(b, "")
		if len(w.resets) != 1 || !strings.Contains(w.resets[0], "does not know") {
			t.Errorf("resets: got %q, want one", w.resets)
		}
	})
}

func TestWatchTellsAllWithoutHoldingIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		const keys = 25_000
		var batch []replication.Record
		for i := range keys {
			batch = append(batch, record(fmt.Sprintf("k%d", i), "v", at(-100_000+i)))
		}
		written(t, a, record("first", "v", at(-200_000)))
		w := watching(t, a, "", nil)
		written(t, a, batch...)
		written(t, a, tombstone("first", at(-9)), tombstone("k7", at(-8)))
		a.store.Damage("k9") // its version is known
		w.rest()
		if len(w.told) < keys || len(w.resets) > 0 {
			t.Errorf("told %d changes, resets %q, want %d", len(w.told), w.resets, keys)
		}
		w.state["k9"] = version.Version{}
		delete(w.state, "k9")
		w.wantState(a, "")
	})
}

func TestWatchTellsOfDamagedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		w := watching(t, a, "", nil)
		written(t, a, record("foo", "v", at(-9)), record("bar", "v", at(-8)))
		a.store.Damage("foo")
		w.rest()
		slices.Sort(w.told)
		if want := []string{"bar", "foo"}; !slices.Equal(slices.Compact(w.told), want) || !w.marker.Equal(a.store.Seen()) {
			t.Errorf("told %q with marker %v, want %q", w.told, w.marker, want)
		}
		a.store.Damage("unknown")
		written(t, a, record("baz", "v", at(-7)))
		if _, err := w.Next(t.Context()); !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("with a record of an unknown key: got %v, want ErrDamaged", err)
		}
	})
}

// damaging damages foo whenever it has told what is lacking.
type damaging struct{ *storetest.Memory }

func (d damaging) Lacking(theirs *seen.Set) ([]string, bool) {
	defer d.Damage("foo")
	return d.Memory.Lacking(theirs)
}

// A record is damaged between the look at what changed and the look at the record.
func TestWatchTellsOfRecordsThatAreDamagedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{store: func(_ string, s replication.Store, _ *version.Clock) replication.Store {
			return damaging{s.(*storetest.Memory)}
		}})["a"]
		a.store.Apply([]replication.Record{record("first", "v", at(-99))})
		w := watching(t, a, "", a.store.Seen())
		a.store.Apply([]replication.Record{record("foo", "v", at(-9)), record("bar", "v", at(-8))})
		w.rest()
		if w.state["foo"] != at(-9) || w.state["bar"] != at(-8) {
			t.Errorf("told %q, want foo and bar", w.told)
		}
	})
}

func TestWatchFromTheBeginningTellsWhatIsThereAndNoDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		written(t, a, record("foo", "v", at(-9)), tombstone("gone", at(-8)))
		w := watching(t, a, "", new(seen.Set))
		w.rest()
		if want := []string{"foo"}; !slices.Equal(w.told, want) || len(w.resets) != 1 {
			t.Errorf("told %q, resets %q, want %q after one", w.told, w.resets, want)
		}
	})
}

// What others have collected and this node has yet to hear of is no reason to begin anew, again and
// again.
func TestWatchIsNotResetForWhatItsNodeHasNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		if err := a.memory.Collect(seen.Of(at(-1).Dot)); err != nil {
			t.Fatal(err)
		}
		w := watching(t, a, "", nil)
		written(t, a, record("foo", "v", at(-9)))
		w.rest()
		if want := []string{"foo"}; !slices.Equal(w.told, want) || len(w.resets) > 0 {
			t.Errorf("told %q, resets %q, want %q", w.told, w.resets, want)
		}
	})
}

func TestWatchAtRestDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newCluster(t, "a", setup{})["a"]
		w := watching(t, a, "", nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := w.Next(ctx); done <- err }()
		synctest.Wait() // it waits for the bell, and for no timer
		started := time.Now()
		time.Sleep(time.Hour)
		written(t, a, record("foo", "v", at(-9)))
		if err := <-done; err != nil || time.Since(started) != time.Hour {
			t.Errorf("got %v after %v, want the change at once", err, time.Since(started))
		}
		cancel()
		if _, err := w.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want Canceled", err)
		}
	})
}

func TestWatchNeedsASyncedNodeAndAPrefix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		w := watching(t, cl["a"], "", nil)
		if _, err := cl["a"].Replica().Watch("a-b", nil); !errors.Is(err, replication.ErrBadSpan) {
			t.Errorf("bad prefix: got %v, want ErrBadSpan", err)
		}
		n := cl["a"]
		_, err := replication.NewSyncer(replication.SyncConfig{ // which finds out whether it is synced when it runs
			Replica: n.Replica(), Members: n.members, Peers: n.peers, Memory: n.memory,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl["a"].Replica().Watch("", nil); !errors.Is(err, replication.ErrNotReady) {
			t.Errorf("not synced: got %v, want ErrNotReady", err)
		}
		if _, err := w.Next(t.Context()); !errors.Is(err, replication.ErrNotReady) {
			t.Errorf("not synced any more: got %v, want ErrNotReady", err)
		}
	})
}

// Many at once, with real goroutines, for the race detector.
func TestWatchesAmongWritesAllSeeTheEnd(t *testing.T) {
	a := newCluster(t, "a", setup{})["a"]
	watchers := make([]*watcher, 8)
	for i := range watchers {
		watchers[i] = watching(t, a, "", nil)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for i := range 2000 {
			r := record(fmt.Sprint("k", rand.IntN(50)), "v", at(-5000+i))
			if i%3 == 0 {
				r = tombstone(r.Key, r.Version)
			}
			written(t, a, r)
		}
	}()
	for running := true; running; {
		for _, w := range watchers {
			w.next(time.Millisecond)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	for _, w := range watchers {
		for w.next(50 * time.Millisecond) {
		}
		w.wantState(a, "")
	}
}

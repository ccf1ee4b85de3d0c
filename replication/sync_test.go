package replication_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// catchUp starts a node's monitor and syncer, of which with holds what is not the node's own.
// stop ends them. What the syncer says of the node all nodes know at once, after with.SetSynced.
func (n *node) catchUp(t testing.TB, with replication.SyncConfig) (s *replication.Syncer, stop func()) {
	t.Helper()
	replica, _ := n.answers()
	with.Replica, with.Members, with.Peers, with.Memory = replica, n.members, n.peers, n.memory
	told := with.SetSynced
	with.SetSynced = func(synced bool) {
		if told != nil {
			told(synced)
		}
		for _, other := range n.peers.cluster {
			other.members.synced(n.id, synced)
		}
	}
	var m *replication.Monitor
	with.Checked = func() bool { return m.Checked() }
	s, err := replication.NewSyncer(with)
	if err != nil {
		t.Fatal(err)
	}
	m, err = replication.NewMonitor(replication.MonitorConfig{
		Replica: replica, Members: n.members, Peers: n.peers, Memory: n.memory, Heard: s.Heard, GoneBack: n.goneBack.add,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() { m.Run(ctx) })
	return s, func() { cancel(); running.Wait() }
}

// syncer is catchUp until the end of the test.
func (n *node) syncer(t *testing.T, with replication.SyncConfig) *replication.Syncer {
	t.Helper()
	s, stop := n.catchUp(t, with)
	t.Cleanup(stop)
	return s
}

// pulled returns what a node remembers to have pulled from another.
func (n *node) pulled(t testing.TB, id string) *seen.Set {
	t.Helper()
	if err := n.memory.Save(); err != nil {
		t.Fatal(err)
	}
	return n.memory.Pulled(id)
}

// put puts n keys with the given prefix through a node.
func (n *node) put(t testing.TB, count int, prefix, value string) {
	t.Helper()
	for i := range count {
		if _, err := n.Put(context.Background(), fmt.Sprintf("%s%03d", prefix, i), []byte(value), "", replication.LevelOne); err != nil {
			t.Fatal(err)
		}
	}
}

// count returns how often a node called what.
func (n *node) count(what string) (count int) {
	for _, call := range n.peers.called() {
		if call == what {
			count++
		}
	}
	return count
}

// wantEqual checks that the nodes have seen the same and hold the same.
func (cl cluster) wantEqual(t testing.TB, ids string) {
	t.Helper()
	first := cl[ids[:1]].store
	for id := range strings.SplitSeq(ids, "") {
		s := cl[id].store
		if !s.Seen().Equal(first.Seen()) {
			t.Errorf("node %s has seen %v, node %s %v", id, s.Seen(), ids[:1], first.Seen())
		}
		if s.Digest() != first.Digest() || s.Len() != first.Len() {
			t.Errorf("node %s has %d live keys with digest %x, node %s %d with %x", id, s.Len(), s.Digest(), ids[:1], first.Len(), first.Digest())
		}
	}
}

// wantPulled checks how many records a node got by pulls.
func wantPulled(t testing.TB, s *replication.Syncer, want uint64) {
	t.Helper()
	if got := s.Stats(); got.Records != want {
		t.Errorf("%d records were pulled, want %d: %+v", got.Records, want, got)
	}
}

func TestNodeThatWasDownHasAllAfterOnePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, c := cl["a"], cl["c"]
		a.put(t, 50, "early", "v")
		synctest.Wait()
		cl.spoil("c", refuses)
		a.put(t, 1000, "k", "v")
		for i := range 200 {
			if _, err := cl["b"].Delete(t.Context(), fmt.Sprintf("k%03d", i*4), replication.LevelDefault); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		cl.spoil("c", nil)
		s := c.syncer(t, replication.SyncConfig{})
		time.Sleep(time.Second)
		cl.wantEqual(t, "abc")
		cl.wantHeld(t, "k004", "gone", "abc")
		cl.wantHeld(t, "k005", "v", "abc")
		if got := c.count("open a") + c.count("open b"); got != 1 {
			t.Errorf("it took %d pulls, want 1", got)
		}
		wantPulled(t, s, 1000) // the early ones not again
	})
}

func TestNodesInStepPullNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].put(t, 100, "k", "v")
		synctest.Wait()
		for _, n := range cl {
			n.syncer(t, replication.SyncConfig{})
		}
		time.Sleep(time.Minute)
		for id, n := range cl {
			for _, other := range []string{"a", "b", "c"} {
				if got := n.count("open " + other); got != 0 {
					t.Errorf("node %s opened %d pulls at %s, want none", id, got, other)
				}
			}
		}
	})
}

func TestWritesOnTheirWayAreNotPulledButLostOnesAreSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, c := cl["a"], cl["c"]
		s := c.syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		a.peers.set("c", takes(400*time.Millisecond)) // b has every write long before c
		for range 200 {
			a.put(t, 10, "k", "v")
			time.Sleep(50 * time.Millisecond)
		}
		wantPulled(t, s, 0)
		a.peers.set("c", refuses)
		a.put(t, 1, "lost", "v")
		time.Sleep(2 * time.Second)
		cl.wantHeld(t, "lost000", "v", "c")
		wantPulled(t, s, 1)
	})
}

func TestWriteThatWasLostAmongManyIsPulledAfterTheGraceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, c := cl["a"], cl["c"]
		c.syncer(t, replication.SyncConfig{Grace: 3 * time.Second})
		time.Sleep(5 * time.Second)
		a.peers.set("c", refuses)
		a.put(t, 1, "lost", "v")
		time.Sleep(10 * time.Millisecond)
		a.peers.set("c", takes(400*time.Millisecond))
		a.members.live("c", true)
		for i := range 50 {
			a.put(t, 10, "k", "v")
			time.Sleep(100 * time.Millisecond)
			if got := c.holds("lost000"); got != "nothing" && i < 25 {
				t.Fatalf("it was pulled after %d00 ms", i)
			}
		}
		cl.wantHeld(t, "lost000", "v", "c")
	})
}

func TestMemberThatIsBackIsPulledFromAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		b := cl["b"]
		b.syncer(t, replication.SyncConfig{Grace: time.Hour})
		time.Sleep(5 * time.Second)
		cl.spoil("a", refuses)
		cl.spoil("b", refuses)
		cl["a"].put(t, 1, "k", "v")
		time.Sleep(10 * time.Second)
		cl.spoil("a", nil)
		time.Sleep(1500 * time.Millisecond) // an exchange
		cl.wantEqual(t, "ab")
	})
}

func TestWritesDuringAPullBehindAndAheadOfItsPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{pageRecords: 2})
		a, b := cl["a"], cl["b"]
		a.peers.set("b", refuses) // a's writes reach b by pulls alone
		a.put(t, 10, "k", "old")
		var snapshot *seen.Set
		b.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			page, err := b.peers.paged(id, pull, from)
			if from == 2 && snapshot == nil {
				snapshot = a.store.Seen()
				for _, key := range []string{"k000", "k009", "m"} {
					if _, err := a.Put(t.Context(), key, []byte("new"), "", replication.LevelOne); err != nil {
						t.Error(err)
					}
				}
			}
			if snapshot != nil && page.Next == 0 {
				b.peers.page = nil
			}
			return page, err
		}
		s := b.syncer(t, replication.SyncConfig{})
		synctest.Wait() // one pull
		if got := s.Stats(); got.Complete != 1 {
			t.Fatalf("%d pulls were complete, want one: %+v", got.Complete, got)
		}
		if got := b.pulled(t, "a"); !got.Equal(snapshot) {
			t.Errorf("pulled from a: got %v, want %v as when the pull was opened", got, snapshot)
		}
		cl.wantHeld(t, "k000", "old", "b") // it was behind the page
		cl.wantHeld(t, "k009", "new", "b") // it was ahead
		cl.wantHeld(t, "m", "nothing", "b")
		want := snapshot.Clone()
		r, _ := a.store.Lookup("k009")
		want.Add(r.Version.Dot)
		if got := b.store.Seen(); !got.Equal(want) {
			t.Errorf("seen after the pull: got %v, want %v", got, want)
		}
		time.Sleep(3 * time.Second)
		cl.wantEqual(t, "ab")
		wantPulled(t, s, 12)
	})
}

func TestPullThatWasCutOffGoesOnWithWhatIsLeft(t *testing.T) {
	for name, cut := range map[string]func(a *node, t testing.TB) error{
		"answer lost":    func(*node, testing.TB) error { return errRefused },
		"peer restarted": func(a *node, t testing.TB) error { a.Close(); a.start(t); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "ab", setup{pageRecords: 2})
				a, b := cl["a"], cl["b"]
				a.peers.set("b", refuses)
				a.put(t, 10, "k", "old")
				a.put(t, 10, "k", "new") // ten dots that only a pull's seen set can bring
				cutOff := false
				b.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
					if from == 6 && !cutOff {
						cutOff = true
						if err := cut(a, t); err != nil {
							return replication.Page{}, err
						}
					}
					return b.peers.paged(id, pull, from)
				}
				s := b.syncer(t, replication.SyncConfig{})
				time.Sleep(100 * time.Millisecond) // sooner than it tries again
				if got, want := b.store.Seen().Counters(1), "11-16"; got != want {
					t.Errorf("seen after the cut: got %s, want %s", got, want)
				}
				if got := s.Stats(); got.Failed != 1 || got.Complete != 0 {
					t.Errorf("got %+v, want one pull that failed", got)
				}
				time.Sleep(2 * time.Second)
				cl.wantEqual(t, "ab")
				wantPulled(t, s, 10) // each once
			})
		})
	}
}

func TestIncompletePullIsNotUnitedAndHealsFromAnotherPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{pageRecords: 2})
		a, c := cl["a"], cl["c"]
		cl.spoil("c", refuses)
		a.put(t, 5, "k", "old")
		a.put(t, 5, "k", "new")
		time.Sleep(time.Second)
		a.store.Damage("k002")
		cl.spoil("b", freezes)
		cl.spoil("c", nil)
		s := c.syncer(t, replication.SyncConfig{})
		time.Sleep(time.Minute)
		cl.wantHeld(t, "k004", "new", "c")
		if got, want := c.store.Seen().Counters(1), "6-7,9-10"; got != want {
			t.Errorf("seen: got %s, want %s", got, want)
		}
		if got := s.Stats(); got.Complete != 0 || got.Incomplete < 3 || got.Incomplete > 12 || got.Records != 4 {
			t.Errorf("in a minute: got %+v, want some incomplete pulls, ever rarer, and 4 records", got)
		}
		if got := c.pulled(t, "a"); !got.Equal(new(seen.Set)) {
			t.Errorf("pulled from a: got %v, want nothing", got)
		}
		cl.spoil("b", nil)
		time.Sleep(4 * time.Second)
		cl.wantEqual(t, "bc")
		if got := c.pulled(t, "a"); !got.Equal(a.store.Seen()) {
			t.Errorf("pulled from a, all of which is here now: got %v, want %v", got, a.store.Seen())
		}
		// What is past does not delay what comes.
		a.peers.set("b", refuses)
		a.peers.set("c", refuses)
		a.put(t, 1, "later", "v")
		time.Sleep(2 * time.Second)
		cl.wantHeld(t, "later000", "v", "c")
	})
}

func TestRecordLargerThanAPageIsPulled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{pageBytes: 1000})
		a := cl["a"]
		a.peers.set("b", refuses)
		large := strings.Repeat("x", 1<<20)
		a.put(t, 3, "a", "small")
		a.put(t, 2, "k", large)
		a.put(t, 3, "z", "small")
		cl["b"].syncer(t, replication.SyncConfig{})
		time.Sleep(time.Second)
		cl.wantEqual(t, "ab")
		if cl["b"].holds("k001") != large {
			t.Error("the value is another one")
		}
	})
}

func TestNothingIsUnitedThatTheDiskDidNotTake(t *testing.T) {
	for name, row := range map[string]struct {
		fault    error
		min, max int // pulls opened in the next minute: a full disk may have room again, a latched one never
	}{
		"full":      {replication.ErrDiskFull, 4, 12},
		"read-only": {replication.ErrReadOnly, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "ab", setup{pageRecords: 2})
				a, b := cl["a"], cl["b"]
				a.peers.set("b", refuses)
				a.put(t, 6, "k", "old")
				a.put(t, 6, "k", "new")
				b.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
					if from == 2 {
						b.store.FailWrites(row.fault)
					}
					return b.peers.paged(id, pull, from)
				}
				s := b.syncer(t, replication.SyncConfig{})
				time.Sleep(time.Minute)
				if got, want := b.store.Seen().Counters(1), "7-8"; got != want {
					t.Errorf("seen: got %s, want %s", got, want)
				}
				if got := b.count("open a"); got < row.min || got > row.max || int(s.Stats().Failed) != got {
					t.Errorf("got %+v and %d pulls opened, want %d to %d that failed", s.Stats(), got, row.min, row.max)
				}
				b.peers.page = nil
				b.store.FailWrites(nil)
				time.Sleep(40 * time.Second)
				cl.wantEqual(t, "ab")
			})
		})
	}
}

// badUnite is a disk that fails at the very last step of a pull.
type badUnite struct{ replication.Store }

func (badUnite) Unite(*seen.Set) error { return errors.New("input/output error") }

func TestPullThatCouldNotBeUnitedCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{blank: "b", store: func(_ string, s replication.Store, _ *version.Clock) replication.Store { return badUnite{s} }})
		cl["a"].peers.set("b", refuses)
		cl["a"].put(t, 1, "k", "old")
		cl["a"].put(t, 1, "k", "new")
		s := cl["b"].syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		if got := cl["b"].pulled(t, "a"); !got.Equal(new(seen.Set)) || s.Synced() || s.Stats().Complete > 0 {
			t.Errorf("got pulled %v, synced %v, %+v, want nothing", got, s.Synced(), s.Stats())
		}
	})
}

func TestNonsenseEndsAPull(t *testing.T) {
	good := record("k", "v", at(1))
	for name, answer := range map[string]struct {
		pull replication.Pull
		page replication.Page
	}{
		"no seen set":         {replication.Pull{ID: 1, Keys: 1}, replication.Page{Records: []replication.Record{good}}},
		"bad key":             {replication.Pull{Seen: seen.Of(at(1).Dot)}, replication.Page{Records: []replication.Record{record("../k", "v", at(1))}}},
		"pages without end":   {replication.Pull{Seen: seen.Of(at(1).Dot)}, replication.Page{Records: []replication.Record{good}, Next: 1}},
		"pages that go round": {replication.Pull{Seen: seen.Of(at(2).Dot)}, replication.Page{Next: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "ab", setup{blank: "b"})
				b := cl["b"]
				b.peers.open = func(string, *seen.Set) (replication.Pull, error) { return answer.pull, nil }
				b.peers.page = func(string, uint64, uint64) (replication.Page, error) { return answer.page, nil }
				s := b.syncer(t, replication.SyncConfig{}) // so that it asks
				time.Sleep(10 * time.Second)
				if got := s.Stats(); got.Failed < 2 || got.Failed > 10 || got.Complete > 0 || s.Synced() {
					t.Errorf("got %+v, want a few pulls that failed", got)
				}
			})
		})
	}
}

func TestPeerThatHangsDoesNotKeepOthersFromBeingPulled(t *testing.T) {
	for _, what := range []string{"open", "page"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "abc", setup{blank: "c"})
				a, c := cl["a"], cl["c"]
				cl.spoil("c", refuses)
				a.put(t, 10, "k", "v")
				time.Sleep(time.Second)
				cl.spoil("c", nil)
				// b answers exchanges, so that it stays live.
				c.peers.lost = func(ctx context.Context, call, id string) error {
					if call == what && id == "b" {
						return freezes(ctx)
					}
					return nil
				}
				s := c.syncer(t, replication.SyncConfig{}) // so that it needs both
				time.Sleep(12 * time.Second)
				cl.wantEqual(t, "ac")
				a.peers.set("c", refuses)
				for i := range 4 {
					a.put(t, 1, fmt.Sprint("later", i), "v")
					time.Sleep(12500 * time.Millisecond) // one call that hangs, an exchange, the grace time
					cl.wantEqual(t, "ac")
				}
				time.Sleep(70 * time.Second)
				if got := c.count("open b"); got < 3 || got > 12 {
					t.Errorf("%d pulls were opened at the peer that hangs in two minutes, want some, ever rarer", got)
				}
				if s.Synced() {
					t.Error("synced without a pull from a live member")
				}
			})
		})
	}
}

func TestSyncKeepsToItsLimitOfBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{pageBytes: 50_000})
		a := cl["a"]
		a.peers.set("b", refuses)
		a.put(t, 100, "k", strings.Repeat("x", 10_000))
		s := cl["b"].syncer(t, replication.SyncConfig{BytesPerSecond: 100_000})
		time.Sleep(5 * time.Second)
		if got := s.Stats().Bytes; got < 400_000 || got > 600_000 {
			t.Errorf("%d bytes in 5 s, want about 500,000", got)
		}
		if got := s.Progress(); got.From != "a" || got.Offered != 100 || got.Pulled < 40 || got.Pulled > 60 {
			t.Errorf("progress: got %+v, want about 50 of 100 from a", got)
		}
		time.Sleep(6 * time.Second)
		cl.wantEqual(t, "ab")
		if got := s.Progress(); got != (replication.SyncProgress{}) {
			t.Errorf("progress after the end: got %+v, want none", got)
		}
	})
}

func TestLimitDoesNotOutlastThePull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a := cl["a"]
		a.peers.set("b", refuses)
		a.put(t, 3, "k", strings.Repeat("x", 1<<20)) // each would take 17 minutes
		s := cl["b"].syncer(t, replication.SyncConfig{BytesPerSecond: 1000})
		time.Sleep(2 * time.Minute)
		cl.wantEqual(t, "ab")
		if got := s.Stats(); got.Failed > 0 {
			t.Errorf("got %+v, want no pull that failed", got)
		}
	})
}

func TestClientsGoFirstButSyncKeepsATenth(t *testing.T) {
	const ms = time.Millisecond
	always := func() bool { return true }
	for name, row := range map[string]struct {
		busy     func() bool
		page     time.Duration // of which there are 10
		min, max time.Duration
	}{
		"no clients":     {nil, 10 * ms, 100 * ms, 130 * ms},
		"clients always": {always, 10 * ms, 900 * ms, 1100 * ms},
		"for a while":    {busyFor(500 * ms), 10 * ms, 500 * ms, 650 * ms},
		"slow pages":     {always, 5000 * ms, 130_000 * ms, 133_000 * ms}, // with 9 s in between
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "ab", setup{pageRecords: 10})
				a, b := cl["a"], cl["b"]
				a.peers.set("b", refuses)
				a.put(t, 100, "k", "v")
				b.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
					time.Sleep(row.page)
					return b.peers.paged(id, pull, from)
				}
				started := time.Now()
				s := b.syncer(t, replication.SyncConfig{Busy: row.busy})
				for s.Stats().Complete == 0 && time.Since(started) < time.Hour {
					time.Sleep(ms)
				}
				if got := time.Since(started); got < row.min || got > row.max {
					t.Errorf("the pull took %v, want %v to %v", got, row.min, row.max)
				}
			})
		})
	}
}

// busyFor returns a Busy that holds for some time after its first call.
func busyFor(d time.Duration) func() bool {
	var since time.Time
	return func() bool {
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) < d
	}
}

func TestCoordinatorIsBusyWhileAClientWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		cl.spoil("b", takes(time.Second))
		go a.Put(t.Context(), "k", nil, "", replication.LevelAll)
		synctest.Wait()
		if !a.Busy() {
			t.Error("not busy during a Put")
		}
		time.Sleep(1100 * time.Millisecond)
		if a.Busy() {
			t.Error("busy after a Put")
		}
	})
}

func TestBlankNodeIsSyncedOncePulledFromAllLiveMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{blank: "d"})
		for _, n := range cl {
			n.members.rosters("abc") // d is a learner
		}
		a, d := cl["a"], cl["d"]
		a.peers.set("c", refuses)
		a.peers.set("d", refuses)
		a.put(t, 10, "k", "v")
		cl["c"].put(t, 10, "only", "v")
		var quick atomic.Bool
		d.peers.lost = func(ctx context.Context, what, id string) error {
			if what == "open" && id == "c" && !quick.Load() {
				return freezes(ctx)
			}
			return nil
		}
		s := d.syncer(t, replication.SyncConfig{})
		time.Sleep(100 * time.Millisecond)
		if m, _ := a.members.View().Member("d"); m.Synced || s.Synced() {
			t.Error("synced before a pull from c, which is live")
		}
		if _, err := d.offers.OpenPull("a", new(seen.Set)); !errors.Is(err, replication.ErrNotReady) {
			t.Errorf("pull from a node that is not synced: got %v, want ErrNotReady", err)
		}
		quick.Store(true)
		time.Sleep(15 * time.Second)
		if m, _ := a.members.View().Member("d"); !m.Synced || !s.Synced() {
			t.Errorf("not synced: %+v", s.Stats())
		}
		for _, id := range []string{"a", "b", "c"} {
			if d.count("page "+id) == 0 {
				t.Errorf("no pull from %s, which would say so if it were blank itself", id)
			}
		}
		cl.wantHeld(t, "only000", "v", "d")
		cl.spoil("b", freezes)
		time.Sleep(5 * time.Second)
		if !s.Synced() {
			t.Error("not synced any more")
		}
	})
}

func TestBlankMemberWaitsForEnoughOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{blank: "c"})
		cl.spoil("b", freezes)
		s := cl["c"].syncer(t, replication.SyncConfig{})
		time.Sleep(15 * time.Second)
		if s.Synced() || s.Stats().Complete != 1 {
			t.Errorf("synced %v after %+v, want a pull from a and waiting for b", s.Synced(), s.Stats())
		}
		if got := cl["c"].count("open b"); got > 1 {
			t.Errorf("%d pulls were opened at b, which is not live, want one at most", got)
		}
		cl.spoil("b", nil)
		time.Sleep(15 * time.Second)
		if !s.Synced() {
			t.Errorf("not synced with all members live: %+v", s.Stats())
		}
	})
}

func TestMemberWithItsDataAndNodeAloneAreSyncedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{blank: "b"})
		cl["a"].members.synced("a", false)
		if s := cl["a"].syncer(t, replication.SyncConfig{}); !settled(s) {
			t.Error("a member with its data is not synced")
		}
		if m, _ := cl["b"].members.View().Member("a"); !m.Synced {
			t.Error("nobody was told")
		}
		b := cl["b"]
		b.members.change(func(v *replication.View) { v.Rosters = nil }) // it has not joined yet
		s := b.syncer(t, replication.SyncConfig{})
		if settled(s) {
			t.Error("a node that has not joined is synced")
		}
		time.Sleep(2 * time.Second)
		if b.count("open a") > 0 {
			t.Error("a node that has not joined pulls")
		}
		b.members.rosters("b")
		time.Sleep(200 * time.Millisecond)
		if !s.Synced() {
			t.Error("a node alone in its roster is not synced")
		}
	})
}

func settled(s *replication.Syncer) bool {
	synctest.Wait()
	return s.Synced()
}

func TestPulledIsWhatAPeerHadSeenAndThisNodeHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, b := cl["a"], cl["b"]
		b.syncer(t, replication.SyncConfig{})
		a.put(t, 10, "k", "v")
		time.Sleep(2 * time.Second)
		for _, id := range []string{"a", "c"} {
			if got, want := b.pulled(t, id), cl[id].store.Seen(); !got.Equal(want) {
				t.Errorf("in step, pulled from %s: got %v, want %v", id, got, want)
			}
		}
		a.peers.set("b", refuses)
		a.peers.set("c", refuses)
		b.peers.set("a", refuses)
		before := a.store.Seen()
		a.put(t, 10, "k", "w")
		b.put(t, 10, "l", "v")
		time.Sleep(2 * time.Second)
		if got := b.pulled(t, "a"); !got.Equal(before) {
			t.Errorf("pulled from a, which is cut off: got %v, want %v as before", got, before)
		}
		b.peers.set("a", nil)
		time.Sleep(5 * time.Second)
		if got := b.pulled(t, "a"); !got.Equal(a.store.Seen()) {
			t.Errorf("after a pull from a: got %v, want %v", got, a.store.Seen())
		}
		b.members.change(func(v *replication.View) { v.Members = v.Members[1:] })
		time.Sleep(2 * time.Second)
		if got := b.pulled(t, "a"); !got.Equal(new(seen.Set)) {
			t.Errorf("pulled from a, which has left: got %v, want nothing", got)
		}
	})
}

func TestPeerThatIsNotSyncedCountsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, b := cl["a"], cl["b"]
		for _, n := range cl {
			n.members.synced("b", false)
		}
		b.peers.set("a", refuses)
		b.put(t, 1, "k", "v")
		a.syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		b.store.Apply([]replication.Record{record("only", "v", at(1))})
		time.Sleep(5 * time.Second)
		if got := a.pulled(t, "b"); !got.Equal(new(seen.Set)) || a.count("open b") > 0 {
			t.Errorf("pulled %v in %d pulls, want nothing", got, a.count("open b"))
		}
	})
}

// So does one whose data went back in time between an exchange and a pull.
func TestPeerThatToldMoreThanItHasIsNotAskedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		b := cl["b"]
		s := b.syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		b.peers.set("a", takes(time.Millisecond)) // so that a loop would take its time
		s.Heard("a", seen.Of(at(1).Dot))
		time.Sleep(10 * time.Second)
		if got := b.count("open a"); got != 1 {
			t.Errorf("%d pulls were opened, want 1", got)
		}
	})
}

func TestSyncConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.NewSyncer(replication.SyncConfig{Grace: -1, CallTimeout: -1, BytesPerSecond: -1})
	for _, want := range []string{"Replica", "Members", "Peers", "Memory", "Grace -1ns", "CallTimeout -1ns", "BytesPerSecond -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

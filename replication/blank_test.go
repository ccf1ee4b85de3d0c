package replication_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
)

// readAfterReplacement has a learner d caught up before a write is acknowledged by b and c, which
// d then replaces; it returns what d said of being synced since its promotion, and what the
// majority of a and d has of the write.
func readAfterReplacement(t *testing.T, blank string) (told []bool, err error) {
	cl := newCluster(t, "abcd", setup{blank: blank})
	for _, n := range cl {
		n.members.rosters("abc")
	}
	a, c, d := cl["a"], cl["c"], cl["d"]
	cl.spoil("d", refuses)
	var mu sync.Mutex
	s, stop := d.catchUp(t, replication.SyncConfig{Grace: time.Hour, SetSynced: func(synced bool) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, synced)
	}})
	defer stop()
	time.Sleep(3 * time.Second)
	if !s.Synced() {
		t.Fatal("the learner is not synced")
	}
	c.peers.set("a", refuses)
	if _, err := c.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelQuorum); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	told = nil
	mu.Unlock()
	cl.spoil("c", refuses)
	for _, n := range cl {
		n.members.live("c", false)
		n.members.rosters("abd")
	}
	time.Sleep(time.Second)
	if m, _ := a.members.View().Member("d"); !m.Synced {
		t.Error("the new member is not synced")
	}
	cl.spoil("b", refuses)
	cl.spoil("d", nil)
	_, _, err = a.Get(t.Context(), "foo", replication.LevelQuorum)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(told), err
}

// Majorities before and after a replacement need not share a member.
func TestNewMemberPullsOnceMoreBeforeItCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, err := readAfterReplacement(t, "d")
		if err != nil {
			t.Errorf("read of what was acknowledged before the promotion: %v", err)
		}
		if want := []bool{false, true}; !slices.Equal(told, want) {
			t.Errorf("said of being synced: %v, want %v", told, want)
		}
	})
}

func TestNewMemberThatDoesNotPullOnceMoreLosesAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if _, err := readAfterReplacement(t, ""); !errors.Is(err, replication.ErrNotFound) { // it takes itself for synced
			t.Errorf("got %v: this shortcut is harmless", err)
		}
	})
}

// readBesideABlank has a and c hold a write that b missed; c loses its data and a dies. It returns
// what a majority has of the write then.
func readBesideABlank(t *testing.T, marked bool) error {
	cl := newCluster(t, "abc", setup{})
	a, b, c := cl["a"], cl["b"], cl["c"]
	a.peers.set("b", refuses)
	if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelQuorum); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	cl.spoil("a", refuses)
	b.members.live("a", false)
	empty := backup{store: new(storetest.Memory)}
	if marked {
		empty.state = c.backup(t).state
	}
	c.Close()
	c.restore(t, empty)
	c.syncer(t, replication.SyncConfig{})
	time.Sleep(10 * time.Second)
	_, _, err := b.Get(t.Context(), "foo", replication.LevelQuorum)
	return err
}

func TestBlankMemberCountsForNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var missed *replication.QuorumError
		if err := readBesideABlank(t, false); !errors.As(err, &missed) || missed.Alive != 1 {
			t.Errorf("got %v, want a quorum error with one node that can be asked", err)
		}
	})
}

func TestBlankMemberThatCountedWouldHideAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := readBesideABlank(t, true); !errors.Is(err, replication.ErrNotFound) {
			t.Errorf("got %v: this shortcut is harmless", err)
		}
	})
}

func TestAcceptedLossLetsABlankMemberServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{blank: "c"})
		cl["a"].put(t, 3, "k", "v")
		synctest.Wait()
		cl.spoil("b", refuses)
		c := cl["c"]
		s, stop := c.catchUp(t, replication.SyncConfig{})
		time.Sleep(time.Minute)
		if s.Synced() {
			t.Fatal("synced with one source of the two that it takes")
		}
		s.AcceptLoss()
		time.Sleep(50 * time.Millisecond)
		if m, _ := cl["a"].members.View().Member("c"); !s.Synced() || !m.Synced {
			t.Error("not synced after the loss was accepted")
		}
		stop()
		c.Close()
		c.start(t)
		s = c.syncer(t, replication.SyncConfig{})
		time.Sleep(3 * time.Second)
		if !s.Synced() {
			t.Error("not synced after a restart")
		}
	})
}

func TestAllMembersBlankCanBeSavedByAcceptingTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{blank: "abc"})
		for _, n := range cl {
			for id := range cl {
				n.members.synced(id, false)
			}
		}
		syncers := make(map[string]*replication.Syncer)
		for id, n := range cl {
			syncers[id] = n.syncer(t, replication.SyncConfig{})
		}
		time.Sleep(time.Minute)
		for id, s := range syncers {
			if s.Synced() {
				t.Errorf("%s is synced with what nobody can know to be all", id)
			}
		}
		syncers["a"].AcceptLoss()
		time.Sleep(time.Second)
		syncers["b"].AcceptLoss()
		time.Sleep(5 * time.Second)
		for id, s := range syncers {
			if !s.Synced() {
				t.Errorf("%s is not synced", id)
			}
		}
	})
}

// Else it could be forgotten that others rely on it.
func TestMemberBecomesSyncedOnlyOnceThatIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{blank: "b"})
		b := cl["b"]
		b.state.fail(errors.New("input/output error"))
		s := b.syncer(t, replication.SyncConfig{})
		time.Sleep(5 * time.Second)
		if m, _ := cl["a"].members.View().Member("b"); s.Synced() || m.Synced {
			t.Error("synced without a durable mark")
		}
		b.state.fail(nil)
		time.Sleep(200 * time.Millisecond)
		if !s.Synced() || !openMemoryMarked(t, b) {
			t.Error("not synced, or without a mark, after the disk worked again")
		}
	})
}

func openMemoryMarked(t testing.TB, n *node) bool {
	t.Helper()
	mark, err := n.state.LoadState("synced")
	return err == nil && string(mark) == clusterID+" "+n.id
}

// What it was in another cluster means nothing here.
func TestMarkOfAnotherClusterDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		c := cl["c"]
		if err := c.state.SaveState("synced", []byte("c2 c")); err != nil {
			t.Fatal(err)
		}
		c.Close()
		c.start(t)
		cl.spoil("b", refuses)
		s := c.syncer(t, replication.SyncConfig{})
		time.Sleep(10 * time.Second)
		if s.Synced() {
			t.Error("synced by a mark of another cluster")
		}
		cl.spoil("b", nil)
		time.Sleep(10 * time.Second)
		if !s.Synced() || !openMemoryMarked(t, c) {
			t.Error("not synced, or not marked, after pulls from all")
		}
	})
}

func TestStatusTellsHowFarANodeThatIsNotSyncedHasGot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{pageRecords: 10, blank: "c"})
		a, c := cl["a"], cl["c"]
		a.peers.set("c", refuses)
		a.put(t, 100, "k", "v")
		synctest.Wait()
		m := cl["b"].monitor(t)
		c.peers.page = func(id string, pull, from uint64) (replication.Page, error) {
			time.Sleep(time.Second)
			return c.peers.paged(id, pull, from)
		}
		s := c.syncer(t, replication.SyncConfig{})
		time.Sleep(5500 * time.Millisecond)
		if p, _ := m.Peer("c"); p.Offered != 100 || p.Pulled < 20 || p.Pulled > 60 {
			t.Errorf("half way: %d of %d, want about 50 of 100", p.Pulled, p.Offered)
		}
		time.Sleep(20 * time.Second)
		if p, _ := m.Peer("c"); p.Offered != 0 || p.Pulled != 0 || !s.Synced() {
			t.Errorf("synced %v: %d of %d, want none", s.Synced(), p.Pulled, p.Offered)
		}
	})
}

func TestFrozenReplicaTakesNoMoreWritesAndWaitsForThoseUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		b := cl["b"]
		leaving, park := errors.New("leaving"), make(chan struct{})
		b.store.BeforeApply = func([]replication.Record) { <-park }
		write := func(key string) (out []replication.Outcome) {
			return b.Replica().Write([]replication.Record{record(key, "v", at(1))})
		}
		var underWay []replication.Outcome
		frozen := make(chan struct{})
		go func() { underWay = write("first") }()
		synctest.Wait()
		go func() { b.Replica().Freeze(leaving); close(frozen) }()
		synctest.Wait()
		select {
		case <-frozen:
			t.Error("frozen with a write under way")
		default:
		}
		close(park)
		<-frozen
		synctest.Wait()
		if underWay[0].Err != nil {
			t.Errorf("the write under way failed: %v", underWay[0].Err)
		}
		if out := write("second"); !errors.Is(out[0].Err, leaving) {
			t.Errorf("later write: got %+v, want that it is leaving", out)
		}
		cl.wantHeld(t, "first", "v", "b")
		cl.wantHeld(t, "second", "nothing", "b")
		b.Replica().Thaw()
		if out := write("third"); out[0].Err != nil {
			t.Errorf("a write after it thawed failed: %v", out[0].Err)
		}
		cl.wantHeld(t, "third", "v", "b")
		if _, err := cl["a"].Put(t.Context(), "k", nil, "", replication.LevelOne); err != nil {
			t.Errorf("the others go on without it: %v", err)
		}
	})
}

// Two nodes that leave at once, each with a write that the other lacks, would else wait for ever.
func TestFrozenReplicaStillCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		var all [2]chan error
		for i, id := range []string{"a", "b"} {
			n := cl[id]
			other := string("ba"[i])
			n.peers.set(other, refuses)
			n.put(t, 3, id, "v")
			n.peers.set(other, nil)
			n.Replica().Freeze(errors.New("leaving"))
			n.syncer(t, replication.SyncConfig{})
			m := n.monitor(t)
			all[i] = make(chan error, 1)
			go func() { all[i] <- m.AllHave(t.Context()) }()
		}
		time.Sleep(10 * time.Second)
		for i := range all {
			select {
			case err := <-all[i]:
				if err != nil {
					t.Error(err)
				}
			default:
				t.Errorf("node %c still waits", "ab"[i])
			}
		}
		cl.wantEqual(t, "ab")
	})
}

func TestAllHaveWaitsUntilEveryLiveMemberToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		for _, n := range cl {
			n.members.rosters("abc") // d is a learner
		}
		a := cl["a"]
		cl.spoil("d", freezes)
		a.peers.set("b", freezes)
		a.peers.set("c", refuses)
		a.put(t, 10, "k", "v")
		m := a.monitor(t)
		done, result := make(chan struct{}), error(nil)
		go func() { defer close(done); result = m.AllHave(t.Context()) }()
		waits := func(what string) {
			t.Helper()
			time.Sleep(5 * time.Second)
			select {
			case <-done:
				t.Fatalf("%s: it does not wait", what)
			default:
			}
		}
		waits("nobody is live")
		a.peers.set("b", nil)
		waits("b has nothing")
		a.peers.set("c", nil)
		waits("neither has anything")
		everything := a.store.Seen()
		cl["b"].copyFrom(t, a)
		waits("c is live and has nothing")
		a.put(t, 1, "later", "v") // is not waited for
		cl["c"].copyFrom(t, a)
		time.Sleep(2 * time.Second)
		<-done
		if result != nil || everything.Missing(cl["c"].store.Seen()) > 0 {
			t.Errorf("got %v, c has seen %v", result, cl["c"].store.Seen())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		cl.put(t, "a", record("more", "v", at(1)))
		if err := m.AllHave(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in vain: got %v, want the context's error", err)
		}
	})
}

// copyFrom gives a node what another has.
func (n *node) copyFrom(t testing.TB, other *node) {
	t.Helper()
	for key := range other.store.Scan("") {
		r, err := other.store.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		n.store.Apply([]replication.Record{r})
	}
	if err := n.store.Unite(other.store.Seen()); err != nil {
		t.Fatal(err)
	}
}

// A learner that holds what its holder has deleted must be known to all who saw that.
func TestNothingIsOfferedToANodeThatIsNotEnrolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "ab", setup{})
		a := cl["a"]
		var enrolled []string
		removed := errors.New("node was removed")
		a.members.enroll = func(id string) error {
			cl.put(t, "a", record("late", "v", at(1))) // what comes before the set is read is in it
			enrolled = append(enrolled, id)
			if id == "z" {
				return removed
			}
			return nil
		}
		pull, err := a.offers.OpenPull("y", new(seen.Set))
		if err != nil || !slices.Equal(enrolled, []string{"y"}) || !pull.Seen.Has(at(1).Dot) || pull.Keys != 1 {
			t.Errorf("got %+v, %v with %v enrolled, want one key and the set of after the enrolment of y", pull, err, enrolled)
		}
		if _, err := a.offers.OpenPull("z", new(seen.Set)); !errors.Is(err, removed) {
			t.Errorf("removed node: got %v, want %v", err, removed)
		}
	})
}

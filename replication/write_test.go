package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

func TestWriteReachesAllLiveMembersAtItsVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "text/css", replication.LevelOne)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		cl.wantHeld(t, "foo", "bar", "abc")
		for id, n := range cl {
			r, err := n.store.Get("foo")
			if err != nil || r.Version != receipt.Version || r.ContentType != "text/css" {
				t.Errorf("node %s has %v %q, %v, want %v text/css", id, r.Version, r.ContentType, err, receipt.Version)
			}
			if !n.store.Seen().Has(receipt.Version.Dot) {
				t.Errorf("node %s has not seen the dot of a write that it took", id)
			}
		}
	})
}

func TestDeleteWritesATombstoneWhetherOrNotThereIsAValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "b", record("foo", "bar", at(-9)))
		for _, key := range []string{"foo", "never"} {
			receipt, err := cl["a"].Delete(t.Context(), key, replication.LevelAll)
			if err != nil {
				t.Fatal(err)
			}
			wantReceipt(t, receipt, "3/3")
			cl.wantHeld(t, key, "gone", "abc")
		}
	})
}

func TestCountAboveNMeansAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		receipt, err := cl["b"].Put(t.Context(), "foo", []byte("bar"), "", 4)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "3/3")
		cl.wantHeld(t, "foo", "bar", "abc")
	})
}

// A peer that misbehaves in whatever way costs its own acknowledgement and nothing else.
func TestOneBadPeerCostsItsOwnAcknowledgementAlone(t *testing.T) {
	nonsense := func(outcomes ...replication.Outcome) func(cl cluster) {
		return func(cl cluster) {
			write := func(id string, records []replication.Record) []replication.Outcome {
				if id == "c" {
					return outcomes
				}
				return cl[id].Replica().Write(records)
			}
			cl["a"].peers.write = write
			cl.spoil("c", takes(soon))
		}
	}
	fails := func(err error) func(cl cluster) {
		return func(cl cluster) {
			cl["c"].store.FailWrites(err)
			cl.spoil("c", takes(soon))
		}
	}
	for name, row := range map[string]struct {
		spoil func(cl cluster)
		// How long it takes to answer at the default level, and to fail at level all.
		byDefault, all time.Duration
		reported       bool // to Members, as having failed
	}{
		"refuses":       {func(cl cluster) { cl.spoil("c", refuses) }, soon, soon, true},
		"is frozen":     {func(cl cluster) { cl.spoil("c", freezes) }, time.Second, 5 * time.Second, true},
		"is slow":       {func(cl cluster) { cl.spoil("c", takes(2*time.Second)) }, time.Second, 2 * time.Second, true},
		"says nothing":  {nonsense(), soon, soon, true},
		"says too much": {nonsense(replication.Outcome{}, replication.Outcome{}), soon, soon, true},
		"took nothing":  {nonsense(replication.Outcome{}), soon, soon, true},
		"went back":     {nonsense(replication.Outcome{Current: replication.Meta{Version: at(-9)}}), soon, soon, true},
		"disk full":     {fails(replication.ErrDiskFull), soon, soon, false},
		"disk latched":  {fails(replication.ErrReadOnly), soon, soon, false},
	} {
		t.Run(name, func(t *testing.T) {
			put := func(t *testing.T, level replication.Level, took time.Duration) (cluster, replication.Receipt, error) {
				cl := newCluster(t, "abc", setup{})
				row.spoil(cl)
				start := time.Now()
				receipt, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "", level)
				if got := time.Since(start); got != took {
					t.Errorf("level %v took %v, want %v", level, got, took)
				}
				return cl, receipt, err
			}
			synctest.Test(t, func(t *testing.T) {
				cl, receipt, err := put(t, replication.LevelDefault, row.byDefault)
				if err != nil {
					t.Fatal(err)
				}
				wantReceipt(t, receipt, "2/3 missing node-c")
				cl.wantHeld(t, "foo", "bar", "ab")
				if failures := cl["a"].members.failures(); (len(failures) > 0) != row.reported {
					t.Errorf("reported as failed: got %q, want any %v", failures, row.reported)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				_, receipt, err := put(t, replication.LevelQuorum, 0)
				if err != nil {
					t.Fatal(err)
				}
				if receipt.Acks != 2 {
					t.Errorf("acknowledgements: got %d, want 2", receipt.Acks)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				_, receipt, err := put(t, replication.LevelAll, row.all)
				if name == "is slow" { // an explicit level waits, and here not in vain
					if err != nil {
						t.Fatal(err)
					}
					wantReceipt(t, receipt, "3/3")
					return
				}
				alive := 2
				if !row.reported {
					alive = 3
				}
				missed := wantMissed(t, err, fmt.Sprintf("need 3, alive %d, known 3, acks 2, written unknown", alive))
				wantReceipt(t, receipt, "2/3 missing node-c")
				if len(missed.Causes) != 1 || missed.Causes[0].Name != "node-c" || missed.Causes[0].Self {
					t.Errorf("causes: got %v, want one of node-c", missed.Causes)
				}
				if errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) {
					t.Errorf("%v passes for a failure of the own disk", err)
				}
			})
		})
	}
}

func TestAfterTheFirstLossNobodyWaitsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.spoil("c", freezes)
		for i, want := range []time.Duration{time.Second, 0, 0} {
			start := time.Now()
			if _, err := cl["a"].Put(t.Context(), "foo", nil, "", replication.LevelDefault); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(start); got != want {
				t.Errorf("put %d took %v, want %v", i, got, want)
			}
		}
	})
}

// isolated is the scenario of a node of three that is cut off. It returns what is wrong.
func isolated(t *testing.T, mutate func(v *replication.View)) error {
	cl := newCluster(t, "abc", setup{})
	a := cl["a"]
	a.members.live("b", false)
	a.members.live("c", false)
	a.members.change(mutate)
	for _, level := range []replication.Level{replication.LevelDefault, replication.LevelQuorum, 2} {
		if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", level); err == nil {
			return fmt.Errorf("a write at level %v passed", level)
		}
		if _, _, err := a.Get(t.Context(), "foo", level); err == nil || errors.Is(err, replication.ErrNotFound) {
			return fmt.Errorf("a read at level %v passed", level)
		}
	}
	if a.Writable() == nil || a.Readable() == nil {
		return errors.New("says that it can serve")
	}
	return nil
}

func TestIsolatedNodeOfThreeRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := isolated(t, func(*replication.View) {}); err != nil {
			t.Error(err)
		}
		// Were N the number of live members, it would take itself for the cluster.
		if isolated(t, func(v *replication.View) { v.Rosters = [][]string{{"a"}} }) == nil {
			t.Error("a node that counts the live alone for N goes unnoticed")
		}
	})
}

func TestTooFewLiveMembersWriteNothingAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		a.members.live("c", false)
		receipt, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 2, known 3, acks 0, written no")
		wantReceipt(t, receipt, "0/3 missing node-c")
		synctest.Wait()
		cl.wantHeld(t, "foo", "nothing", "abc")
		if calls := a.peers.called(); len(calls) > 0 {
			t.Errorf("calls: got %q, want none", calls)
		}
		if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault); err != nil {
			t.Errorf("default level with two of three: %v", err)
		}
	})
}

func TestOwnDiskIsOneReplicasDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].store.FailWrites(fmt.Errorf("%w: 0 bytes left", replication.ErrDiskFull))
		cl["a"].store.BeforeApply = func([]replication.Record) { time.Sleep(soon) }
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "2/3 missing node-a")
		if err := cl["a"].Writable(); err != nil {
			t.Errorf("writable with two others: %v", err)
		}
		_, err = cl["a"].Put(t.Context(), "foo", []byte("bar"), "", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 3, known 3, acks 2, written unknown")
		if !errors.Is(err, replication.ErrDiskFull) {
			t.Errorf("%v does not tell that the own disk is full", err)
		}
		if failures := cl["a"].members.failures(); len(failures) > 0 {
			t.Errorf("reported as failed: %q, want none", failures)
		}
	})
}

func TestFullDiskOfASingleNodeHasWrittenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		cl["a"].store.FailWrites(replication.ErrDiskFull)
		_, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault)
		wantMissed(t, err, "need 1, alive 1, known 1, acks 0, written no")
		if !errors.Is(err, replication.ErrDiskFull) || !errors.Is(cl["a"].Writable(), replication.ErrDiskFull) {
			t.Errorf("%v and %v do not both tell that the disk is full", err, cl["a"].Writable())
		}
	})
}

func TestLatchedNodeCoordinatesNoWritesButReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "bar", at(-9)))
		cl["a"].store.FailWrites(replication.ErrReadOnly)
		_, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelOne)
		wantMissed(t, err, "need 1, alive 3, known 3, acks 0, written no")
		if !errors.Is(err, replication.ErrReadOnly) || !errors.Is(cl["a"].Writable(), replication.ErrReadOnly) {
			t.Errorf("%v and %v do not both tell that the disk is latched", err, cl["a"].Writable())
		}
		synctest.Wait()
		cl.wantHeld(t, "foo", "nothing", "bc")
		if got, _, err := cl["a"].Get(t.Context(), "foo", replication.LevelDefault); err != nil || string(got.Value) != "bar" {
			t.Errorf("read: got %q, %v, want bar", got.Value, err)
		}
	})
}

func TestSlowOwnDiskHoldsUpTheDefaultLevelNoLongerThanAPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].store.BeforeApply = func([]replication.Record) { time.Sleep(3 * time.Second) }
		start := time.Now()
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "2/3 missing node-a")
		if got, want := time.Since(start), time.Second; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		if failures := cl["a"].members.failures(); len(failures) > 0 {
			t.Errorf("reported as failed: %q, want none: nobody reports itself", failures)
		}
	})
}

// overtaken is the scenario of a write that meets newer versions, from a clock far ahead of all
// others, at two of three replicas. It returns what is wrong.
func overtaken(t *testing.T, write func(cl cluster, id string, records []replication.Record) []replication.Outcome) error {
	cl := newCluster(t, "abc", setup{})
	cl.put(t, "b", record("foo", "old", at(3600)))
	cl.put(t, "c", record("foo", "older", at(3000)))
	cl["a"].peers.write = func(id string, records []replication.Record) []replication.Outcome { return write(cl, id, records) }
	receipt, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelQuorum)
	if err != nil {
		return err
	}
	synctest.Wait()
	for id, n := range cl {
		if got := n.holds("foo"); got != "new" {
			return fmt.Errorf("node %s holds %q after a newer write was acknowledged", id, got)
		}
	}
	if want := at(3600).Next(); receipt.Version.Timestamp != want {
		return fmt.Errorf("stamped %v, want right above what was in the way, %v", receipt.Version, want)
	}
	if got := receipt.Version.Counter; got != 2 {
		return fmt.Errorf("the second stamp has counter %d, want 2: a dot of its own", got)
	}
	if next := cl["a"].clock.Next(); next.Wall > time.Now().Add(time.Second).UnixNano() {
		return fmt.Errorf("a record from the far future dragged the clock to %v", next.Time())
	}
	return nil
}

func TestSupersededWriteIsStampedAnewAboveWhatIsInTheWay(t *testing.T) {
	honest := func(cl cluster, id string, records []replication.Record) []replication.Outcome {
		return cl[id].Replica().Write(records)
	}
	synctest.Test(t, func(t *testing.T) {
		if err := overtaken(t, honest); err != nil {
			t.Error(err)
		}
		// Were superseded an acknowledgement in the first round, the write would be lost.
		lenient := func(cl cluster, id string, records []replication.Record) []replication.Outcome {
			honest(cl, id, records)
			return []replication.Outcome{{Current: records[0].Meta()}}
		}
		if overtaken(t, lenient) == nil {
			t.Error("superseded taken for an acknowledgement goes unnoticed")
		}
	})
}

func TestSupersededIsNotInTheWayOfALevelThatOthersMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "b", record("foo", "newer", at(3600)))
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelQuorum)
		if err != nil {
			t.Fatal(err)
		}
		if receipt.Version.Counter != 1 {
			t.Errorf("stamped %d times, want once", receipt.Version.Counter)
		}
	})
}

func TestSilentPeersDoNotKeepAWriteFromBeingStampedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "b", record("foo", "old", at(3600)))
		cl.spoil("c", freezes)
		for _, level := range []replication.Level{replication.LevelQuorum, replication.LevelDefault} {
			start := time.Now()
			receipt, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", level)
			if err != nil {
				t.Fatal(err)
			}
			wantReceipt(t, receipt, "2/3 missing node-c")
			cl.wantHeld(t, "foo", "new", "ab")
			if got := time.Since(start); got > time.Second {
				t.Errorf("took %v, want no more than the silence", got)
			}
		}
	})
}

func TestSupersededCountsInTheSecondRoundWhichIsTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		// At b and c somebody else is always faster, by more than the clocks follow.
		for _, id := range []string{"b", "c"} {
			cl[id].store.BeforeApply = func(records []replication.Record) {
				if v := records[0].Version; v.Origin == 1 {
					cl[id].store.Apply([]replication.Record{record("foo", "rival", at(3600*int(v.Counter)))})
				}
			}
		}
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelAll)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "3/3")
		if receipt.Version.Counter != 2 {
			t.Errorf("stamped %d times, want twice", receipt.Version.Counter)
		}
	})
}

func TestSecondRoundDoesNotForgetThatTheFirstWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		store := cl["a"].store
		store.BeforeApply = func(records []replication.Record) {
			switch v := records[0].Version; {
			case v.Origin == 1 && v.Counter == 1:
				store.Apply([]replication.Record{record("foo", "rival", at(3600))})
			case v.Origin == 1:
				store.FailWrites(replication.ErrDiskFull)
			}
		}
		_, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelDefault)
		wantMissed(t, err, "need 1, alive 1, known 1, acks 0, written unknown")
	})
}

func TestWriteIsStampedAboveTheOwnRecordWithoutMovingTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		a := cl["a"]
		cl.put(t, "a", record("foo", "old", at(3600)))
		for want := at(3600).Next(); want.Logical < 4; want = want.Next() {
			receipt, err := a.Put(t.Context(), "foo", []byte("new"), "", replication.LevelDefault)
			if err != nil || receipt.Version.Timestamp != want {
				t.Errorf("stamped %v, %v, want %v", receipt.Version, err, want)
			}
		}
		cl.wantHeld(t, "foo", "new", "a")
		receipt, err := a.Put(t.Context(), "other", nil, "", replication.LevelDefault)
		if err != nil || receipt.Version.Wall > time.Now().Add(time.Second).UnixNano() {
			t.Errorf("another key: stamped %v, %v, want about now", receipt.Version.Time(), err)
		}
	})
}

func TestDamagedOwnRecordDoesNotKeepAWriteFromPassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "old", at(-9)))
		cl["a"].store.Damage("foo")
		if _, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelAll); err != nil {
			t.Fatal(err)
		}
		cl.wantHeld(t, "foo", "new", "abc")
	})
}

func TestDotsAreNotUsedTwiceByCoordinatorsOfOneOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		a := cl["a"]
		first, err := a.Put(t.Context(), "foo", nil, "", replication.LevelOne)
		if err != nil {
			t.Fatal(err)
		}
		again, err := replication.New(replication.Config{
			Store: a.store, Members: a.members, Peers: a.peers, Clock: a.clock, Origin: first.Version.Origin,
			Memory: a.memory,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		second, err := again.Put(t.Context(), "foo", nil, "", replication.LevelOne)
		if err != nil || second.Version.Counter != first.Version.Counter+1 {
			t.Errorf("got dot %v, %v after %v, want the next", second.Version.Dot, err, first.Version.Dot)
		}
	})
}

func TestLearnersReceiveWritesAndCountForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		for _, n := range cl {
			n.members.rosters("ab")
			n.members.synced("c", false)
			n.members.synced("d", false)
		}
		receipt, err := cl["a"].Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "2/2")
		synctest.Wait()
		cl.wantHeld(t, "foo", "bar", "abcd")

		cl.spoil("b", refuses)
		receipt, err = cl["a"].Put(t.Context(), "foo", []byte("new"), "", 2)
		wantMissed(t, err, "need 2, alive 1, known 2, acks 1, written unknown")
		wantReceipt(t, receipt, "1/2 missing node-b")

		// A learner coordinates, but has no voice of its own.
		cl.spoil("a", refuses)
		_, err = cl["c"].Put(t.Context(), "foo", []byte("newer"), "", replication.LevelOne)
		wantMissed(t, err, "need 1, alive 0, known 2, acks 0, written unknown")
	})
}

func TestRosterThatGrowsUnderWayRaisesTheNeed(t *testing.T) {
	grow := func(t *testing.T, level replication.Level, rosters ...string) (replication.Receipt, error) {
		cl := newCluster(t, "abcde", setup{})
		a := cl["a"]
		a.members.change(func(v *replication.View) {
			v.Members = v.Members[:4] // e is not known yet, d is a learner
			v.Rosters = [][]string{{"a", "b", "c"}}
		})
		a.peers.set("d", takes(time.Second/2))
		a.peers.set("c", refuses)
		// b's answer brings the news.
		a.peers.answered = func(_, id string) {
			if id == "b" {
				a.members.rosters(rosters...)
			}
		}
		return a.Put(t.Context(), "foo", []byte("bar"), "", level)
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		receipt, err := grow(t, replication.LevelQuorum, "abcd")
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "3/4 missing node-c")
		if got, want := time.Since(start), time.Second/2; got != want {
			t.Errorf("quorum of four came after %v, want %v: with the third acknowledgement", got, want)
		}

		_, err = grow(t, replication.LevelQuorum, "abc", "abcd")
		if err != nil {
			t.Errorf("quorum of both rosters: %v", err)
		}
		// e was not sent the write, so it counts as one that cannot acknowledge.
		receipt, err = grow(t, replication.LevelQuorum, "acde")
		wantMissed(t, err, "need 3, alive 2, known 4, acks 1, written unknown")
		wantReceipt(t, receipt, "1/4 missing e,node-c")
		_, err = grow(t, replication.LevelQuorum, "abc", "cde")
		wantMissed(t, err, "need 2, alive 1, known 3, acks 0, written unknown")
	})
}

func TestWriteGoesOnWhenItsClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.spoil("b", takes(time.Second/2))
		cl.spoil("c", takes(time.Second/2))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second/10, cancel)
		_, err := cl["a"].Put(ctx, "foo", []byte("bar"), "", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 3, known 3, acks 1, written unknown")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not tell that the context ended", err)
		}
		cl["a"].Close()
		cl.wantHeld(t, "foo", "bar", "abc")
		if failures := cl["a"].members.failures(); len(failures) > 0 {
			t.Errorf("reported as failed: %q, want none", failures)
		}
	})
}

func TestClientThatIsGoneAtTheStartWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := cl["a"].Put(ctx, "foo", []byte("bar"), "", replication.LevelOne)
		wantMissed(t, err, "need 1, alive 3, known 3, acks 0, written no")
		synctest.Wait()
		cl.wantHeld(t, "foo", "nothing", "abc")
	})
}

func TestReplyLeavesAtTheLevelAndCloseWaitsForStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		cl.spoil("b", takes(7*time.Second))
		cl.spoil("c", freezes)
		start := time.Now()
		if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelOne); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("reply took %v, want none", got)
		}
		cl.wantHeld(t, "foo", "nothing", "bc")
		a.Close()
		if got := time.Since(start); got != replication.DefaultStragglerTimeout {
			t.Errorf("close took %v, want as long as the last straggler may, %v", got, replication.DefaultStragglerTimeout)
		}
		cl.wantHeld(t, "foo", "bar", "ab")
		a.Close()
		for name, err := range map[string]error{
			"put":     second(a.Put(t.Context(), "foo", nil, "", replication.LevelOne)),
			"delete":  second(a.Delete(t.Context(), "foo", replication.LevelOne)),
			"inspect": second(a.Inspect(t.Context(), "foo")),
		} {
			if !errors.Is(err, replication.ErrClosed) {
				t.Errorf("%s after close: got %v, want ErrClosed", name, err)
			}
		}
		if _, _, err := a.Get(t.Context(), "foo", replication.LevelOne); !errors.Is(err, replication.ErrClosed) {
			t.Errorf("get after close: got %v, want ErrClosed", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestBadKeysAndLevelsTouchNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		for _, key := range []string{"", "a-b", "../x", "ä", strings.Repeat("k", 256)} {
			_, _, read := a.Get(t.Context(), key, replication.LevelOne)
			for _, err := range []error{
				read, second(a.Put(t.Context(), key, nil, "", replication.LevelOne)),
				second(a.Delete(t.Context(), key, replication.LevelOne)), second(a.Inspect(t.Context(), key)),
			} {
				if !errors.Is(err, replication.ErrBadKey) {
					t.Errorf("key %q: got %v, want ErrBadKey", key, err)
				}
			}
		}
		if _, err := a.Put(t.Context(), "foo", nil, "", -7); !errors.Is(err, replication.ErrBadLevel) {
			t.Errorf("level -7: got %v, want ErrBadLevel", err)
		}
		if calls := a.peers.called(); len(calls) > 0 {
			t.Errorf("calls: got %q, want none", calls)
		}
	})
}

func TestJoiningNodeServesLevelOneFromItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "a", setup{})
		a := cl["a"]
		a.members.synced("a", false)
		a.members.change(func(v *replication.View) { v.Rosters = nil })
		receipt, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelOne)
		if err != nil {
			t.Fatal(err)
		}
		wantReceipt(t, receipt, "1/1")
		if got, _, err := a.Get(t.Context(), "foo", replication.LevelOne); err != nil || string(got.Value) != "bar" {
			t.Errorf("read: got %q, %v, want bar", got.Value, err)
		}
		for _, level := range []replication.Level{replication.LevelDefault, replication.LevelQuorum, 2} {
			_, _, read := a.Get(t.Context(), "foo", level)
			write := second(a.Put(t.Context(), "foo", nil, "", level))
			if !errors.Is(read, replication.ErrNotReady) || !errors.Is(write, replication.ErrNotReady) {
				t.Errorf("level %v: got %v and %v, want ErrNotReady", level, read, write)
			}
		}
		if !errors.Is(a.Writable(), replication.ErrNotReady) || !errors.Is(a.Readable(), replication.ErrNotReady) {
			t.Errorf("got %v and %v, want ErrNotReady", a.Writable(), a.Readable())
		}
	})
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	_, err := replication.New(replication.Config{Silence: 6 * time.Second, StragglerTimeout: time.Second})
	for _, want := range []string{"Store", "Members", "Peers", "Clock", "Origin", "Timeout 5s", "StragglerTimeout 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
}

func TestMemberThatComesBackUnderWayDoesNotFailTheWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		a.members.change(func(v *replication.View) { v.Members[2].Live = false })
		a.peers.set("b", takes(time.Second/2))
		// c comes back while b is still busy: it was not sent the write.
		a.peers.answered = func(_, id string) {
			if id == "b" {
				a.members.change(func(v *replication.View) { v.Members[2].Live = true })
			}
		}
		receipt, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault)
		if err != nil {
			t.Fatalf("plain put while a member comes back: %v", err)
		}
		wantReceipt(t, receipt, "2/3")
	})
}

// A version that wrapped round to the distant past would be superseded by everything.
func TestNoWriteIsStampedBeyondTheLastTimestamp(t *testing.T) {
	last := version.Version{
		Timestamp: version.Timestamp{Wall: version.MaxWall, Logical: 1<<32 - 2}, Dot: version.Dot{Origin: 99, Counter: 1},
	}
	for name, row := range map[string]struct {
		stored int64 // wall
		puts   int   // that succeed
	}{
		"room for one":               {version.MaxWall, 1},
		"stored by an older release": {math.MaxInt64, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "ab", setup{})
				v := last
				v.Wall = row.stored
				cl.put(t, "a", record("foo", "old", v))
				for range row.puts {
					if _, err := cl["a"].Put(t.Context(), "foo", []byte("new"), "", replication.LevelAll); err != nil {
						t.Fatal(err)
					}
				}
				_, err := cl["a"].Put(t.Context(), "foo", []byte("newer"), "", replication.LevelAll)
				var missed *replication.QuorumError
				if !errors.As(err, &missed) || !errors.Is(err, version.ErrInvalid) || missed.Written != replication.WrittenNo {
					t.Errorf("got %v, want a quorum error that says so, with nothing written", err)
				}
				want := "old"
				if row.puts > 0 {
					want = "new"
				}
				cl.wantHeld(t, "foo", want, "a")
			})
		})
	}
}

// What could not leave this node says nothing about the one that it was for.
func TestAWriteThatWasNotSentAccusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		a.peers.set("b", func(context.Context) error { return fmt.Errorf("too much waits: %w", replication.ErrNotSent) })
		if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelQuorum); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := a.members.failures(); len(got) > 0 {
			t.Errorf("got failures %q, want none", got)
		}
		cl.wantHeld(t, "foo", "bar", "ac")
		cl.wantHeld(t, "foo", "nothing", "b")
		start := time.Now()
		_, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelAll)
		if missed := (*replication.QuorumError)(nil); !errors.As(err, &missed) {
			t.Errorf("all three: got %v, want a quorum error", err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the error came after %v, want at once", took)
		}
	})
}

// A call that waits behind others which the node answers is slow, but that is no silence.
func TestASlowAnswerOfANodeThatAnswersOthersAccusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a := cl["a"]
		a.peers.set("b", takes(1500*time.Millisecond))
		for _, answers := range []bool{true, false} {
			begun := time.Now()
			a.peers.answers = func(id string, since time.Time) bool {
				if id != "b" || !since.Equal(begun) {
					t.Errorf("asked of %s since %v, want of b since %v", id, since, begun)
				}
				return answers
			}
			if _, err := a.Put(t.Context(), "foo", []byte("bar"), "", replication.LevelDefault); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took != replication.DefaultSilence {
				t.Errorf("got the answer after %v, want %v: the default level waits for nobody longer", took, replication.DefaultSilence)
			}
			if got := len(a.members.failures()) > 0; got == answers {
				t.Errorf("answers others %t: got failures %q", answers, a.members.failures())
			}
			time.Sleep(time.Second)
		}
	})
}

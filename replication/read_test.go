package replication_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// wantRead checks what a read returns: a value, or "nothing" for ErrNotFound.
func wantRead(t testing.TB, n *node, level replication.Level, want string) replication.Receipt {
	t.Helper()
	got, receipt, err := n.Get(t.Context(), "foo", level)
	if errors.Is(err, replication.ErrNotFound) {
		got.Value, err = []byte("nothing"), nil
	}
	if err != nil || string(got.Value) != want {
		t.Errorf("read at level %v: got %s, %v, want %s", level, got.Value, err, want)
	}
	return receipt
}

func TestReadReturnsTheNewestWhereverItIs(t *testing.T) {
	for _, newest := range []string{"a", "b", "c"} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster(t, "abc", setup{})
			for i, id := range []string{"a", "b", "c"} {
				cl.put(t, id, record("foo", "old", at(-99+i)))
			}
			cl.put(t, newest, record("foo", "new", at(-9)))
			receipt := wantRead(t, cl["a"], replication.LevelAll, "new")
			wantReceipt(t, receipt, "3/3")
			if receipt.Version != at(-9) {
				t.Errorf("receipt has version %v, want %v", receipt.Version, at(-9))
			}
			cl.wantHeld(t, "foo", "new", "abc")
		})
	}
}

func TestReadOfAnUnknownKeyIsNotFoundWithAReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelDefault, "nothing"), "3/3")
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelOne, "nothing"), "1/3")
	})
}

func TestReadOfOneAsksTheOwnStoreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "old", at(-99)))
		cl.put(t, "b", record("foo", "new", at(-9)))
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelOne, "old"), "1/3")
		if calls := cl["a"].peers.called(); len(calls) > 0 {
			t.Errorf("calls: got %q, want none", calls)
		}
	})
}

func TestNodeThatIsNotSyncedAsksOthersInstead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].members.synced("a", false)
		cl.put(t, "b", record("foo", "new", at(-9)))
		cl.put(t, "c", record("foo", "new", at(-9)))
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelOne, "new"), "1/3")
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelDefault, "new"), "2/3")
		_, _, err := cl["a"].Get(t.Context(), "foo", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 2, known 3, acks 0, written ")
	})
}

func TestReadsFetchABodyOnlyIfAPeerIsNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		for _, id := range []string{"a", "b", "c"} {
			cl.put(t, id, record("foo", "bar", at(-9)))
		}
		wantRead(t, cl["a"], replication.LevelAll, "bar")
		if got := len(cl["a"].peers.called()); got != 2 {
			t.Errorf("calls: got %q, want two look-ups", cl["a"].peers.called())
		}
	})
}

func TestReadsSpreadOverPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcde", setup{})
		for range 40 {
			wantRead(t, cl["a"], 2, "nothing")
		}
		asked := make(map[string]int)
		for _, call := range cl["a"].peers.called() {
			asked[call]++
		}
		for _, id := range []string{"b", "c", "d", "e"} {
			if got := asked["lookup "+id]; got < 5 {
				t.Errorf("%s was asked %d times of 40, want a fair share", id, got)
			}
		}
	})
}

// A member that is about to stop would take what it was asked with it; but while it is there it counts.
func TestReadsAskMembersThatStopOnlyIfTheyMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		cl["a"].members.draining("b", "d")
		for range 20 {
			wantReceipt(t, wantRead(t, cl["a"], 2, "nothing"), "2/4")
		}
		for _, call := range cl["a"].peers.called() {
			if call != "lookup c" {
				t.Errorf("calls: got %s, want look-ups at c alone", call)
			}
		}
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelAll, "nothing"), "4/4")
	})
}

func TestReadsAskNoLearner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].members.rosters("ac")
		cl.put(t, "b", record("foo", "new", at(-9)))
		for range 4 {
			wantReceipt(t, wantRead(t, cl["a"], replication.LevelAll, "nothing"), "2/2")
		}
		if slices.Contains(cl["a"].peers.called(), "lookup b") {
			t.Error("a learner was asked")
		}
		// A learner itself asks those that count, even at level one.
		cl["b"].members.rosters("ac")
		wantReceipt(t, wantRead(t, cl["b"], replication.LevelOne, "nothing"), "1/2")
	})
}

// repaired is the scenario of a read that finds one replica stale. It returns what is wrong.
func repaired(t *testing.T, ids string, write func(cl cluster, id string, records []replication.Record) []replication.Outcome) error {
	cl := newCluster(t, "abc", setup{})
	for _, id := range ids {
		cl.put(t, string(id), record("foo", "new", at(-9)))
	}
	a := cl["a"]
	a.peers.write = func(id string, records []replication.Record) []replication.Outcome { return write(cl, id, records) }
	if _, _, err := a.Get(t.Context(), "foo", replication.LevelAll); err != nil {
		return err
	}
	for id, n := range cl {
		if got := n.holds("foo"); got != "new" {
			return fmt.Errorf("node %s holds %s when the read has answered", id, got)
		}
	}
	return nil
}

func TestReadRepairsBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(cl cluster, id string, records []replication.Record) []replication.Outcome {
			time.Sleep(time.Second / 2)
			return cl[id].Replica().Write(records)
		}
		for _, ids := range []string{"a", "b", "c", "ab", "bc"} {
			if err := repaired(t, ids, slow); err != nil {
				t.Errorf("known to %s alone: %v", ids, err)
			}
		}
		// A repair that is left to happen after the answer.
		late := func(cl cluster, id string, records []replication.Record) []replication.Outcome {
			go slow(cl, id, records)
			return []replication.Outcome{{Current: records[0].Meta()}}
		}
		if repaired(t, "ab", late) == nil {
			t.Error("a repair after the answer goes unnoticed")
		}
		time.Sleep(time.Second) // for the late repair to end
	})
}

func TestReadRepairKeepsNewerTombstone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "old", at(-99)))
		cl.put(t, "b", tombstone("foo", at(-9)))
		receipt := wantRead(t, cl["a"], replication.LevelAll, "nothing")
		wantReceipt(t, receipt, "3/3")
		if receipt.Version != at(-9) {
			t.Errorf("receipt has version %v, want the tombstone's, %v", receipt.Version, at(-9))
		}
		cl.wantHeld(t, "foo", "gone", "abc")
		for _, call := range cl["a"].peers.called() {
			if call == "fetch b" {
				t.Error("fetched the body of a tombstone")
			}
		}
	})
}

func TestReplicaThatCannotBeRepairedDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "new", at(-9)))
		cl.put(t, "c", record("foo", "new", at(-9)))
		cl["b"].store.FailWrites(replication.ErrReadOnly)
		for range 10 { // whichever is asked first
			wantRead(t, cl["a"], replication.LevelQuorum, "new")
		}
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelDefault, "new"), "2/3 missing node-b")
		_, receipt, err := cl["a"].Get(t.Context(), "foo", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 3, known 3, acks 2, written ")
		wantReceipt(t, receipt, "2/3 missing node-b")

		// The own store is no exception.
		_, _, err = cl["b"].Get(t.Context(), "foo", replication.LevelAll)
		if !errors.Is(err, replication.ErrReadOnly) {
			t.Errorf("got %v, want a quorum error that tells of the own disk", err)
		}
		wantReceipt(t, wantRead(t, cl["b"], replication.LevelQuorum, "new"), "2/3 missing node-b")
	})
}

func TestDamagedRecordIsUnknownAndMendedFromAnother(t *testing.T) {
	for _, damaged := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			cl := newCluster(t, "abc", setup{})
			for _, id := range []string{"a", "b", "c"} {
				cl.put(t, id, record("foo", "bar", at(-9)))
			}
			cl[damaged].store.Damage("foo")
			var missed *replication.QuorumError
			_, _, err := cl["a"].Get(t.Context(), "foo", replication.LevelAll)
			if !errors.As(err, &missed) || missed.Need != 3 || missed.Acks > 2 {
				t.Errorf("got %v, want a quorum error", err)
			}
			if got := errors.Is(err, replication.ErrDamaged); got != (damaged == "a") {
				t.Errorf("%v tells of damage here: %v", err, got)
			}
			synctest.Wait()
			cl.wantHeld(t, "foo", "bar", "abc") // the read that failed has mended it

			cl[damaged].store.Damage("foo")
			receipt := wantRead(t, cl["a"], replication.LevelDefault, "bar")
			wantReceipt(t, receipt, "2/3 missing node-"+damaged)
			synctest.Wait()
			cl.wantHeld(t, "foo", "bar", "abc")
			wantReceipt(t, wantRead(t, cl["a"], replication.LevelAll, "bar"), "3/3")
			if failures := cl["a"].members.failures(); len(failures) > 0 {
				t.Errorf("reported as failed: %q, want none: damage is an answer", failures)
			}
		})
	}
}

func TestDamagedOwnRecordIsReadFromAnotherAtLevelOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		for _, id := range []string{"a", "b", "c"} {
			cl.put(t, id, record("foo", "bar", at(-9)))
		}
		cl["a"].store.Damage("foo")
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelOne, "bar"), "1/3 missing node-a")
		synctest.Wait()
		cl.wantHeld(t, "foo", "bar", "a")
	})
}

func TestDamagedRecordIsNeverTakenForAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl["a"].store.Damage("foo")
		cl["b"].store.Damage("foo")
		for _, level := range []replication.Level{replication.LevelDefault, replication.LevelQuorum, replication.LevelAll} {
			if _, _, err := cl["c"].Get(t.Context(), "foo", level); errors.Is(err, replication.ErrNotFound) || err == nil {
				t.Errorf("level %v: got %v, want a quorum error", level, err)
			}
		}
	})
}

func TestSomethingNewerMetAtTheFetchBecomesTheWinner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "old", at(-99)))
		cl.put(t, "b", record("foo", "new", at(-9)))
		cl.put(t, "c", record("foo", "new", at(-9)))
		cl["a"].peers.fetch = func(id, key string) (replication.Record, error) {
			cl.put(t, id, record("foo", "newest", at(-1)))
			return cl[id].Replica().Fetch(key)
		}
		receipt := wantRead(t, cl["a"], replication.LevelAll, "newest")
		wantReceipt(t, receipt, "3/3")
		if receipt.Version != at(-1) {
			t.Errorf("receipt has version %v, want %v", receipt.Version, at(-1))
		}
		cl.wantHeld(t, "foo", "newest", "abc")
	})
}

func TestFetchThatMakesNoSenseCostsThatReplica(t *testing.T) {
	for name, answer := range map[string]func() (replication.Record, error){
		"nothing after all": func() (replication.Record, error) { return replication.Record{}, replication.ErrNotFound },
		"an older one":      func() (replication.Record, error) { return record("foo", "nonsense", at(-50)), nil },
		"another key":       func() (replication.Record, error) { return record("oof", "nonsense", at(-9)), nil },
		"damage":            func() (replication.Record, error) { return replication.Record{}, replication.ErrDamaged },
		"silence": func() (replication.Record, error) {
			time.Sleep(4 * time.Second)
			return record("foo", "new", at(-9)), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "abc", setup{})
				cl.put(t, "a", record("foo", "old", at(-99)))
				cl.put(t, "b", record("foo", "new", at(-9)))
				cl.put(t, "c", record("foo", "new", at(-9)))
				var first sync.Once // the one that is asked first
				bad := ""
				cl["a"].peers.fetch = func(id, key string) (replication.Record, error) {
					first.Do(func() { bad = id })
					if bad == id {
						return answer()
					}
					return cl[id].Replica().Fetch(key)
				}
				start := time.Now()
				wantReceipt(t, wantRead(t, cl["a"], replication.LevelDefault, "new"), "2/3 missing node-"+bad)
				if got := time.Since(start); got > replication.DefaultSilence {
					t.Errorf("took %v, want no more than the silence", got)
				}
				cl.wantHeld(t, "foo", "new", "abc")
			})
		})
	}
}

func TestReadAsksAnotherWhenAReplicaFailsOrIsSilent(t *testing.T) {
	for name, row := range map[string]struct {
		spoil link
		want  time.Duration
	}{
		"refuses":   {refuses, 2 * soon},
		"is frozen": {freezes, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for _, level := range []replication.Level{replication.LevelQuorum, replication.LevelDefault} {
				synctest.Test(t, func(t *testing.T) {
					cl := newCluster(t, "abcde", setup{})
					cl.put(t, "e", record("foo", "new", at(-9)))
					cl.spoil("b", row.spoil)
					cl.spoil("c", row.spoil)
					start := time.Now()
					receipt := wantRead(t, cl["a"], level, "new")
					if receipt.Acks != 3 || time.Since(start) > 2*row.want {
						t.Errorf("level %v: got %d acknowledgements after %v, want 3 after no more than twice %v",
							level, receipt.Acks, time.Since(start), row.want)
					}
					start = time.Now()
					cl["a"].Close()
					if got := time.Since(start); got != 0 {
						t.Errorf("look-ups went on for %v after the answer, want none", got)
					}
				})
			}
		})
	}
}

func TestReadAsksAnotherWhenAReplicaIsLate(t *testing.T) {
	const hedge, forgiven = 50 * time.Millisecond, time.Second
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		for id := range cl {
			cl.put(t, id, record("foo", "value", at(-9)))
		}
		cl.spoil("b", takes(500*time.Millisecond))
		read := func(level replication.Level) (replication.Receipt, time.Duration) {
			start := time.Now()
			receipt := wantRead(t, cl["a"], level, "value")
			return receipt, time.Since(start)
		}
		late := func(reads int) (late int) {
			for range reads {
				_, took := read(replication.LevelQuorum)
				if took > hedge+2*soon {
					t.Fatalf("a read took %v, want the answer of another after %v", took, hedge)
				}
				if took >= hedge {
					late++
				}
			}
			return late
		}
		if got := late(20); got != 1 {
			t.Errorf("%d of 20 reads waited for a replica that is late each time, want 1", got)
		}
		time.Sleep(forgiven) // fake time
		if got := late(20); got != 1 {
			t.Errorf("%d of 20 reads asked it again after a while, want 1", got)
		}
		if receipt, took := read(replication.LevelAll); receipt.Acks != 3 || took != 500*time.Millisecond {
			t.Errorf("with nobody else to ask: got %d acknowledgements after %v, want 3 after 500ms", receipt.Acks, took)
		}
		if failures := cl["a"].members.failures(); len(failures) > 0 {
			t.Errorf("reported as failed: %q, who is only late", failures)
		}
	})
}

func TestSilenceIsCountedFromWhenEachWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		a := cl["a"]
		// b and c are asked first; d after half a second instead of b, and takes longer than
		// what is left until c has been silent for too long.
		cl.spoil("b", func(ctx context.Context) error { return errors.Join(takes(time.Second/2)(ctx), errRefused) })
		cl.spoil("c", freezes)
		cl.spoil("d", takes(700*time.Millisecond))
		_, _, err := a.Get(t.Context(), "foo", replication.LevelDefault)
		wantMissed(t, err, "need 3, alive 2, known 4, acks 2, written ")
		want := []string{"b", "c"}
		for i, failure := range a.members.failures() {
			if i >= len(want) || failure[:1] != want[i] {
				t.Errorf("reported as failed: got %q, want %s", failure, want)
			}
		}
	})
}

func TestReadAtAllWaitsForTheSlowAndAtDefaultDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "c", record("foo", "new", at(-9)))
		cl.spoil("c", takes(1500*time.Millisecond))
		start := time.Now()
		// Look up, then fetch, at 1.5 s each.
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelAll, "new"), "3/3")
		if got, want := time.Since(start), 3*time.Second; got != want {
			t.Errorf("level all took %v, want %v", got, want)
		}

		cl.put(t, "c", record("foo", "newer", at(-5)))
		start = time.Now()
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelDefault, "new"), "2/3 missing node-c")
		if got, want := time.Since(start), time.Second; got != want {
			t.Errorf("default level took %v, want %v", got, want)
		}
	})
}

func TestReadGivesUpAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.spoil("c", freezes)
		start := time.Now()
		_, _, err := cl["a"].Get(t.Context(), "foo", replication.LevelAll)
		wantMissed(t, err, "need 3, alive 2, known 3, acks 2, written ")
		if got, want := time.Since(start), 5*time.Second; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}

func TestReadOfAClientThatIsGoneBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.spoil("b", freezes)
		cl.spoil("c", freezes)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/10)
		defer cancel()
		_, _, err := cl["a"].Get(ctx, "foo", replication.LevelAll)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want it to tell that the context ended", err)
		}
		cl["a"].Close()
		if failures := cl["a"].members.failures(); len(failures) > 0 {
			t.Errorf("reported as failed: %q, want none", failures)
		}
	})
}

func TestRosterThatGrowsUnderWayMakesAReadAskMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abcd", setup{})
		a := cl["a"]
		a.members.rosters("ab")
		a.peers.answered = func(_, id string) {
			if id == "b" {
				a.members.rosters("ab", "abcd")
			}
		}
		cl.put(t, "c", record("foo", "new", at(-9)))
		cl.put(t, "d", record("foo", "new", at(-9)))
		receipt := wantRead(t, a, replication.LevelQuorum, "new")
		wantReceipt(t, receipt, "2/2")
		if a.holds("foo") != "new" || cl["b"].holds("foo") != "new" {
			t.Errorf("a holds %s and b %s, want the winner of the larger roster", a.holds("foo"), cl["b"].holds("foo"))
		}
	})
}

func TestReadFollowsNoWriterForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		cl.put(t, "a", record("foo", "new", at(-9)))
		// Whenever b is repaired somebody else has written there already.
		next := version.Version{Timestamp: at(0).Timestamp, Dot: version.Dot{Origin: 98}}
		cl["b"].store.BeforeApply = func(records []replication.Record) {
			if records[0].Version == at(-9) {
				next.Counter++
				cl["b"].store.Apply([]replication.Record{record("foo", "rival", next)})
			}
		}
		wantReceipt(t, wantRead(t, cl["a"], replication.LevelAll, "new"), "3/3")
		cl.wantHeld(t, "foo", "rival", "b")
	})
}

// A node that restarts with an old copy of its data is asked by others that have not heard yet
// that it is not synced any more.
func TestANodeThatIsNotSyncedCountsForNoReadThoughOthersTakeItForSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		a, c := cl["a"], cl["c"]
		cl.put(t, "b", record("k", "new", at(2)))
		cl.put(t, "c", record("k", "old", at(1)))
		c.peers.set("a", freezes) // so that node c cannot compare its data with what others know
		c.peers.set("b", freezes)
		c.syncer(t, replication.SyncConfig{})
		synctest.Wait()
		a.members.synced("c", true)
		cl.spoil("b", refuses)
		_, _, err := a.Get(t.Context(), "k", replication.LevelQuorum)
		var missed *replication.QuorumError
		if !errors.As(err, &missed) {
			t.Errorf("node c is not synced: got %v, want a quorum error", err)
		}
		for _, failure := range a.members.failures() {
			if strings.HasPrefix(failure, "c:") {
				t.Errorf("node c answered, and was reported: %s", failure)
			}
		}
		c.peers.set("a", nil)
		time.Sleep(5 * time.Second)
		if _, _, err := a.Get(t.Context(), "k", replication.LevelQuorum); err != nil {
			t.Errorf("node c is synced: got %v, want its answer to count", err)
		}
	})
}

package replication_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// saved is a backup as it is kept.
type saved struct {
	seen, collected *seen.Set
	records         []replication.Record
}

// backedUp returns a backup taken at n.
func backedUp(t testing.TB, n *node) (saved, replication.Receipt) {
	t.Helper()
	b, receipt, err := n.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := saved{seen: b.Seen()}
	for record, err := range b.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		s.records = append(s.records, record)
	}
	s.collected = b.Collected()
	return s, receipt
}

// restore gives a backup to n, a few records at a time.
func restore(t testing.TB, n *node, s saved, options replication.RestoreOptions) replication.Restored {
	t.Helper()
	r, err := n.Restore(options)
	if err != nil {
		t.Fatal(err)
	}
	for batch := range slices.Chunk(s.records, 3) {
		if err := r.Apply(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(s.seen, s.collected); err != nil {
		t.Fatal(err)
	}
	return r.Counts()
}

func wantCounts(t testing.TB, got, want replication.Restored) {
	t.Helper()
	if got != want {
		t.Errorf("restored: got %+v, want %+v", got, want)
	}
}

// keysOf returns "foo=value", or "foo gone", of each record.
func keysOf(s saved) (keys []string) {
	for _, r := range s.records {
		if r.Deleted {
			keys = append(keys, r.Key+" gone")
		} else {
			keys = append(keys, r.Key+"="+string(r.Value))
		}
	}
	return keys
}

func wantKeys(t testing.TB, s saved, want ...string) {
	t.Helper()
	if got := keysOf(s); !slices.Equal(got, want) {
		t.Errorf("backup: got %q, want %q", got, want)
	}
}

func TestBackupWaitsForWhatTheOthersHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		written(t, cl["a"], record("mine", "1", at(1)))
		written(t, cl["b"], record("theirs", "2", at(2)))
		written(t, cl["c"], tombstone("gone", at(3)))
		time.AfterFunc(2*time.Second, func() {
			cl.sync(t, "b", "a")
			cl.sync(t, "c", "a")
		})
		began := time.Now()
		s, receipt := backedUp(t, cl["a"])
		if waited := time.Since(began); waited < 2*time.Second {
			t.Errorf("it waited %v, and what it lacked came after 2 s", waited)
		}
		wantReceipt(t, receipt, "3/3")
		wantKeys(t, s, "gone gone", "mine=1", "theirs=2")
		for _, n := range []int{1, 2, 3} {
			if !s.seen.Has(at(n).Dot) {
				t.Errorf("write %d is not in its set", n)
			}
		}
	})
}

func TestBackupThatLacksSomethingIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cl := newCluster(t, "abc", setup{})
		written(t, cl["b"], record("theirs", "2", at(2)))
		began := time.Now()
		if _, _, err := cl["a"].Backup(t.Context()); !errors.Is(err, replication.ErrBehind) {
			t.Errorf("got %v, want ErrBehind", err)
		}
		if took := time.Since(began); took != replication.DefaultTimeout {
			t.Errorf("it took %v, want %v", took, replication.DefaultTimeout)
		}
	})
}

func TestBackupNeedsAMajorityAndSaysWhoIsMissing(t *testing.T) {
	for _, row := range []struct {
		away    string // refuse
		frozen  string // do not answer
		blank   string // are not synced
		receipt string // empty: it fails
		takes   time.Duration
	}{
		{receipt: "3/3"},
		{away: "c", receipt: "2/3 missing node-c", takes: soon},
		{frozen: "c", receipt: "2/3 missing node-c", takes: replication.DefaultSilence},
		{blank: "c", receipt: "2/3"},
		{away: "bc", takes: soon},
		{away: "b", blank: "c", takes: soon},
		{frozen: "bc", takes: replication.DefaultTimeout},
	} {
		t.Run(fmt.Sprintf("%+v", row), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := newCluster(t, "abc", setup{})
				for id, l := range map[string]link{row.away: refuses, row.frozen: freezes} {
					for _, one := range strings.Split(id, "") {
						cl.spoil(one, l)
					}
				}
				for _, one := range strings.Split(row.blank, "") {
					cl["a"].members.synced(one, false)
				}
				began := time.Now()
				_, receipt, err := cl["a"].Backup(t.Context())
				if took := time.Since(began); took != row.takes {
					t.Errorf("it took %v, want %v", took, row.takes)
				}
				if row.receipt != "" {
					wantReceipt(t, receipt, row.receipt)
				}
				var missed *replication.QuorumError
				if got := errors.As(err, &missed); got != (row.receipt == "") || !got && err != nil {
					t.Errorf("got error %v", err)
				}
			})
		})
	}
}

func TestBackupIsForSyncedNodes(t *testing.T) {
	cl := newCluster(t, "a", setup{})
	_, err := replication.NewSyncer(replication.SyncConfig{ // which finds out whether it is synced when it runs
		Replica: cl["a"].Replica(), Members: cl["a"].members, Peers: cl["a"].peers, Memory: cl["a"].memory,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cl["a"].Backup(t.Context()); !errors.Is(err, replication.ErrNotReady) {
		t.Errorf("backup: got %v, want ErrNotReady", err)
	}
	if _, err := cl["a"].Restore(replication.RestoreOptions{DryRun: true}); !errors.Is(err, replication.ErrNotReady) {
		t.Errorf("restore: got %v, want ErrNotReady", err)
	}
	cl = newCluster(t, "a", setup{})
	cl["a"].Close()
	_, _, err = cl["a"].Backup(t.Context())
	_, err2 := cl["a"].Restore(replication.RestoreOptions{})
	if !errors.Is(err, replication.ErrClosed) || !errors.Is(err2, replication.ErrClosed) {
		t.Errorf("closed: got %v and %v, want ErrClosed", err, err2)
	}
}

func TestBackupGetsDamagedRecordsElsewhereOrFails(t *testing.T) {
	cl := newCluster(t, "abc", setup{})
	for _, n := range cl {
		written(t, n, record("bar", "1", at(1)), record("foo", "2", at(2)))
	}
	cl["a"].store.Damage("foo")
	s, _ := backedUp(t, cl["a"])
	wantKeys(t, s, "bar=1", "foo=2")

	cl["b"].store.Damage("foo")
	cl["c"].store.Damage("foo")
	b, _, err := cl["a"].Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range b.Records(t.Context()) {
		last = err
	}
	if !errors.Is(last, replication.ErrDamaged) {
		t.Errorf("damaged everywhere: got %v, want ErrDamaged", last)
	}
}

// A write that comes when its key was passed is in the next backup: it must not count as seen by who restores this one.
func TestWritesThatABackupMissesAreNotInItsSet(t *testing.T) {
	cl := newCluster(t, "a", setup{})
	written(t, cl["a"], record("m", "1", at(1)), record("n", "2", at(2)))
	b, _, err := cl["a"].Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for r, err := range b.Records(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, r.Key)
		if r.Key == "m" {
			written(t, cl["a"], record("a", "late", at(3)))
		}
	}
	if want := []string{"m", "n"}; !slices.Equal(keys, want) || b.Seen().Has(at(3).Dot) {
		t.Errorf("got %q, and the late write in its set: %t, want %q and not", keys, b.Seen().Has(at(3).Dot), want)
	}
}

// filled returns a cluster with ten values and deletes, and its backup.
func filled(t *testing.T, ids string) (cluster, saved) {
	t.Helper()
	cl := newCluster(t, ids, setup{})
	n := cl[ids[:1]]
	for i := range 10 {
		key := fmt.Sprint("key", i)
		if _, err := n.Put(t.Context(), key, []byte("old"), "text/plain", replication.LevelAll); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Put(t.Context(), key, []byte("value of "+key), "text/plain", replication.LevelAll); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if _, err := n.Delete(t.Context(), key, replication.LevelAll); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, _ := backedUp(t, n)
	return cl, s
}

func TestRestoreIntoABlankClusterIsWhatItWas(t *testing.T) {
	was, s := filled(t, "abc")
	cl := newCluster(t, "def", setup{})
	wantCounts(t, restore(t, cl["d"], s, replication.RestoreOptions{}), replication.Restored{Written: 10})
	for id, n := range cl {
		if got, want := n.store.Digest(), was["a"].store.Digest(); got != want {
			t.Errorf("node %s: digest %x, want %x", id, got, want)
		}
	}
	if got, want := cl["d"].store.Seen(), was["a"].store.Seen(); !got.Equal(want) {
		t.Errorf("seen: got %v, want %v: with what was overwritten, there are no gaps", got, want)
	}
	// The others learn by an ordinary pull that what was overwritten is not missing, and get nothing else.
	pull, err := cl["d"].offers.OpenPull("e", cl["e"].store.Seen())
	if err != nil || pull.Keys != 0 {
		t.Errorf("pull after a restore: %d keys, error %v, want none", pull.Keys, err)
	}
	cl.sync(t, "d", "e")
	if !cl["e"].store.Seen().Equal(s.seen) {
		t.Errorf("seen after a pull: got %v, want %v", cl["e"].store.Seen(), s.seen)
	}
	wantCounts(t, restore(t, cl["e"], s, replication.RestoreOptions{}), replication.Restored{Present: 10})
	wantCounts(t, restore(t, was["b"], s, replication.RestoreOptions{}), replication.Restored{Present: 10})
}

func TestDryRunOfARestoreChangesNothing(t *testing.T) {
	_, s := filled(t, "abc")
	for _, asNew := range []bool{false, true} {
		cl := newCluster(t, "def", setup{})
		got := restore(t, cl["d"], s, replication.RestoreOptions{DryRun: true, AsNew: asNew})
		want := replication.Restored{Written: 10}
		if asNew {
			want = replication.Restored{Written: 6, Skipped: 4}
		}
		wantCounts(t, got, want)
		for id, n := range cl {
			if n.store.Len() != 0 || n.store.TombstoneCount() != 0 || len(n.store.Seen().Origins()) != 0 {
				t.Errorf("node %s has %d keys and has seen %v", id, n.store.Len(), n.store.Seen())
			}
		}
	}
}

func TestRestoreMergesKeyByKey(t *testing.T) {
	backup := saved{seen: new(seen.Set), collected: new(seen.Set), records: []replication.Record{
		record("a", "same", at(1)), record("b", "older", at(2)), record("c", "newer", at(13)), tombstone("d", at(14)),
		tombstone("e", at(5)), record("f", "missing", at(6)), tombstone("g", at(7)), record("h", "older", at(8)),
	}}
	cl := newCluster(t, "abc", setup{})
	for _, n := range cl {
		written(t, n, record("a", "same", at(1)), record("b", "now", at(22)), record("c", "now", at(23)),
			record("d", "now", at(24)), record("e", "now", at(25)), tombstone("h", at(28)))
		n.store.Revert(record("c", "old", at(3)))
		n.store.Revert(record("d", "old", at(4)))
	}
	counts := restore(t, cl["b"], backup, replication.RestoreOptions{})
	wantCounts(t, counts, replication.Restored{Written: 4, Present: 1, Newer: 3})
	for key, want := range map[string]string{
		"a": "same", "b": "now", "c": "newer", "d": "gone", "e": "now", "f": "missing", "g": "gone", "h": "gone",
	} {
		cl.wantHeld(t, key, want, "abc")
	}
}

// unseeing is a store that does not tell what it has seen: with it a Restore does without that check.
type unseeing struct{ replication.Store }

func (unseeing) SeenHash() uint64 { return 1 }
func (unseeing) Seen() *seen.Set  { return new(seen.Set) }

// What was deleted so long ago that nobody has anything of it stays deleted.
func TestRestoreBringsNothingBackThatWasDeleted(t *testing.T) {
	for name, unsee := range map[string]bool{"": false, "without the check": true} {
		cl := newCluster(t, "ab", setup{})
		for _, n := range cl {
			written(t, n, record("foo", "value", at(1)), record("bar", "value", at(2)))
		}
		s, _ := backedUp(t, cl["a"])
		for _, n := range cl {
			written(t, n, tombstone("foo", at(3)))
		}
		for _, id := range []string{"a", "b"} {
			cl.sync(t, "a", "b")
			cl.sync(t, "b", "a")
			cl.collect(t, id)
		}
		cl.wantHeld(t, "foo", "nothing", "ab")
		n := cl["a"]
		if unsee {
			n.with.store = func(_ string, s replication.Store, _ *version.Clock) replication.Store { return unseeing{s} }
			n.start(t)
		}
		counts := restore(t, n, s, replication.RestoreOptions{})
		if unsee {
			if n.holds("foo") != "value" {
				t.Errorf("%s: foo did not come back, so that nothing else would show that the check is missing", name)
			}
			continue
		}
		wantCounts(t, counts, replication.Restored{Present: 1, Forgotten: 1})
		cl.wantHeld(t, "foo", "nothing", "ab")
	}
}

// A write is acknowledged whose clock was behind that of one which had been deleted and forgotten: older or not, it is
// the last update.
func TestRestoreLeavesAWriteAloneThatFollowedAForgottenDelete(t *testing.T) {
	cl := newCluster(t, "ab", setup{})
	for _, n := range cl {
		written(t, n, record("foo", "value", at(10)))
	}
	s, _ := backedUp(t, cl["a"])
	for _, n := range cl {
		written(t, n, tombstone("foo", at(11)))
	}
	for _, id := range []string{"a", "b"} {
		cl.sync(t, "a", "b")
		cl.sync(t, "b", "a")
		cl.collect(t, id)
	}
	for _, n := range cl {
		written(t, n, record("foo", "last", at(5)))
	}
	wantCounts(t, restore(t, cl["a"], s, replication.RestoreOptions{}), replication.Restored{Forgotten: 1})
	cl.wantHeld(t, "foo", "last", "ab")
}

// A backup without a key says nothing of why it has none, but one that knew of a write which it does not have keeps older
// backups from bringing it back.
func TestOlderBackupBringsNothingBackAfterANewerOne(t *testing.T) {
	old := newCluster(t, "ab", setup{})
	for _, n := range old {
		written(t, n, record("foo", "value", at(1)))
	}
	before, _ := backedUp(t, old["a"])
	for _, n := range old {
		written(t, n, tombstone("foo", at(2)))
	}
	old.sync(t, "b", "a")
	old.collect(t, "a")
	after, _ := backedUp(t, old["a"])
	wantKeys(t, after)

	cl := newCluster(t, "cd", setup{})
	restore(t, cl["c"], after, replication.RestoreOptions{})
	wantCounts(t, restore(t, cl["c"], before, replication.RestoreOptions{}), replication.Restored{Forgotten: 1})
	cl.sync(t, "c", "d")
	wantCounts(t, restore(t, cl["d"], before, replication.RestoreOptions{}), replication.Restored{Forgotten: 1})
	cl.wantHeld(t, "foo", "nothing", "cd")
	if got := cl["d"].memory.Collected(); !got.Has(at(2).Dot) {
		t.Errorf("collected: got %v, want the deletion in it: watches must know", got)
	}
}

// A write that the cluster never saw is older than a delete that one node has forgotten and another one has not.
func TestRestoredWriteGivesWayToADeleteThatOnlyAnotherNodeRemembers(t *testing.T) {
	cl := newCluster(t, "abc", setup{})
	for _, n := range cl {
		written(t, n, tombstone("foo", at(9)))
	}
	for _, id := range []string{"b", "c"} {
		cl.sync(t, id, "a")
	}
	cl.collect(t, "a")
	cl.wantHeld(t, "foo", "nothing", "a")
	s := saved{seen: new(seen.Set), collected: new(seen.Set), records: []replication.Record{record("foo", "foreign", at(1))}}
	wantCounts(t, restore(t, cl["a"], s, replication.RestoreOptions{}), replication.Restored{Newer: 1})
	cl.wantHeld(t, "foo", "gone", "abc")
}

func TestRestoreGoesOnWithoutAMinorityAndEndsWithoutAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := filled(t, "xyz")
		for _, l := range []link{refuses, freezes} {
			cl := newCluster(t, "abc", setup{})
			cl.spoil("c", l)
			wantCounts(t, restore(t, cl["a"], s, replication.RestoreOptions{}), replication.Restored{Written: 10})
			if got, want := cl["b"].store.Digest(), cl["a"].store.Digest(); got != want {
				t.Errorf("digest of b: got %x, want %x", got, want)
			}

			r, err := cl["a"].Restore(replication.RestoreOptions{})
			if err != nil {
				t.Fatal(err)
			}
			cl.spoil("b", l)
			err = r.Apply(t.Context(), []replication.Record{record("zoo", "v", at(1))})
			var missed *replication.QuorumError
			if !errors.As(err, &missed) || missed.Written != replication.WrittenUnknown {
				t.Errorf("without a majority: got %v, want a quorum error", err)
			}
			if _, err := cl["a"].Restore(replication.RestoreOptions{}); !errors.As(err, &missed) {
				t.Errorf("begun without a majority: got %v, want a quorum error", err)
			}
			cl.close()
		}
	})
}

func TestRestoreOutlastsAPauseOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := filled(t, "xyz")
		cl := newCluster(t, "abc", setup{})
		r, err := cl["a"].Restore(replication.RestoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cl.spoil("b", freezes)
		cl.spoil("c", freezes)
		time.AfterFunc(8*time.Second, func() {
			for _, id := range []string{"b", "c"} {
				cl.spoil(id, nil)
				cl["a"].members.live(id, true)
			}
		})
		if err := r.Apply(t.Context(), s.records); err != nil {
			t.Fatal(err)
		}
		wantCounts(t, r.Counts(), replication.Restored{Written: 10})
		cl.wantHeld(t, "key1", "value of key1", "abc")
	})
}

func TestRestoreNeedsTheOwnDisk(t *testing.T) {
	cl := newCluster(t, "abc", setup{})
	r, err := cl["a"].Restore(replication.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cl["a"].store.FailWrites(replication.ErrDiskFull)
	// With a seen set that is united without the records, they would be missing here for ever.
	if err := r.Apply(t.Context(), []replication.Record{record("foo", "v", at(1))}); !errors.Is(err, replication.ErrDiskFull) {
		t.Errorf("got %v, want ErrDiskFull", err)
	}
}

func TestRestoreAsNewUndoesWhatWasOverwrittenAndDeleted(t *testing.T) {
	cl := newCluster(t, "abc", setup{})
	put := func(key, value string) {
		t.Helper()
		if _, err := cl["a"].Put(t.Context(), key, []byte(value), "a/b", replication.LevelAll); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(key string) {
		t.Helper()
		if _, err := cl["b"].Delete(t.Context(), key, replication.LevelAll); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", "good")
	put("overwritten", "good")
	put("deleted", "good")
	put("retyped", "good")
	put("wasgone", "first")
	remove("wasgone")
	s, _ := backedUp(t, cl["a"])
	put("overwritten", "bad")
	remove("deleted")
	if _, err := cl["a"].Put(t.Context(), "retyped", []byte("good"), "c/d", replication.LevelAll); err != nil {
		t.Fatal(err)
	}
	put("wasgone", "later")
	put("new", "later")
	for range 2 { // the second time there is nothing to do
		restore(t, cl["c"], s, replication.RestoreOptions{AsNew: true})
		for key, want := range map[string]string{
			"kept": "good", "overwritten": "good", "deleted": "good", "retyped": "good", "wasgone": "later", "new": "later",
		} {
			cl.wantHeld(t, key, want, "abc")
		}
	}
	got := restore(t, cl["c"], s, replication.RestoreOptions{AsNew: true})
	wantCounts(t, got, replication.Restored{Present: 4, Skipped: 1})
	if record, _, err := cl["a"].Get(t.Context(), "retyped", replication.LevelAll); err != nil || record.ContentType != "a/b" {
		t.Errorf("retyped: got %q, %v, want a/b", record.ContentType, err)
	}
}

// Whatever is written, deleted, pulled and collected: to restore any earlier backup, anywhere, any time, changes nothing in
// the cluster that it is of; and in one that is blank it gives what was there.
func TestRestoreOfAnEarlierStateChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cl := newCluster(t, "abc", setup{})
		defer cl.close()
		ids := rapid.SampledFrom([]string{"a", "b", "c"})
		newest := make(map[string]replication.Record)
		var backups []saved
		settle := func() {
			for range 2 {
				for from := range cl {
					for to := range cl {
						cl.sync(t, from, to)
					}
				}
			}
		}
		for step := range rapid.IntRange(1, 40).Draw(rt, "steps") {
			id := ids.Draw(rt, "node")
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0, 1:
				key := rapid.SampledFrom([]string{"k", "l", "m"}).Draw(rt, "key")
				r := record(key, fmt.Sprint("v", step), at(step))
				if rapid.Bool().Draw(rt, "delete") {
					r = tombstone(key, at(step))
				}
				newest[key] = r
				written(t, cl[id], r)
			case 2:
				cl.sync(t, ids.Draw(rt, "from"), id)
			case 3:
				settle()
				cl.collect(t, id)
			case 4:
				settle()
				s, _ := backedUp(t, cl[id])
				backups = append(backups, s)
			case 5:
				if len(backups) > 0 {
					restore(t, cl[id], rapid.SampledFrom(backups).Draw(rt, "backup"), replication.RestoreOptions{})
				}
			}
		}
		settle()
		for key, r := range newest {
			for id, n := range cl {
				got, want := n.holds(key), string(r.Value)
				if r.Deleted && (got == "gone" || got == "nothing") {
					continue
				}
				if r.Deleted || got != want {
					rt.Fatalf("node %s holds %s under %s, want %+v", id, got, key, r)
				}
			}
		}
	})
}

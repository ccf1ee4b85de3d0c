package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// setAside has s set its data aside and expects that from the next open on. The state "roster"
// is kept, "peers" is not.
func (w *witness) setAside(s *Store, a Aside) error {
	saved := s.SaveState("peers", fmt.Append(nil, len(w.past)))
	w.leaving = &generation{asked: w.asked, atLeast: w.atLeast, dropped: w.dropped, aside: a, saved: saved == nil}
	w.phase = leaving
	_, err := s.SetAside(a)
	w.phase = running
	w.leaving.done = err == nil
	return errors.Join(saved, err)
}

// opened is told of each store that was opened, before it is used.
func (w *witness) opened(s *Store) {
	relics, err := s.Asides()
	n := len(w.past)
	switch {
	case err != nil:
		w.wrong = err
	case w.leaving != nil && len(relics) == n+1:
		w.past = append(w.past, *w.leaving)
		w.forget()
		w.wrong = errors.Join(w.wrong, w.startsAnew(s, w.past[n].aside))
	case len(relics) != n || w.leaving != nil && w.leaving.done:
		w.wrong = fmt.Errorf("got %v, want %d set aside", relics, n)
	}
	w.leaving = nil
	for i := range min(len(relics), len(w.past)) {
		w.wrong = errors.Join(w.wrong, w.past[i].check(s, relics[i]))
	}
}

func (w *witness) startsAnew(s *Store, a Aside) error {
	if !s.Seen().Equal(new(seen.Set)) || s.Len() != 0 || s.TombstoneCount() != 0 || s.Digest() != 0 {
		return fmt.Errorf("after data was set aside: seen %v, %d keys", s.Seen(), s.Len())
	}
	if data, err := s.LoadState("peers"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state that was set aside: got %q, %w", data, err)
	}
	if changed := s.NodeID() != w.node; w.node != "" && changed != a.NewID {
		return fmt.Errorf("node id: was %s, is %s, new %v", w.node, s.NodeID(), a.NewID)
	}
	w.node = s.NodeID()
	return nil
}

// check returns what is wrong with what was set aside.
func (g *generation) check(s *Store, r Relic) error {
	found := map[string]version.Version{}
	for record, err := range s.Records(r.Path) {
		if err != nil {
			return fmt.Errorf("%s: %w", r.Path, err)
		}
		want := g.asked[record.Version.Dot]
		if want.Key != record.Key || want.Version != record.Version || want.Deleted != record.Deleted || !bytes.Equal(want.Value, record.Value) {
			return fmt.Errorf("%s: got %v, which was never written", r.Path, record)
		}
		found[record.Key] = record.Version
	}
	for key, v := range g.atLeast {
		if found[key].Compare(v) < 0 && v.Compare(g.dropped[key]) > 0 {
			return fmt.Errorf("%s: got %s at %v, want %v", r.Path, key, found[key], v)
		}
	}
	if _, err := s.volume.fs.ReadFile(join(r.Path, "node")); g.aside.NewID != (err == nil) {
		return fmt.Errorf("%s: node id: %w", r.Path, err)
	}
	_, roster := s.volume.fs.ReadFile(join(r.Path, "state/roster"))
	_, peers := s.volume.fs.ReadFile(join(r.Path, "state/peers"))
	if roster == nil || g.saved && peers != nil {
		return fmt.Errorf("%s: roster: %w, peers: %w", r.Path, roster, peers)
	}
	return nil
}

var asides = []*Aside{
	{Reason: "gone-back", Keep: []string{"roster", "never-saved"}},
	{Reason: "removed", Keep: []string{"roster"}, NewID: true},
}

// leavingSteps returns the first and the last step of SetAside in a run.
func leavingSteps(t *testing.T, aside *Aside) (first, last int) {
	t.Helper()
	steps, first := 0, never
	_, err := crash{step: never, aside: aside}.suffer(func(_ step, now phase) bool {
		if now == leaving {
			first, last = min(first, steps), steps
		}
		steps++
		return false
	})
	if err != nil || last-first < 15 {
		t.Fatalf("steps %d to %d: %v", first, last, err)
	}
	return first, last
}

func TestACrashWhileDataIsSetAsideLosesNothingOfIt(t *testing.T) {
	for _, aside := range asides {
		c := crash{aside: aside}
		c.step, _ = leavingSteps(t, aside)
		steps, err := sweep(c, 4, nil)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s: %d steps", aside.Reason, steps)
	}
}

// TestACrashWhileOpenFinishesLosesNothing crashes twice: at some step of SetAside, and at each
// step of the open after that.
func TestACrashWhileOpenFinishesLosesNothing(t *testing.T) {
	c := crash{aside: asides[0], kill: true}
	first, last := leavingSteps(t, c.aside)
	var err error
	crashes := 0
	for c.step = first; c.step <= last; c.step++ {
		for c.seed = range 2 {
			c.again = 0
			for hit := true; hit; {
				c.again++
				crashes++
				if hit, err = c.suffer(nil); err != nil {
					t.Fatalf("crash %+v: %v", c, err)
				}
			}
		}
	}
	if t.Logf("%d pairs of crashes", crashes); crashes < 100 {
		t.Error("want more")
	}
}

func TestAnErrorWhileDataIsSetAsideIsReportedAndLosesNothing(t *testing.T) {
	for _, aside := range asides {
		for _, c := range []crash{{err: syscall.EIO}, {err: syscall.EIO, after: true}, {err: syscall.ENOSPC}} {
			c.aside = aside
			c.step, _ = leavingSteps(t, aside)
			if _, err := sweep(c, 1, nil); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestEachSyncIsNeededToSetDataAside is like TestEachSyncIsNeeded.
func TestEachSyncIsNeededToSetDataAside(t *testing.T) {
	mutants := map[string]func(s step) bool{
		"content of the intent": func(s step) bool { ok, _ := path.Match("tmp/*-intent", s.name); return ok },
		"content of the floor":  func(s step) bool { ok, _ := path.Match("tmp/*-begin", s.name); return ok },
		"names":                 func(s step) bool { return s.op == "syncdir" },
		"names at the top":      func(s step) bool { return s.op == "syncdir" && s.name == topDir },
	}
	c := crash{aside: asides[0]}
	c.step, _ = leavingSteps(t, c.aside)
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		skipped := false
		_, err := sweep(c, 12, func(s step, now phase) bool {
			lie := now == leaving && (s.op == "sync" || s.op == "syncdir") && mutants[name](s)
			skipped = skipped || lie
			return lie
		})
		if err == nil || !skipped {
			t.Errorf("nothing went wrong without the sync of %s (left out: %v)", name, skipped)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestDataThatIsSetAsideIsAPlainDirectory(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Config{Dir: dir})
	id := s.NodeID()
	apply(t, s, put("foo", 1, "value"), tombstone("gone", 2))
	for _, name := range []string{"roster", "peers"} {
		if err := s.SaveState(name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	aside, err := s.SetAside(Aside{Reason: "gone-back", Keep: []string{"roster"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keys/2c/foo", "index-b", "journal", "state/peers"} {
		if info, err := os.Stat(join(join(dir, aside), name)); err != nil || info.Size() == 0 {
			t.Errorf("set aside: %s: %v", name, err)
		}
	}
	for _, name := range []string{"foo", "gone"} { // the store is closed
		if _, err := s.Get(name); !errors.Is(err, os.ErrClosed) && !errors.Is(err, replication.ErrNotFound) {
			t.Errorf("get %s: got %v, want os.ErrClosed", name, err)
		}
	}
	if _, err := s.SetAside(Aside{Reason: "again"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("again: got %v, want os.ErrClosed", err)
	}

	s = mustOpen(t, Config{Dir: dir})
	if s.NodeID() != id || s.Len() != 0 {
		t.Errorf("got id %s and %d keys, want %s and none", s.NodeID(), s.Len(), id)
	}
	if got, err := s.LoadState("roster"); err != nil || string(got) != "roster" {
		t.Errorf("kept state: got %q, %v", got, err)
	}
	relics, err := s.Asides()
	if err != nil || len(relics) != 1 || relics[0].Path != aside || relics[0].Reason != "gone-back" || relics[0].Settled {
		t.Errorf("asides: got %+v, %v, want %s", relics, err, aside)
	}
	apply(t, s, put("foo", 3, "new"))
	mustClose(t, s)
	if r, err := mustOpen(t, Config{Dir: dir}).Get("foo"); err != nil || string(r.Value) != "new" {
		t.Errorf("opened again: got %v, %v, want the new value", r, err)
	}
}

func TestDataSetAsideWithinOneSecondDoesNotMeet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := newMemFS()
		for n := range 3 {
			s := mustOpen(t, Config{fs: files})
			apply(t, s, put("foo", n+1, fmt.Sprint(n)))
			if _, err := s.SetAside(Aside{Reason: "gone-back"}); err != nil {
				t.Fatal(err)
			}
		}
		s := mustOpen(t, Config{fs: files})
		relics, err := s.Asides()
		if err != nil || len(relics) != 3 {
			t.Fatalf("got %v, %v, want three", relics, err)
		}
		for n, relic := range relics {
			for r, err := range s.Records(relic.Path) {
				if err != nil || r.Version != at(n+1) || string(r.Value) != fmt.Sprint(n) {
					t.Errorf("%s: got %v, %v, want value %d", relic.Path, r, err, n)
				}
			}
		}
	})
}

func TestRecordsOfRelicsAreVerified(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	for n := range 20 {
		apply(t, s, put(fmt.Sprint("k", n), n+1, "value"))
	}
	aside, err := s.SetAside(Aside{Reason: "removed"})
	if err != nil {
		t.Fatal(err)
	}
	node := func(n int) *memNode {
		node, _, _ := files.find(join(aside, keyPath(fmt.Sprint("k", n))))
		return node
	}
	node(3).data[len(node(3).data)-1] ^= 1
	node(4).data = nil
	node(5).data = node(6).data
	files.root.names[asideDir].names[path.Base(aside)].names[keysDir].set("notes", node(1))
	s = mustOpen(t, Config{fs: files})
	sound, damaged := 0, 0
	for r, err := range s.Records(aside) {
		switch {
		case err == nil && r.Key != "k3" && r.Key != "k4" && r.Key != "k5" && string(r.Value) == "value":
			sound++
		case errors.Is(err, replication.ErrDamaged) && r.Key == "":
			damaged++
		default:
			t.Errorf("got %v, %v", r, err)
		}
		apply(t, s, put("while", 100, "reading"))
	}
	if sound != 17 || damaged != 3 {
		t.Errorf("got %d sound records and %d damaged ones, want 17 and 3", sound, damaged)
	}
	for range s.Records(aside) {
		break
	}

	files.onRead = func(string) error { return syscall.EMFILE }
	last := func(path string) (n int, last error) {
		for _, err := range s.Records(path) {
			n, last = n+1, err
		}
		return n, last
	}
	if n, err := last(aside); n != 1 || !errors.Is(err, syscall.EMFILE) {
		t.Errorf("out of file handles: got %d times, at last %v, want EMFILE once", n, err)
	}
	files.onRead = nil
	for _, path := range []string{"", "keys", "aside", "aside/..", "aside/20261122T120000Z-never", "aside/20261122T120000Z-a/../../keys"} {
		if n, err := last(path); n != 1 || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("records of %q: got %d times, at last %v, want fs.ErrNotExist once", path, n, err)
		}
		if err := s.Settle(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("settle %q: got %v, want fs.ErrNotExist", path, err)
		}
	}
	mustClose(t, s)
	if n, err := last(aside); n != 1 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: got %d times, at last %v, want os.ErrClosed once", n, err)
	}
}

// TestAnIntentThatWasCarriedOutDoesNotComeBack and move what was saved since.
func TestAnIntentThatWasCarriedOutDoesNotComeBack(t *testing.T) {
	for seed := range uint64(20) {
		files := newMemFS()
		s := mustOpen(t, tiny(files))
		apply(t, s, put("a", 1, "v"))
		files.on = func(s step) error {
			if s.op == "mkdir" && s.name == asideDir {
				files.kill()
				return errDead
			}
			return nil
		}
		if _, err := s.SetAside(Aside{Reason: "gone-back"}); err == nil {
			t.Fatal("nothing was set aside")
		}
		files.on = nil
		files = files.kill()
		s = mustOpen(t, tiny(files))
		if err := s.SaveState("peers", []byte("new")); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, tiny(files.cut(rand.New(rand.NewPCG(seed, 0)))))
		if got, err := s.LoadState("peers"); err != nil || string(got) != "new" {
			t.Fatalf("seed %d: got state %q, %v, want the one that was saved", seed, got, err)
		}
	}
}

func TestARelicIsSettledForGood(t *testing.T) {
	files := newMemFS()
	for range 2 {
		if _, err := mustOpen(t, Config{fs: files}).SetAside(Aside{Reason: "gone-back"}); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, Config{fs: files})
	relics, err := s.Asides()
	if err != nil || len(relics) != 2 {
		t.Fatalf("got %v, %v, want two", relics, err)
	}
	files.root.names[asideDir].set("notes", newDir())
	var steps []string
	files.on = func(s step) error { steps = append(steps, s.op); return nil }
	if err := s.Settle(relics[1].Path); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(steps); got != "[create sync rename syncdir]" && got != "[create write sync rename syncdir]" {
		t.Errorf("got the steps %s, want a synced file with a synced name", got)
	}
	files.on = nil
	relics, err = mustOpen(t, Config{fs: files.kill()}).Asides()
	if err != nil || len(relics) != 2 || relics[0].Settled || !relics[1].Settled {
		t.Errorf("got %v, %v, want the second one settled", relics, err)
	}
}

// TestTheClockDoesNotGoBackWhenDataIsSetAside, though the records that told its floor are gone.
func TestTheClockDoesNotGoBackWhenDataIsSetAside(t *testing.T) {
	for _, aside := range asides {
		files := newMemFS()
		s := mustOpen(t, Config{fs: files})
		if _, err := s.Begin(7); err != nil {
			t.Fatal(err)
		}
		apply(t, s, put("foo", 50, "own"))
		if _, err := s.SetAside(*aside); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, Config{fs: files})
		if floor, err := s.Begin(8); err != nil || floor != at(50).Timestamp {
			t.Errorf("floor: got %v, %v, want %v", floor, err, at(50).Timestamp)
		}
		apply(t, s, put("foo", 60, "own, and lost since, from another node"))
		mustClose(t, s)
		if floor, err := mustOpen(t, Config{fs: files}).Begin(9); err != nil || floor != at(60).Timestamp {
			t.Errorf("floor after own writes came back: got %v, %v, want %v", floor, err, at(60).Timestamp)
		}
	}
}

func TestSetAsideRefusesBadNamesAndChangesNothing(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	for _, a := range []Aside{{}, {Reason: "a/b"}, {Reason: "x", Keep: []string{".."}}} {
		if _, err := s.SetAside(a); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%+v: got %v, want fs.ErrInvalid", a, err)
		}
	}
	if r, err := s.Get("foo"); err != nil || string(r.Value) != "value" {
		t.Errorf("afterwards: got %v, %v", r, err)
	}
}

func TestALatchedStoreSetsNothingAside(t *testing.T) {
	files, disk := newMemFS(), new(failing)
	files.on = disk.hook
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	disk.set(syscall.EIO, func(s step) bool { return s.op == "sync" })
	s.Apply([]replication.Record{put("foo", 2, "value")})
	disk.set(nil, nil)
	if _, err := s.SetAside(Aside{Reason: "gone-back"}); !errors.Is(err, replication.ErrReadOnly) {
		t.Errorf("got %v, want ErrReadOnly", err)
	}
	s = mustOpen(t, Config{fs: files})
	if relics, err := s.Asides(); err != nil || len(relics) > 0 || s.Len() != 1 {
		t.Errorf("got %v, %v and %d keys, want all as before", relics, err, s.Len())
	}
}

func TestADamagedIntentKeepsTheStoreFromOpening(t *testing.T) {
	files := newMemFS()
	mustClose(t, mustOpen(t, Config{fs: files}))
	files.root.set(intentFile, &memNode{data: []byte("snakes1 00000000 intent 2\n{}")})
	if _, err := Open(Config{fs: files}); !errors.Is(err, errFormat) {
		t.Errorf("got %v, want an error about the file", err)
	}
}

package disk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

func drop(t *testing.T, s *Store, key string, n int, want bool) {
	t.Helper()
	if got, err := s.Drop(key, at(n)); got != want || err != nil {
		t.Errorf("drop %s at %v: got %v, %v, want %v", key, at(n), got, err, want)
	}
}

func TestDropIsDurableBeforeItsFileGoes(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, tombstone("foo", 1))
	settle(t, s)
	var steps []string
	files.on = func(s step) error { steps = append(steps, s.op); return nil }
	drop(t, s, "foo", 1, true)
	if len(steps) > 0 {
		t.Errorf("got the steps %v, want none", steps)
	}
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(steps, ", "), "write, sync, remove"; !strings.HasPrefix(got, want) {
		t.Errorf("then got the steps %s, want first %s", got, want)
	}
	files.on = nil
	gone := func(s *Store, when string) {
		t.Helper()
		if _, err := s.Lookup("foo"); !errors.Is(err, replication.ErrNotFound) || s.Seen().Counters(7) != "1" {
			t.Errorf("%s: got %v, seen %v, want ErrNotFound and the dot", when, err, s.Seen())
		}
	}
	gone(s, "dropped")
	files = files.kill()
	s = mustOpen(t, Config{fs: files})
	gone(s, "after a kill")
	if node, _, _ := files.find(keyPath("foo")); node != nil {
		t.Error("the file is still there")
	}
	mustClose(t, s)
	gone(mustOpen(t, Config{fs: files}), "after a restart")
}

// TestNoClockStartsBelowADroppedTombstone: a put that others find older than the tombstone, which
// they still have, would be lost.
func TestNoClockStartsBelowADroppedTombstone(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, tombstone("foo", 9)) // by another node
	if floor, err := s.Begin(100); err != nil || floor != (version.Timestamp{}) {
		t.Errorf("while it is there: got %v, %v, want no floor", floor, err)
	}
	drop(t, s, "foo", 9, true)
	if err := s.settleDrops(); err != nil {
		t.Fatal(err)
	}
	wantFloor := func(s *Store, when string) {
		t.Helper()
		if floor, err := s.Begin(101); err != nil || floor != at(9).Timestamp {
			t.Errorf("%s: got %v, %v, want %v", when, floor, err, at(9).Timestamp)
		}
	}
	wantFloor(s, "as it goes on")
	files = files.kill()
	s = mustOpen(t, Config{fs: files})
	wantFloor(s, "from the journal")
	mustClose(t, s)
	files.root.set("journal", nil)
	wantFloor(mustOpen(t, Config{fs: files}), "from the save")
}

// TestADropOutlivesTheEntryOfItsTombstone damages that, with an older value still in the journal.
func TestADropOutlivesTheEntryOfItsTombstone(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	apply(t, s, tombstone("foo", 2))
	e, _ := s.index.find("foo")
	drop(t, s, "foo", 2, true)
	if err := s.settleDrops(); err != nil {
		t.Fatal(err)
	}
	files = files.kill()
	node, _, _ := files.find("journal/0000000000000001")
	node.data[e.at.offset+20] ^= 1
	s = mustOpen(t, Config{fs: files})
	if _, err := s.Get("foo"); !errors.Is(err, replication.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if got := s.Seen().Counters(7); got != "1" {
		t.Errorf("seen: got %s, want 1: what was lost is to be asked for", got)
	}
}

// TestDropNeedsTheDotToBeSeen: the record would be all that knows of it.
func TestDropNeedsTheDotToBeSeen(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, tombstone("foo", 1))
	mustClose(t, s)
	node, _, _ := files.find(keyPath("foo"))
	node.data = append(node.data, 'x')
	for _, name := range []string{"index-a", "index-b", "journal"} {
		files.root.set(name, nil)
	}
	s = mustOpen(t, Config{fs: files})
	if s.TombstoneCount() != 1 || s.Seen().Has(at(1).Dot) {
		t.Fatalf("got %d tombstones, seen %v, want one whose dot is not seen", s.TombstoneCount(), s.Seen())
	}
	drop(t, s, "foo", 1, false)
	apply(t, s, tombstone("foo", 1))
	drop(t, s, "foo", 1, true)
}

func TestDropOfADamagedTombstoneHealsIt(t *testing.T) {
	for name, damage := range map[string]func(*memFS, *memNode){
		"flipped": func(_ *memFS, n *memNode) { n.data[0] ^= 1 },
		"gone":    func(m *memFS, _ *memNode) { _ = m.Remove(keyPath("foo")) },
	} {
		files := newMemFS()
		s := mustOpen(t, Config{fs: files})
		apply(t, s, tombstone("foo", 1))
		settle(t, s)
		node, _, _ := files.find(keyPath("foo"))
		damage(files, node)
		if _, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		drop(t, s, "foo", 1, true)
		if err := s.settleDrops(); err != nil {
			t.Fatal(err)
		}
		if _, err := mustOpen(t, Config{fs: files.kill()}).Get("foo"); !errors.Is(err, replication.ErrNotFound) {
			t.Errorf("%s, dropped, after a kill: got %v, want ErrNotFound", name, err)
		}
	}
}

func TestDropOnAFailingDiskLatches(t *testing.T) {
	files, disk := newMemFS(), new(failing)
	files.on = disk.hook
	s := mustOpen(t, Config{fs: files})
	apply(t, s, tombstone("foo", 1), tombstone("bar", 2))
	drop(t, s, "foo", 1, true)
	disk.set(syscall.EIO, func(s step) bool { return s.op == "write" })
	if err := s.round(); !errors.Is(err, replication.ErrReadOnly) || !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, want ErrReadOnly because of EIO", err)
	}
	disk.set(nil, nil)
	if done, err := s.Drop("bar", at(2)); done || !errors.Is(err, replication.ErrReadOnly) {
		t.Errorf("after the error: got %v, %v, want ErrReadOnly", done, err)
	}
	mustClose(t, s)
	if done, err := s.Drop("bar", at(2)); done || !errors.Is(err, os.ErrClosed) {
		t.Errorf("after close: got %v, %v, want os.ErrClosed", done, err)
	}
}

// TestAReaderRacingWithDropsSeesNoDamage, though the file goes before the entry of the index.
func TestAReaderRacingWithDropsSeesNoDamage(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if r, err := s.Get("foo"); err != nil && !errors.Is(err, replication.ErrNotFound) || err == nil && !r.Deleted {
					t.Errorf("got %v, %v, want a tombstone or ErrNotFound", r, err)
					return
				}
			}
		})
	}
	for n := 1; n < 60; n++ {
		apply(t, s, tombstone("foo", n))
		drop(t, s, "foo", n, true)
	}
	close(done)
	readers.Wait()
}

// BenchmarkDrop drops among many tombstones, as a collection after long absence of a member.
func BenchmarkDrop(b *testing.B) {
	s := benchmarkStore(b)
	const n = 1024
	fill(s.index, 100_000)
	for b.Loop() {
		b.StopTimer()
		batch := make([]replication.Record, n)
		for i := range batch {
			v := version.Version{Timestamp: version.Timestamp{Wall: 1}, Dot: version.Dot{Origin: 99, Counter: uint64(i + 1)}}
			batch[i] = replication.Record{Key: fmt.Sprint("grave", i), Version: v, Deleted: true}
		}
		s.Apply(batch)
		b.StartTimer()
		for key, v := range s.Tombstones() {
			if done, err := s.Drop(key, v); !done || err != nil {
				b.Fatal(done, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}

func BenchmarkContents(b *testing.B) {
	x := newIndex()
	fill(x, 1_000_000)
	for name, buckets := range map[string][]int{"OneBucket": {7}, "AHundred": make([]int, 100)} {
		for i := range buckets {
			buckets[i] += i
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := len(x.contents(buckets)); got < 100*len(buckets) {
					b.Fatalf("got %d keys in %d buckets", got, len(buckets))
				}
			}
		})
	}
}

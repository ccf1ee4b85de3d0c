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

func TestDropRemovesTheFileAndSyncsNothing(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, tombstone("foo", 1))
	var steps []string
	files.on = func(s step) error { steps = append(steps, s.String()); return nil }
	drop(t, s, "foo", 1, true)
	if got, want := strings.Join(steps, ", "), "remove "+keyPath("foo"); got != want {
		t.Errorf("got the steps %s, want %s", got, want)
	}
	if node, _, _ := files.find(keyPath("foo")); node != nil {
		t.Error("the file is still there")
	}
	files.on = nil
	s = mustOpen(t, Config{fs: files.kill()})
	if _, err := s.Lookup("foo"); !errors.Is(err, replication.ErrNotFound) || s.Seen().Counters(7) != "1" {
		t.Errorf("after a kill: got %v, seen %v, want ErrNotFound and the dot", err, s.Seen())
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
	files.root.set(snapshotFile, nil)
	files.root.set(logFile, nil)
	s = mustOpen(t, Config{fs: files})
	if s.TombstoneCount() != 1 || s.Seen().Has(at(1).Dot) {
		t.Fatalf("got %d tombstones, seen %v, want one whose dot is not seen", s.TombstoneCount(), s.Seen())
	}
	drop(t, s, "foo", 1, false)
	apply(t, s, tombstone("foo", 1))
	drop(t, s, "foo", 1, true)
}

// TestDropKeepsARecordThatAloneTellsTheFloor: own tombstones whose dots came back from another
// node before there was any room to note their timestamps.
func TestDropKeepsARecordThatAloneTellsTheFloor(t *testing.T) {
	files := newMemFS()
	cfg := Config{fs: files, logEntries: 2}
	s := mustOpen(t, cfg)
	if _, err := s.Begin(at(1).Origin); err != nil {
		t.Fatal(err)
	}
	var batch []replication.Record
	for n := range 10 {
		batch = append(batch, tombstone(fmt.Sprint("k", n), n+1))
		s.seen.durable.seen.Add(at(n + 1).Dot)
	}
	mustClose(t, s) // a snapshot with the dots
	s = mustOpen(t, cfg)
	files.on = func(s step) error {
		if s.op == "create" && strings.HasSuffix(s.name, "-seen") {
			return syscall.EIO
		}
		return nil
	}
	s.Apply(batch) // the records get to the disk, their timestamps do not
	files = files.kill()
	files.on = func(s step) error {
		if files.needsRoom(s) {
			return syscall.ENOSPC
		}
		return nil
	}
	cfg.fs = files
	s = mustOpen(t, cfg)
	if s.TombstoneCount() != 10 || !s.Seen().Has(at(10).Dot) {
		t.Fatalf("got %d tombstones, seen %v, want 10 with all of their dots", s.TombstoneCount(), s.Seen())
	}
	drop(t, s, "k9", 10, false)
	files.on = nil
	mustClose(t, s)
	s = mustOpen(t, cfg)
	drop(t, s, "k9", 10, true)
	if floor, err := mustOpen(t, Config{fs: files.kill(), logEntries: 2}).Begin(99); err != nil || floor != at(10).Timestamp {
		t.Errorf("floor: got %v, %v, want %v", floor, err, at(10).Timestamp)
	}
}

func TestDropOfADamagedTombstoneHealsIt(t *testing.T) {
	for name, damage := range map[string]func(*memFS, *memNode){
		"flipped": func(_ *memFS, n *memNode) { n.data[0] ^= 1 },
		"gone":    func(m *memFS, _ *memNode) { _ = m.Remove(keyPath("foo")) },
	} {
		files := newMemFS()
		s := mustOpen(t, Config{fs: files})
		apply(t, s, tombstone("foo", 1))
		node, _, _ := files.find(keyPath("foo"))
		damage(files, node)
		if _, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		drop(t, s, "foo", 1, true)
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
	disk.set(syscall.EIO, func(s step) bool { return s.op == "remove" })
	if done, err := s.Drop("foo", at(1)); done || !errors.Is(err, replication.ErrReadOnly) || !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v, %v, want ErrReadOnly because of EIO", done, err)
	}
	disk.set(nil, nil)
	if done, err := s.Drop("bar", at(2)); done || !errors.Is(err, replication.ErrReadOnly) {
		t.Errorf("after the error: got %v, %v, want ErrReadOnly", done, err)
	}
	if s.TombstoneCount() != 2 {
		t.Errorf("got %d tombstones, want both", s.TombstoneCount())
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

package disk

import (
	"bytes"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

func benchmarkStore(b *testing.B) *Store {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	b.ReportAllocs()
	return s
}

func benchmarkRecord(n int) replication.Record {
	return replication.Record{Key: fmt.Sprint("key", n%1000), Version: at(n + 1), Value: bytes.Repeat([]byte("v"), 256)}
}

func BenchmarkApplyAlone(b *testing.B) {
	s := benchmarkStore(b)
	for n := 0; b.Loop(); n++ {
		if err := s.Apply([]replication.Record{benchmarkRecord(n)})[0].Err; err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply64Writers(b *testing.B) {
	s := benchmarkStore(b)
	var n atomic.Int64
	b.SetParallelism(32) // times two processors, on the machine that this was written for
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.Apply([]replication.Record{benchmarkRecord(int(n.Add(1)))})[0].Err; err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkApplyBatchOf64(b *testing.B) {
	s := benchmarkStore(b)
	for n := 0; b.Loop(); n += 64 {
		batch := make([]replication.Record, 64)
		for i := range batch {
			batch[i] = benchmarkRecord(n + i)
		}
		if err := s.Apply(batch)[0].Err; err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	s := benchmarkStore(b)
	fill(s.index, 100_000)
	for b.Loop() {
		if _, err := s.Lookup("key077777"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchmarkStore(b)
	s.Apply([]replication.Record{benchmarkRecord(1)})
	for b.Loop() {
		if _, err := s.Get("key1"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLacking asks for what a node lacks that missed ten writes, and for all.
func BenchmarkLacking(b *testing.B) {
	for _, keys := range []int{10_000, 100_000, 1_000_000} {
		x := newIndex()
		fill(x, keys)
		var dots []version.Dot
		for i := range keys {
			if i%(keys/10) > 0 {
				dots = append(dots, filled(i).Dot)
			}
		}
		for lacking, theirs := range map[int]*seen.Set{10: seen.Of(dots...), keys: new(seen.Set)} {
			b.Run(fmt.Sprintf("%dOf%d", lacking, keys), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if got, complete := x.lacking(theirs); len(got) != lacking || !complete {
						b.Fatalf("got %d keys, complete %v, want %d", len(got), complete, lacking)
					}
				}
			})
		}
	}
}

func BenchmarkUnite(b *testing.B) {
	s := benchmarkStore(b)
	for n := 0; b.Loop(); n++ {
		if err := s.Unite(seen.Of(at(n + 1).Dot)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUniteNothingNew(b *testing.B) {
	s := benchmarkStore(b)
	dots := seen.Of(at(1).Dot, at(5).Dot)
	for b.Loop() {
		if err := s.Unite(dots); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndexSet(b *testing.B) {
	x := newIndex()
	fill(x, 100_000)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r := benchmarkRecord(100_000 + n)
		r.Key = fmt.Sprintf("key%06d", n%100_000)
		x.set(entry{key: r.Key, meta: r.Meta()})
	}
}

// BenchmarkOpen opens a directory with a save of so many keys, and one with records in the journal.
func BenchmarkOpen(b *testing.B) {
	for _, keys := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("Saved%d", keys), func(b *testing.B) {
			cfg := Config{Dir: b.TempDir(), untended: true}
			s, err := Open(cfg)
			if err != nil {
				b.Fatal(err)
			}
			fill(s.index, keys)
			s.unsaved.Store(true)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				s, err := Open(cfg)
				if err != nil || s.Len() != keys {
					b.Fatal(err, s.Len())
				}
				b.StopTimer()
				var stats runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&stats)
				b.ReportMetric(float64(stats.HeapAlloc)/float64(keys)-16, "heap-B/key") // 9 bytes of a key take 16
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
	b.Run("Journal100000", func(b *testing.B) {
		cfg := Config{Dir: b.TempDir(), untended: true}
		s, err := Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		for n := 0; n < 100_000; n += maxBatch {
			batch := make([]replication.Record, maxBatch)
			for i := range batch {
				batch[i] = benchmarkRecord(n + i)
				batch[i].Key = fmt.Sprint("key", n+i)
			}
			s.Apply(batch)
		}
		for b.Loop() {
			closeRead(s.lock) // as if the process had died
			if s, err = Open(cfg); err != nil {
				b.Fatal(err)
			}
		}
	})
}

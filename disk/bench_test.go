package disk

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/protocol7/snakes/replication"
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
	for n := range 100_000 { // in the index alone: writing as many files is not what is measured
		r := benchmarkRecord(n)
		r.Key = fmt.Sprint("key", n)
		s.index.set(entry{key: r.Key, meta: r.Meta()})
	}
	for n := 0; b.Loop(); n++ {
		if _, err := s.Lookup("key77777"); err != nil {
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

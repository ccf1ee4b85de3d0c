package journal

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// dirFiles is a directory of the machine.
type dirFiles string

func (d dirFiles) path(name string) string { return filepath.Join(string(d), name) }

func (d dirFiles) List() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d dirFiles) open(name string, flag int) (File, error) {
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	return osFile{f}, err
}

func (d dirFiles) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}
func (d dirFiles) Open(name string) (File, error) { return d.open(name, os.O_RDWR) }
func (d dirFiles) Rename(from, to string) error   { return os.Rename(d.path(from), d.path(to)) }
func (d dirFiles) Remove(name string) error       { return os.Remove(d.path(name)) }

func (d dirFiles) SyncNames() error {
	f, err := os.Open(string(d))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type osFile struct{ *os.File }

func (f osFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func benchmark(b *testing.B, writers int) {
	j, err := Open(Config{Files: dirFiles(b.TempDir())}, 1, new(replayed).replay)
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	payload := bytes.Repeat([]byte("v"), 256)
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			var at []Position
			for left.Add(-1) >= 0 {
				var err error
				if at, err = j.Append(at[:0], payload); err != nil {
					b.Error(err)
				}
				if at[0].Segment > 2 && at[0].Offset < 1000 {
					_ = j.Remove(at[0].Segment - 2)
					_ = j.Prepare()
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

func BenchmarkAppendAlone(b *testing.B)     { benchmark(b, 1) }
func BenchmarkAppend64Writers(b *testing.B) { benchmark(b, 64) }

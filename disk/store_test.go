package disk

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tiny returns a Config that makes everything happen after few writes.
func tiny(files *memFS) Config {
	return Config{fs: files, reserveBytes: 100, segmentBytes: 1 << 10, CheckpointBytes: 2 << 10, backlogBytes: 200, cacheBytes: 1, untended: true}
}

// mustOpen opens a store. In memory it has no goroutine, so that each step is where the test
// wants it.
func mustOpen(t *testing.T, cfg Config) *Store {
	t.Helper()
	cfg.untended = cfg.untended || cfg.fs != nil
	cfg.cacheBytes = cmp.Or(cfg.cacheBytes, 1) // most tests are about files, which a cache hides
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustClose(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// settle has all records in their files, and none in the journal.
func settle(t *testing.T, s *Store) {
	t.Helper()
	for range 2 {
		if err := s.checkpoints.do(s.checkpoint); err != nil {
			t.Fatal(err)
		}
	}
}

// loseSaves takes away what makes reading all files unnecessary.
func loseSaves(files *memFS) {
	for _, name := range saveFiles {
		files.root.set(name, nil)
	}
}

// flipLast changes the last byte of a file, which is in the value or in the content type.
func flipLast(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStoreConforms(t *testing.T) {
	dirs := map[replication.Store]string{}
	storetest.Suite{
		Open: func(t *testing.T) replication.Store {
			dir := t.TempDir()
			s := mustOpen(t, Config{Dir: dir})
			dirs[s] = dir
			return s
		},
		Reopen: func(t *testing.T, s replication.Store) replication.Store {
			mustClose(t, s.(*Store))
			return mustOpen(t, Config{Dir: dirs[s]})
		},
		Damage: func(t *testing.T, s replication.Store, key string) {
			settle(t, s.(*Store))
			flipLast(t, filepath.Join(dirs[s], filepath.FromSlash(keyPath(key))))
		},
	}.Run(t)
}

// TestStoreConformsAfterAKill is the same without closing: everything acknowledged is on disk.
// Checkpoints are so frequent that segments come and go all the time.
func TestStoreConformsAfterAKill(t *testing.T) {
	disks := map[replication.Store]*memFS{}
	storetest.Suite{
		Open: func(t *testing.T) replication.Store {
			files := newMemFS()
			s := mustOpen(t, tiny(files))
			disks[s] = files
			return s
		},
		Reopen: func(t *testing.T, s replication.Store) replication.Store {
			if err := s.(*Store).settleDrops(); err != nil { // a kill may bring dropped tombstones back
				t.Fatal(err)
			}
			return mustOpen(t, tiny(disks[s].kill()))
		},
	}.Run(t)
}

func at(n int) version.Version {
	return version.Version{
		Timestamp: version.Timestamp{Wall: int64(n)},
		Dot:       version.Dot{Origin: 7, Counter: uint64(n)},
	}
}

func put(key string, n int, value string) replication.Record {
	return replication.Record{Key: key, Version: at(n), ContentType: "text/plain", Value: []byte(value)}
}

func tombstone(key string, n int) replication.Record {
	return replication.Record{Key: key, Version: at(n), Deleted: true}
}

func apply(t *testing.T, s *Store, records ...replication.Record) {
	t.Helper()
	for i, o := range s.Apply(records) {
		if o.Err != nil {
			t.Fatalf("apply %s at %v: %v", records[i].Key, records[i].Version, o.Err)
		}
	}
}

func TestTheDirectoryCanBeReadByPeople(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Config{Dir: filepath.Join(dir, "made", "on", "demand")})
	apply(t, s, put("foo", 1, "some value\n"))
	mustClose(t, s)
	dir = filepath.Join(dir, "made", "on", "demand")

	got, err := os.ReadFile(filepath.Join(dir, "keys", "2c", "foo"))
	want := "snakes1 c90829d3 key=foo version=1.0.7.1 length=11 crc32c=6a763a9d deleted=false type=\"text/plain\"\nsome value\n"
	if err != nil || string(got) != want {
		t.Errorf("record file: got %q, %v, want %q", got, err, want)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "format")); err != nil || string(got) != "snakes data format 1\n" {
		t.Errorf("format file: got %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "node")); err != nil || string(got) != s.NodeID()+"\n" {
		t.Errorf("node file: got %q, %v, want %s", got, err, s.NodeID())
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want it closed to others", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestANodeKeepsItsIDAndNoTwoShareOne(t *testing.T) {
	files := newMemFS()
	first := mustOpen(t, Config{fs: files})
	id := first.NodeID()
	mustClose(t, first)
	if got := mustOpen(t, Config{fs: files}).NodeID(); got != id || len(id) != 32 {
		t.Errorf("id after reopening: got %q, want %q with 32 digits", got, id)
	}
	if other := mustOpen(t, Config{fs: newMemFS()}).NodeID(); other == id {
		t.Errorf("two directories have the id %q", id)
	}
}

func TestASecondOpenerIsToldWhoHasTheDirectory(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Config{Dir: dir})
	_, err := Open(Config{Dir: dir})
	var inUse *InUseError
	if !errors.As(err, &inUse) || inUse.Dir != dir || inUse.PID != os.Getpid() {
		t.Errorf("second open: got %v, want an InUseError with %s and %d", err, dir, os.Getpid())
	}
	mustClose(t, s)
	mustOpen(t, Config{Dir: dir})
}

func TestDirectoriesOfOthersAreLeftAlone(t *testing.T) {
	listing := func(dir string) (names []string) {
		for _, pattern := range []string{"*", "*/*"} {
			found, _ := filepath.Glob(filepath.Join(dir, pattern))
			names = append(names, found...)
		}
		return names
	}
	for name, content := range map[string]string{"format": "snakes data format 2\n", "letter.txt": "Dear Sir"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before := listing(dir)
		_, err := Open(Config{Dir: dir})
		var format *FormatError
		switch {
		case name == "format" && (!errors.As(err, &format) || format.Found != "snakes data format 2"):
			t.Errorf("open another format: got %v, want a FormatError", err)
		case name != "format" && !errors.Is(err, ErrForeign):
			t.Errorf("open a directory of letters: got %v, want ErrForeign", err)
		}
		if after := listing(dir); !slices.Equal(before, after) {
			t.Errorf("open changed %v to %v", before, after)
		}
	}
	if _, err := Open(Config{Dir: filepath.Join(t.TempDir(), "a\x00b")}); err == nil {
		t.Error("an impossible directory was opened")
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("no directory was opened")
	}
}

func TestANewVolumeWithLostAndFoundIsBlank(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, Config{Dir: dir})
}

func TestLeftoversInTmpAreRemovedAtOpen(t *testing.T) {
	files := newMemFS()
	mustClose(t, mustOpen(t, Config{fs: files}))
	if _, err := files.OpenFile("tmp/1-record", createNew); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, Config{fs: files})
	if names, err := files.List(tmpDir); err != nil || len(names) > 0 {
		t.Errorf("tmp: got %v, %v, want nothing", names, err)
	}
}

// TestAnyFlippedBitIsNoticed flips each bit of a record file, before an Open and after it.
func TestAnyFlippedBitIsNoticed(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, tiny(files))
	apply(t, s, put("foo", 1, "value"), put("other", 2, "value"))
	mustClose(t, s)
	node, _, _ := files.find(keyPath("foo"))
	check := func(s *Store, bit int, when string) {
		t.Helper()
		if r, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
			t.Fatalf("bit %d flipped %s: got %v, %v, want ErrDamaged", bit, when, r, err)
		}
		if _, err := s.Lookup("foo"); !errors.Is(err, replication.ErrDamaged) {
			t.Fatalf("bit %d flipped %s: lookup: %v, want ErrDamaged", bit, when, err)
		}
		if _, err := s.Get("other"); err != nil || s.Len() != 1 {
			t.Fatalf("bit %d flipped %s: other key: %v, %d keys", bit, when, err, s.Len())
		}
		if _, err := s.Lookup("never"); !errors.Is(err, replication.ErrNotFound) {
			t.Fatalf("bit %d flipped %s: key that never was: %v", bit, when, err)
		}
	}
	for bit := range 8 * len(node.data) {
		node.data[bit/8] ^= 1 << (bit % 8)
		s := mustOpen(t, tiny(files))
		check(s, bit, "before open")
		mustClose(t, s)
		node.data[bit/8] ^= 1 << (bit % 8)

		s = mustOpen(t, tiny(files))
		node.data[bit/8] ^= 1 << (bit % 8)
		check(s, bit, "after open")
		mustClose(t, s)
		node.data[bit/8] ^= 1 << (bit % 8)
	}
}

func TestDamagedFilesAreUnknownUntilWrittenAgain(t *testing.T) {
	long := strings.Repeat("LONG", 60)
	for name, damage := range map[string]func(*memNode){
		"cut in the header": func(n *memNode) { n.data = n.data[:20] },
		"empty":             func(n *memNode) { n.data = nil },
		"cut in the value":  func(n *memNode) { n.data = n.data[:len(n.data)-1] },
		"longer":            func(n *memNode) { n.data = append(n.data, 'x') },
		"no newline":        func(n *memNode) { n.data = bytes.Repeat([]byte("x"), 2*maxHeader) },
	} {
		t.Run(name, func(t *testing.T) {
			files := newMemFS()
			s := mustOpen(t, Config{fs: files})
			apply(t, s, put("Key", 5, "value"), put(long, 6, "value"))
			settle(t, s)
			mustClose(t, s)
			loseSaves(files)
			for _, key := range []string{"Key", long} {
				node, _, _ := files.find(keyPath(key))
				damage(node)
			}
			s = mustOpen(t, Config{fs: files})
			for _, key := range []string{"Key", long} {
				if _, err := s.Lookup(key); !errors.Is(err, replication.ErrDamaged) {
					t.Errorf("lookup %.9s: got %v, want ErrDamaged", key, err)
				}
			}
			if s.Len() != 0 {
				t.Errorf("len: got %d, want 0", s.Len())
			}
			if got := s.Seen().Counters(7); got != "5-6" {
				t.Errorf("seen: got %s, want 5-6", got)
			}
			apply(t, s, put("Key", 5, "value"), put(long, 6, "value"))
			if r, err := s.Get(long); err != nil || string(r.Value) != "value" || s.Len() != 2 {
				t.Errorf("after writing again: got %v, %v, %d keys", r, err, s.Len())
			}
		})
	}
}

func TestAFileThatIsGoneIsDamageNotAbsence(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	settle(t, s)
	if err := files.Remove(keyPath("foo")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

func TestBeingOutOfFileHandlesIsNeitherDamageNorADiskError(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	settle(t, s)
	files.onRead = func(string) error { return syscall.EMFILE }
	if _, err := s.Get("foo"); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("get: got %v, want EMFILE", err)
	}
	apply(t, s, put("foo", 2, "value"))
	if err := s.round(); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("file: got %v, want EMFILE", err)
	}
	files.onRead = nil
	if _, err := s.Get("foo"); err != nil || s.Writable() != nil {
		t.Errorf("afterwards: got %v, %v", err, s.Writable())
	}
	settle(t, s)
	apply(t, s, put("foo", 2, "value"))
}

func TestStrayFilesAmongTheKeysAreLeftAlone(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	mustClose(t, s)
	loseSaves(files)
	node, dir, _ := files.find(keyPath("foo"))
	dir.set("foo.bak", node)
	dir.set("fox", node)
	files.root.names[keysDir].set("notes", node)
	var log bytes.Buffer
	s = mustOpen(t, Config{fs: files, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if s.Len() != 1 || strings.Count(log.String(), "left alone") != 3 {
		t.Errorf("got %d keys and the log\n%s\nwant 1 key and three lines", s.Len(), &log)
	}
}

// failing makes the disk fail the steps for which match holds with err, until it is nil.
type failing struct {
	mu    sync.Mutex
	err   error
	match func(step) bool
}

func (f *failing) set(err error, match func(step) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.match = err, match
}

func (f *failing) hook(s step) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && f.match(s) {
		return f.err
	}
	return nil
}

func TestADiskErrorLatchesTheStoreUntilRestart(t *testing.T) {
	for _, tc := range []struct {
		op  string
		err error
	}{
		{"write", syscall.EIO},
		{"write", syscall.EROFS},
		{"sync", syscall.EIO},
		{"sync", syscall.ENOSPC},
	} {
		t.Run(fmt.Sprint(tc.op, " ", tc.err), func(t *testing.T) {
			files, disk := newMemFS(), new(failing)
			files.on = disk.hook
			var log bytes.Buffer
			s := mustOpen(t, Config{fs: files, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
			apply(t, s, put("foo", 1, "one"))

			tries := 0
			disk.set(tc.err, func(s step) bool {
				if s.op == tc.op {
					tries++
				}
				return s.op == tc.op
			})
			for range 2 {
				got := s.Apply([]replication.Record{put("bar", 2, "two")})[0].Err
				if !errors.Is(got, replication.ErrReadOnly) || !errors.Is(got, tc.err) {
					t.Errorf("apply: got %v, want ErrReadOnly because of %v", got, tc.err)
				}
			}
			if tries != 1 {
				t.Errorf("%s was tried %d times, want once", tc.op, tries)
			}
			disk.set(nil, nil)
			_, begin := s.Begin(9)
			for _, err := range []error{
				s.Apply([]replication.Record{tombstone("foo", 3)})[0].Err,
				s.SaveState("roster", nil), begin, s.Writable(),
			} {
				if !errors.Is(err, replication.ErrReadOnly) {
					t.Errorf("after the error: got %v, want ErrReadOnly", err)
				}
			}
			if r, err := s.Get("foo"); err != nil || string(r.Value) != "one" {
				t.Errorf("get: got %v, %v, want it to go on", r, err)
			}
			if s.Seen().Has(at(2).Dot) || s.Seen().Has(at(3).Dot) {
				t.Errorf("seen: got %v without the failed writes", s.Seen())
			}
			if got := strings.Count(log.String(), "[ERROR]"); got != 1 {
				t.Errorf("got %d error lines, want 1:\n%s", got, &log)
			}
			mustClose(t, s)
			apply(t, mustOpen(t, Config{fs: files}), put("bar", 4, "four"))
		})
	}
}

func TestADiskErrorInACheckpointLatchesAndLosesNothing(t *testing.T) {
	for _, tc := range []struct {
		op, name string
		err      error
	}{
		{"create", "journal/spare", syscall.EIO},
		{"sync", "journal/spare", syscall.EIO},
		{"rename", "journal/0000000000000002", syscall.EROFS},
		{"syncdir", "journal", syscall.ENOSPC},
		{"sync", "journal/0000000000000002", syscall.EIO},
		{"mkdir", "keys/2c", syscall.EIO},
		{"create", "keys/2c/foo", syscall.EIO},
		{"write", "keys/2c/foo", syscall.EIO},
		{"syncall", "keys", syscall.EIO},
		{"syncall", "keys", syscall.ENOSPC},
		{"create", "index-b", syscall.EIO},
		{"write", "index-b", syscall.EIO},
		{"sync", "index-b", syscall.ENOSPC},
		{"syncdir", ".", syscall.EIO},
	} {
		files, disk := newMemFS(), new(failing)
		files.on = disk.hook
		s := mustOpen(t, Config{fs: files})
		apply(t, s, put("foo", 1, "one"))
		disk.set(tc.err, func(s step) bool { return s.op == tc.op && s.name == tc.name })
		if err := s.checkpoints.do(s.checkpoint); !errors.Is(err, replication.ErrReadOnly) || !errors.Is(err, tc.err) {
			t.Errorf("%s %s: got %v, want ErrReadOnly because of %v", tc.op, tc.name, err, tc.err)
		}
		disk.set(nil, nil)
		if err := s.Apply([]replication.Record{put("foo", 2, "two")})[0].Err; !errors.Is(err, replication.ErrReadOnly) {
			t.Errorf("%s %s: then apply: got %v, want ErrReadOnly", tc.op, tc.name, err)
		}
		for _, when := range []string{"latched", "after a restart"} {
			if r, err := s.Get("foo"); err != nil || string(r.Value) != "one" {
				t.Errorf("%s %s, %s: got %v, %v", tc.op, tc.name, when, r, err)
			}
			mustClose(t, s)
			s = mustOpen(t, Config{fs: files})
		}
	}
}

// used returns how many bytes a file or directory takes.
func (n *memNode) used() int {
	bytes := len(n.data)
	for _, child := range n.names {
		bytes += 200 + child.used() // the directory entry and the inode
	}
	return bytes
}

// TestAFullDiskRefusesValuesAndTakesDeletes gives the disk room for so many bytes only.
func TestAFullDiskRefusesValuesAndTakesDeletes(t *testing.T) {
	files := newMemFS()
	var room int
	var mu sync.Mutex
	used := func() int {
		files.mu.Lock()
		defer files.mu.Unlock()
		return files.root.used()
	}
	limit := func(bytes int) { mu.Lock(); room = bytes; mu.Unlock() }
	files.on = func(s step) error {
		mu.Lock()
		defer mu.Unlock()
		if need := map[string]int{"create": 200, "mkdir": 200}[s.op]; need > 0 && used()+need > room ||
			s.op == "write" && files.needsRoom(s) && used()+s.end > room {
			return syscall.ENOSPC
		}
		return nil
	}
	limit(1 << 30)
	cfg := tiny(files)
	cfg.segmentBytes, cfg.CheckpointBytes = 16<<10, 64<<10
	s := mustOpen(t, cfg)
	for i := range 40 {
		apply(t, s, put(fmt.Sprint("k", i), i+1, "value"))
	}
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	limit(used())
	full := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) {
			t.Errorf("%s: got %v, want ErrDiskFull", what, err)
		}
	}
	apply(t, s, put("last", 99, "v")) // there is room for it in the journal
	full("its file", s.round())
	if r, err := s.Get("last"); err != nil || string(r.Value) != "v" {
		t.Errorf("value without a file: got %v, %v", r, err)
	}
	before := s.Seen()
	full("new key", s.Apply([]replication.Record{put("new", 100, "v")})[0].Err)
	full("old key", s.Apply([]replication.Record{put("k1", 101, "v")})[0].Err)
	full("writable", s.Writable())
	if _, err := s.Lookup("new"); !errors.Is(err, replication.ErrNotFound) || !s.Seen().Equal(before) {
		t.Errorf("a refused write left something: %v, seen %v", err, s.Seen())
	}
	if names, err := files.List(tmpDir); err != nil || len(names) > 0 {
		t.Errorf("tmp: got %v, %v, want nothing", names, err)
	}
	for i := range 40 {
		apply(t, s, tombstone(fmt.Sprint("k", i), 200+i))
	}
	apply(t, s, put("k1", 150, "superseded"))
	if err := s.SaveState("roster", []byte("a b c")); err != nil {
		t.Errorf("save state: %v", err)
	}
	full("value in spite of the reserve", s.Apply([]replication.Record{put("new", 102, "v")})[0].Err)

	// A restart on the full disk changes nothing about that.
	mustClose(t, s)
	s = mustOpen(t, cfg)
	full("after a restart", s.Apply([]replication.Record{put("new", 103, "v")})[0].Err)
	apply(t, s, tombstone("k1", 300))

	limit(1 << 30)
	full("before anybody tried", s.Writable())
	apply(t, s, put("new", 104, "v"))
	if err := s.Writable(); err != nil || s.Len() != 2 {
		t.Errorf("with room again: got %v and %d keys, want 2", err, s.Len())
	}
}

func TestGetDoesNotTellARecordBeforeItIsDurable(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "old"))
	written, synced := make(chan struct{}), make(chan struct{})
	files.on = func(s step) error {
		if s.op == "sync" {
			close(written)
			<-synced
			return syscall.EIO
		}
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Apply([]replication.Record{put("foo", 2, "new")}) })
	<-written
	if m, err := s.Lookup("foo"); err != nil || m.Version != at(1) {
		t.Errorf("lookup before the sync: got %v, %v, want version 1", m, err)
	}
	wg.Go(func() {
		if r, err := s.Get("foo"); err != nil || r.Version != at(1) {
			t.Errorf("get: got %q at %v, %v, want version 1: the sync of the other fails", r.Value, r.Version, err)
		}
	})
	close(synced)
	wg.Wait()
}

func TestAReaderRacingWithRewritesGetsWholeRecords(t *testing.T) {
	s := mustOpen(t, Config{Dir: t.TempDir()})
	value := func(n int) string { return strings.Repeat(fmt.Sprint(n), 1000*(1+n%3)) }
	apply(t, s, put("foo", 1, value(1)))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for last := int64(0); ; {
				select {
				case <-done:
					return
				default:
				}
				r, err := s.Get("foo")
				if err != nil || string(r.Value) != value(int(r.Version.Wall)) || r.Version.Wall < last {
					t.Errorf("got %v at %v after %d", err, r.Version, last)
					return
				}
				last = r.Version.Wall
			}
		})
	}
	for n := 2; n < 40; n++ {
		apply(t, s, put("foo", n, value(n)))
	}
	close(done)
	readers.Wait()
}

func TestTheClockFloorIsWhatThisNodeStampedBefore(t *testing.T) {
	files := newMemFS()
	begin := func(s *Store, origin uint64, want int64) {
		t.Helper()
		if got, err := s.Begin(origin); err != nil || got != (version.Timestamp{Wall: want}) {
			t.Errorf("begin %d: got %v, %v, want %d", origin, got, err, want)
		}
	}
	stamped := func(origin uint64, n int) replication.Record {
		r := put(fmt.Sprint("k", n%3), n, "v")
		r.Version.Origin = origin
		return r
	}
	reopen := func(s *Store, tidy bool) *Store {
		if tidy {
			mustClose(t, s)
		}
		files = files.kill()
		return mustOpen(t, tiny(files))
	}
	s := mustOpen(t, tiny(files))
	begin(s, 1, 0)
	for n := 1; n <= 20; n++ { // the seen log starts over several times
		apply(t, s, stamped(1, n), stamped(99, 1000+n))
	}
	s = reopen(s, false)
	begin(s, 2, 20)
	apply(t, s, stamped(2, 10)) // a clock that was started wrong, or a write that was superseded
	begin(s, 3, 20)
	s = reopen(s, true)
	begin(s, 4, 20)
	apply(t, s, stamped(4, 2000), stamped(99, 3000))
	s = reopen(s, false)
	begin(s, 5, 2000)
	begin(s, 5, 2000)
	if _, err := s.Begin(0); err == nil {
		t.Error("begin with origin 0: got no error")
	}
}

func TestStateIsKeptByName(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	if _, err := s.LoadState("roster"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("load nothing: got %v, want fs.ErrNotExist", err)
	}
	for _, name := range []string{"", "..", "a/b", "Roster", strings.Repeat("a", 65)} {
		if err := s.SaveState(name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("save as %.9q: got %v, want fs.ErrInvalid", name, err)
		}
	}
	for name, data := range map[string]string{"roster": "a\nb\x00", "empty": "", "roster-2": "old"} {
		if err := s.SaveState(name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SaveState("roster-2", []byte("new")); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, Config{fs: files})
	for name, want := range map[string]string{"roster": "a\nb\x00", "empty": "", "roster-2": "new"} {
		if got, err := s.LoadState(name); err != nil || string(got) != want {
			t.Errorf("load %s: got %q, %v, want %q", name, got, err, want)
		}
	}
	node, _, _ := files.find("state/roster")
	for i := range node.data {
		node.data[i] ^= 0x10
		if got, err := s.LoadState("roster"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("state with byte %d changed: got %q, %v, want an error", i, got, err)
		}
		node.data[i] ^= 0x10
	}
}

func TestCloseWaitsAndIsFinal(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	inSync, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	files.on = func(st step) error {
		if st.op == "sync" {
			once.Do(func() { close(inSync); <-proceed })
		}
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { apply(t, s, put("foo", 1, "v")) })
	<-inSync
	closed := make(chan error)
	wg.Go(func() { closed <- s.Close() })
	select {
	case <-closed:
		t.Error("close did not wait for a write under way")
	default:
	}
	close(proceed)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	_, get := s.Get("foo")
	_, load := s.LoadState("x")
	_, begin := s.Begin(1)
	for _, err := range []error{s.Apply([]replication.Record{put("b", 2, "v")})[0].Err, get, load, begin, s.SaveState("x", nil)} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("after close: got %v, want os.ErrClosed", err)
		}
	}
	if r, err := mustOpen(t, Config{fs: files}).Get("foo"); err != nil || string(r.Value) != "v" {
		t.Errorf("the write that close waited for: got %v, %v", r, err)
	}
}

func TestRecordsThatAreNoneAreRefused(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS()})
	valued := tombstone("a", 1)
	valued.Value = []byte("v")
	typed := tombstone("a", 1)
	typed.ContentType = "text/plain"
	long := put("a", 1, "v")
	long.ContentType = strings.Repeat("\x00", maxContentType+1)
	batch := []replication.Record{{Key: "a"}, valued, typed, long}
	for i, o := range s.Apply(batch) {
		if o.Err == nil {
			t.Errorf("record %d was stored: %v", i, o.Current)
		}
	}
	if err := s.Writable(); err != nil || s.Len() != 0 {
		t.Errorf("afterwards: %v and %d keys, want none", err, s.Len())
	}
	long.ContentType = long.ContentType[1:]
	apply(t, s, long)
	mustClose(t, s)
}

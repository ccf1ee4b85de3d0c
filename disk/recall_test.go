package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// told is all that a store tells.
type told struct {
	records map[string]replication.Meta
	seen    string
	values  map[string]string
}

func tell(t *testing.T, s *Store) told {
	t.Helper()
	all := told{maps.Collect(s.Scan("")), s.Seen().String(), map[string]string{}}
	for key := range all.records {
		r, err := s.Get(key)
		if err != nil {
			t.Fatalf("get %s: %v", key, err)
		}
		all.values[key] = string(r.Value)
	}
	return all
}

func (a told) equal(b told) bool {
	return maps.Equal(a.records, b.records) && a.seen == b.seen && maps.Equal(a.values, b.values)
}

// lived returns the files of a store that was killed after two checkpoints and some writes.
func lived(t *testing.T) (*memFS, told) {
	files := newMemFS()
	s := mustOpen(t, tiny(files))
	if _, err := s.Begin(7); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		apply(t, s, put("a", 10*n+2, "value"), put("a", 10*n+1, "superseded"), put(fmt.Sprint("k", n), 10*n+3, "v"))
		apply(t, s, tombstone("gone", 10*n+4), tombstone("dropped", 10*n+5))
		drop(t, s, "dropped", 10*n+5, true)
		if err := s.Unite(seen.Of(version.Dot{Origin: 9, Counter: uint64(2 * n)})); err != nil {
			t.Fatal(err)
		}
		if n == 2 {
			break
		}
		if err := s.checkpoints.do(s.checkpoint); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.settleDrops(); err != nil {
		t.Fatal(err)
	}
	all := tell(t, s)
	return files.kill(), all
}

func (m *memFS) clone() *memFS { return &memFS{root: m.root.clone()} }

func (n *memNode) clone() *memNode {
	c := &memNode{data: bytes.Clone(n.data), synced: bytes.Clone(n.synced)}
	if n.names != nil {
		c.names = map[string]*memNode{}
		for name, child := range n.names {
			c.names[name] = child.clone()
		}
		c.durable = maps.Clone(c.names)
	}
	return c
}

// TestASaveCutOrFlippedAnywhereCostsNothing damages the newer one: there is another, and the
// journal since then.
func TestASaveCutOrFlippedAnywhereCostsNothing(t *testing.T) {
	files, want := lived(t)
	whole, _, _ := files.find(saveFiles[0]) // the second generation
	for n := range whole.data {
		for _, damage := range []func(node *memNode){
			func(node *memNode) { node.data = node.data[:n] },
			func(node *memNode) { node.data[n] ^= 1 << (n % 8) },
		} {
			c := files.clone()
			node, _, _ := c.find(saveFiles[0])
			damage(node)
			s := mustOpen(t, tiny(c))
			if got := tell(t, s); !got.equal(want) || s.generation != 1 {
				t.Fatalf("byte %d: got %v of generation %d, want %v of the first", n, got, s.generation, want)
			}
			mustClose(t, s)
		}
	}
}

// TestWithoutSavesFilesAndJournalTellAll, the seen set included: it begins each segment.
func TestWithoutSavesFilesAndJournalTellAll(t *testing.T) {
	files, want := lived(t)
	loseSaves(files)
	s := mustOpen(t, tiny(files))
	if got := tell(t, s); !got.equal(want) || s.generation != 0 {
		t.Errorf("got %v, want %v", got, want)
	}
	settle(t, s)
	mustClose(t, s)
	s = mustOpen(t, tiny(files))
	if got := tell(t, s); !got.equal(want) || s.generation == 0 {
		t.Errorf("after a checkpoint: got %v of generation %d, want %v from a save", got, s.generation, want)
	}
}

func FuzzParseSave(f *testing.F) {
	files := newMemFS()
	s, err := Open(tiny(files))
	if err != nil {
		f.Fatal(err)
	}
	s.Apply([]replication.Record{put("a", 1, "value"), tombstone("b", 2)})
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	node, _, _ := files.find(saveFiles[1])
	f.Add(node.data)
	f.Fuzz(func(t *testing.T, data []byte) {
		x := newIndex()
		if c, err := parseSave(data, x); err == nil {
			c.records = x.byKey
			generation, _, _ := savedGeneration(data)
			v := &volume{fs: newMemFS()}
			if _, err := v.writeSave("again", generation, c); err != nil {
				t.Fatal(err)
			}
			if again, err := v.fs.ReadFile("again"); err != nil || !bytes.Equal(again, data) {
				t.Fatalf("accepted %q, which is written as %q", data, again)
			}
		}
	})
}

// TestWhatADamagedJournalLostIsNotClaimed: neither the dot of a record that is lost, nor dots
// that stand for it.
func TestWhatADamagedJournalLostIsNotClaimed(t *testing.T) {
	files := newMemFS()
	var log bytes.Buffer
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("before", 1, "v"))
	apply(t, s, put("lost", 3, "v"))
	e, _ := s.index.find("lost")
	apply(t, s, put("lost", 2, "superseded by what is lost"))
	if err := s.Unite(seen.Of(at(4).Dot)); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("after", 5, "v"))
	files = files.kill()
	node, _, _ := files.find("journal/0000000000000001")
	node.data[e.at.offset+50] ^= 1
	s = mustOpen(t, Config{fs: files, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if got := s.Seen().Counters(7); got != "1,5" {
		t.Errorf("seen: got %s, want 1,5", got)
	}
	if got := slices.Sorted(maps.Keys(maps.Collect(s.Scan("")))); !slices.Equal(got, []string{"after", "before"}) {
		t.Errorf("got %v, want what is not lost", got)
	}
	if got := strings.Count(log.String(), "writes may be lost"); got != 1 {
		t.Errorf("got %d lines about damage, want 1:\n%s", got, &log)
	}
}

func TestADamagedFileIsReplacedFromTheJournal(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "value"))
	for range 2 {
		if err := s.round(); err != nil {
			t.Fatal(err)
		}
		node, _, _ := files.find(keyPath("foo"))
		if !bytes.HasSuffix(node.data, []byte("value")) {
			t.Fatalf("file holds %q", node.data)
		}
		node.data[len(node.data)-1] ^= 1
		if r, err := s.Get("foo"); err != nil || string(r.Value) != "value" {
			t.Errorf("get: got %v, %v", r, err)
		}
	}
}

func TestValuesAreServedBeforeTheyHaveFiles(t *testing.T) {
	files := newMemFS()
	cfg := tiny(files)
	cfg.segmentBytes, cfg.CheckpointBytes = 64<<10, 64<<10
	s := mustOpen(t, cfg)
	value := func(n int) string { return strings.Repeat(fmt.Sprint(n), 50) }
	for n := range 10 {
		apply(t, s, put(fmt.Sprint("k", n), n+1, value(n)))
	}
	if s.backlog.len() != 10 || s.backlog.bytes > cfg.backlogBytes || s.backlog.bytes == 0 {
		t.Errorf("got %d records and %d bytes of them in memory, want 10 and at most %d", s.backlog.len(), s.backlog.bytes, cfg.backlogBytes)
	}
	check := func(when string) {
		t.Helper()
		for n := range 10 {
			if r, err := s.Get(fmt.Sprint("k", n)); err != nil || string(r.Value) != value(n) {
				t.Errorf("%s: k%d: got %q, %v", when, n, r.Value, err)
			}
		}
	}
	check("without files")
	if err := s.round(); err != nil || s.backlog.len() != 0 || s.backlog.bytes != 0 {
		t.Errorf("round: %v, leaves %d records, %d bytes", err, s.backlog.len(), s.backlog.bytes)
	}
	check("with files")
}

func TestFilingIsPutOffOnlyWhileMuchIsWrittenAndThereIsRoom(t *testing.T) {
	cfg := Config{fs: newMemFS(), backlogRecords: 4 * busyWrites, segmentBytes: 1 << 20, CheckpointBytes: 4 << 20}
	s, n := mustOpen(t, cfg), 0
	write := func(records, size int) {
		for range records {
			n++
			apply(t, s, put(fmt.Sprint("k", n), n, strings.Repeat("v", size)))
		}
	}
	check := func(when string, want bool) {
		t.Helper()
		if got := s.canPutOff(); got != want {
			t.Errorf("%s: put off %v, want %v", when, got, want)
		}
	}
	check("idle", false)
	write(busyWrites-1, 10)
	check("little is written", false)
	write(busyWrites, 10)
	check("much is written", true)
	check("no more is written", false)
	write(busyWrites, 10)
	s.volume.mu.Lock()
	s.volume.full = errors.New("full")
	s.volume.mu.Unlock()
	check("the disk is full", false)
	s.volume.mu.Lock()
	s.volume.full = nil
	s.volume.mu.Unlock()
	write(busyWrites+1, 10)
	check("too many records wait", false)
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	write(busyWrites, 0)
	check("there is room again", true)
	write(4*busyWrites, 40<<10)
	if err := s.filing.do(s.file); err != nil {
		t.Fatal(err)
	}
	write(busyWrites, 0)
	check("a checkpoint is due", false)
}

func TestARoundOfFilingGivesWayWhenWritersAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		files := newMemFS()
		s, n := mustOpen(t, Config{fs: files}), 0
		const burst = 500
		for ; n < burst; n++ {
			apply(t, s, put(fmt.Sprint("k", n), n+1, "v"))
		}
		back := true
		files.on = func(st step) error {
			if st.op == "write" && strings.HasPrefix(st.name, keysDir+"/") {
				time.Sleep(time.Millisecond) // of fake time
				if back {
					r := put(fmt.Sprint("k", n), n+1, "v")
					s.take(r, journal.Position{Segment: 1}, contentOf(r))
					n++
				}
			}
			return nil
		}
		if err := s.round(); err != nil || n-s.backlog.len() == 0 || n-s.backlog.len() > burst/4 {
			t.Errorf("writers are back: got %v and %d of %d records left, want some filed and most left", err, s.backlog.len(), n)
		}
		if len(s.awake) == 0 {
			t.Error("nobody goes on with what is left")
		}
		back = false
		if err := s.round(); err != nil || s.backlog.len() > 0 {
			t.Errorf("writers have gone: got %v and %d records left, want none", err, s.backlog.len())
		}
		mustClose(t, s)
	})
}

func TestFilingRestsWhileThereIsLoad(t *testing.T) {
	const records, perFile = 200, time.Millisecond
	for _, c := range []struct {
		name      string
		work      func(s *Store) error
		load, hot bool
		atLeast   time.Duration
	}{
		{"a round, idle", (*Store).round, false, false, records * perFile},
		{"a round, under reads", (*Store).round, true, false, (restShare - 1) * records * perFile},
		{"a checkpoint, idle", (*Store).checkpoint, false, false, records * perFile},
		{"a checkpoint, under load", (*Store).checkpoint, true, false, (hurryShare - 1) * records * perFile},
		{"a checkpoint that writers are about to wait for", (*Store).checkpoint, true, true, records * perFile},
	} {
		synctest.Test(t, func(t *testing.T) {
			files := newMemFS()
			s := mustOpen(t, Config{fs: files})
			for n := range records {
				apply(t, s, put(fmt.Sprint("k", n), n+1, "v"))
			}
			if c.hot {
				s.checkpointBytes = s.journal.Size() / maxJournal
			}
			files.on = func(st step) error {
				if st.op == "write" && strings.HasPrefix(st.name, keysDir+"/") {
					time.Sleep(perFile) // of fake time
				}
				return nil
			}
			done := make(chan struct{})
			defer close(done)
			go func() {
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Millisecond):
						if c.load {
							_, _ = s.Lookup("k1")
						}
					}
				}
			}()
			began := time.Now()
			if err := c.work(s); err != nil || s.backlog.len() > 0 {
				t.Errorf("%s: got %v and %d records left, want none", c.name, err, s.backlog.len())
			}
			if took := time.Since(began); took < c.atLeast || took > 2*c.atLeast {
				t.Errorf("%s: took %v, want %v to twice that", c.name, took, c.atLeast)
			}
			mustClose(t, s)
		})
	}
}

func TestWhoClosesAStoreWaitsForNoRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(load int64) time.Duration {
			files := newMemFS()
			s := mustOpen(t, Config{fs: files})
			for n := range 500 {
				apply(t, s, put(fmt.Sprint("k", n), n+1, "v"))
			}
			files.on = func(step) error {
				time.Sleep(time.Millisecond) // of fake time
				s.served.Add(load)
				return nil
			}
			began := time.Now()
			mustClose(t, s)
			return time.Since(began)
		}
		if idle, loaded := took(0), took(1000); loaded > idle*11/10 {
			t.Errorf("took %v under load, %v without", loaded, idle)
		}
	})
}

func TestAKeyWrittenManyTimesIsFiledOnce(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	for n := range 20 {
		apply(t, s, put("hot", n+1, strings.Repeat("v", 20-n)))
	}
	writes := 0
	files.on = func(st step) error {
		if st.op == "write" && st.name == keyPath("hot") {
			writes++
		}
		return nil
	}
	if err := s.round(); err != nil || writes != 1 {
		t.Errorf("got %v and %d writes, want one", err, writes)
	}
	apply(t, s, put("hot", 30, ""))
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	if data, err := files.ReadFile(keyPath("hot")); err != nil || !bytes.Equal(data, contentOf(put("hot", 30, ""))) {
		t.Errorf("file: got %q, %v", data, err)
	}
}

func TestTheJournalStaysBounded(t *testing.T) {
	files := newMemFS()
	cfg := tiny(files)
	s := mustOpen(t, cfg)
	highest := int64(0)
	for n := range 400 {
		apply(t, s, put(fmt.Sprint("k", n%7), n+1, "value"))
		highest = max(highest, s.journal.Size())
	}
	if limit := maxJournal*s.checkpointDue() + 2*cfg.segmentBytes; highest > limit {
		t.Errorf("the journal grew to %d bytes, want at most %d", highest, limit)
	}
	names, err := files.List(journalDir)
	if want := int(maxJournal*s.checkpointDue()/cfg.segmentBytes) + 3; err != nil || len(names) > want {
		t.Errorf("got %d files, %v, want at most %d", len(names), err, want)
	}
}

func TestAnIdleStoreWritesNothing(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("foo", 1, "v"))
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	files.on = func(st step) error { t.Errorf("idle: %v", st); return nil }
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	files.on = nil
	mustClose(t, s)
	s = mustOpen(t, Config{fs: files})
	files.on = func(st step) error { t.Errorf("closing what was only opened: %v", st); return nil }
	mustClose(t, s)
}

func TestFilesFollowWithinASecond(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Config{Dir: dir})
	for n := range 3 {
		key := fmt.Sprint("key", n)
		apply(t, s, put(key, n+1, "value"))
		file := filepath.Join(dir, filepath.FromSlash(keyPath(key)))
		for begun := time.Now(); ; time.Sleep(time.Millisecond) {
			data, err := os.ReadFile(file)
			if bytes.Equal(data, contentOf(put(key, n+1, "value"))) {
				break
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) || time.Since(begun) > 5*time.Second {
				t.Fatalf("%s holds %q, %v, after %v", file, data, err, time.Since(begun))
			}
		}
	}
}

// TestOnlyDamageThatTheJournalDoesNotHealIsLogged has no save, so that all files are read.
func TestOnlyDamageThatTheJournalDoesNotHealIsLogged(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("lost", 1, "v"), put("short", 2, "v"))
	settle(t, s)
	apply(t, s, put("torn", 3, "v"))
	if err := s.round(); err != nil {
		t.Fatal(err)
	}
	files = files.kill()
	loseSaves(files)
	for _, key := range []string{"lost", "short", "torn"} {
		node, _, _ := files.find(keyPath(key))
		if node.data = node.data[:len(node.data)-1]; key != "short" {
			node.data = nil
		}
	}
	var log bytes.Buffer
	s = mustOpen(t, Config{fs: files, Logger: hclog.New(&hclog.LoggerOptions{Output: &log})})
	if got := strings.Count(log.String(), "record is damaged"); got != 2 || strings.Contains(log.String(), "torn") {
		t.Errorf("got %d lines about damage, want those of lost and short:\n%s", got, &log)
	}
	if r, err := s.Get("torn"); err != nil || string(r.Value) != "v" {
		t.Errorf("torn: got %v, %v", r, err)
	}
}

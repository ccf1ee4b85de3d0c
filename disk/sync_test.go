package disk

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// syncModel says what the indexes of a store must tell, from a list of all records.
type syncModel struct {
	files      *memFS
	store      *Store
	sound      map[string]replication.Meta
	damaged    map[string]replication.Meta // the store knows at least the header
	headless   map[string]bool             // of those damaged: the next Open will not know the header
	unreadable map[string]bool             // the store does not know whose file it is
	counters   [4]uint64                   // the last ones of origins 1 to 3
}

func (m *syncModel) open(t *rapid.T) {
	var err error
	if m.store, err = Open(tiny(m.files)); err != nil {
		t.Fatal(err)
	}
}

func (m *syncModel) key(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "key")
}

func (m *syncModel) apply(t *rapid.T) {
	r := replication.Record{Key: m.key(t), Value: []byte("value")}
	if rapid.Bool().Draw(t, "deleted") {
		r.Deleted, r.Value = true, nil
	}
	r.Version.Wall = rapid.Int64Range(1, 4).Draw(t, "wall")
	r.Version.Origin = rapid.Uint64Range(1, 3).Draw(t, "origin")
	m.counters[r.Version.Origin]++
	r.Version.Counter = m.counters[r.Version.Origin]
	if o := m.store.Apply([]replication.Record{r})[0]; o.Err != nil {
		t.Fatal(o.Err)
	}
	if r.Version.Compare(m.sound[r.Key].Version) > 0 && r.Version.Compare(m.damaged[r.Key].Version) > 0 {
		m.sound[r.Key] = r.Meta()
		delete(m.damaged, r.Key)
		delete(m.headless, r.Key)
		delete(m.unreadable, r.Key)
	}
}

// damage changes a byte of the value or of the header and has the store find out.
func (m *syncModel) damage(t *rapid.T) {
	key := m.key(t)
	meta, ok := m.sound[key]
	if !ok {
		t.Skip("there is no such record")
	}
	for range 2 { // so that the journal does not have it any more
		if err := m.store.checkpoints.do(m.store.checkpoint); err != nil {
			t.Fatal(err)
		}
	}
	node, _, _ := m.files.find(keyPath(key))
	node.data = bytes.Clone(node.data)
	if meta.Deleted || rapid.Bool().Draw(t, "header") {
		node.data[0] ^= 1
		m.headless[key] = true
	} else {
		node.data[len(node.data)-1] ^= 1
	}
	m.read(t, key, replication.ErrDamaged)
	m.damaged[key] = meta
	delete(m.sound, key)
}

// drop tries it with tombstones and with what is none, damaged or not.
func (m *syncModel) drop(t *rapid.T) {
	key := m.key(t)
	meta, ok := m.sound[key]
	if !ok {
		meta, ok = m.damaged[key]
	}
	want := ok && meta.Deleted
	if got, err := m.store.Drop(key, meta.Version); got != want || err != nil {
		t.Fatalf("drop %s at %v: got %v, %v, want %v", key, meta.Version, got, err, want)
	}
	if want {
		delete(m.sound, key)
		delete(m.damaged, key)
		delete(m.headless, key)
	}
}

// reopen also has the store read the values again that are damaged, which Open does not.
func (m *syncModel) reopen(t *rapid.T) {
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	if rapid.Bool().Draw(t, "lose saves") {
		loseSaves(m.files)
		for key := range m.headless {
			m.unreadable[key] = true
			delete(m.damaged, key)
		}
		clear(m.headless)
	}
	m.open(t)
	for key := range m.sound {
		m.read(t, key, nil)
	}
	for key := range m.damaged {
		m.read(t, key, replication.ErrDamaged)
	}
}

func (m *syncModel) read(t *rapid.T, key string, want error) {
	if _, err := m.store.Get(key); !errors.Is(err, want) {
		t.Fatalf("get %s: got %v, want %v", key, err, want)
	}
}

func (m *syncModel) check(t *rapid.T) {
	theirs := new(seen.Set)
	for origin, last := range m.counters {
		for c := range last {
			if rapid.Bool().Draw(t, "has") {
				theirs.Add(version.Dot{Origin: uint64(origin), Counter: c + 1})
			}
		}
	}
	var digest uint64
	var lacking []string
	buckets := make([]uint64, replication.DigestBuckets)
	tombstones := map[string]version.Version{}
	for key, meta := range m.sound {
		if !meta.Deleted {
			digest ^= replication.DigestOf(key, meta.Version)
			buckets[replication.BucketOf(key)] ^= replication.DigestOf(key, meta.Version)
		} else {
			tombstones[key] = meta.Version
		}
		if !theirs.Has(meta.Version.Dot) {
			lacking = append(lacking, key)
		}
	}
	slices.Sort(lacking)
	complete := len(m.unreadable) == 0
	for key, meta := range m.damaged {
		complete = complete && theirs.Has(meta.Version.Dot)
		if meta.Deleted {
			tombstones[key] = meta.Version
		}
	}
	if got := m.store.Buckets(); !slices.Equal(got, buckets) {
		t.Fatalf("buckets are not those of %v", m.sound)
	}
	if got, n := maps.Collect(m.store.Tombstones()), m.store.TombstoneCount(); !maps.Equal(got, tombstones) || n != len(tombstones) {
		t.Fatalf("tombstones: got %d, %v, want %v", n, got, tombstones)
	}
	if got := m.store.Digest(); got != digest {
		t.Fatalf("digest: got %x, want %x, that of %v", got, digest, m.sound)
	}
	if got, ok := m.store.Lacking(theirs); !slices.Equal(got, lacking) || ok != complete {
		t.Fatalf("lacking of %v: got %v, complete %v, want %v, %v", theirs, got, ok, lacking, complete)
	}
	if got := maps.Collect(m.store.Scan("")); !maps.Equal(got, m.sound) {
		t.Fatalf("scan: got %v, want %v", got, m.sound)
	}
	if got, want := m.store.index.byDot.Len(), m.store.index.byKey.Len(); got != want {
		t.Fatalf("%d dots for %d keys", got, want)
	}
}

func TestDigestAndLackingAgreeWithALookAtAllRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &syncModel{
			files: newMemFS(),
			sound: map[string]replication.Meta{}, damaged: map[string]replication.Meta{},
			headless: map[string]bool{}, unreadable: map[string]bool{},
		}
		m.open(t)
		defer func() { _ = m.store.Close() }() // of interest is what was told before
		t.Repeat(map[string]func(*rapid.T){"apply": m.apply, "apply ": m.apply, "damage": m.damage, "drop": m.drop, "reopen": m.reopen, "": m.check})
	})
}

// TestADotInTwoRecordsLosesNone, though no node gives a dot twice: see compareDots.
func TestADotInTwoRecordsLosesNone(t *testing.T) {
	s := mustOpen(t, Config{fs: newMemFS()})
	apply(t, s, put("a", 1, "v"), put("b", 1, "v"))
	if got, complete := s.Lacking(new(seen.Set)); !slices.Equal(got, []string{"a", "b"}) || !complete {
		t.Errorf("lacking: got %v, complete %v, want a and b", got, complete)
	}
	apply(t, s, put("a", 2, "v"))
	if got, complete := s.Lacking(new(seen.Set)); !slices.Equal(got, []string{"a", "b"}) || !complete {
		t.Errorf("lacking after one is written again: got %v, complete %v, want a and b", got, complete)
	}
}

func TestUnitedDotsAreToldOnceTheyAreDurable(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	apply(t, s, put("a", 1, "v"))
	before := s.Seen()
	steps := map[string]int{}
	files.on = func(st step) error {
		steps[st.op]++
		if got := s.Seen(); !got.Equal(before) || s.SeenHash() != before.Hash() {
			t.Errorf("at %v: told %v before it was durable", st, got)
		}
		return nil
	}
	if err := s.Unite(seen.Of(at(3).Dot, at(4).Dot)); err != nil {
		t.Fatal(err)
	}
	if got := s.Seen().String(); got != "7:1,3-4" {
		t.Errorf("seen: got %s, want 7:1,3-4", got)
	}
	if steps["sync"] != 1 || len(steps) != 2 {
		t.Errorf("got the steps %v, want a write and a sync", steps)
	}

	clear(steps)
	before = s.Seen()
	for _, known := range []*seen.Set{new(seen.Set), seen.Of(at(3).Dot), s.Seen()} {
		if err := s.Unite(known); err != nil || len(steps) > 0 {
			t.Errorf("unite %v, which is seen: got %v and the steps %v, want none", known, err, steps)
		}
	}
	files.on = nil
	// What was logged before the snapshot, and what is logged over it, is there after a kill.
	apply(t, s, put("b", 5, "v"))
	if got := mustOpen(t, Config{fs: files.kill()}).Seen().String(); got != "7:1,3-5" {
		t.Errorf("seen after a kill: got %s, want 7:1,3-5", got)
	}
}

func TestUniteOnAFailingDiskTellsNothingAndLatches(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		files, disk := newMemFS(), new(failing)
		files.on = disk.hook
		s := mustOpen(t, Config{fs: files})
		apply(t, s, put("a", 1, "v"))
		disk.set(syscall.EIO, func(s step) bool { return s.op == op })
		if err := s.Unite(seen.Of(at(2).Dot)); !errors.Is(err, replication.ErrReadOnly) || !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: got %v, want ErrReadOnly because of EIO", op, err)
		}
		disk.set(nil, nil)
		for _, dots := range []*seen.Set{seen.Of(at(2).Dot), s.Seen()} {
			if err := s.Unite(dots); !errors.Is(err, replication.ErrReadOnly) {
				t.Errorf("%s, then unite %v: got %v, want ErrReadOnly", op, dots, err)
			}
		}
		if got := s.Seen().Counters(7); got != "1" || s.SeenHash() != s.Seen().Hash() {
			t.Errorf("%s: got %s seen, want 1", op, got)
		}
	}
}

func TestUniteOnAFullDiskWithNoRoomInTheJournalChangesNothing(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, tiny(files))
	apply(t, s, put("a", 1, "v"))
	files.on = func(st step) error {
		if files.needsRoom(st) {
			return syscall.ENOSPC
		}
		return nil
	}
	var large, before *seen.Set
	err := error(nil)
	for n := 2; err == nil; n++ {
		if n > 100 {
			t.Fatal("the journal took more than it has room for")
		}
		before = s.Seen()
		large = seen.Of(version.Dot{Origin: uint64(n), Counter: 9})
		err = s.Unite(large)
	}
	if !errors.Is(err, replication.ErrDiskFull) || errors.Is(err, replication.ErrReadOnly) {
		t.Errorf("got %v, want ErrDiskFull", err)
	}
	if got := s.Seen(); !got.Equal(before) || before.Missing(seen.Of(at(1).Dot)) == 0 {
		t.Errorf("seen: got %v, want %v and some that were united", got, before)
	}
	apply(t, s, put("a", 1, "v")) // nothing to write
	if o := s.Apply([]replication.Record{put("b", 2, "v")})[0]; !errors.Is(o.Err, replication.ErrDiskFull) {
		t.Errorf("apply: got %v, want ErrDiskFull", o.Err)
	}
	files.on = nil
	if got := mustOpen(t, tiny(files.kill())).Seen(); !got.Equal(before) {
		t.Errorf("seen after a kill: got %v, want %v", got, before)
	}
}

// TestUniteAmongWritersForgetsNothing has checkpoints all the time.
func TestUniteAmongWritersForgetsNothing(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, tiny(files))
	var all sync.WaitGroup
	const rounds = 40
	for worker := range 3 {
		all.Go(func() {
			for n := range rounds {
				r := put(fmt.Sprint("k", worker), n+1, "v")
				r.Version.Origin = uint64(worker + 1)
				if o := s.Apply([]replication.Record{r})[0]; o.Err != nil {
					t.Error(o.Err)
				}
			}
		})
		all.Go(func() {
			for n := range rounds {
				dot := version.Dot{Origin: uint64(worker + 11), Counter: uint64(n + 1)}
				if err := s.Unite(seen.Of(dot)); err != nil || !s.Seen().Has(dot) {
					t.Errorf("unite %v: %v, seen %v", dot, err, s.Seen())
				}
			}
		})
	}
	all.Wait()
	want := s.Seen()
	for _, origin := range []uint64{1, 2, 3, 11, 12, 13} {
		if got := want.Counters(origin); got != fmt.Sprint("1-", rounds) {
			t.Errorf("seen of %d: got %s, want all of %d", origin, got, rounds)
		}
	}
	if got := mustOpen(t, tiny(files.kill())).Seen(); !got.Equal(want) {
		t.Errorf("seen after a kill: got %v, want %v", got, want)
	}
}

// TestTheFloorCoversAWriteWhoseDotCameBackFirst: another node may have this node's write, and
// tell it, before it is durable here. Its timestamp must not be lost for that.
func TestTheFloorCoversAWriteWhoseDotCameBackFirst(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	if _, err := s.Begin(7); err != nil {
		t.Fatal(err)
	}
	if err := s.Unite(seen.Of(at(5).Dot)); err != nil {
		t.Fatal(err)
	}
	other := put("a", 6, "newer, so that no file holds the write")
	other.Version.Origin = 8
	apply(t, s, other, put("a", 5, "own"))
	if floor, err := mustOpen(t, Config{fs: files.kill()}).Begin(9); err != nil || floor != at(5).Timestamp {
		t.Errorf("floor: got %v, %v, want %v", floor, err, at(5).Timestamp)
	}
}

// TestAHistoryWithManyHolesIsNotedAtOnce is about a set rebuilt from records: most have a hole
// beside them, and copying all ranges for each would take hours for a million.
func TestAHistoryWithManyHolesIsNotedAtOnce(t *testing.T) {
	versions := make([]version.Version, 10_000)
	for i := range versions {
		versions[i] = at(2 * (i + 1))
	}
	h := history{seen: new(seen.Set), own: map[uint64]bool{}}
	if got := testing.AllocsPerRun(1, func() { h.noteAll(versions) }); got > 100 {
		t.Errorf("got %v allocations for %d versions, want a number that does not grow with them", got, len(versions))
	}
	if got := h.seen.Missing(new(seen.Set)); got != uint64(len(versions)) {
		t.Errorf("got %d dots, want %d", got, len(versions))
	}
}

// fill puts n records, of keys of 9 bytes and 3 origins, into the index alone: writing as many
// files is not what is measured. The keys are parts of header lines, as when they are read.
func fill(x *index, n int) {
	for i := range n {
		line := fmt.Sprintf("snakes1 c90829d3 key=key%06d version=1.0.7.1 length=11 crc32c=6a763a9d", i*7919%n)
		r := replication.Record{Key: line[21:30], Version: filled(i)}
		x.set(entry{key: r.Key, meta: r.Meta()})
	}
}

// filled returns the version of the i-th record of fill.
func filled(i int) version.Version {
	v := at(i + 1)
	v.Dot = version.Dot{Origin: uint64(1 + i%3), Counter: uint64(1 + i/3)}
	return v
}

// TestTheIndexStaysSmall measures what the index takes of the heap beside the bytes of keys.
func TestTheIndexStaysSmall(t *testing.T) {
	const keys, limit = 50_000, 125
	heap := func() int {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int(stats.HeapAlloc)
	}
	before := heap()
	x := newIndex()
	fill(x, keys)
	perKey := (heap()-before)/keys - 16 // 9 bytes of a key take 16
	t.Logf("%d bytes a key", perKey)
	if live, _ := x.sum(); live != keys || perKey > limit {
		t.Errorf("got %d keys and %d bytes for each, want %d and at most %d", live, perKey, keys, limit)
	}
}

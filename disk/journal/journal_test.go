package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// memFiles is a directory in memory. What a power cut does to it is tested where there is a
// model of that, in package disk; here, bytes are changed and steps fail.
type memFiles struct {
	mu    sync.Mutex
	files map[string]*memFile
	on    func(op, name string) error // before each step that changes something
}

type memFile struct {
	dir  *memFiles
	name string
	data []byte
}

func newFiles() *memFiles { return &memFiles{files: map[string]*memFile{}} }

func (m *memFiles) clone() *memFiles {
	c := newFiles()
	for name, f := range m.files {
		c.files[name] = &memFile{c, name, bytes.Clone(f.data)}
	}
	return c
}

func (m *memFiles) do(op, name string, change func() error) error {
	if m.on != nil {
		if err := m.on(op, name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return change()
}

func (m *memFiles) List() ([]string, error) { return slices.Sorted(maps.Keys(m.files)), nil }

func (m *memFiles) Create(name string) (File, error) {
	f := &memFile{dir: m, name: name}
	return f, m.do("create", name, func() error {
		if m.files[name] != nil {
			return os.ErrExist
		}
		m.files[name] = f
		return nil
	})
}

func (m *memFiles) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.files[name]; f != nil {
		return f, nil
	}
	return nil, os.ErrNotExist
}

func (m *memFiles) Rename(from, to string) error {
	return m.do("rename", to, func() error {
		m.files[to] = m.files[from]
		m.files[to].name = to
		delete(m.files, from)
		return nil
	})
}

func (m *memFiles) Remove(name string) error {
	return m.do("remove", name, func() error {
		delete(m.files, name)
		return nil
	})
}

func (m *memFiles) SyncNames() error {
	return m.do("syncnames", "", func() error { return nil })
}

func (f *memFile) ReadAt(b []byte, offset int64) (int, error) {
	f.dir.mu.Lock()
	defer f.dir.mu.Unlock()
	n := copy(b, f.data[min(int(offset), len(f.data)):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(b []byte, offset int64) (int, error) {
	err := f.dir.do("write", f.name, func() error {
		if grow := int(offset) + len(b) - len(f.data); grow > 0 {
			f.data = append(f.data, make([]byte, grow)...)
		}
		copy(f.data[offset:], b)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

func (f *memFile) Size() (int64, error) { return int64(len(f.data)), nil }
func (f *memFile) Close() error         { return nil }

func (f *memFile) Sync() error {
	return f.dir.do("sync", f.name, func() error { return nil })
}

const testSegment = 512

func passing(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func config(files Files) Config {
	return Config{Files: files, SegmentBytes: testSegment, SlackBytes: 48, Passing: passing}
}

// replayed is what an Open told.
type replayed struct {
	entries []string
	at      []Position
	damage  []error
}

func (r *replayed) replay(at Position, payload []byte, damage error) error {
	if damage != nil {
		r.damage = append(r.damage, damage)
		return nil
	}
	r.entries, r.at = append(r.entries, string(payload)), append(r.at, at)
	return nil
}

func open(t testing.TB, files Files, from uint64) (*Journal, *replayed) {
	t.Helper()
	r := new(replayed)
	j, err := Open(config(files), from, r.replay)
	if err != nil {
		t.Fatal(err)
	}
	return j, r
}

func mustAppend(t testing.TB, j *Journal, payloads ...string) []Position {
	t.Helper()
	var all [][]byte
	for _, p := range payloads {
		all = append(all, []byte(p))
	}
	at, err := j.Append(nil, all...)
	if err != nil || len(at) != len(payloads) {
		t.Fatalf("append: got %v, %v", at, err)
	}
	return at
}

// filled returns a journal of a few segments and what is in it, frame by frame.
func filled(t testing.TB) (*memFiles, [][]string) {
	files := newFiles()
	j, _ := open(t, files, 1)
	var frames [][]string
	for i := range 24 {
		frame := []string{fmt.Sprintf("entry %d", i)}
		if i%3 == 0 {
			frame = append(frame, strings.Repeat("x", i), "last of a frame")
		}
		mustAppend(t, j, frame...)
		frames = append(frames, frame)
	}
	if _, current := j.Segments(); current < 3 {
		t.Fatalf("got %d segments, want a few", current)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return files, frames
}

func TestEntriesComeBackInOrderAndByPosition(t *testing.T) {
	files, frames := filled(t)
	want := slices.Concat(frames...)
	for range 3 { // each Open goes on where the one before ended
		j, got := open(t, files, 1)
		if !slices.Equal(got.entries, want) || len(got.damage) > 0 {
			t.Fatalf("got %q, damage %v, want %q", got.entries, got.damage, want)
		}
		positions := append(got.at, mustAppend(t, j, "more", "")...)
		want = append(want, "more", "")
		for i, at := range positions {
			if payload, err := j.ReadAt(at); err != nil || string(payload) != want[i] {
				t.Errorf("read at %+v: got %q, %v, want %q", at, payload, err, want[i])
			}
			at.Offset++
			if _, err := j.ReadAt(at); err == nil {
				t.Errorf("read at %+v: got no error, want one", at)
			}
		}
	}
}

func TestReplayBeginsWhereItIsTold(t *testing.T) {
	files, _ := filled(t)
	_, all := open(t, files.clone(), 1)
	for from := uint64(1); from < 9; from++ {
		c := files.clone()
		j, got := open(t, c, from)
		var want []string
		for i, at := range all.at {
			if at.Segment >= from {
				want = append(want, all.entries[i])
			}
		}
		if !slices.Equal(got.entries, want) || len(got.damage) > 0 {
			t.Errorf("from %d: got %q, damage %v, want %q", from, got.entries, got.damage, want)
		}
		if at := mustAppend(t, j, "new"); at[0].Segment < from {
			t.Errorf("from %d: appended at %+v, which the next Open would not replay", from, at)
		}
		if oldest, _ := j.Segments(); oldest != 1 {
			t.Errorf("from %d: oldest is %d, want 1", from, oldest)
		}
	}
}

// TestACutAnywhereLosesOnlyWhatIsBehindIt cuts the last segment, as nothing but damage could.
func TestACutAnywhereLosesOnlyWhatIsBehindIt(t *testing.T) {
	files, frames := filled(t)
	_, all := open(t, files.clone(), 1)
	last := all.at[len(all.at)-1].Segment
	for n := range testSegment + 1 {
		c := files.clone()
		f := c.files[name(last)]
		f.data = f.data[:n]
		j, got := open(t, c, 1)
		if !prefixOfFrames(got.entries, frames) {
			t.Fatalf("cut to %d: got %q", n, got.entries)
		}
		if told := len(got.damage) > 0; told != (n < testSegment) {
			t.Fatalf("cut to %d: damage %v", n, got.damage)
		}
		at := mustAppend(t, j, "after")
		if payload, err := j.ReadAt(at[0]); err != nil || string(payload) != "after" {
			t.Fatalf("cut to %d: read %q, %v", n, payload, err)
		}
		_, again := open(t, c, 1)
		if want := append(got.entries, "after"); !slices.Equal(again.entries, want) {
			t.Fatalf("cut to %d, opened again: got %q, want %q", n, again.entries, want)
		}
	}
}

// prefixOfFrames reports whether entries are those of the first few frames, each whole.
func prefixOfFrames(entries []string, frames [][]string) bool {
	for _, f := range frames {
		if len(entries) == 0 {
			return true
		}
		if len(entries) < len(f) || !slices.Equal(entries[:len(f)], f) {
			return false
		}
		entries = entries[len(f):]
	}
	return len(entries) == 0
}

// TestATornLastFrameIsNoDamage leaves of the last frame any beginning, or any end.
func TestATornLastFrameIsNoDamage(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	mustAppend(t, j, "first")
	before := files.clone()
	mustAppend(t, j, "second", "third")
	size := int(j.end) // of all frames
	for n := range size {
		for _, beginning := range []bool{true, false} {
			c := before.clone()
			data, whole := c.files[name(1)].data, files.files[name(1)].data
			if beginning {
				copy(data, whole[:n])
			} else {
				copy(data[n:], whole[n:])
			}
			complete := bytes.Equal(data, whole)
			_, got := open(t, c, 1)
			want := []string{"first"}
			if complete {
				want = []string{"first", "second", "third"}
			}
			if !slices.Equal(got.entries, want) || len(got.damage) > 0 {
				t.Fatalf("torn at %d: got %q, damage %v, want %q", n, got.entries, got.damage, want)
			}
		}
	}
}

// TestAFlippedBitAnywhereIsToldAndCostsOneFrame has one exception: the last frame of all.
func TestAFlippedBitAnywhereIsToldAndCostsOneFrame(t *testing.T) {
	files, frames := filled(t)
	_, all := open(t, files.clone(), 1)
	lastEntry := all.at[len(all.at)-1]
	want := slices.Concat(frames...)
	for file := range files.files {
		for n := range testSegment {
			c := files.clone()
			c.files[file].data[n] ^= 1 << (n % 8)
			j, got := open(t, c, 1)
			if slices.Equal(got.entries, want) && len(got.damage) == 0 {
				continue // between frames, or behind them
			}
			inLast := file == name(lastEntry.Segment) && n >= int(lastEntry.Offset)-headSize-100
			if len(got.damage) == 0 && !inLast {
				t.Fatalf("%s, byte %d: nothing told, got %q", file, n, got.entries)
			}
			if n >= headerSize && !withoutOneFrame(got.entries, frames) {
				t.Fatalf("%s, byte %d: got %q, want all but one frame", file, n, got.entries)
			}
			for _, e := range got.entries {
				if !slices.Contains(want, e) {
					t.Fatalf("%s, byte %d: got %q, which was never appended", file, n, e)
				}
			}
			at := mustAppend(t, j, "after")
			if _, again := open(t, c, 1); !slices.Contains(again.entries, "after") || at[0].Segment == 0 {
				t.Fatalf("%s, byte %d: what is appended then is lost", file, n)
			}
		}
	}
}

func withoutOneFrame(entries []string, frames [][]string) bool {
	for i := range frames {
		if slices.Equal(entries, slices.Concat(slices.Delete(slices.Clone(frames), i, i+1)...)) {
			return true
		}
	}
	return false
}

func TestAMissingSegmentIsDamage(t *testing.T) {
	files, frames := filled(t)
	for _, file := range []string{name(1), name(2)} {
		c := files.clone()
		delete(c.files, file)
		_, got := open(t, c, 1)
		if len(got.damage) == 0 || len(got.entries) >= len(slices.Concat(frames...)) {
			t.Errorf("without %s: got %q, damage %v", file, got.entries, got.damage)
		}
	}
}

// TestOldBytesOfAUsedSegmentAreNoEntries fills segments that were used before.
func TestOldBytesOfAUsedSegmentAreNoEntries(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	var want []string
	reused := false
	files.on = func(op, file string) error {
		reused = reused || op == "rename" && file == spareName
		return nil
	}
	for i := range 200 {
		entry := fmt.Sprintf("entry %d %s", i, strings.Repeat("y", i%40))
		at := mustAppend(t, j, entry)
		want = append(want, entry)
		if i%11 == 0 && at[0].Segment > 2 {
			if err := j.Remove(at[0].Segment - 2); err != nil {
				t.Fatal(err)
			}
		}
		oldest, _ := j.Segments()
		_, got := open(t, files.clone(), oldest)
		if len(got.damage) > 0 || !slices.Equal(got.entries, want[len(want)-len(got.entries):]) {
			t.Fatalf("after %d entries: got %q, damage %v", i, got.entries, got.damage)
		}
	}
	if !reused {
		t.Error("no segment was used again")
	}
}

func TestRemoveIsOldestFirstAndKeepsTheCurrentOne(t *testing.T) {
	files, _ := filled(t)
	j, got := open(t, files, 1)
	_, current := j.Segments()
	var removed []string
	files.on = func(op, file string) error {
		if op == "remove" {
			removed = append(removed, file)
		}
		return nil
	}
	before := j.Size()
	if err := j.Remove(current + 5); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(removed) || j.Size() != testSegment || before != int64(current)*testSegment {
		t.Errorf("removed %v, size from %d to %d", removed, before, j.Size())
	}
	if _, err := j.ReadAt(got.at[0]); !errors.Is(err, ErrRemoved) {
		t.Errorf("read of a removed segment: got %v, want ErrRemoved", err)
	}
	if _, err := j.ReadAt(got.at[len(got.at)-1]); err != nil {
		t.Errorf("read of the current segment: %v", err)
	}
	_, again := open(t, files, current)
	if len(again.entries) == 0 || len(again.damage) > 0 {
		t.Errorf("opened again: got %q, damage %v", again.entries, again.damage)
	}
}

func TestRotateDividesWhatCameBeforeFromWhatComesLater(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	before := mustAppend(t, j, "before")
	ended, err := j.Rotate()
	after := mustAppend(t, j, "after")
	if err != nil || before[0].Segment != ended || after[0].Segment != ended+1 {
		t.Errorf("got %v before segment %d ended and %v after, %v", before, ended, after, err)
	}
}

func TestAnEntryLongerThanASegmentIsTaken(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	long := strings.Repeat("long ", testSegment)
	want := []string{"a", long, "b", long, long, "c"}
	for _, e := range want {
		at := mustAppend(t, j, e)
		if got, err := j.ReadAt(at[0]); err != nil || string(got) != e {
			t.Errorf("read: %d bytes, %v, want %d", len(got), err, len(e))
		}
	}
	j, got := open(t, files, 1)
	if !slices.Equal(got.entries, want) || len(got.damage) > 0 {
		t.Errorf("got %d entries, damage %v", len(got.entries), got.damage)
	}
	_, current := j.Segments()
	if err := j.Remove(current); err != nil {
		t.Fatal(err)
	}
}

func TestAWriteOrSyncErrorIsFinal(t *testing.T) {
	for _, tc := range []struct {
		op  string
		err error
	}{{"write", syscall.EIO}, {"sync", syscall.EIO}, {"sync", syscall.ENOSPC}} {
		files := newFiles()
		j, _ := open(t, files, 1)
		mustAppend(t, j, "one")
		tries := 0
		files.on = func(op, _ string) error {
			if op == tc.op {
				tries++
				return tc.err
			}
			return nil
		}
		for range 2 {
			if _, err := j.Append(nil, []byte("two")); !errors.Is(err, tc.err) || errors.Is(err, ErrNotWritten) {
				t.Errorf("%s: got %v, want %v", tc.op, err, tc.err)
			}
		}
		files.on = nil
		_, rotate := j.Rotate()
		for _, err := range []error{j.Prepare(), rotate, j.AppendLast([]byte("three"))} {
			if !errors.Is(err, tc.err) {
				t.Errorf("%s: afterwards got %v, want %v", tc.op, err, tc.err)
			}
		}
		if tries != 1 {
			t.Errorf("%s was tried %d times, want once", tc.op, tries)
		}
	}
}

func TestAFullDiskIsToldFromAFailureAndPasses(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	var want []string
	full := func(op, file string) error {
		if op == "create" || op == "write" && file == spareName {
			return syscall.ENOSPC
		}
		return nil
	}
	mustAppend(t, j, "first")
	want = append(want, "first")
	if err := j.Prepare(); err != nil || !j.Prepared() {
		t.Fatalf("prepare: %v", err)
	}
	files.on = full
	var err error
	for err == nil { // one segment is prepared
		entry := fmt.Sprint("entry ", len(want))
		if _, err = j.Append(nil, []byte(entry)); err == nil {
			want = append(want, entry)
		}
	}
	if !errors.Is(err, ErrNotWritten) || !errors.Is(err, syscall.ENOSPC) || len(want) < testSegment*2/60 {
		t.Errorf("got %v after %d entries, want ErrNotWritten", err, len(want))
	}
	if err := j.AppendLast([]byte("last")); err != nil {
		t.Errorf("append last: %v", err)
	}
	want = append(want, "last")
	if err := j.AppendLast([]byte("one too many for the slack that is left")); !errors.Is(err, ErrNotWritten) {
		t.Errorf("append last twice: got %v, want ErrNotWritten", err)
	}
	j, got := open(t, files, 1)
	if !slices.Equal(got.entries, want) || len(got.damage) > 0 {
		t.Errorf("opened on the full disk: got %q, damage %v, want %q", got.entries, got.damage, want)
	}
	files.on = nil
	mustAppend(t, j, "room again")
}

// TestThoseWhoWaitShareASync holds the first sync until all others have joined.
func TestThoseWhoWaitShareASync(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	mustAppend(t, j, "x")
	syncs, holding, hold := 0, make(chan struct{}), make(chan struct{})
	files.on = func(op, _ string) error {
		if op == "sync" {
			if syncs++; syncs == 1 {
				close(holding)
				<-hold
			}
		}
		return nil
	}
	var all sync.WaitGroup
	all.Go(func() { mustAppend(t, j, "one") })
	<-holding
	const writers = 8
	for range writers {
		all.Go(func() { mustAppend(t, j, "two") })
	}
	for joined := 0; joined < writers*(entryHead+3); {
		j.mu.Lock()
		if len(j.queue) > 0 {
			joined = len(j.queue[0].buffer) - headSize
		}
		j.mu.Unlock()
	}
	close(hold)
	all.Wait()
	if syncs != 2 {
		t.Errorf("got %d syncs for %d appends, want 2", syncs, writers+1)
	}
}

func TestAppendsSideBySideAreAllThereOnce(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	var all sync.WaitGroup
	const writers, rounds = 8, 50
	for w := range writers {
		all.Go(func() {
			for i := range rounds {
				e := fmt.Sprintf("%d of %d", i, w)
				for _, at := range mustAppend(t, j, e) {
					if got, err := j.ReadAt(at); err != nil || string(got) != e {
						t.Errorf("read %s: got %q, %v", e, got, err)
					}
				}
			}
		})
	}
	for range 5 {
		if err := j.Prepare(); err != nil {
			t.Error(err)
		}
		if _, err := j.Rotate(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	_, got := open(t, files, 1)
	next := map[string]int{}
	for _, e := range got.entries {
		var i int
		var w string
		if _, err := fmt.Sscanf(e, "%d of %s", &i, &w); err != nil || next[w] != i {
			t.Fatalf("got %q, want number %d", e, next[w])
		}
		next[w]++
	}
	if len(got.entries) != writers*rounds || len(got.damage) > 0 {
		t.Errorf("got %d entries, damage %v, want %d", len(got.entries), got.damage, writers*rounds)
	}
}

func FuzzReplay(f *testing.F) {
	files, _ := filled(f)
	for _, file := range files.files {
		f.Add(file.data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		files := newFiles()
		files.files[name(1)] = &memFile{files, name(1), data}
		j, got := open(t, files, 1)
		mustAppend(t, j, "after")
		_, again := open(t, files, 1)
		if want := append(got.entries, "after"); !slices.Equal(again.entries, want) {
			t.Fatalf("got %q, want %q", again.entries, want)
		}
	})
}

// TestADiskThatIsFullAtTheSyncOfABlankSegmentHasNotFailed: file systems that find room for what was
// written only when it is synced tell of it there.
func TestADiskThatIsFullAtTheSyncOfABlankSegmentHasNotFailed(t *testing.T) {
	files := newFiles()
	j, _ := open(t, files, 1)
	mustAppend(t, j, "before")
	files.on = func(op, name string) error {
		if op == "sync" && name == spareName {
			return syscall.ENOSPC
		}
		return nil
	}
	if err := j.Prepare(); !errors.Is(err, ErrNotWritten) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want ErrNotWritten because of ENOSPC", err)
	}
	files.on = nil
	mustAppend(t, j, "after")
	if err := j.Prepare(); err != nil {
		t.Errorf("with room: got %v, want no error", err)
	}
}

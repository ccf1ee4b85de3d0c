package disk

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/protocol7/snakes/replication"
)

func TestStatsTellWhatWaitsForItsFile(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	if got := s.Stats(); got.Unfiled != 0 || got.UnfiledBytes != 0 || got.JournalSegments != 1 || got.Checkpoints != 0 || !got.LastCheckpoint.IsZero() {
		t.Errorf("of a new store: got %+v, want one segment and nothing else", got)
	}
	apply(t, s, put("foo", 1, "value"), put("bar", 2, strings.Repeat("x", 100)))
	apply(t, s, put("foo", 3, "longer value"))
	if got := s.Stats(); got.Unfiled != 2 || got.UnfiledBytes != 112 {
		t.Errorf("got %d records and %d bytes unfiled, want 2 and 112", got.Unfiled, got.UnfiledBytes)
	}
	before := time.Now()
	settle(t, s)
	got := s.Stats()
	if got.Unfiled != 0 || got.UnfiledBytes != 0 || got.Checkpoints != 2 || got.LastCheckpoint.Before(before.Truncate(0)) {
		t.Errorf("after two checkpoints: got %+v, want nothing unfiled and 2 since %v", got, before)
	}
	if want := s.journal.Size(); got.JournalBytes != want || want == 0 {
		t.Errorf("got %d bytes of journal, want %d", got.JournalBytes, want)
	}
}

// TestValuesThatAreNotKeptInMemoryCountAsUnfiled: the metric is about the files, not about memory.
func TestValuesThatAreNotKeptInMemoryCountAsUnfiled(t *testing.T) {
	s := mustOpen(t, tiny(newMemFS()))
	apply(t, s, put("foo", 1, strings.Repeat("x", 300)))
	if got := s.Stats(); got.Unfiled != 1 || got.UnfiledBytes != 300 || s.backlog.bytes != 0 {
		t.Errorf("got %d records and %d bytes unfiled, %d in memory, want 1, 300 and 0", got.Unfiled, got.UnfiledBytes, s.backlog.bytes)
	}
}

func TestEachSyncOfTheJournalIsTold(t *testing.T) {
	var told int
	s := mustOpen(t, Config{fs: newMemFS(), Synced: func(took time.Duration) {
		if told++; took < 0 {
			t.Errorf("a sync took %v", took)
		}
	}})
	before := told
	apply(t, s, put("foo", 1, "value"))
	if told != before+1 {
		t.Errorf("got %d syncs of one write, want 1", told-before)
	}
}

func TestStatsCountDamageThatIsFoundAndMended(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	check := func(when string, now int, found, mended uint64) {
		t.Helper()
		if got := s.Stats(); got.Damaged != now || got.DamageFound != found || got.DamageMended != mended {
			t.Errorf("%s: got %d damaged, %d found, %d mended, want %d, %d, %d",
				when, got.Damaged, got.DamageFound, got.DamageMended, now, found, mended)
		}
	}
	apply(t, s, put("foo", 1, "value"), put("bar", 2, "value"), put("gone", 3, "value"))
	settle(t, s)
	check("at first", 0, 0, 0)
	damage := func(key string, cut int) {
		node, _, _ := files.find(keyPath(key))
		node.data = node.data[:len(node.data)-cut]
	}
	damage("foo", 1)
	for range 2 { // it is found once
		if _, err := s.Get("foo"); !errors.Is(err, replication.ErrDamaged) {
			t.Fatalf("got %v, want ErrDamaged", err)
		}
	}
	check("after it was read", 1, 1, 0)
	apply(t, s, put("foo", 1, "value"))
	check("after it was fetched", 0, 1, 1)
	settle(t, s)

	apply(t, s, put("new", 4, "value"))
	if err := s.filing.do(s.file); err != nil {
		t.Fatal(err)
	}
	damage("new", 1)
	if r, err := s.Get("new"); err != nil || string(r.Value) != "value" {
		t.Fatalf("got %v, %v, want what the journal has", r, err)
	}
	check("after the journal helped", 0, 2, 2)

	settle(t, s)
	damage("foo", 1)
	damage("gone", 30)
	mustClose(t, s)
	loseSaves(files)
	s = mustOpen(t, Config{fs: files})
	check("of a store that is opened without a save", 2, 2, 0)
	mustClose(t, s)
	s = mustOpen(t, Config{fs: files})
	check("of a store that is opened with one", 2, 2, 0)
	apply(t, s, put("foo", 1, "value"), put("gone", 3, "value"))
	check("after all were fetched", 0, 2, 2)
}

func TestStatsTellWhatTheDiskSaid(t *testing.T) {
	files := newMemFS()
	s := mustOpen(t, Config{fs: files})
	if got := s.Stats(); got.Full || got.Latched || got.NoRoom != 0 {
		t.Errorf("at first: got %+v, want no trouble", got)
	}
	_ = s.volume.judge(syscall.ENOSPC)
	if got := s.Stats(); !got.Full || got.Latched || got.NoRoom != 1 {
		t.Errorf("without room: got %+v, want full once", got)
	}
	s.volume.foundRoom()
	if got := s.Stats(); got.Full || got.Latched || got.NoRoom != 1 {
		t.Errorf("with room again: got %+v, want not full", got)
	}
	_ = s.volume.judge(syscall.EIO)
	if got := s.Stats(); got.Full || !got.Latched {
		t.Errorf("after an error: got %+v, want latched", got)
	}
}

func TestSpaceIsThatOfTheDataDirectory(t *testing.T) {
	dir := t.TempDir()
	want, err := RoomAt(dir)
	if err != nil {
		t.Skip(err)
	}
	if got := mustOpen(t, Config{Dir: dir}).Space(); got.Size != want.Size || got.Free == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := mustOpen(t, Config{fs: newMemFS()}).Space(); got != (Room{}) {
		t.Errorf("without a directory: got %+v, want nothing known", got)
	}
}

func TestProbeSyncsTheJournalAndChangesNothing(t *testing.T) {
	files := newMemFS()
	var syncs int
	s := mustOpen(t, Config{fs: files, Synced: func(time.Duration) { syncs++ }})
	apply(t, s, put("foo", 1, "value"))
	seen, digest, before := s.SeenHash(), s.Digest(), syncs
	for range 100 {
		if err := s.Probe(); err != nil {
			t.Fatal(err)
		}
	}
	if syncs < before+100 {
		t.Errorf("got %d syncs, want one for each of 100 probes", syncs-before)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, Config{fs: files})
	if s.SeenHash() != seen || s.Digest() != digest || s.Len() != 1 {
		t.Errorf("got another content after 100 probes: %d keys", s.Len())
	}
}

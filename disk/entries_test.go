package disk

import (
	"testing"

	"github.com/protocol7/snakes/disk/journal"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// FuzzReplayOfEntries replays anything as the two entries that a journal holds: whatever becomes of the first, the
// store goes on.
func FuzzReplayOfEntries(f *testing.F) {
	r := put("foo", 3, "value")
	h := history{seen: new(seen.Set)}
	h.noteAll([]version.Version{r.Version})
	for _, payload := range [][]byte{
		encodeRecord(r), encodeDots([]version.Version{r.Version}), encodeHistoryEntry(h), encodeDrop("foo", r.Version), {}, {recordEntry},
	} {
		f.Add(payload, encodeDrop("foo", r.Version), false)
		f.Add(payload, encodeRecord(put("foo", 2, "older")), true)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, lost bool) {
		s := &Store{index: newIndex()}
		s.backlog.limit = backlogBytes
		h := history{seen: new(seen.Set)}
		for i, payload := range [][]byte{first, second} {
			_ = s.replay(&h, journal.Position{Segment: uint64(i + 1)}, payload, lost)
		}
		live, digest := s.index.sum()
		if live > 2 || (live == 0) != (digest == 0) {
			t.Errorf("two entries made %d live keys with digest %x", live, digest)
		}
		for e := range s.index.scan("") {
			if !h.seen.Has(e.meta.Version.Dot) {
				t.Errorf("key %s is at %v, which is not seen", e.key, e.meta.Version)
			}
		}
	})
}

package disk

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// history is what must not be forgotten: the dots seen, the origins that processes of this
// node stamped with, and the highest timestamp that is known of any of those or of a tombstone
// that was dropped.
type history struct {
	seen  *seen.Set
	own   map[uint64]bool
	floor version.Timestamp
}

func newHistory() history { return history{seen: new(seen.Set), own: make(map[uint64]bool)} }

// holds reports whether noting v would change nothing.
func (h *history) holds(v version.Version) bool {
	return h.seen.Has(v.Dot) && !(h.own[v.Origin] && v.Timestamp.Compare(h.floor) > 0)
}

// noteAll adds versions, in any order.
func (h *history) noteAll(versions []version.Version) {
	if len(versions) == 1 {
		h.seen.Add(versions[0].Dot)
	} else {
		dots := make([]version.Dot, len(versions))
		for i, v := range versions {
			dots[i] = v.Dot
		}
		h.seen.Union(seen.Of(dots...))
	}
	h.raise(versions)
}

// raise raises the floor above those of versions that are this node's own.
func (h *history) raise(versions []version.Version) {
	for _, v := range versions {
		if h.own[v.Origin] {
			h.raiseTo(v.Timestamp)
		}
	}
}

func (h *history) raiseTo(t version.Timestamp) {
	if t.Compare(h.floor) > 0 {
		h.floor = t
	}
}

// merge adds all that more holds.
func (h *history) merge(more history) {
	h.seen.Union(more.seen)
	maps.Copy(h.own, more.own)
	h.raiseTo(more.floor)
}

func (h *history) clone() history {
	return history{seen: h.seen.Clone(), own: maps.Clone(h.own), floor: h.floor}
}

// encode returns floor (8 and 4 bytes), the number of own origins (4) and each of them (8) in
// ascending order, then the set. decodeHistory accepts nothing else.
func (h *history) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(h.floor.Wall))
	b = binary.BigEndian.AppendUint32(b, h.floor.Logical)
	b = binary.BigEndian.AppendUint32(b, uint32(len(h.own)))
	for _, origin := range slices.Sorted(maps.Keys(h.own)) {
		b = binary.BigEndian.AppendUint64(b, origin)
	}
	b, _ = h.seen.AppendBinary(b) // its error is always nil
	return b
}

func decodeHistory(b []byte) (history, error) {
	if len(b) < 16 {
		return history{}, fmt.Errorf("%w: history cut short", errFormat)
	}
	h := history{own: make(map[uint64]bool)}
	h.floor = version.Timestamp{Wall: int64(binary.BigEndian.Uint64(b)), Logical: binary.BigEndian.Uint32(b[8:])}
	n, b := int(binary.BigEndian.Uint32(b[12:])), b[16:]
	if n < 0 || n > len(b)/8 || h.floor.Wall < 0 {
		return history{}, fmt.Errorf("%w: history of %d origins", errFormat, n)
	}
	previous := uint64(0)
	for range n {
		origin := binary.BigEndian.Uint64(b)
		if origin <= previous {
			return history{}, fmt.Errorf("%w: history: origins out of order", errFormat)
		}
		h.own[origin] = true
		previous, b = origin, b[8:]
	}
	set, rest, err := seen.Decode(b)
	if err != nil || len(rest) > 0 {
		return history{}, fmt.Errorf("%w: history: %w", errFormat, cmp.Or(err, errors.New("too long")))
	}
	h.seen = set
	return h, nil
}

// memory is the history as it is told: all of it would survive a power cut.
type memory struct {
	mu      sync.Mutex // guards durable
	durable history
}

func (m *memory) holds(v version.Version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.holds(v)
}

func (m *memory) note(versions []version.Version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable.noteAll(versions)
}

// noteDrop adds that a tombstone is gone, with nothing left here to tell of its version.
func (m *memory) noteDrop(v version.Version) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable.raiseTo(v.Timestamp)
}

func (m *memory) merge(h history) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.durable.merge(h)
}

func (m *memory) set() *seen.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.seen.Clone()
}

func (m *memory) hash() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.seen.Hash()
}

func (m *memory) floor() version.Timestamp {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.floor
}

// lacks reports whether s has a dot that was not seen.
func (m *memory) lacks(s *seen.Set) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return s.Missing(m.durable.seen) > 0
}

func (m *memory) copy() history {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.durable.clone()
}

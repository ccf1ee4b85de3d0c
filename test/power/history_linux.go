package power

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
	"github.com/protocol7/snakes/test/volume"
)

// history is what clients asked of a node, were answered and were told, since it was last found to
// be in order. It is safe for concurrent use.
//
// Whatever is noted as told must be there from then on. What a node answers once the power began
// to be cut is not: see volume.Volume.Cut. That may have happened or not, as if there had been no answer.
type history struct {
	outage func() volume.Outage

	mu     sync.Mutex // guards the fields below
	writes uint64     // numbered so far
	keys   map[string]*past
}

// past is what is known of one key.
type past struct {
	asked   map[uint64]*write // PUTs by their number
	deletes int               // DELETEs without an answer
	told    version.Version   // the newest that was acknowledged, or read
	deleted bool              // that is a delete
}

// write is one PUT. Its value follows from key, number and size.
type write struct {
	size    int
	version version.Version // zero as long as there is no answer
}

func newHistory(power func() volume.Outage) *history {
	return &history{outage: power, keys: map[string]*past{}}
}

func (h *history) past(key string) *past {
	p := h.keys[key]
	if p == nil {
		p = &past{asked: map[uint64]*write{}}
		h.keys[key] = p
	}
	return p
}

// put notes that a PUT of key is about to be sent, and returns its number and value.
func (h *history) put(key string, size int) (number uint64, value []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writes++
	h.past(key).asked[h.writes] = &write{size: size}
	return h.writes, valueOf(key, h.writes, size)
}

// wasPut notes that a PUT was acknowledged.
func (h *history) wasPut(key string, number uint64, v version.Version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(key)
	p.asked[number].version = v
	h.tell(p, v, false)
}

// remove notes that a DELETE of key is about to be sent.
func (h *history) remove(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.past(key).deletes++
}

// wasRemoved notes that a DELETE was acknowledged.
func (h *history) wasRemoved(key string, v version.Version) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(key)
	if h.tell(p, v, true) {
		p.deletes--
	}
}

// tell notes what a node told just now, and reports whether that was in time. h.mu is held.
func (h *history) tell(p *past, v version.Version, deleted bool) bool {
	now := time.Now()
	if began := h.outage().Began; !began.IsZero() && !now.Before(began) {
		return false
	}
	if v.Compare(p.told) > 0 {
		p.told, p.deleted = v, deleted
	}
	return true
}

// read notes that a GET was answered with a value, and returns an error unless somebody wrote it.
func (h *history) read(key string, value []byte, v version.Version) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.past(key)
	if err := p.explain(key, value, v); err != nil {
		return err
	}
	h.tell(p, v, false)
	return nil
}

// explain returns an error unless somebody asked for value at version v.
func (p *past) explain(key string, value []byte, v version.Version) error {
	number := numberOf(value)
	w := p.asked[number]
	switch {
	case w == nil:
		return fmt.Errorf("%s has a value that nobody wrote, %d bytes that begin %.40q, version %v", key, len(value), value, v)
	case string(value) != string(valueOf(key, number, w.size)):
		return fmt.Errorf("%s has a torn value: %d bytes of write %d, which had %d", key, len(value), number, w.size)
	case !w.version.IsZero() && w.version != v:
		return fmt.Errorf("%s has write %d at version %v, which was acknowledged as %v", key, number, v, w.version)
	}
	return nil
}

// found is what a node has of a key, after a restart; no value and no version if nothing.
type found struct {
	value   []byte
	version version.Version
}

// settle returns an error unless all that the node has is in order. What it has is all that is
// known then: what else was asked for did not happen and must not happen later.
func (h *history) settle(has map[string]found) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range has {
		h.past(key)
	}
	var errs []error
	for key, p := range h.keys {
		f, there := has[key]
		if err := p.check(key, f, there); err != nil {
			errs = append(errs, err)
		}
		delete(h.keys, key)
		if there {
			h.keys[key] = &past{told: f.version, asked: map[uint64]*write{numberOf(f.value): {len(f.value), f.version}}}
		}
	}
	return errors.Join(errs...)
}

// check returns an error unless f may be what there is of key after the power was cut.
func (p *past) check(key string, f found, there bool) error {
	switch {
	case !there && (p.told.IsZero() || p.deleted || p.deletes > 0):
		return nil
	case !there:
		return fmt.Errorf("%s is lost, which was told at version %v", key, p.told)
	case f.version.Compare(p.told) < 0:
		return fmt.Errorf("%s went back to version %v, after %v was told (deleted: %t)", key, f.version, p.told, p.deleted)
	}
	return p.explain(key, f.value, f.version)
}

// digest is what /-/digest must tell of a node that has this.
func digest(has map[string]found) string {
	var sum uint64
	for key, f := range has {
		sum ^= replication.DigestOf(key, f.version)
	}
	return fmt.Sprintf("%016x", sum)
}

// minValue is the length of the number that each value begins with.
const minValue = 8

// valueOf returns the value of a write: no two have the same, and no part of one is where another
// has the same.
func valueOf(key string, number uint64, size int) []byte {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, size+8), number)
	random := rand.New(rand.NewPCG(number, uint64(len(key))))
	for len(value) < size {
		value = binary.LittleEndian.AppendUint64(value, random.Uint64())
	}
	return value[:size]
}

// numberOf returns the number of the write that had this value, 0 if none had.
func numberOf(value []byte) uint64 {
	if len(value) < minValue {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

// parseETag returns the version that a node gave an answer.
func parseETag(etag string) (version.Version, error) {
	return version.Parse(strings.Trim(etag, `"`))
}

// drawSize draws the size of a value, from 16 bytes to 64 KiB, of each magnitude as often as of any other.
func drawSize(random *rand.Rand) int {
	least := 16 << random.IntN(12)
	return least + random.IntN(least+1)
}

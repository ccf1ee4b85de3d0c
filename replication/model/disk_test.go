package model

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/storetest"
	"github.com/protocol7/snakes/replication/version"
)

// disk is what a machine keeps while no process runs, and the identity of the node with it.
type disk struct {
	id     string // of the node
	name   string // of the machine
	memory *storetest.Memory
	// aside is what it held before that turned out to be an old copy, nil if it did not.
	aside *storetest.Memory

	mu    sync.Mutex // guards the fields below
	state map[string][]byte
	// highest is the highest version that each key ever had here.
	highest map[string]version.Version
	origins map[uint64]bool   // of the processes that ran here
	floor   version.Timestamp // the highest that they stamped

	// drops are the tombstones dropped of late, which a crash may bring back.
	drops []drop

	// Guarded by world.mu. lost: what it held does not count any more; noticed is since when
	// somebody knows, zero if nobody does. whole: it has all that a member should have. copied: it
	// is an older copy of the disk that was there before.
	lost, whole, copied bool
	noticed             time.Time
	next                *disk // what took its place
}

// drop is a tombstone that was dropped.
type drop struct {
	record replication.Record
	at     time.Time
}

func newDisk(id, name string) *disk {
	return &disk{
		id: id, name: name, memory: new(storetest.Memory), state: make(map[string][]byte),
		highest: make(map[string]version.Version), origins: make(map[uint64]bool),
	}
}

// copy returns a disk that holds what d does now.
func (d *disk) copy() *disk {
	c := newDisk(d.id, d.name)
	for key := range d.memory.Scan("") {
		c.memory.Apply([]replication.Record{must(d.memory.Get(key))})
	}
	if err := c.memory.Unite(d.memory.Seen()); err != nil {
		panic(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.state, c.origins, c.floor, c.aside = maps.Clone(d.state), maps.Clone(d.origins), d.floor, d.aside
	return c
}

// begin returns the highest timestamp that processes stamped here before this one.
func (d *disk) begin(origin uint64) version.Timestamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.origins[origin] = true
	return d.floor
}

// rosters returns the rosters that may be in force for all that the disk tells.
func (d *disk) rosters() []roster.Roster {
	d.mu.Lock()
	defer d.mu.Unlock()
	return must(roster.Open(roster.Config{Self: d.id, Saved: d.state["roster"]})).Rosters()
}

// volume is a disk as one process uses it: a Store that forgets what is under way when the process
// ends.
type volume struct {
	*storetest.Memory
	disk *disk
	w    *world

	mu         sync.Mutex // guards the fields below; taken before disk.mu and world.mu
	ended      bool
	unreadable map[string]bool
}

func (w *world) mount(d *disk) *volume {
	return &volume{Memory: d.memory, disk: d, w: w, unreadable: make(map[string]bool)}
}

func (v *volume) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
}

// Apply implements replication.Store.
func (v *volume) Apply(records []replication.Record) []replication.Outcome {
	v.w.given(records)
	time.Sleep(v.w.upTo(40 * time.Millisecond))
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return slices.Repeat([]replication.Outcome{{Err: replication.ErrReadOnly}}, len(records))
	}
	outcomes := make([]replication.Outcome, len(records))
	for i, r := range records {
		before, _ := v.Memory.Lookup(r.Key)
		outcomes[i] = v.Memory.Apply(records[i : i+1])[0]
		if outcomes[i].Err == nil {
			v.durable(r, outcomes[i].Current.Version != before.Version)
		}
	}
	return outcomes
}

// durable notes a record that was applied, and whether it is the current one of its key now.
func (v *volume) durable(r replication.Record, current bool) {
	d := v.disk
	d.mu.Lock()
	if d.origins[r.Version.Origin] && r.Version.Timestamp.Compare(d.floor) > 0 {
		d.floor = r.Version.Timestamp
	}
	highest := d.highest[r.Key]
	if r.Version.Compare(highest) > 0 {
		d.highest[r.Key] = r.Version
	}
	d.mu.Unlock()
	if current && r.Version.Compare(highest) < 0 {
		v.w.breaks("I1: node %s took %v of %s after it had %v", v.w.called(d.id), r.Version, r.Key, highest)
	}
	v.w.holds(d, r, current)
}

// Digest implements replication.Store, cheaper than Memory for few keys.
func (v *volume) Digest() uint64 {
	var digest uint64
	for key, held := range v.Scan("") {
		if !held.Deleted {
			digest ^= replication.DigestOf(key, held.Version)
		}
	}
	return digest
}

// Drop implements replication.Store. It is not durable for some time.
func (v *volume) Drop(key string, at version.Version) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return false, replication.ErrReadOnly
	}
	dropped, err := v.Memory.Drop(key, at)
	if dropped {
		v.disk.mu.Lock()
		v.disk.drops = append(v.disk.drops, drop{replication.Record{Key: key, Version: at, Deleted: true}, time.Now()})
		v.disk.mu.Unlock()
		v.w.collects(key, at)
	}
	return dropped, err
}

// undrop brings back, after a crash, some of the tombstones that were dropped last.
func (d *disk) undrop(some int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.drops) - 1; i >= 0 && some > 0 && time.Since(d.drops[i].at) < 5*time.Second; i-- {
		d.memory.Apply([]replication.Record{d.drops[i].record})
		some--
	}
	d.drops = nil
}

// Unite implements replication.Store.
func (v *volume) Unite(s *seen.Set) error {
	time.Sleep(v.w.upTo(20 * time.Millisecond))
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return replication.ErrReadOnly
	}
	return v.Memory.Unite(s)
}

// Get implements replication.Store.
func (v *volume) Get(key string) (replication.Record, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.unreadable[key] {
		return replication.Record{}, fmt.Errorf("%w: %s", replication.ErrDamaged, key)
	}
	return v.Memory.Get(key)
}

// spoil makes the record of key unreadable, or readable again.
func (v *volume) spoil(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unreadable[key] = !v.unreadable[key]
}

func (v *volume) mend() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.unreadable)
}

// LoadState returns what SaveState was given last under name.
func (v *volume) LoadState(name string) ([]byte, error) {
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	b, exists := v.disk.state[name]
	if !exists {
		return nil, fmt.Errorf("state %s: %w", name, fs.ErrNotExist)
	}
	return slices.Clone(b), nil
}

// SaveState takes no time: it is called with locks held, which would stop fake time.
func (v *volume) SaveState(name string, b []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended {
		return replication.ErrReadOnly
	}
	v.disk.mu.Lock()
	defer v.disk.mu.Unlock()
	v.disk.state[name] = slices.Clone(b)
	return nil
}

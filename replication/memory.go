package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/seen"
)

// State keeps small pieces of data durably, beside the records of a Store. Safe for concurrent
// use.
type State interface {
	// LoadState returns what SaveState was given last under name. The error wraps
	// fs.ErrNotExist if there is nothing.
	LoadState(name string) ([]byte, error)
	// SaveState keeps data under name: durably when it returns nil, else that or what was there
	// before. It may wait for the disk and keeps no reference to data.
	SaveState(name string, data []byte) error
}

const (
	// The names of the pieces of State that a Memory keeps. NextLifeState is the one that stays
	// when the data of a node is given up.
	peersState     = "peers"
	syncedState    = "synced"
	collectedState = "collected"
	lifeState      = "life"
	NextLifeState  = "next-life"
	// memoryForm is the first byte of the piece with what is remembered of peers.
	memoryForm = 1
	// saveInterval is how often a Memory is saved if it has changed. Tombstones are kept for
	// longer than that after they could go; more often would cost more writes to the disk.
	saveInterval = 30 * time.Second
	// maxMemoryID limits the length of a node id in what is read back.
	maxMemoryID = 1 << 10
)

// Memory is what a node remembers of the others beyond the end of its process: what each told
// that it has seen, and what was pulled from each; and of itself, that it was synced, and how
// often it gave up its data to begin anew. Safe for concurrent use.
//
// That number is the life of its data. What a node told in an earlier life is void, so a process
// with a higher one is heard as if it were new, and a process with a lower one runs on an old
// copy.
type Memory struct {
	state  State
	logger hclog.Logger
	life   uint64 // of this node's data

	saving sync.Mutex // held while something is being saved

	mu      sync.Mutex // guards the fields below
	peers   map[string]*remembered
	changed bool   // since it was saved last
	latest  uint64 // the highest life of this node's data that another one remembers
	synced  string // where and as whom the node was synced as a member; empty for none
	// collected is what Collected returns. It is replaced, never changed.
	collected *seen.Set
}

// remembered is what is remembered of one node.
type remembered struct {
	life   uint64   // of its data, the highest that it told
	told   seen.Set // all that it ever told it has seen, in that life
	pulled seen.Set // Invariant: pulled is part of told
	// durable is what of pulled the last save that succeeded kept. It is never changed.
	durable *seen.Set
	// lastTold and lastPulled are the hashes of the sets that came last: most say the same again.
	lastTold, lastPulled uint64
}

// OpenMemory returns what state remembers, nothing if that is new. An error is one of reading
// it, or says that it makes no sense. A nil logger means none.
func OpenMemory(state State, logger hclog.Logger) (*Memory, error) {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	m := &Memory{state: state, logger: logger.Named("replication"), peers: make(map[string]*remembered)}
	saved, err := state.LoadState(peersState)
	if err == nil {
		m.peers, err = decodeMemory(saved)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("memory of peers: %w", err)
	}
	mark, err := state.LoadState(syncedState)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("memory of having been synced: %w", err)
	}
	m.synced = string(mark)
	if m.collected, err = loadCollected(state); err != nil {
		return nil, fmt.Errorf("memory of collected tombstones: %w", err)
	}
	if m.life, err = openLife(state); err != nil {
		return nil, fmt.Errorf("life of the data: %w", err)
	}
	return m, nil
}

// openLife returns the life of the data that state is part of: a new one, once, after GiveUp.
func openLife(state State) (uint64, error) {
	life, err := loadLife(state, lifeState)
	if !errors.Is(err, fs.ErrNotExist) {
		return life, err
	}
	life, err = loadLife(state, NextLifeState)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // the first one, which GiveUp saves
	}
	if err != nil {
		return 0, err
	}
	return life, saveLife(state, lifeState, life)
}

func saveLife(state State, name string, life uint64) error {
	return state.SaveState(name, strconv.AppendUint(nil, life, 10))
}

func loadLife(state State, name string) (uint64, error) {
	text, err := state.LoadState(name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(text), 10, 64)
}

// GiveUp prepares, durably, for this node's data being given up: what was told and remembered
// with it is void in the life that begins when all State but NextLifeState is gone. Until then
// nothing changes.
func (m *Memory) GiveUp() error {
	m.mu.Lock()
	next := max(m.life, m.latest) + 1
	m.mu.Unlock()
	// The own one first: should the data stay, it must not be taken for that of the next life.
	err := saveLife(m.state, lifeState, m.life)
	if err == nil {
		err = saveLife(m.state, NextLifeState, next)
	}
	if err != nil {
		return fmt.Errorf("save the next life of the data: %w", err)
	}
	return nil
}

// recall returns what node id told in its highest life, and that one. life is the one it has now:
// with a higher one than ever, all is void that it told and that was pulled from it before.
func (m *Memory) recall(id string, life uint64) (told *seen.Set, highest uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(id)
	m.renew(p, life)
	return p.told.Clone(), p.life
}

// renew begins a new life of a node if life is higher than all before. The caller holds m.mu.
func (m *Memory) renew(p *remembered, life uint64) {
	if life > p.life {
		*p = remembered{life: life, durable: new(seen.Set)}
		m.changed = true
	}
}

// recalled notes which life of this node's data another one remembers.
func (m *Memory) recalled(life uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest = max(m.latest, life)
}

// lifeOf returns the highest life that node id told.
func (m *Memory) lifeOf(id string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[id]; p != nil {
		return p.life
	}
	return 0
}

// Tell remembers that node id told it has seen what is in set, in the given life of its data.
// set is not changed or kept. What is of an earlier life than the highest is void.
func (m *Memory) Tell(id string, life uint64, set *seen.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(id)
	if m.renew(p, life); life == p.life {
		m.tell(p, set)
	}
}

// tell is Tell. The caller holds m.mu.
func (m *Memory) tell(p *remembered, set *seen.Set) {
	if p.lastTold == set.Hash() {
		return
	}
	p.lastTold = set.Hash()
	m.unite(&p.told, set)
}

// unite puts set into what is remembered. The caller holds m.mu.
func (m *Memory) unite(into, set *seen.Set) {
	before := into.Hash()
	into.Union(set)
	m.changed = m.changed || into.Hash() != before
}

// Told returns all that node id told it has seen, whether or not that is durable here yet. The
// caller owns the set.
func (m *Memory) Told(id string) *seen.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[id]; p != nil {
		return p.told.Clone()
	}
	return new(seen.Set)
}

// Pull remembers that node id had seen what is in set when it told so, and that all of that is
// here durably: the records it stands for, as they were there, or newer ones. life and set are
// as for Tell.
func (m *Memory) Pull(id string, life uint64, set *seen.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(id)
	if m.renew(p, life); life < p.life || p.lastPulled == set.Hash() {
		return
	}
	p.lastPulled = set.Hash()
	m.unite(&p.pulled, set)
	m.tell(p, set)
}

// Pulled returns what was pulled from node id, as far as it will be remembered whatever happens:
// what came since the last Save is not in it. The set must not be changed.
func (m *Memory) Pulled(id string) *seen.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[id]; p != nil {
		return p.durable
	}
	return new(seen.Set)
}

// Keep drops the nodes that are not known any more. known must not call the Memory.
func (m *Memory) Keep(known func(id string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.peers)
	maps.DeleteFunc(m.peers, func(id string, _ *remembered) bool { return !known(id) })
	m.changed = m.changed || len(m.peers) != before
}

// of returns what is remembered of a node. The caller holds m.mu.
func (m *Memory) of(id string) *remembered {
	p := m.peers[id]
	if p == nil {
		p = &remembered{durable: new(seen.Set)}
		m.peers[id] = p
	}
	return p
}

// Save makes what is remembered durable, if anything has changed since that was done last. It
// waits for the disk. After an error, which is the disk's, all that was durable before still is.
func (m *Memory) Save() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	changed := m.changed
	var data []byte
	saved := make(map[*remembered]*seen.Set)
	if changed {
		data = encodeMemory(m.peers)
		for _, p := range m.peers {
			saved[p] = p.pulled.Clone()
		}
		m.changed = false
	}
	m.mu.Unlock()
	if !changed {
		return nil
	}
	err := m.state.SaveState(peersState, data)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.changed = true
		return fmt.Errorf("save what is remembered of peers: %w", err)
	}
	for p, pulled := range saved {
		p.durable = pulled
	}
	return nil
}

// Run saves what has changed every 30 s until ctx ends, and once more then. Errors are logged.
func (m *Memory) Run(ctx context.Context) {
	ticker := time.NewTicker(saveInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		if err := m.Save(); err != nil {
			m.logger.Warn("memory of peers is not durable", "error", err)
		}
	}
}

// syncedAs reports whether this node, with the data that it has, was synced as the member that it
// is now.
func (m *Memory) syncedAs(view *View) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return view.Cluster != "" && m.synced == markOf(view)
}

// markOf is what is remembered of having been synced: where, and as whom.
func markOf(view *View) string { return view.Cluster + " " + view.Self }

// markSynced remembers, durably when it returns nil, that the node was synced as the member that
// it is now.
func (m *Memory) markSynced(view *View) error {
	if m.syncedAs(view) {
		return nil
	}
	m.saving.Lock()
	defer m.saving.Unlock()
	if err := m.state.SaveState(syncedState, []byte(markOf(view))); err != nil {
		return fmt.Errorf("save that this node is synced: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.synced = markOf(view)
	return nil
}

// Collected returns a set that has the dot of every tombstone that was dropped here, or where
// this node pulled from. Whoever lacks any of it may have missed a deletion that this node cannot
// tell any more. It has other dots too, as a set of tombstones alone would have a gap for each
// live key: those that were seen up to the last such tombstone of their origin. It must not be
// changed.
func (m *Memory) Collected() *seen.Set {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.collected
}

// Collect puts set into what Collected returns: durably when it returns nil, else not at all. It
// waits for the disk, unless all of set is there. set is not changed or kept.
func (m *Memory) Collect(set *seen.Set) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	before := m.Collected()
	if set.Missing(before) == 0 {
		return nil
	}
	after := before.Clone()
	after.Union(set)
	data, _ := after.AppendBinary([]byte{memoryForm}) // the error is always nil
	if err := m.state.SaveState(collectedState, data); err != nil {
		return fmt.Errorf("save what was collected: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collected = after
	return nil
}

func loadCollected(state State) (*seen.Set, error) {
	data, err := state.LoadState(collectedState)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return new(seen.Set), nil
	case err != nil:
		return nil, err
	case len(data) == 0 || data[0] != memoryForm:
		return nil, fmt.Errorf("%w: unknown form", errBadMemory)
	}
	set, rest, err := seen.Decode(data[1:])
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes too many", errBadMemory, len(rest))
	}
	return set, err
}

// encodeMemory returns the binary form: memoryForm, then for each node, ascending by id, the
// length of the id as an unsigned varint, the id, its life as an unsigned varint, what it told and
// what was pulled from it.
func encodeMemory(peers map[string]*remembered) []byte {
	b := []byte{memoryForm}
	for _, id := range slices.Sorted(maps.Keys(peers)) {
		p := peers[id]
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
		b = binary.AppendUvarint(b, p.life)
		b, _ = p.told.AppendBinary(b) // the error is always nil
		b, _ = p.pulled.AppendBinary(b)
	}
	return b
}

var errBadMemory = errors.New("makes no sense")

func decodeMemory(b []byte) (map[string]*remembered, error) {
	if len(b) == 0 || b[0] != memoryForm {
		return nil, fmt.Errorf("%w: unknown form", errBadMemory)
	}
	peers := make(map[string]*remembered)
	for b = b[1:]; len(b) > 0; {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > min(maxMemoryID, uint64(len(b)-n)) {
			return nil, fmt.Errorf("%w: node id cut short", errBadMemory)
		}
		id := string(b[n : n+int(length)])
		b = b[n+int(length):]
		life, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, fmt.Errorf("%w: life of %.40q cut short", errBadMemory, id)
		}
		told, rest, err := seen.Decode(b[n:])
		if err != nil {
			return nil, fmt.Errorf("%w: told by %.40q: %w", errBadMemory, id, err)
		}
		pulled, rest, err := seen.Decode(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: pulled from %.40q: %w", errBadMemory, id, err)
		}
		peers[id] = &remembered{life: life, told: *told, pulled: *pulled, durable: pulled.Clone()}
		b = rest
	}
	return peers, nil
}

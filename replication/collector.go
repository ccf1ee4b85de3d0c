package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

const (
	// DefaultMinAge is for how long a tombstone is kept that every node is known to have seen.
	// An older write of the key that is under way for longer than that would bring the key back:
	// all requests have deadlines well below it.
	DefaultMinAge = 10 * time.Minute
	// ageLooks is in how many looks the least age is counted, see Collector.look.
	ageLooks = 10
	// freshSurvey is how old the numbers are that CollectorStats may tell: counting looks at all
	// tombstones.
	freshSurvey = 5 * time.Second
	// tellBlocked is how often the log says who keeps tombstones from being collected.
	tellBlocked = time.Hour
)

// CollectorConfig is what a Collector works with. MinAge and Logger may be zero; all else is
// required.
type CollectorConfig struct {
	// Replica is this node's.
	Replica *Replica
	Members Members
	// Memory tells what was pulled from whom.
	Memory PullMemory
	// Synced reports whether this node has all that it should have: Syncer.Synced.
	Synced func() bool
	// MinAge is for how long this process must have run since every node was known to have seen
	// a tombstone before it goes, 10 min by default. Lower, and a write that was delayed for
	// that long may bring back a key that was deleted after it; higher, and tombstones take up
	// room for longer.
	MinAge time.Duration
	// Logger gets what was collected and who keeps tombstones from being collected.
	Logger hclog.Logger
}

// PullMemory is what a Collector needs of Memory.
type PullMemory interface {
	// Pulled returns what this node durably remembers to have pulled from node id; nothing, if
	// it remembers nothing of it. The set is not changed.
	Pulled(id string) *seen.Set
	// Save makes all that was pulled until now part of what Pulled returns.
	Save() error
	// Collect remembers, durably when it returns nil, that tombstones with dots in set may be
	// dropped from now on.
	Collect(set *seen.Set) error
}

var _ PullMemory = (*Memory)(nil)

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg CollectorConfig) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(cfg.Replica != nil, "Replica is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.Memory != nil, "Memory is missing")
	require(cfg.Synced != nil, "Synced is missing")
	require(cfg.MinAge == 0 || cfg.MinAge >= ageLooks, "MinAge %v is below %v", cfg.MinAge, time.Duration(ageLooks))
	return errors.Join(errs...)
}

// Collector drops tombstones of this node once nothing older of their keys can come any more.
// Each node does so by itself. Safe for concurrent use.
//
// It works in rounds. One begins with the tombstones that are stable, see stability, and drops
// those of them that still are when this process has been running for MinAge after that.
type Collector struct {
	cfg CollectorConfig

	// The round under way, which belongs to Run: the dots of the tombstones that were stable
	// when it began, nil if there is none, and how long this process has been running since,
	// pauses between two looks that were too short to be noticed included. began is what this node
	// had seen then.
	round *seen.Set
	began *seen.Set
	age   time.Duration
	// blockedSince is when tombstones were found blocked after a time in which none were, or
	// when the log was told last who blocks them. Run's.
	blockedSince time.Time

	mu        sync.Mutex // guards the fields below
	collected uint64
	last      survey
}

// survey is what a look at all tombstones found.
type survey struct {
	at time.Time
	// of stands for all that the findings depend on, but for the clock.
	of uint64
	// stable is how many tombstones wait for nobody, blocked how many wait for each node, itself
	// included. It is never changed.
	stable  uint64
	blocked map[string]uint64
}

// CollectorStats is what a Collector has done, and what it cannot do yet.
type CollectorStats struct {
	// Tombstones is how many there are on this node.
	Tombstones uint64
	// Collected is how many were dropped since the start of this process.
	Collected uint64
	// Blocked is, by node id, how many wait until it is known that this node has everything
	// from there that was there with the tombstone. A tombstone may wait for several nodes, and
	// waits for this one if it is from ahead of its clock. Nodes for which none waits are left
	// out. The numbers may be a few seconds old. The caller owns the map.
	Blocked map[string]uint64
}

// NewCollector returns a collector, or all that is wrong with cfg. It does nothing until Run.
func NewCollector(cfg CollectorConfig) (*Collector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("collector configuration: %w", err)
	}
	if cfg.MinAge == 0 {
		cfg.MinAge = DefaultMinAge
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	cfg.Logger = cfg.Logger.Named("replication")
	return &Collector{cfg: cfg}, nil
}

// Run collects until ctx ends. It starts no goroutines and is called once.
func (c *Collector) Run(ctx context.Context) {
	interval := c.cfg.MinAge / ageLooks
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := time.Now()
		passed := now.Sub(last)
		if passed >= 2*interval {
			// This process was frozen, or starved. What was on its way to it meanwhile has not
			// been dealt with by the passing of time: an older write that waits in a socket must
			// still find the tombstone.
			passed = 0
		}
		last = now
		c.look(ctx, passed)
	}
}

// look goes on with the round under way, which has become older by passed, or begins one.
func (c *Collector) look(ctx context.Context, passed time.Duration) {
	if c.cfg.Replica.store.TombstoneCount() == 0 || !c.cfg.Synced() {
		// Who is not synced does not know what it lacks. What this node was told before may not
		// hold any more when it is synced again.
		c.round, c.blockedSince = nil, time.Time{}
		return
	}
	if c.round != nil {
		if c.age += passed; c.age < c.cfg.MinAge {
			return
		}
		c.collect(ctx)
	}
	c.begin()
}

// begin begins a round, if that is good for anything.
func (c *Collector) begin() {
	c.round, c.age = nil, 0
	if err := c.cfg.Memory.Save(); err != nil {
		c.cfg.Logger.Warn("tombstones are not collected", "error", err)
		return
	}
	s := c.stability()
	c.mu.Lock()
	idle := c.last.of == c.fingerprint(s) && c.last.stable == 0 && c.last.blocked[s.self] == 0
	c.mu.Unlock()
	if !idle { // else another look would find again that nothing can be collected
		var dots []version.Dot
		c.survey(s, func(d version.Dot) { dots = append(dots, d) })
		if len(dots) > 0 {
			c.round, c.began = seen.Of(dots...), s.mine
		}
	}
	c.tell()
}

// collect ends the round under way.
func (c *Collector) collect(ctx context.Context) {
	s := c.stability()
	store := c.cfg.Replica.store
	// Before anything is dropped, so that whoever finds nothing can know that there was something.
	// Not with what was seen since the round began: whoever is in step has that much.
	if err := c.cfg.Memory.Collect(c.began.Until(c.round)); err != nil {
		c.cfg.Logger.Warn("tombstones are not collected", "error", err)
		return
	}
	var dropped uint64
	for key, v := range store.Tombstones() {
		if ctx.Err() != nil {
			break
		}
		if !c.round.Has(v.Dot) || !s.has(v) {
			continue
		}
		gone, err := store.Drop(key, v)
		if err != nil {
			c.cfg.Logger.Warn("tombstone is not collected", "key", key, "error", err)
			break
		}
		if gone {
			dropped++
		}
	}
	c.mu.Lock()
	c.collected += dropped
	c.mu.Unlock()
	if dropped > 0 {
		c.cfg.Logger.Info("tombstones were collected", "number", dropped, "left", store.TombstoneCount())
	}
}

// tell tells the log who keeps tombstones from being collected, if that goes on for long.
func (c *Collector) tell() {
	c.mu.Lock()
	blocked := c.last.blocked
	c.mu.Unlock()
	switch now := time.Now(); {
	case len(blocked) == 0:
		c.blockedSince = time.Time{}
	case c.blockedSince.IsZero():
		c.blockedSince = now
	case now.Sub(c.blockedSince) >= tellBlocked:
		c.blockedSince = now
		for _, id := range slices.Sorted(maps.Keys(blocked)) {
			c.cfg.Logger.Info("tombstones wait for a node", "node", id, "number", blocked[id])
		}
	}
}

// Stats tells what was done, and who keeps tombstones from being collected. Now and then it
// looks at all tombstones.
func (c *Collector) Stats() CollectorStats {
	now := uint64(c.cfg.Replica.store.TombstoneCount())
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if now > 0 && time.Since(last.at) >= freshSurvey {
		if s := c.stability(); last.of != c.fingerprint(s) {
			last = c.survey(s, func(version.Dot) {})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := CollectorStats{Tombstones: now, Collected: c.collected, Blocked: make(map[string]uint64)}
	if now > 0 {
		maps.Copy(stats.Blocked, last.blocked)
	}
	return stats
}

// survey looks at all tombstones, enters what it found and calls stable with the dots of those
// that are stable.
func (c *Collector) survey(s stability, stable func(version.Dot)) survey {
	found := survey{at: time.Now(), of: c.fingerprint(s), blocked: make(map[string]uint64)}
	for _, v := range c.cfg.Replica.store.Tombstones() {
		if s.has(v) {
			found.stable++
			stable(v.Dot)
			continue
		}
		for _, id := range s.waitsFor(v) {
			found.blocked[id]++
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = found
	return found
}

// stability returns what makes a tombstone stable now.
//
// The view is taken before the sets. A pull that is completed in between may bring news of a
// node that is not in the view; what it makes stable is looked at a second time, with a later
// view, before it goes.
func (c *Collector) stability() stability {
	view := c.cfg.Members.View()
	return stabilityOf(view, c.cfg.Replica.seen(), c.cfg.Memory.Pulled, c.cfg.Replica.clock.Observe)
}

// fingerprint stands for all that a survey with s depends on, but for the clock: what this node
// has seen changes with its tombstones, unless one comes back that was dropped.
func (c *Collector) fingerprint(s stability) uint64 {
	h := fnv.New64a()
	add := func(id string, number uint64) {
		b := binary.BigEndian.AppendUint64([]byte(id), number)
		_, _ = h.Write(append(b, 0)) // the error is always nil
	}
	add("", uint64(c.cfg.Replica.store.TombstoneCount()))
	add(s.self, s.mine.Hash())
	for _, p := range s.others {
		add(p.id, p.pulled.Hash())
	}
	return h.Sum64()
}

package model

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

// mutant spoils the protocol on purpose. Nil fields spoil nothing.
type mutant struct {
	// store, members and carrier change what a node's parts of replication work with.
	store   func(p *process, s replication.Store) replication.Store
	members func(m replication.Members) replication.Members
	carrier func(p *process, c replication.Peers) replication.Peers
	// collector changes what a node's collector works with.
	collector func(p *process, cfg *replication.CollectorConfig)
	// hurried: a node leaves without waiting until others have what it has.
	hurried bool
	// impatient: members are added before those that were added last are synced as members.
	impatient bool
	// trusting: a node takes its data for what it was.
	trusting bool
	// synced changes what a node says of itself.
	synced func(synced bool) bool
	// change replaces the agreement on a change of the roster.
	change func(l *roster.Ledger, want func(roster.Roster) (roster.Change, bool))
	// heard is told what a node heard of the roster and has merged.
	heard func(p *process, k roster.Knowledge)

	// mix is of what programs it shows soonest; nil means everything.
	mix *mix
}

// mutants are shortcuts that each look harmless. Those of the pull alone are in package
// replication, those of the agreement on the roster in membership/roster.
var mutants = map[string]mutant{
	"tombstone collected at once": {mix: &fleeting, collector: func(_ *process, cfg *replication.CollectorConfig) {
		cfg.MinAge = 200 * time.Millisecond
	}},
	"left before others have it": {mix: &leaving, hurried: true},
	"live list used as N": {members: func(m replication.Members) replication.Members {
		return changedView{m, func(v *replication.View) {
			var live []string
			for _, member := range v.Members {
				if member.Live && len(v.Rosters) > 0 && slices.Contains(v.Rosters[0], member.ID) {
					live = append(live, member.ID)
				}
			}
			v.Rosters = [][]string{live}
		}}
	}},
	"blank node counted for reads": {
		mix: &relapsing, synced: func(bool) bool { return true },
		carrier: func(_ *process, c replication.Peers) replication.Peers { return credulous{c} },
	},
	"old copy of a disk taken for the disk": {mix: &relapsing, trusting: true},
	"replica that stamps its own time": {store: func(p *process, s replication.Store) replication.Store {
		return stamping{s, p}
	}},
	"write acknowledged before it is durable": {store: func(p *process, s replication.Store) replication.Store {
		return hasty{s, p}
	}},
	"read repair after the answer": {mix: &reading, carrier: func(p *process, c replication.Peers) replication.Peers {
		return lateRepair{c, p}
	}},
	"members added before the last one is synced": {mix: &growing, impatient: true},
	"promotion without a majority": {mix: &growing, impatient: true, change: func(l *roster.Ledger, want func(roster.Roster) (roster.Change, bool)) {
		if change, wanted := want(l.Roster()); wanted {
			_ = l.Force(change) // it is wanted again otherwise
		}
	}},
	"roster merge that brings a removed id back": {heard: func(p *process, k roster.Knowledge) {
		mine := p.ledger.Roster()
		back := func(id string) bool { return mine.HasRemoved(id) && k.Roster.Has(id) }
		if slices.ContainsFunc(mine.Removed, back) && p.doomed.CompareAndSwap(false, true) {
			p.w.background.Go(func() { p.w.revive(p.machine, p, back) })
		}
	}},
}

// changedView is a Members whose views are changed copies.
type changedView struct {
	replication.Members
	change func(v *replication.View)
}

// View implements replication.Members.
func (m changedView) View() *replication.View {
	v := *m.Members.View()
	m.change(&v)
	return &v
}

// stamping is the store of a replica that gives the writes of others versions of its own.
type stamping struct {
	replication.Store
	p *process
}

// Apply implements replication.Store.
func (s stamping) Apply(records []replication.Record) []replication.Outcome {
	records = slices.Clone(records)
	outcomes := make([]replication.Outcome, len(records))
	for i, r := range records {
		given := r.Version
		if r.Version.Origin != s.p.origin {
			records[i].Version.Timestamp = s.p.clock.Next()
		}
		outcomes[i] = s.Store.Apply(records[i : i+1])[0]
		if outcomes[i].Current.Version == records[i].Version {
			outcomes[i].Current.Version = given // or the coordinator would take it for superseded
		}
	}
	return outcomes
}

// hasty is a store that says that records are durable before they are.
type hasty struct {
	replication.Store
	p *process
}

// Apply implements replication.Store.
func (s hasty) Apply(records []replication.Record) []replication.Outcome {
	s.p.w.background.Go(func() { s.Store.Apply(records) })
	outcomes := make([]replication.Outcome, len(records))
	for i, r := range records {
		outcomes[i].Current = r.Meta()
		if held, err := s.Lookup(r.Key); err == nil && held.Version.Compare(r.Version) > 0 {
			outcomes[i].Current = held
		}
	}
	return outcomes
}

// credulous looks up keys at nodes that say that they are not synced. Its pulls take their time,
// so that nodes are blank for long.
type credulous struct{ replication.Peers }

// OpenPull implements replication.Peers.
func (c credulous) OpenPull(ctx context.Context, id string, mine *seen.Set) (replication.Pull, error) {
	if err := sleep(ctx, 3*time.Second); err != nil {
		return replication.Pull{}, err
	}
	return c.Peers.OpenPull(ctx, id, mine)
}

// Lookup implements replication.Peers.
func (c credulous) Lookup(ctx context.Context, id, key string) (replication.Meta, error) {
	r, err := c.Fetch(ctx, id, key)
	return r.Meta(), err
}

// lateRepair gives replicas the writes of other processes, which are repairs, only after it said
// so.
type lateRepair struct {
	replication.Peers
	p *process
}

// Write implements replication.Peers.
func (l lateRepair) Write(ctx context.Context, id string, records []replication.Record) ([]replication.Outcome, error) {
	if records[0].Version.Origin == l.p.origin {
		return l.Peers.Write(ctx, id, records)
	}
	l.p.w.background.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_, _ = l.Peers.Write(ctx, id, records) // nobody waits for it
	})
	outcomes := make([]replication.Outcome, len(records))
	for i, r := range records {
		outcomes[i].Current = r.Meta()
	}
	return outcomes, nil
}

// revive restarts a node with a saved roster of which some ids are not removed.
func (w *world) revive(m *machine, p *process, back func(id string) bool) {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.process != p {
		return
	}
	p.crash()
	m.disk.mu.Lock()
	var saved map[string]any
	if err := json.Unmarshal(m.disk.state["roster"], &saved); err != nil {
		panic(err)
	}
	r := p.ledger.Roster()
	r.Removed = slices.DeleteFunc(slices.Clone(r.Removed), back)
	saved["roster"] = r
	delete(saved, "accepted")
	m.disk.state["roster"], _ = json.Marshal(saved)
	m.disk.mu.Unlock()
	m.process = w.start(m)
}

// most is how many programs a mutant may survive.
const most = 2000

// Each mutant falls after some programs, most of them after a few.
func TestShortcutsAreNoticed(t *testing.T) {
	if !runMutants {
		t.Skip("without the race detector")
	}
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		m := mutants[name]
		t.Run(name, func(t *testing.T) {
			inBubble := bubble(t, func(p program) outcome { return run(p, m) })
			fell := 0
			for seed := range uint64(cmp.Or(*programs, most)) {
				out := inBubble(newProgram(rand.New(rand.NewPCG(seed, 1)).IntN, *cmp.Or(m.mix, &everything)))
				if out.err == nil {
					continue
				}
				if fell++; fell == 1 {
					t.Logf("fell after %d programs: %v", seed+1, out.err)
				}
				if *programs == 0 {
					return
				}
			}
			t.Logf("fell in %d of %d programs", fell, *programs)
			if fell == 0 {
				t.Error("goes unnoticed")
			}
		})
	}
}

package model

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// world is what a program runs in: machines, a network between them, and a notebook of all that
// was promised.
type world struct {
	mutant     mutant
	machines   map[string]*machine
	background sync.WaitGroup // all that nobody waits for before the end

	mu        sync.Mutex // guards the fields below; no other lock is taken with it held
	dice      *rand.Rand
	faulty    bool
	cut       map[string]bool     // by pair
	processes map[string]*process // that run, by node id
	disks     map[string]*disk    // all that ever were, by node id
	origins   uint64
	ids       int
	relapses  int // how often data was found to be an old copy
	book
}

// machine is a place for a node.
type machine struct {
	name  string
	ahead atomic.Int64 // of its wall clock, in ns

	lifecycle sync.Mutex // guards the fields below; nothing that takes time is done with it held
	disk      *disk      // nil if it never took part
	copied    *disk      // what it held some time ago, nil if that was not copied
	process   *process   // nil while it is down
}

func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.ahead.Load())) }

// newWorld returns a world in which the first so many machines are members of one cluster.
func newWorld(p program, with mutant) *world {
	w := &world{
		mutant: with, machines: make(map[string]*machine), dice: rand.New(rand.NewPCG(p.seed, 1)), faulty: true,
		cut: make(map[string]bool), processes: make(map[string]*process), disks: make(map[string]*disk), book: newBook(),
	}
	for _, name := range machines {
		w.machines[string(name)] = &machine{name: string(name)}
	}
	var r roster.Roster
	for i := range p.members {
		m := w.machines[machines[i:i+1]]
		w.replaceDisk(m, w.emptyDisk(m))
		if i == 0 {
			r = roster.Found(m.disk.id)
		} else {
			r = must(r.With(roster.Change{Add: m.disk.id}))
		}
	}
	for i := range p.members {
		w.boot(w.machines[machines[i:i+1]], r)
	}
	return w
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// boot starts a founding member of r.
func (w *world) boot(m *machine, r roster.Roster) {
	ledger := must(roster.Open(roster.Config{Self: m.disk.id, Save: func(b []byte) error {
		m.disk.state["roster"] = b
		return nil
	}}))
	if err := ledger.Join(roster.Roster{}, r); err != nil {
		panic(err)
	}
	m.disk.state["synced"] = []byte(r.Cluster + " " + m.disk.id)
	m.disk.whole = true
	m.process = w.start(m)
}

// emptyDisk returns a disk for a machine, and with it a new node id.
func (w *world) emptyDisk(m *machine) *disk {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return newDisk(fmt.Sprintf("%032x", w.ids), m.name)
}

// exchange is replaceDisk for who does not hold m.lifecycle.
func (w *world) exchange(m *machine, d *disk) {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	w.replaceDisk(m, d)
}

// holds returns the disk of a machine, nil if there is none.
func (m *machine) holds() *disk {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	return m.disk
}

// keeps returns the copy of a disk that a machine keeps, nil if there is none.
func (m *machine) keeps() *disk {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	return m.copied
}

// replaceDisk gives a machine, which runs no process, another disk. The caller holds m.lifecycle.
func (w *world) replaceDisk(m *machine, d *disk) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old := m.disk; old != nil {
		old.lost = true
		if !d.copied {
			old.noticed = time.Now()
		}
		old.next = d
	}
	m.disk = d
	w.disks[d.id] = d
}

// origin draws the number of a process.
func (w *world) origin() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.origins++
	return w.origins
}

func (w *world) put(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.processes[p.id] = p
}

func (w *world) drop(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processes[p.id] == p {
		delete(w.processes, p.id)
	}
}

// running returns the process of a node, nil if it has none.
func (w *world) running(id string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[id]
}

// all returns the processes that run, by id.
func (w *world) all() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []*process
	for _, p := range w.processes {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *process) int { return strings.Compare(a.id, b.id) })
	return all
}

// others returns the ids of the other nodes that run.
func (w *world) others(id string) []string {
	var ids []string
	for _, p := range w.all() {
		if p.id != id {
			ids = append(ids, p.id)
		}
	}
	return ids
}

// named returns the name of a node's machine.
func (w *world) named(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.disks[id].name
}

// called returns what to call a node in messages: its machine and the number of its disk.
func (w *world) called(id string) string {
	return w.named(id) + strings.TrimLeft(id, "0")
}

// upTo returns some time that something takes while there are faults, and next to none later.
func (w *world) upTo(most time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.faulty {
		most /= 20
	}
	return time.Millisecond + time.Duration(w.dice.Int64N(int64(most)))
}

// draw returns a number from 0 to below n.
func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dice.IntN(n)
}

func pair(a, b string) string { return min(a, b) + max(a, b) }

// gossip goes round as long as the world stands.
func (w *world) gossip(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Second):
		}
		all := w.all()
		for i, p := range all {
			for j, q := range all {
				if i != j && w.hears(p, q) {
					p.gossip(q.id, q.self(), q.ledger.Knowledge())
				}
			}
			p.miss()
		}
	}
}

// hears reports whether what p gossips with reaches q now.
func (w *world) hears(p, q *process) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.faulty || !w.cut[pair(p.machine.name, q.machine.name)] && w.dice.IntN(5) > 0
}

// removed takes a node that was removed back as a new one, with an empty disk.
func (w *world) removed(p *process) {
	m := p.machine
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.process != p {
		return
	}
	p.crash()
	w.replaceDisk(m, w.emptyDisk(m))
	m.process = w.start(m)
}

// goneBack sets aside the data of a node that is an old copy; it keeps its id and roster.
func (w *world) goneBack(p *process) {
	m := p.machine
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.process != p {
		return
	}
	if err := p.memory.GiveUp(); err != nil {
		p.crash()
		m.process = w.start(m) // and is found out once more
		return
	}
	p.crash()
	old := m.disk
	d := newDisk(old.id, old.name)
	d.aside = old.memory
	for _, kept := range []string{"roster", "next-life"} {
		d.state[kept] = old.state[kept]
	}
	w.replaceDisk(m, d)
	m.process = w.start(m)
	w.mu.Lock()
	w.relapses++
	w.mu.Unlock()
}

// left takes a machine whose node has left out of use.
func (w *world) left(p *process) {
	w.leaves(p)
	m := p.machine
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.process != p {
		return
	}
	p.crash()
	w.mu.Lock()
	m.disk.lost = true
	w.mu.Unlock()
	m.process, m.disk, m.copied = nil, nil, nil
}

// do carries out a step that is not a client's.
func (w *world) do(s step) {
	a, b := w.machines[machines[s.a:s.a+1]], w.machines[machines[s.b:s.b+1]]
	switch s.what {
	case cut:
		w.cutOff([]*machine{a}, []*machine{b}, s.perhaps)
	case isolate:
		w.cutOff([]*machine{a}, slices.Collect(maps.Values(w.machines)), s.perhaps)
	case crash, stop:
		end := (*process).crash
		if s.what == stop {
			end = (*process).stop
		}
		if down := w.down(); down != nil && s.perhaps {
			a = down
		}
		w.toggle(a, end)
	case wipe:
		if a.holds() != nil && w.spares(a) {
			a.end((*process).crash)
			w.exchange(a, w.emptyDisk(a))
			w.toggle(a, nil)
		}
	case join:
		if a.holds() == nil {
			w.exchange(a, w.emptyDisk(a))
			w.toggle(a, nil)
		}
	case copied:
		a.lifecycle.Lock()
		defer a.lifecycle.Unlock()
		if a.disk != nil {
			a.copied = a.disk.copy()
		}
	case restore:
		if old := a.keeps(); old != nil && w.spares(a) {
			a.end((*process).crash)
			d := old.copy()
			d.copied = true
			w.exchange(a, d)
			w.toggle(a, nil)
		}
	case leave:
		if p := w.at(s.a); p != nil && w.spares(a) {
			w.mu.Lock()
			w.forgotten[p.id] = true
			w.mu.Unlock()
			p.loops.Go(func() { p.leave(p.life) })
		}
	case forget:
		w.forget(a, b)
	case skew:
		a.ahead.Store(int64(s.skew))
	case unreadable:
		a.lifecycle.Lock()
		defer a.lifecycle.Unlock()
		if a.process != nil {
			a.process.volume.spoil(s.key)
		}
	}
}

// cutOff cuts each of some machines off from each of the others, or heals all cuts.
func (w *world) cutOff(some, others []*machine, heal bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if heal {
		clear(w.cut)
		return
	}
	for _, a := range some {
		for _, b := range others {
			w.cut[pair(a.name, b.name)] = true
		}
	}
}

// down returns a machine whose node is down, nil if there is none.
func (w *world) down() *machine {
	for _, name := range machines {
		m := w.machines[string(name)]
		m.lifecycle.Lock()
		down := m.disk != nil && m.process == nil
		m.lifecycle.Unlock()
		if down {
			return m
		}
	}
	return nil
}

// toggle ends the process of a machine, or starts one.
func (w *world) toggle(m *machine, end func(*process)) {
	if m.end(end) {
		return
	}
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.disk != nil {
		m.process = w.start(m)
	}
}

// end ends the process and reports whether there was one.
func (m *machine) end(end func(*process)) bool {
	m.lifecycle.Lock()
	defer m.lifecycle.Unlock()
	if m.process == nil {
		return false
	}
	end(m.process)
	m.process = nil
	return true
}

// spares reports whether a cluster can do without the disk of a machine: whether of each roster
// that may be in force a majority of others has what it should have.
func (w *world) spares(m *machine) bool {
	mine := m.holds()
	if mine == nil {
		return false
	}
	good := make(map[string]bool)
	var disks []*disk
	for _, other := range w.machines {
		other.lifecycle.Lock()
		if other.disk != nil {
			disks = append(disks, other.disk)
			w.mu.Lock()
			good[other.disk.id] = other != m && other.disk.whole && !w.forgotten[other.disk.id]
			w.mu.Unlock()
		}
		other.lifecycle.Unlock()
	}
	for _, d := range disks {
		for _, r := range d.rosters() {
			members := r.Members()
			if id := mine.id; !r.Has(id) && !r.HasRemoved(id) {
				members = append(members, id) // it may be a learner that is just being promoted
			}
			if !w.suffice(members, good) || !w.suffice(w.staying(members), good) {
				return false
			}
		}
	}
	return true
}

// suffice reports whether a majority of members is good.
func (w *world) suffice(members []string, good map[string]bool) bool {
	left := 0
	for _, id := range members {
		if good[id] {
			left++
		}
	}
	return left > len(members)/2
}

// staying returns those of members that nobody asked to leave or to be forgotten.
func (w *world) staying(members []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(members), func(id string) bool { return w.forgotten[id] })
}

// forget has a machine's node forgotten, asked of another.
func (w *world) forget(m, of *machine) {
	of.lifecycle.Lock()
	p := of.process
	of.lifecycle.Unlock()
	d := m.holds()
	if m == of || d == nil || p == nil || !w.spares(m) {
		return
	}
	id := d.id
	w.mu.Lock()
	w.forgotten[id] = true
	w.mu.Unlock()
	w.background.Go(func() { p.forget(context.Background(), id) })
}

// forgetLearners has those learners forgotten whose machine is out of use, as an operator has to:
// there comes nobody of their name who would take their place.
func (w *world) forgetLearners() {
	for _, p := range w.all() {
		for _, id := range p.ledger.Learners() {
			if w.machines[w.named(id)].holds() == nil {
				w.background.Go(func() { p.forget(p.life, id) })
			}
		}
	}
}

// heal ends all faults.
func (w *world) heal() {
	w.mu.Lock()
	w.faulty = false
	clear(w.cut)
	w.mu.Unlock()
	for _, m := range w.machines {
		m.lifecycle.Lock()
		up := m.process != nil
		if up {
			m.process.volume.mend()
		}
		m.lifecycle.Unlock()
		if !up {
			w.toggle(m, nil)
		}
	}
}

// end ends all processes and waits for everything.
func (w *world) end() {
	for _, m := range w.machines {
		m.end((*process).crash)
	}
	w.background.Wait()
}

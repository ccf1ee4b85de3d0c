package model

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/version"
)

// minAge is for how long a tombstone is kept that all have seen: longer than anything is on its
// way that was sent before, while up to five nodes do not answer one after the other.
const minAge = time.Minute

// process is one run of a node on a machine.
type process struct {
	w       *world
	machine *machine
	id      string
	origin  uint64
	volume  *volume
	clock   *version.Clock
	*membership

	coordinator *replication.Coordinator
	offers      *replication.Offers
	memory      *replication.Memory
	syncer      *replication.Syncer
	monitor     *replication.Monitor
	collector   *replication.Collector
	mender      *replication.Mender

	life   context.Context // of what the process runs
	cancel context.CancelFunc
	loops  sync.WaitGroup
	ended  atomic.Bool
}

// start starts a process on a machine that has none. What its disk holds decides what it is.
func (w *world) start(m *machine) *process {
	d := m.disk
	p := &process{w: w, machine: m, id: d.id, origin: w.origin(), volume: w.mount(d)}
	p.clock = version.NewClock(m.now, d.begin(p.origin))
	p.membership = newMembership(p)
	p.replicate()

	ctx, cancel := context.WithCancel(context.Background())
	p.life, p.cancel = ctx, cancel
	w.put(p)
	p.update(func() {})
	p.loops.Go(func() { p.monitor.Run(ctx) })
	p.loops.Go(func() { p.syncer.Run(ctx) })
	p.loops.Go(func() { p.memory.Run(ctx) })
	p.loops.Go(func() { p.collector.Run(ctx) })
	p.loops.Go(func() { p.mender.Run(ctx) })
	p.loops.Go(func() { p.tend(ctx) })
	p.loops.Go(func() { p.settleRelics(ctx) })
	return p
}

// replicate makes the parts of replication.
func (p *process) replicate() {
	var store replication.Store = p.volume
	var members replication.Members = p.membership
	var carrier replication.Peers = peers{p}
	if spoil := p.w.mutant.store; spoil != nil {
		store = spoil(p, store)
	}
	if spoil := p.w.mutant.members; spoil != nil {
		members = spoil(members)
	}
	if spoil := p.w.mutant.carrier; spoil != nil {
		carrier = spoil(p, carrier)
	}
	p.memory = must(replication.OpenMemory(p.volume, nil))
	p.coordinator = must(replication.New(replication.Config{
		Store: store, Members: members, Peers: carrier, Clock: p.clock, Origin: p.origin, Now: p.machine.now, Memory: p.memory,
	}))
	replica := p.coordinator.Replica()
	p.offers = must(replication.NewOffers(replication.OffersConfig{Store: store, Members: members, Collected: p.memory.Collected, PageRecords: 2}))
	p.syncer = must(replication.NewSyncer(replication.SyncConfig{
		Replica: replica, Members: members, Peers: carrier, Memory: p.memory, Busy: p.coordinator.Busy,
		SetSynced: p.setSynced, Checked: func() bool { return p.monitor.Checked() || p.w.mutant.trusting },
	}))
	p.mender = must(replication.NewMender(replication.MenderConfig{Replica: replica, Members: members, Peers: carrier}))
	collects := replication.CollectorConfig{
		Replica: replica, Members: members, Memory: p.memory, MinAge: minAge, Synced: p.syncer.Synced,
	}
	if spoil := p.w.mutant.collector; spoil != nil {
		spoil(p, &collects)
	}
	p.collector = must(replication.NewCollector(collects))
	p.monitor = must(replication.NewMonitor(replication.MonitorConfig{
		Replica: replica, Members: members, Peers: carrier, Memory: p.memory, Heard: p.syncer.Heard, Compared: p.mender.Compared,
		GoneBack: func(error) {
			if !p.w.mutant.trusting {
				p.w.background.Go(func() { p.w.goneBack(p) })
			}
		},
	}))
}

// crash ends the process at once: what is not durable is lost, what it sent is on its way.
func (p *process) crash() {
	p.ended.Store(true)
	p.volume.end()
	p.volume.disk.undrop(p.w.draw(4))
	p.end()
}

// stop ends the process in good order.
func (p *process) stop() {
	p.update(func() { p.told.stopped = true })
	p.end()
}

// end ends what the process runs, without waiting for it: it takes fake time, and others wait for
// locks that the caller may hold.
func (p *process) end() {
	p.w.drop(p)
	p.w.background.Go(func() {
		p.cancel()
		p.loops.Wait()
		p.coordinator.Close()
		p.ended.Store(true)
		p.volume.end()
	})
}

func (p *process) hasEnded() bool { return p.ended.Load() }

// membership is the part of package membership that lies between what a ledger knows and who is
// live on one side, and replication.Members on the other, in short: who is there the world tells
// instead of gossip.
type membership struct {
	p      *process
	ledger *roster.Ledger
	view   atomic.Pointer[replication.View]
	doomed atomic.Bool
	// leaving: it ends for good once it has left.
	leaving atomic.Bool

	mu    sync.Mutex // guards the fields below
	told  info       // of itself
	peers map[string]*contact
}

// info is what a node tells of itself.
type info struct {
	name            string
	cluster         string
	counted         bool // it takes itself for a member
	synced, stopped bool
}

// contact is what is known of another node.
type contact struct {
	info
	gossiping bool
	heard     time.Time // by gossip
	silent    bool
	back      time.Time // when it last was heard again after not being heard
}

func newMembership(p *process) *membership {
	m := &membership{p: p, told: info{name: p.machine.name}, peers: make(map[string]*contact)}
	saved, _ := p.volume.LoadState("roster") // nil if there is none
	m.ledger = must(roster.Open(roster.Config{
		Self: p.id, Saved: saved,
		Save:    func(b []byte) error { return p.volume.SaveState("roster", b) },
		Changed: func() { m.update(func() {}) },
	}))
	for _, id := range m.ledger.Roster().Members() {
		if id != p.id {
			m.peers[id] = &contact{info: info{name: p.w.named(id)}}
		}
	}
	return m
}

// update changes what m knows and makes a new view.
func (m *membership) update(change func()) {
	m.mu.Lock()
	change()
	learners := m.ledger.Learners() // first: one that is being promoted must not be missed
	force := m.ledger.Roster()
	if force.Has(m.p.id) && !m.told.counted {
		m.told.synced = false // what it had as a learner is not enough for a member
	}
	m.told.cluster, m.told.counted = force.Cluster, force.Has(m.p.id)
	view := &replication.View{Self: m.p.id, Cluster: force.Cluster}
	for _, r := range m.ledger.Rosters() {
		view.Rosters = append(view.Rosters, r.Members())
	}
	view.Members = append(view.Members, replication.Member{
		ID: m.p.id, Name: m.told.name, Live: true, Synced: m.told.synced,
	})
	for _, id := range slices.Concat(force.Members(), learners) {
		if id == m.p.id {
			continue
		}
		member := replication.Member{ID: id, Name: m.p.w.named(id)} // names spread with gossip
		if c := m.peers[id]; c != nil {
			member.Synced = c.synced && (c.counted || !force.Has(id)) // said as what it is now
			member.Live = c.alive() && !c.silent && c.cluster == force.Cluster
		}
		view.Members = append(view.Members, member)
	}
	slices.SortFunc(view.Members, func(a, b replication.Member) int { return strings.Compare(a.ID, b.ID) })
	view.Members = slices.CompactFunc(view.Members, func(a, b replication.Member) bool { return a.ID == b.ID })
	m.view.Store(view)
	m.mu.Unlock()
	m.p.w.inForce(force)
	if force.HasRemoved(m.p.id) {
		m.refused()
	}
}

func (c *contact) alive() bool { return c.gossiping && !c.stopped }

// View implements replication.Members.
func (m *membership) View() *replication.View { return m.view.Load() }

// Failed implements replication.Members.
func (m *membership) Failed(id string, sent time.Time, _ error) {
	if member, known := m.View().Member(id); known && member.Live {
		m.update(func() {
			if c := m.peers[id]; c != nil && !sent.Before(c.back) {
				c.silent = true
			}
		})
	}
}

// Answered implements replication.Members.
func (m *membership) Answered(id string) {
	if member, known := m.View().Member(id); known && !member.Live {
		m.update(func() {
			if c := m.peers[id]; c != nil {
				c.silent, c.back = false, time.Now()
			}
		})
	}
}

// Enroll implements replication.Members.
func (m *membership) Enroll(id string) error { return m.ledger.Enroll(id) }

func (m *membership) setSynced(synced bool) {
	if spoil := m.p.w.mutant.synced; spoil != nil {
		synced = spoil(synced)
	}
	m.update(func() { m.told.synced = synced })
	if m.ledger.Roster().Has(m.p.id) {
		m.p.w.mu.Lock()
		defer m.p.w.mu.Unlock()
		m.p.volume.disk.whole = synced && !m.p.volume.disk.copied
	}
}

// refused: this node was removed from its cluster.
func (m *membership) refused() {
	if !m.leaving.Load() && m.doomed.CompareAndSwap(false, true) {
		m.p.w.background.Go(func() { m.p.w.removed(m.p) })
	}
}

// settleRelics writes again, once this node is synced, what only an old copy of its data has that
// was set aside.
func (p *process) settleRelics(ctx context.Context) {
	relic := p.volume.disk.aside
	for relic != nil && sleep(ctx, 250*time.Millisecond) == nil {
		if !p.syncer.Synced() {
			continue
		}
		seen := p.volume.Seen()
		for key := range relic.Scan("") {
			if r := must(relic.Get(key)); !seen.Has(r.Version.Dot) {
				p.coordinator.Replica().Write([]replication.Record{r})
			}
		}
		return
	}
}

// hear takes in what another node knows of the roster.
func (m *membership) hear(k roster.Knowledge) error {
	if m.ledger.Roster().IsZero() {
		return nil
	}
	err := m.ledger.Merge(k)
	if spoil := m.p.w.mutant.heard; spoil != nil {
		spoil(m.p, k)
	}
	return err
}

// gossip takes in what a node tells of itself and knows.
func (m *membership) gossip(id string, i info, k roster.Knowledge) {
	if m.hear(k) != nil {
		return // its process has ended
	}
	if k.Roster.Cluster == m.ledger.Roster().Cluster && !k.Roster.IsZero() {
		_ = m.ledger.Enroll(id) // removed nodes are not, and nobody gossips with them for long
	}
	m.mu.Lock()
	c, known := m.peers[id]
	same := known && c.gossiping && c.info == i
	if same {
		c.heard = time.Now()
	}
	m.mu.Unlock()
	if same {
		return
	}
	m.update(func() {
		c := m.peers[id]
		if c == nil {
			c = new(contact)
			m.peers[id] = c
		}
		if !c.gossiping {
			c.silent, c.back = false, time.Now()
		}
		c.info, c.gossiping, c.heard = i, true, time.Now()
	})
}

// noticeAfter is how long it takes gossip to notice that a node is gone.
const noticeAfter = 4 * time.Second

// miss notices who has not gossiped for too long.
func (m *membership) miss() {
	m.mu.Lock()
	missed := false
	for _, c := range m.peers {
		missed = missed || c.gossiping && time.Since(c.heard) > noticeAfter
	}
	m.mu.Unlock()
	if missed {
		m.update(func() {
			for _, c := range m.peers {
				c.gossiping = c.gossiping && time.Since(c.heard) <= noticeAfter
			}
		})
	}
}

// self returns what this node tells of itself.
func (m *membership) self() info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.told
}

// about returns what is known of a node.
func (m *membership) about(id string) contact {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.peers[id]; c != nil {
		return *c
	}
	return contact{}
}

// wouldMiss reports whether a member that somebody wants to remove is alive.
func (m *membership) wouldMiss(id string) bool {
	if id == "" {
		return false
	}
	c := m.about(id)
	return id == m.p.id || c.alive()
}

// tend does what package membership does for the roster: it joins a cluster, lets learners count,
// and completes changes that were left half done.
func (m *membership) tend(ctx context.Context) {
	var since time.Time
	for sleep(ctx, time.Second) == nil {
		switch turn, mine := m.turn(); {
		case m.ledger.Roster().IsZero():
			m.join(ctx)
		case !mine:
		case !m.work():
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= time.Duration(turn)*5*time.Second:
			m.change(ctx, m.nextChange)
		}
	}
}

// turn returns how many members come before this one in tending the roster.
func (m *membership) turn() (before int, mine bool) {
	force := m.ledger.Roster()
	for _, member := range m.View().Members {
		if member.ID == m.p.id {
			return before, force.Has(m.p.id)
		}
		if force.Has(member.ID) && member.Live {
			before++
		}
	}
	return before, false
}

func (m *membership) work() bool {
	_, wanted := m.nextChange(m.ledger.Roster())
	return wanted || m.ledger.Pending()
}

// nextChange returns what is to be done for the roster next.
func (m *membership) nextChange(r roster.Roster) (roster.Change, bool) {
	if change, found := m.nextPromotion(r); found {
		return change, true
	}
	return m.nextGhost(r)
}

// nextGhost returns the change that removes a node that is gone while a member of its name, which
// here is its address as well, is live.
func (m *membership) nextGhost(r roster.Roster) (roster.Change, bool) {
	view := m.View()
	for _, ghost := range view.Members {
		if r.HasRemoved(ghost.ID) || ghost.ID == m.p.id || m.wouldMiss(ghost.ID) {
			continue
		}
		for _, heir := range view.Members {
			if heir.ID != ghost.ID && r.Has(heir.ID) && heir.Live && heir.Name == ghost.Name {
				return roster.Change{Remove: ghost.ID}, true
			}
		}
	}
	return roster.Change{}, false
}

// nextPromotion returns the change that lets the next learner count, in place of a member of the
// same name that is gone.
func (m *membership) nextPromotion(r roster.Roster) (roster.Change, bool) {
	if !m.hasTeachers(r) {
		return roster.Change{}, false
	}
	for _, learner := range m.View().Members {
		if !learner.Synced || !learner.Live || r.Has(learner.ID) || r.HasRemoved(learner.ID) {
			continue
		}
		change, hold := roster.Change{Add: learner.ID}, false
		for _, id := range r.Members() {
			if id == m.p.id || m.about(id).name != learner.Name {
				continue
			}
			// If gossip has not noticed yet that it is gone, the learner waits.
			change.Remove, hold = id, hold || m.wouldMiss(id)
		}
		if _, err := r.With(change); err == nil && !hold {
			return change, true
		}
	}
	return roster.Change{}, false
}

// hasTeachers reports whether a majority of the members is live and synced: so many a new member
// has to pull from.
func (m *membership) hasTeachers(r roster.Roster) bool {
	synced := 0
	for _, member := range m.View().Members {
		if r.Has(member.ID) && member.Live && member.Synced {
			synced++
		}
	}
	return synced > len(r.Members())/2 || m.p.w.mutant.impatient
}

// change has the members agree on what want asks for, or gives up after some time.
func (m *membership) change(ctx context.Context, want func(roster.Roster) (roster.Change, bool)) {
	if spoil := m.p.w.mutant.change; spoil != nil {
		spoil(m.ledger, want)
		return
	}
	if !m.self().synced && !m.p.w.mutant.impatient {
		return // its ledger may be an old copy, too
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = m.ledger.Change(ctx, peers{m.p}.agree, want) // it is tried again as long as it is wanted
}

// join makes this node a learner of the cluster of a node that it reaches.
func (m *membership) join(ctx context.Context) {
	for _, id := range m.p.w.others(m.p.id) {
		k, err := call(ctx, m.p, id, func(to *process) (roster.Knowledge, error) { return to.ledger.Knowledge(), nil })
		if err == nil && k.Roster.Has(id) && m.ledger.Join(roster.Roster{}, k.Roster) == nil {
			_ = m.hear(k) // the disk's; the next answer tells it again
			return
		}
	}
}

// leave has this node leave for good: it takes no more writes, waits until the others have what it
// has, and tells one of them that it is gone.
func (m *membership) leave(ctx context.Context) {
	self := m.ledger.Roster()
	// Who is not synced has something to catch up with first, which it could not any more.
	if !self.Has(m.p.id) || len(self.Members()) == 1 || !m.self().synced || !m.leaving.CompareAndSwap(false, true) {
		return
	}
	m.p.coordinator.Replica().Freeze(replication.ErrClosed)
	for !m.ledger.Roster().HasRemoved(m.p.id) && ctx.Err() == nil {
		step, cancel := context.WithTimeout(ctx, 10*time.Second)
		if m.p.w.mutant.hurried || m.p.monitor.AllHave(step) == nil {
			m.change(step, func(r roster.Roster) (roster.Change, bool) {
				return roster.Change{Remove: m.p.id}, r.Has(m.p.id) && len(r.Members()) > 1
			})
		}
		cancel()
		_ = sleep(ctx, time.Second) // it fails when ctx ends, as the loop does
	}
	for ctx.Err() == nil && !m.tell(ctx) {
		_ = sleep(ctx, time.Second)
	}
	if ctx.Err() == nil {
		m.p.w.left(m.p)
	}
}

// tell tells what this node knows of the roster to the others, and whether any has heard it.
func (m *membership) tell(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	k := m.ledger.Knowledge()
	for _, id := range k.Roster.Members() {
		_, err := call(ctx, m.p, id, func(to *process) (bool, error) { return true, to.hear(k) })
		if err == nil || errors.Is(err, errRemoved) { // who refuses this node knows that it is removed
			return true
		}
	}
	return false
}

// forget removes a member that is gone for good.
func (m *membership) forget(ctx context.Context, id string) {
	if m.wouldMiss(id) || !m.ledger.Roster().Has(m.p.id) {
		return
	}
	m.change(ctx, func(r roster.Roster) (roster.Change, bool) {
		return roster.Change{Remove: id}, !r.HasRemoved(id) && (!r.Has(id) || len(r.Members()) > 1)
	})
}

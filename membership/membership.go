package membership

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/roster"
)

// The names under which Storage keeps what survives a restart.
const (
	rosterState  = "roster"
	membersState = "members"
)

// Membership is this node's part in the cluster. All methods are safe for concurrent use.
type Membership struct {
	cfg    Config
	logger hclog.Logger
	ledger *roster.Ledger

	snapshot atomic.Pointer[Snapshot]
	list     *memberlist.Memberlist // set by Start
	updating sync.Mutex             // held during list.UpdateNode

	mu   sync.Mutex // guards all below; never held while calling memberlist, which calls us with its lock held
	self info
	// published is self as others were last told, or are about to be.
	published info
	peers     map[string]*peer // by id, all but self
	states    map[string]entered
	dirty     bool // what Storage holds of the members is behind

	founded time.Time // when this process founded a cluster, zero if it did not

	wake, changed, rejoin chan struct{} // one for each loop
	fatal                 chan error
	doomed                atomic.Bool // there was a fatal error: this process speaks for nobody any more
	stop                  context.CancelFunc
	stopping              atomic.Bool
	loops                 sync.WaitGroup
	stopped               func()
}

// peer is what is known of another node.
type peer struct {
	info info
	// gossiping: memberlist holds it for alive or suspect.
	gossiping bool
	// silent: the last request to it got no answer.
	silent bool
	origin uint64
	// metAt and packetAt are when it last began to gossip and when it last answered a packet.
	metAt, packetAt time.Time
	// blocked: it was said that packets to it get no answer.
	blocked bool
}

type entered struct {
	state State
	since time.Time
}

// New returns the membership of one node, as its storage remembers it. It starts nothing and
// talks to nobody before Start.
func New(cfg Config) (*Membership, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Membership{
		cfg: cfg, logger: cfg.Logger.Named("membership"),
		peers: make(map[string]*peer), states: make(map[string]entered),
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), rejoin: make(chan struct{}, 1), fatal: make(chan error, 1),
	}
	m.stopped = sync.OnceFunc(m.leave)
	saved, err := cfg.Storage.LoadState(rosterState)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m.ledger, err = roster.Open(cfg.ID, saved, func(b []byte) error { return cfg.Storage.SaveState(rosterState, b) })
	if err != nil {
		return nil, err
	}
	if err := m.loadMembers(); err != nil {
		return nil, err
	}
	if m.ledger.Roster().IsZero() && len(cfg.Seeds) == 0 {
		if err := m.ledger.Join(roster.Roster{}, roster.Found(cfg.ID)); err != nil {
			return nil, err
		}
		m.logger.Info("founded a cluster", "cluster_id", m.ledger.Roster().Cluster)
	}
	if m.ledger.Roster().HasRemoved(cfg.ID) {
		return nil, ErrRemoved
	}
	m.self = info{Name: cfg.Name, Address: cfg.Address, Version: cfg.Version}
	m.update(func() {})
	return m, nil
}

// loadMembers reads the names and addresses of the roster's members, so that they are shown
// and tried after a restart.
func (m *Membership) loadMembers() error {
	b, err := m.cfg.Storage.LoadState(membersState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var infos map[string]info
	if err := json.Unmarshal(b, &infos); err != nil {
		return fmt.Errorf("read saved members: %w", err)
	}
	for id, i := range infos {
		if id != m.cfg.ID {
			m.peers[id] = &peer{info: i}
		}
	}
	return nil
}

// Snapshot returns the cluster as this node sees it now.
func (m *Membership) Snapshot() *Snapshot { return m.snapshot.Load() }

// Fatal gives the reason why this process must end, if there ever is one: ErrTwin, ErrRemoved,
// or a failure to save a change of the roster.
func (m *Membership) Fatal() <-chan error { return m.fatal }

// Refused tells that another node refused a request of this one, with ErrTwin or ErrRemoved
// (wrapped or not): this process must end. Other errors mean nothing here.
func (m *Membership) Refused(err error) {
	if errors.Is(err, ErrTwin) || errors.Is(err, ErrRemoved) {
		m.die(err)
	}
}

func (m *Membership) die(err error) {
	m.doomed.Store(true)
	select {
	case m.fatal <- err:
	default: // one reason is enough
	}
}

// SetSynced tells the others whether this node has all that it should have, so that it counts
// for reads and may be promoted.
func (m *Membership) SetSynced(synced bool) { m.update(func() { m.self.Synced = synced }) }

// SetDraining tells the others that this node is about to stop, or not any more.
func (m *Membership) SetDraining(draining bool) { m.update(func() { m.self.Draining = draining }) }

// update runs change with the lock held, makes a new snapshot, and lets the loops look at it.
func (m *Membership) update(change func()) {
	m.mu.Lock()
	change()
	m.refresh()
	m.mu.Unlock()
	notify(m.wake)
	notify(m.changed)
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is awake already
	}
}

// refresh derives own info and the snapshot from all that is known. The caller holds mu.
func (m *Membership) refresh() {
	now := time.Now()
	rosters := m.ledger.Rosters()
	mine := m.self
	mine.Cluster, mine.Seeks = "", true
	if len(rosters) > 0 {
		mine.Cluster = rosters[0].Cluster
		mine.Seeks = len(m.cfg.Seeds) > 0 && len(rosters[0].Members()) == 1 && rosters[0].Has(m.cfg.ID)
	}
	if m.self.At == 0 || mine != m.published {
		mine.At = now.UnixNano()
	}
	m.self, m.published = mine, mine
	s := &Snapshot{Cluster: m.cfg.Cluster, ClusterID: m.self.Cluster, Self: m.cfg.ID}
	var force roster.Roster
	for _, r := range rosters {
		s.Rosters = append(s.Rosters, r.Members())
	}
	if len(rosters) > 0 {
		force = rosters[0]
	}
	if force.HasRemoved(m.cfg.ID) {
		m.die(ErrRemoved)
	}
	s.Members = append(s.Members, m.member(m.cfg.ID, m.self, force, m.selfState(force), now))
	for id, p := range m.peers {
		if state, shown := p.state(force, id); shown {
			s.Members = append(s.Members, m.member(id, p.info, force, state, now))
		}
	}
	for _, id := range force.Members() {
		if _, known := s.Member(id); !known {
			s.Members = append(s.Members, m.member(id, info{Name: id[:8]}, force, Failed, now))
		}
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	m.snapshot.Store(s)
}

func (m *Membership) selfState(force roster.Roster) State {
	switch {
	case force.IsZero():
		return Joining
	case !force.Has(m.cfg.ID):
		return Syncing
	case m.self.Stopped:
		return Stopped
	case m.self.Draining:
		return Draining
	}
	return Alive
}

// state returns how a peer stands to a roster, and whether it is shown at all: members always,
// others while they gossip and want in.
func (p *peer) state(force roster.Roster, id string) (State, bool) {
	if !force.Has(id) {
		switch {
		case force.HasRemoved(id) || !p.gossiping || p.info.Stopped:
			return "", false
		case p.info.Cluster == force.Cluster && !force.IsZero():
			return Syncing, true
		}
		return Joining, p.info.Seeks
	}
	switch {
	case p.info.Stopped:
		return Stopped, true
	case !p.gossiping:
		return Failed, true
	case p.silent:
		return Suspect, true
	case p.info.Draining:
		return Draining, true
	}
	return Alive, true
}

// member builds the public form and notes when the state was entered. The caller holds mu.
func (m *Membership) member(id string, i info, force roster.Roster, state State, now time.Time) Member {
	before, known := m.states[id]
	if !known || before.state != state {
		m.states[id] = entered{state, now}
		if known || id != m.cfg.ID {
			m.logger.Info("member "+string(state), "node", i.Name, "id", id, "address", i.Address, "before", string(before.state))
		}
	}
	p := m.peers[id]
	return Member{
		ID: id, Name: i.Name, Address: i.Address, Version: i.Version,
		State: state, Since: m.states[id].since, Counted: force.Has(id),
		Live:   id == m.cfg.ID || (state == Alive || state == Draining || state == Syncing) && p != nil && !p.silent,
		Synced: i.Synced,
	}
}

// Failed reports that a request to a node got no answer: it is not live until one does.
func (m *Membership) Failed(id string, err error) {
	m.setSilent(id, true, err)
}

// Answered reports that a request to a node got an answer.
func (m *Membership) Answered(id string) {
	if member, known := m.Snapshot().Member(id); known && member.Live {
		return // the usual case, without the lock
	}
	m.setSilent(id, false, nil)
}

func (m *Membership) setSilent(id string, silent bool, err error) {
	m.mu.Lock()
	p, known := m.peers[id]
	changed := known && p.silent != silent
	if changed {
		p.silent = silent
		m.refresh()
	}
	away := known && !silent && !p.gossiping
	m.mu.Unlock()
	if changed && silent {
		m.logger.Debug("member does not answer", "id", id, "error", err)
	}
	if away {
		notify(m.rejoin) // it answers, so gossip can reach it again
	}
}

// Address returns where node id is reached.
func (m *Membership) Address(id string) (string, bool) {
	member, known := m.Snapshot().Member(id)
	return member.Address, known && member.Address != ""
}

// saveMembers makes what is known of the roster's members durable, if it changed.
func (m *Membership) saveMembers() {
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = false
	infos := m.rosterInfos()
	m.mu.Unlock()
	if !dirty {
		return
	}
	b, err := json.MarshalIndent(infos, "", "  ")
	if err == nil {
		err = m.cfg.Storage.SaveState(membersState, append(b, '\n'))
	}
	if err != nil {
		m.logger.Warn("names and addresses of members not saved", "error", err)
	}
}

// rosterInfos returns the infos of the roster's members, self included. The caller holds mu.
func (m *Membership) rosterInfos() map[string]info {
	infos := map[string]info{m.cfg.ID: m.self}
	r := m.ledger.Roster()
	for id, p := range m.peers {
		if r.Has(id) {
			infos[id] = p.info
		}
	}
	return infos
}

// learnInfos takes in what another node knows of the roster's members.
func (m *Membership) learnInfos(infos map[string]info) {
	m.update(func() {
		r := m.ledger.Roster()
		for _, id := range slices.Sorted(maps.Keys(infos)) {
			if id != m.cfg.ID && r.Has(id) && infos[id].validate() == nil {
				m.learn(id, infos[id])
			}
		}
	})
}

// learn takes the later of two infos of a node and returns the node. The caller holds mu.
func (m *Membership) learn(id string, i info) *peer {
	p, known := m.peers[id]
	if !known {
		p = &peer{}
		m.peers[id] = p
	}
	if !known || i.At > p.info.At {
		p.info = i
		m.dirty = true
	}
	return p
}

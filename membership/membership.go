package membership

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/roster"
)

// Membership is this node's part in the cluster. All methods are safe for concurrent use.
type Membership struct {
	cfg    Config
	logger hclog.Logger
	ledger *roster.Ledger

	snapshot atomic.Pointer[Snapshot]
	list     *memberlist.Memberlist // set by Start
	keyring  *memberlist.Keyring    // nil: gossip is not encrypted
	updating sync.Mutex             // held during list.UpdateNode
	keying   sync.Mutex             // held while keyring changes
	measures measures

	mu     sync.Mutex // guards all below; never held while calling memberlist, which calls us with its lock held
	self   info
	told   info             // self as it was last given a time
	lastAt int64            // Invariant: not below the At of any info of this node that anybody was told
	peers  map[string]*peer // by id, all but self
	states map[string]entered
	moves  []move    // entered states that are not logged yet
	birth  time.Time // when this process founded a cluster, zero if it did not

	inForce       roster.Roster // at the last refresh
	rosterChanges uint64

	// former are the other members of a cluster that this node has no roster of any more, from the
	// time before its data was set aside: it must get back to them. It may be empty, and is nil
	// for a node that never was in a cluster. Set by New.
	former map[string]info
	// others are the members and learners besides this node that were saved last, as long as
	// there were any.
	others map[string]info

	wake, changed, rejoin chan struct{} // one for each loop
	sought                chan struct{} // closed once seek has been everywhere
	rounds                atomic.Uint64 // of tend
	fatal                 chan error
	doomed                atomic.Bool // there was a fatal error: this process speaks for nobody any more
	started               atomic.Bool
	stop                  context.CancelFunc
	stopOnce              func()
	loops                 sync.WaitGroup
	departing             sync.Mutex  // held by Leave
	leaving               atomic.Bool // that this node was removed is no news, Leave will tell
	refused               atomic.Bool // another node refused a request of this one, since it was removed
	warned                sync.Map    // texts of warnings that were given
}

// peer is what is known of another node.
type peer struct {
	info info
	// gossiping: memberlist holds it for alive or suspect.
	gossiping bool
	// silent: the last request to it got no answer.
	silent bool
	// backAt is when it last was heard again, by gossip or an answer, after not being heard.
	backAt time.Time
	origin uint64
	// metAt and packetAt are when it last began to gossip and when it last answered a packet.
	metAt, packetAt time.Time
	// blocked: it was said that packets to it get no answer.
	blocked bool
}

// New returns the membership of one node, as its storage remembers it. It starts nothing and
// talks to nobody before Start. A node that has no roster and no seeds founds a cluster, unless
// its storage remembers members, be it only itself: it was in a cluster then, and founds none, also
// with seeds. The addresses of those members are seeds besides those given. ErrRemoved: its cluster has given this node up. ErrOtherName: the data belongs to
// a cluster of another name.
func New(cfg Config) (*Membership, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Membership{
		cfg: cfg, logger: cfg.Logger.Named("membership"),
		self:  info{Name: cfg.Name, Address: cfg.Address, Version: cfg.Version},
		peers: make(map[string]*peer), states: make(map[string]entered),
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), rejoin: make(chan struct{}, 1), fatal: make(chan error, 1),
		sought: make(chan struct{}),
	}
	m.stopOnce = sync.OnceFunc(m.shutDown)
	var err error
	if m.keyring, err = newKeyring(cfg.Keys); err != nil {
		return nil, err
	}
	saved, err := cfg.Storage.LoadState(rosterState)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m.ledger, err = roster.Open(roster.Config{
		Self: cfg.ID, Saved: saved,
		Save:    func(b []byte) error { return cfg.Storage.SaveState(rosterState, b) },
		Changed: func() { m.update(func() {}) },
	})
	if err != nil {
		return nil, err
	}
	if m.ledger.Roster().HasRemoved(cfg.ID) {
		return nil, ErrRemoved
	}
	if err := m.loadMembers(); err != nil {
		return nil, err
	}
	m.update(func() {})
	if err := m.keepName(); err != nil {
		return nil, err
	}
	if m.ledger.Roster().IsZero() && len(cfg.Seeds) == 0 && !m.exiled() {
		if err := m.found("no seeds were given"); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Snapshot returns the cluster as this node sees it now.
func (m *Membership) Snapshot() *Snapshot { return m.snapshot.Load() }

// Fatal gives the reason why this process must end, if there ever is one: ErrTwin or ErrRemoved,
// which Leave brings about, too.
func (m *Membership) Fatal() <-chan error { return m.fatal }

// Sought is closed once this node has looked for others wherever some may be, whether it found any or not.
func (m *Membership) Sought() <-chan struct{} { return m.sought }

// Rounds is how often this node has looked after the cluster since Start, which it does about once a second also if nothing
// happens. One that stands still hangs, on its disk or by a fault of its own.
func (m *Membership) Rounds() uint64 { return m.rounds.Load() }

// Refused tells that another node refused a request of this one, with ErrTwin or ErrRemoved
// (wrapped or not): this process must end. Other errors mean nothing here.
func (m *Membership) Refused(err error) {
	if errors.Is(err, ErrRemoved) {
		m.refused.Store(true)
	}
	if errors.Is(err, ErrTwin) || errors.Is(err, ErrRemoved) {
		m.die(err)
	}
}

func (m *Membership) die(err error) {
	if m.leaving.Load() && errors.Is(err, ErrRemoved) {
		return
	}
	m.doomed.Store(true)
	select {
	case m.fatal <- err:
	default: // one reason is enough
	}
}

// SetSynced tells the others whether this node has all that it should have, so that it counts
// for reads and may be promoted. When the node becomes a member, or a learner in another cluster
// than that of which it was a member, it has to be told anew: that is taken for false then.
func (m *Membership) SetSynced(synced bool) { m.update(func() { m.self.Synced = synced }) }

// SetDraining tells the others that they are to choose other nodes, since this one is drained, stops or leaves, or not any more.
func (m *Membership) SetDraining(draining bool) { m.update(func() { m.self.Draining = draining }) }

// update runs change with the lock held, makes a new snapshot, and lets the loops look at it.
func (m *Membership) update(change func()) {
	m.mu.Lock()
	change()
	m.refresh()
	moves := m.moves
	m.moves = nil
	m.mu.Unlock()
	for _, move := range moves {
		if m.started.Load() { // before that nothing has happened, it is only read from disk
			move.log(m.logger)
		}
	}
	notify(m.wake)
	notify(m.changed)
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is awake already
	}
}

// Failed reports that a request sent to a node at the given time got no answer: it is not live
// until one does. If the node has come back since then, that is no news: a request that was on
// its way when a split healed ends after the first that got through.
func (m *Membership) Failed(id string, sent time.Time, err error) {
	member, known := m.Snapshot().Member(id)
	if !known || !member.Live {
		return
	}
	m.update(func() {
		if p, known := m.peers[id]; known && !sent.Before(p.backAt) {
			p.silent = true
			m.logger.Debug("member does not answer", "node", member.Name, "id", id, "error", err)
		}
	})
}

// Answered reports that a request to a node got an answer.
func (m *Membership) Answered(id string) {
	if member, known := m.Snapshot().Member(id); !known || member.Live {
		return
	}
	away := false
	m.update(func() {
		if p, known := m.peers[id]; known {
			p.silent, p.backAt = false, time.Now()
			away = !p.gossiping
		}
	})
	if away {
		notify(m.rejoin) // it answers, so gossip can reach it again
	}
}

// synced reports whether this node says of itself that it is synced. A member that runs on an old
// copy of its data is not; it may have promised or accepted what the copy knows nothing of, so
// that a second roster could follow the one it knows. Once it has caught up it knows better: it
// then pulled from so many that one of them took part in whatever was decided.
func (m *Membership) synced() bool {
	self, _ := m.Snapshot().Member(m.cfg.ID)
	return self.Synced
}

// Address returns where node id is reached.
func (m *Membership) Address(id string) (string, bool) {
	member, known := m.Snapshot().Member(id)
	return member.Address, known && member.Address != ""
}

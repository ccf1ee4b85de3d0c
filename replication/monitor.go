package replication

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	// DefaultInterval is the pace of a Monitor.
	DefaultInterval = 1 * time.Second
	// MaxSkew is how far the own clock may be from the median of the peers' clocks.
	MaxSkew = 250 * time.Millisecond
	// MaxSkewRTT is the longest round trip of an exchange that tells anything about clocks: the
	// error of a sample is up to half of it.
	MaxSkewRTT = 100 * time.Millisecond
	// skewIntervals is for how many intervals a sample holds: a clock that was set right since
	// must not be judged by what was seen before.
	skewIntervals = 10
)

// MonitorConfig is what a Monitor works with. Zero durations mean defaults, functions and
// Logger may be nil; all else is required.
type MonitorConfig struct {
	// Replica is this node's.
	Replica *Replica
	Members Members
	Peers   Peers
	// Memory is told what the peers have seen.
	Memory *Memory
	// Interval is the time between two exchanges with one peer, 1 s by default, give or take
	// a quarter. Lower, and frozen peers are noticed and forgiven sooner, at more traffic.
	Interval time.Duration
	// Silence is how long one exchange may take, DefaultSilence by default.
	Silence time.Duration
	// Heard, unless nil, is called after each exchange with what the peer has seen, which must
	// not be changed. It must not block, and is called for several peers at a time.
	Heard func(id string, theirs *seen.Set)
	// Compared, unless nil, is called after each exchange with what this node told and what the
	// peer did: Mender.Compared. It must not block, and is called for several peers at a time.
	Compared func(id string, mine, theirs Status)
	// GoneBack, unless nil, is called once, if what peers know of this node proves that its
	// data is an older copy of itself. The reason wraps ErrGoneBack. The node must stop, give
	// that data up and start anew with none. It must not block.
	GoneBack func(reason error)
	// Logger gets what peers' clocks say about the own one; nil means none.
	Logger hclog.Logger
}

// Validate returns all that is wrong with the configuration, joined, and changes nothing.
func (cfg MonitorConfig) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(cfg.Replica != nil, "Replica is missing")
	require(cfg.Members != nil, "Members is missing")
	require(cfg.Peers != nil, "Peers is missing")
	require(cfg.Memory != nil, "Memory is missing")
	require(cfg.Interval >= 0, "Interval %v is below 0", cfg.Interval)
	require(cfg.Silence >= 0, "Silence %v is below 0", cfg.Silence)
	return errors.Join(errs...)
}

// Monitor tells live peers from others and knows how far each has got: it exchanges Status
// with every other member again and again, each at its own pace, live or not. So it is what
// finds out that a silent peer is back. Safe for concurrent use.
type Monitor struct {
	cfg MonitorConfig

	mu       sync.Mutex // guards the fields below
	peers    map[string]peer
	checked  bool
	goneBack error
}

// peer is what the last exchange with one peer told, or the last that tells of its clock.
type peer struct {
	status PeerStatus
	seen   *seen.Set // never changed
	// skewAt is when status.Skew was measured.
	skewAt time.Time
	// tried: an exchange with it was made in this process, compared: one that it answered.
	tried, compared bool
}

// PeerStatus is what is known of a peer since its last exchange with this node.
type PeerStatus struct {
	// At is when it answered.
	At time.Time
	// Origin is the number its process drew at its start.
	Origin uint64
	// RTT is how long the exchange took.
	RTT time.Duration
	// Skew is how far its wall clock is ahead of this node's, 0 if SkewKnown is false: no
	// exchange was quick enough to tell, see MaxSkewRTT.
	Skew      time.Duration
	SkewKnown bool
	// Keys is the number of its live keys.
	Keys uint64
	// Behind is how many writes this node knows of now that the peer is not known to have.
	Behind uint64
	// Tombstones is the number of deleted keys whose tombstones it still has.
	Tombstones uint64
	// Pulled and Offered tell how far its pull under way has got, in keys, while it is not
	// synced; 0 if there is none.
	Pulled, Offered uint64
}

// NewMonitor returns a monitor, or all that is wrong with cfg. It does nothing until Run.
func NewMonitor(cfg MonitorConfig) (*Monitor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("monitor configuration: %w", err)
	}
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.Silence == 0 {
		cfg.Silence = DefaultSilence
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	cfg.Logger = cfg.Logger.Named("replication")
	return &Monitor{cfg: cfg, peers: make(map[string]peer)}, nil
}

// Run watches until ctx ends, and returns when all that it started has ended. It is called
// once.
func (m *Monitor) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	watched := make(map[string]context.CancelFunc)
	defer func() {
		for _, cancel := range watched {
			cancel()
		}
	}()
	// Members come and go rarely; looking four times an interval is soon enough for a new one
	// and costs next to nothing.
	look := time.NewTicker(max(1, m.cfg.Interval/4))
	defer look.Stop()
	var skewed bool
	for {
		view := m.cfg.Members.View()
		for id, cancel := range watched {
			if _, known := view.Member(id); !known {
				cancel()
				delete(watched, id)
			}
		}
		for _, member := range view.Members {
			if _, known := watched[member.ID]; known || member.ID == view.Self {
				continue
			}
			each, cancel := context.WithCancel(ctx)
			watched[member.ID] = cancel
			running.Go(func() {
				m.watch(each, member.ID)
				m.forget(member.ID)
			})
		}
		if err := m.Skew(); (err != nil) != skewed {
			if skewed = err != nil; skewed {
				m.cfg.Logger.Warn("wall clock differs from the peers' clocks", "error", err)
			} else {
				m.cfg.Logger.Info("wall clock agrees with the peers' clocks")
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// watch exchanges with one peer until ctx ends.
func (m *Monitor) watch(ctx context.Context, id string) {
	for ctx.Err() == nil {
		m.exchange(ctx, id)
		// Jitter keeps nodes that started together from asking each other in step.
		_ = sleep(ctx, m.cfg.Interval*3/4+rand.N(m.cfg.Interval/2+1)) // it fails when ctx ends
	}
}

// exchange does one exchange and enters what it told.
func (m *Monitor) exchange(ctx context.Context, id string) {
	asked, cancel := context.WithTimeout(ctx, m.cfg.Silence)
	defer cancel()
	mine := m.cfg.Replica.seen()
	status := m.cfg.Replica.status()
	status.SeenHash = mine.Hash()
	status.Recall = !m.compared(id)

	began, sent := time.Now(), m.cfg.Replica.now()
	theirs, err := m.cfg.Peers.Exchange(asked, id, status)
	answered := m.cfg.Replica.now()
	if ctx.Err() != nil {
		return
	}
	if err == nil && status.Recall && theirs.Recalled == nil {
		err = fmt.Errorf("%w: it does not say what it was told", errNonsense)
	}
	if err != nil {
		m.cfg.Members.Failed(id, began, err)
		m.mu.Lock()
		defer m.mu.Unlock()
		p := m.peers[id]
		p.tried = true
		m.peers[id] = p
		return
	}
	if theirs.Seen == nil {
		theirs.Seen = mine // as it was sent: claiming more for the peer would hide what it lacks
	}
	if !m.check(id, theirs) {
		return
	}
	m.cfg.Memory.Tell(id, theirs.Life, theirs.Seen)
	m.enter(id, theirs, sent, answered)
	m.cfg.Members.Answered(id)
	m.cfg.Replica.clock.Observe(theirs.Clock)
	if m.cfg.Heard != nil {
		m.cfg.Heard(id, theirs.Seen)
	}
	if m.cfg.Compared != nil {
		m.cfg.Compared(id, status, theirs)
	}
}

func (m *Monitor) enter(id string, theirs Status, sent, answered time.Time) {
	rtt := answered.Sub(sent)
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[id]
	p.seen = theirs.Seen
	p.tried, p.compared = true, true
	p.status.Tombstones, p.status.Pulled, p.status.Offered = theirs.Tombstones, theirs.Pulled, theirs.Offered
	p.status.At, p.status.Origin, p.status.Keys, p.status.RTT = answered, theirs.Origin, theirs.Keys, rtt
	// A negative round trip means that the clock was set meanwhile.
	if 0 <= rtt && rtt <= MaxSkewRTT {
		p.status.Skew, p.status.SkewKnown = theirs.Wall.Sub(sent.Add(rtt/2)), true
		p.skewAt = time.Now()
	}
	m.peers[id] = p
}

func (m *Monitor) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.peers, id)
}

// Peer returns what is known of the peer with the given id; false if it has never answered.
func (m *Monitor) Peer(id string) (PeerStatus, bool) {
	mine := m.cfg.Replica.seen()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[id]
	if p.seen == nil {
		return PeerStatus{}, false
	}
	p.status.Behind = mine.Missing(p.seen)
	return p.status, true
}

// compared reports whether the node's data was compared with what a peer knows of it.
func (m *Monitor) compared(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.peers[id].compared
}

// check returns whether what a peer told leaves it open that this node's data is what it was;
// it does not if that went back in time.
func (m *Monitor) check(id string, theirs Status) bool {
	reason := m.cfg.Replica.compare(id, theirs)
	if reason == nil {
		return true
	}
	m.mu.Lock()
	first := m.goneBack == nil
	if first {
		m.goneBack = reason
	}
	m.mu.Unlock()
	if first {
		m.cfg.Logger.Error("this node's data is an old copy", "error", reason)
		if m.cfg.GoneBack != nil {
			m.cfg.GoneBack(reason)
		}
	}
	return false
}

// Checked reports whether this node may rely on its data: it compared with what every live
// member knows of it, and with one at least unless it is alone in its rosters. That stays so
// until something proves that the data went back in time; then it is false for good.
func (m *Monitor) Checked() bool {
	view := m.cfg.Members.View()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.goneBack != nil || len(view.Rosters) == 0 {
		return false
	}
	if !m.checked {
		m.checked = m.comparedWithAll(view)
	}
	return m.checked
}

// comparedWithAll is the rule of Checked. The caller holds m.mu.
func (m *Monitor) comparedWithAll(view *View) bool {
	others, compared := 0, 0
	for _, member := range view.Members {
		if member.ID == view.Self || !(quorum{view: view}).counts(member.ID) {
			continue
		}
		others++
		p := m.peers[member.ID]
		switch {
		case p.compared:
			compared++
		case member.Live || !p.tried:
			// Right after the start nobody is known to be live; an exchange tells.
			return false
		}
	}
	return others == 0 || compared > 0
}

// AllHave returns nil once every live member, and one at least, has told that it has seen all
// that this node has seen when AllHave is called. The error is ctx's.
func (m *Monitor) AllHave(ctx context.Context) error {
	mine := m.cfg.Replica.seen()
	for !m.allHave(mine) {
		if err := sleep(ctx, max(1, m.cfg.Interval/10)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Monitor) allHave(mine *seen.Set) bool {
	view := m.cfg.Members.View()
	m.mu.Lock()
	defer m.mu.Unlock()
	have := 0
	for _, member := range view.Members {
		if member.ID == view.Self || !member.Live || !(quorum{view: view}).counts(member.ID) {
			continue
		}
		if p := m.peers[member.ID]; p.seen == nil || mine.Missing(p.seen) > 0 {
			return false
		}
		have++
	}
	return have > 0
}

// Skew returns nil, or an error that says by how much the own wall clock differs from the
// median of the peers' if that is more than MaxSkew. It takes two peers at least to tell who
// is wrong. Of an even number whatever lies between the middle two is a median, and the one
// nearest to the own clock counts: two peers that disagree accuse nobody else.
func (m *Monitor) Skew() error {
	m.mu.Lock()
	var skews []time.Duration
	for _, p := range m.peers {
		if p.status.SkewKnown && time.Since(p.skewAt) <= skewIntervals*m.cfg.Interval {
			skews = append(skews, p.status.Skew)
		}
	}
	m.mu.Unlock()
	if len(skews) < 2 {
		return nil
	}
	slices.Sort(skews)
	low, high := skews[(len(skews)-1)/2], skews[len(skews)/2]
	median := max(low, min(0, high))
	if median.Abs() <= MaxSkew {
		return nil
	}
	direction := "behind"
	if median < 0 {
		direction = "ahead of"
	}
	return fmt.Errorf("wall clock is %v %s the median of %d peers, more than %v",
		median.Abs().Round(time.Millisecond), direction, len(skews), MaxSkew)
}

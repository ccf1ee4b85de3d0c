package membership

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/protocol7/snakes/membership/roster"
)

// Start begins to gossip and to look for the others. It returns once this node listens to
// them, not once it has found them.
func (m *Membership) Start() error {
	conf, err := m.listConfig()
	if err != nil {
		return err
	}
	if m.list, err = memberlist.Create(conf); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	m.loops.Go(func() { m.tend(ctx) })
	m.loops.Go(func() { m.publish(ctx) })
	m.loops.Go(func() { m.seek(ctx) })
	return nil
}

// Stop tells the others that this node ends in good order and is expected back, ends gossip,
// and waits for all that Start began. Later calls do nothing. It takes three seconds at most.
func (m *Membership) Stop() {
	if m.list != nil {
		m.stopped()
	}
}

func (m *Membership) leave() {
	m.stopping.Store(true)
	m.stop()
	if !m.doomed.Load() {
		m.sayGoodbye()
	}
	if err := m.list.Shutdown(); err != nil {
		m.logger.Debug("gossip did not end in good order", "error", err)
	}
	m.loops.Wait()
	m.saveMembers()
}

// sayGoodbye tells the others that this node stops: those that answer directly, all by gossip.
func (m *Membership) sayGoodbye() {
	m.update(func() { m.self.Stopped = true })
	m.mu.Lock()
	last := m.self
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout/2)
	defer cancel()
	var all sync.WaitGroup
	for _, member := range m.Snapshot().Members {
		if member.ID != m.cfg.ID && member.Live {
			all.Go(func() {
				if _, err := m.ask(ctx, member.ID, member.Address, message{Stopping: &last}); err != nil {
					m.logger.Debug("member not told of the stop", "node", member.Name, "error", err)
				}
			})
		}
	}
	all.Wait()
	for _, step := range []func() error{
		func() error { return m.updateNode(askTimeout / 2) },
		func() error { return m.list.Leave(askTimeout / 2) },
	} {
		if err := step(); err != nil {
			m.logger.Debug("stop not broadcast", "error", err)
		}
	}
}

// publish lets gossip carry what this node tells about itself, whenever that changes. It has a
// loop of its own since it waits until the news has been sent.
func (m *Membership) publish(ctx context.Context) {
	var told int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
		}
		m.mu.Lock()
		at := m.self.At
		m.mu.Unlock()
		if at == told || m.doomed.Load() {
			continue
		}
		told = at
		if err := m.updateNode(m.cfg.Pace / 2); err != nil {
			m.logger.Debug("update not broadcast yet", "error", err)
		}
	}
}

// updateNode broadcasts what this node tells about itself. memberlist's own method reads what
// it writes without a lock, so there is one call at a time.
func (m *Membership) updateNode(timeout time.Duration) error {
	m.updating.Lock()
	defer m.updating.Unlock()
	return m.list.UpdateNode(timeout)
}

// tend looks after the cluster whenever something changed, and now and then.
func (m *Membership) tend(ctx context.Context) {
	tick := time.NewTicker(m.cfg.Pace / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-tick.C:
		}
		m.settle(ctx)
		m.tendRoster(ctx)
		m.saveMembers()
		m.noticeBlockedPackets()
	}
}

// settle finds this node a cluster if it has none, or only one of its own that it would leave.
func (m *Membership) settle(ctx context.Context) {
	before := m.ledger.Roster()
	m.mu.Lock()
	mine := m.self
	var hosts, seekers []string // ids that gossip and have a better cluster; that also seek
	addresses := make(map[string]string)
	for id, p := range m.peers {
		switch {
		case !p.gossiping || p.info.Stopped || p.info.Cluster != "" && p.info.Cluster == mine.Cluster:
		case p.info.Cluster != "" && (!p.info.Seeks || mine.Cluster == "" || id < m.cfg.ID):
			hosts = append(hosts, id)
		case p.info.Cluster == "":
			seekers = append(seekers, id)
		}
		addresses[id] = p.info.Address
	}
	m.mu.Unlock()
	if !mine.Seeks || len(before.Added) > 1 { // mine may be older than before, not newer
		return
	}
	slices.Sort(hosts)
	for _, id := range hosts {
		if m.learnFrom(ctx, before, id, addresses[id]) {
			return
		}
	}
	if mine.Cluster == "" && len(hosts) == 0 && len(seekers) > 0 && m.cfg.ID < slices.Min(seekers) && m.undisturbed() {
		m.found("lowest id of those that look for each other")
	}
}

// undisturbed reports whether nobody has appeared for a while.
func (m *Membership) undisturbed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.gossiping && time.Since(p.metAt) < m.cfg.SettleFor {
			return false
		}
	}
	return true
}

// learnFrom makes this node a learner in the cluster of another, unless its own roster, which
// has nobody or itself alone, has changed since before.
func (m *Membership) learnFrom(ctx context.Context, before roster.Roster, id, address string) bool {
	a, err := m.ask(ctx, id, address, message{News: &news{}})
	if err != nil || a.News == nil || a.News.Knowledge.Roster.IsZero() {
		m.logger.Debug("no roster to learn", "id", id, "address", address, "error", err)
		return false
	}
	r := a.News.Knowledge.Roster
	if r.HasRemoved(m.cfg.ID) {
		m.die(ErrRemoved)
		return false
	}
	if err := m.ledger.Join(before, r); err != nil {
		m.logger.Warn("roster not taken over", "id", id, "error", err)
		return false
	}
	m.logger.Info("joined a cluster", "cluster_id", r.Cluster, "members", len(r.Members()), "through", address)
	m.hearOf(*a.News)
	return true
}

func (m *Membership) found(why string) {
	if err := m.ledger.Join(roster.Roster{}, roster.Found(m.cfg.ID)); err != nil {
		m.logger.Warn("cluster not founded", "error", err)
		return
	}
	m.update(func() { m.founded = time.Now() })
	m.logger.Info("founded a cluster", "cluster_id", m.ledger.Roster().Cluster, "why", why)
}

// seek dials seeds and members that are not alive, for ever: memberlist itself forgets a dead
// node and would never heal a long split.
func (m *Membership) seek(ctx context.Context) {
	m.introduce(ctx)
	var onlySelfSince time.Time
	warned := false
	for !m.doomed.Load() {
		reached, onlySelf := m.dialAll(ctx)
		joining := !m.Snapshot().Joined()
		switch {
		case !joining || !onlySelf:
			onlySelfSince = time.Time{}
		case onlySelfSince.IsZero():
			onlySelfSince = time.Now()
		case time.Since(onlySelfSince) >= m.cfg.FoundAfter:
			m.found("no seed is another node")
		}
		if joining && !reached && !onlySelf && !warned {
			warned = true
			m.logger.Warn("no seed answers yet; trying for ever", "seeds", m.cfg.Seeds)
		}
		pause := m.cfg.RejoinEvery
		if joining {
			pause = min(pause/4, m.cfg.FoundAfter/4)
		}
		pause = pause*3/4 + rand.N(pause/2)
		select {
		case <-ctx.Done():
			return
		case <-m.rejoin:
		case <-time.After(pause):
		}
	}
}

// introduce says hello to the members known from earlier before gossip spreads this node's
// address: if one of them knows another live process with its id, this one ends unheard.
func (m *Membership) introduce(ctx context.Context) {
	var all sync.WaitGroup
	for _, member := range m.Snapshot().Members {
		if member.ID != m.cfg.ID && member.Address != "" {
			all.Go(func() {
				_, err := m.ask(ctx, member.ID, member.Address, message{Ping: true})
				m.Refused(err)
			})
		}
	}
	all.Wait()
}

// dialAll tries every address at which somebody may be who does not gossip with this node. It
// reports whether anybody was there, and whether all seeds are this node itself.
func (m *Membership) dialAll(ctx context.Context) (reached, onlySelf bool) {
	targets, seeds, unresolved := m.targets(ctx)
	others := make(map[netip.AddrPort]bool) // outcome by address that is not known to be our own
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, target := range targets {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			_, err := m.list.Join([]string{target.String()})
			if err != nil {
				m.logger.Debug("nobody joined", "address", target.String(), "error", err)
			}
			mu.Lock()
			defer mu.Unlock()
			others[target] = err == nil
		})
	}
	all.Wait()
	alone := m.list.NumMembers() == 1
	onlySelf = len(seeds) > 0 && !unresolved && alone
	for _, seed := range seeds {
		// An address that answers while we know nobody is our own under another name.
		if answers, dialed := others[seed]; dialed && !answers {
			onlySelf = false
		}
	}
	return !alone, onlySelf
}

// targets returns the addresses to dial, those that the seeds stand for, and whether some seed
// stands for none now.
func (m *Membership) targets(ctx context.Context) (targets, seeds []netip.AddrPort, unresolved bool) {
	skip := make(map[netip.AddrPort]bool) // ourselves and those who gossip with us already
	for _, own := range append(resolve(ctx, m.cfg.Address), m.cfg.Transport.Addr()) {
		skip[own] = true
	}
	var away []string
	s := m.Snapshot()
	for _, member := range s.Members {
		if member.ID == m.cfg.ID {
			continue
		}
		gossiping := member.State != Failed && member.State != Stopped
		for _, a := range resolve(ctx, member.Address) {
			if gossiping {
				skip[a] = true
			} else if !slices.Contains(away, a.String()) {
				away = append(away, a.String())
				targets = append(targets, a)
			}
		}
	}
	for _, seed := range m.cfg.Seeds {
		addresses := resolve(ctx, seed)
		if len(addresses) == 0 {
			m.logger.Debug("seed does not resolve", "seed", seed)
			unresolved = true
		}
		seeds = append(seeds, addresses...)
	}
	targets = append(targets, seeds...)
	slices.SortFunc(targets, netip.AddrPort.Compare)
	targets = slices.DeleteFunc(slices.Compact(targets), func(a netip.AddrPort) bool { return skip[a] })
	return targets, seeds, unresolved
}

// resolve returns all addresses that HOST:PORT stands for, none if it cannot be told now.
func resolve(ctx context.Context, address string) []netip.AddrPort {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil
	}
	var all []netip.AddrPort
	for _, ip := range ips {
		if a, err := netip.ParseAddrPort(net.JoinHostPort(ip.Unmap().String(), port)); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// noticeBlockedPackets says by name whose UDP is blocked while TCP is not: such a member is
// still found, but its failures are noticed late and others may take it for dead.
func (m *Membership) noticeBlockedPackets() {
	m.mu.Lock()
	defer m.mu.Unlock()
	patience := time.Duration(5*(len(m.peers)+1)) * m.cfg.Pace
	for id, p := range m.peers {
		since := p.metAt
		if p.packetAt.After(since) {
			since = p.packetAt
		}
		blocked := p.gossiping && !p.silent && time.Since(since) > patience
		if blocked != p.blocked {
			p.blocked = blocked
			if blocked {
				m.logger.Warn("udp to a member seems blocked while tcp is not; open the port for udp too",
					"node", p.info.Name, "id", id, "address", p.info.Address)
			}
		}
	}
}

package membership

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// settle finds this node a cluster if it seeks one.
func (m *Membership) settle(ctx context.Context) {
	before := m.ledger.Roster()
	hosts, seekers := m.candidates(before)
	for _, host := range hosts {
		if m.joinCluster(ctx, before, host) {
			return
		}
	}
	if before.IsZero() && !m.exiled() && len(hosts) == 0 && len(seekers) > 0 && m.cfg.ID < slices.Min(seekers) && m.undisturbed() {
		if err := m.found("lowest id of those that look for each other"); err != nil {
			m.logger.Warn("cluster not founded", "error", err)
		}
	}
}

// host is a node whose cluster a seeker may join.
type host struct{ id, address string }

// candidates returns, for a node that seeks, the members of other clusters that it may join,
// and the nodes that have none either. Of two clusters of one that both seek, the one with the
// higher id gives way.
func (m *Membership) candidates(before roster.Roster) (hosts []host, seekers []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.seeks(before) {
		return nil, nil
	}
	for id, p := range m.peers {
		switch {
		case !p.gossiping || p.info.Stopped:
		case p.info.Cluster == "":
			seekers = append(seekers, id)
		case p.info.Cluster == before.Cluster || !p.info.Counted:
		case !p.info.Seeks || !before.Has(m.cfg.ID) || id < m.cfg.ID:
			hosts = append(hosts, host{id, p.info.Address})
		}
	}
	slices.SortFunc(hosts, func(a, b host) int { return cmp.Compare(a.id, b.id) })
	return hosts, seekers
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

// joinCluster makes this node a learner in the cluster of another, unless its own roster has
// changed since before.
func (m *Membership) joinCluster(ctx context.Context, before roster.Roster, of host) bool {
	a, err := m.ask(ctx, of.id, of.address, message{News: &news{}})
	if err != nil || a.News == nil || !a.News.Knowledge.Roster.Has(of.id) {
		m.logger.Debug("no cluster to join", "id", of.id, "address", of.address, "error", err)
		return false
	}
	r := a.News.Knowledge.Roster
	if r.HasRemoved(m.cfg.ID) {
		m.die(ErrRemoved)
		return false
	}
	if err := m.ledger.Join(before, r); err != nil {
		m.logger.Warn("cluster not joined", "id", of.id, "error", err)
		return false
	}
	m.logger.Info("joined a cluster", "cluster_id", r.Cluster, "members", len(r.Members()), "address", of.address)
	m.hearOf(*a.News)
	return true
}

// exiled reports whether this node was in a cluster and has no roster of it any more. It founds no
// cluster by itself then: its own may go on somewhere, and whoever wants its data expects it there.
func (m *Membership) exiled() bool { return m.former != nil && m.ledger.Roster().IsZero() }

// found makes this node the first member of a new cluster.
func (m *Membership) found(why string) error {
	if err := m.ledger.Join(roster.Roster{}, roster.Found(m.cfg.ID)); err != nil {
		return err
	}
	m.update(func() { m.birth = time.Now() })
	m.logger.Info("founded a cluster", "cluster_id", m.ledger.Roster().Cluster, "why", why)
	return nil
}

package membership

import (
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/protocol7/snakes/membership/roster"
)

// entered is a state and when a member entered it, as seen here.
type entered struct {
	state State
	since time.Time
}

// move is a member's change of state.
type move struct {
	member Member
	before State
}

func (v move) log(logger hclog.Logger) {
	facts := []any{"node", v.member.Name, "state", string(v.member.State)}
	if v.before != "" {
		facts = append(facts, "before", string(v.before))
	}
	logger.Info("member changed state", append(facts, "address", v.member.Address, "id", v.member.ID)...)
}

// standing is what the ledger says of nodes: who counts, who is known otherwise.
type standing struct {
	force    roster.Roster
	learners []string // ascending
}

func (m *Membership) standing() standing {
	learners := m.ledger.Learners() // first: a learner that is being promoted must not be missed
	return standing{m.ledger.Roster(), learners}
}

// enrolled reports whether a node is known durably, and was not removed.
func (s standing) enrolled(id string) bool {
	_, learns := slices.BinarySearch(s.learners, id)
	return learns || s.force.Has(id)
}

// refresh derives what this node tells of itself and the snapshot from all that is known. The
// caller holds mu.
func (m *Membership) refresh() {
	now := m.cfg.Now()
	stands := m.standing()
	if stands.force.HasRemoved(m.cfg.ID) {
		m.die(ErrRemoved)
	}
	m.refreshSelf(stands.force, now)
	if m.started.Load() && !stands.force.Equal(m.inForce) {
		m.rosterChanges++
	}
	m.inForce = stands.force
	s := &Snapshot{Cluster: m.cfg.Cluster, ClusterID: stands.force.Cluster, Self: m.cfg.ID}
	for _, r := range m.ledger.Rosters() {
		s.Rosters = append(s.Rosters, r.Members())
	}
	maps.DeleteFunc(m.peers, func(id string, p *peer) bool {
		return !p.gossiping && !stands.enrolled(id) // it comes and goes, and nobody misses it
	})
	ids := slices.Concat(stands.force.Members(), stands.learners, slices.Collect(maps.Keys(m.peers)), []string{m.cfg.ID})
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if member, shown := m.member(id, stands, now); shown {
			s.Members = append(s.Members, member)
		}
	}
	for id := range m.states {
		if _, shown := s.Member(id); !shown {
			delete(m.states, id)
		}
	}
	m.snapshot.Store(s)
}

// refreshSelf derives what this node tells of itself, under a new time if that is news. The
// time is above every one that it ever had, also if the clock was set back since.
func (m *Membership) refreshSelf(force roster.Roster, now time.Time) {
	mine := m.self
	counted := force.Has(m.cfg.ID)
	if counted != mine.Counted {
		// What it had as a learner is not enough for a member, and what it had in a cluster of
		// its own is not for a learner in another: that would let it count at once.
		mine.Synced = false
	}
	mine.Cluster, mine.Counted, mine.Seeks = force.Cluster, counted, m.seeks(force)
	if sameButTime(mine, m.told) && m.told.At == m.lastAt {
		return
	}
	m.lastAt = max(now.UnixNano(), m.lastAt+1)
	mine.At = m.lastAt
	m.self, m.told = mine, mine
}

// seeks reports whether this node would rather be in another cluster than in that of its
// roster: it has none, or was told to join others and is alone in it, or is a learner in one of
// which nobody is left. The caller holds mu.
func (m *Membership) seeks(r roster.Roster) bool {
	switch {
	case r.IsZero():
		return true
	case len(m.cfg.Seeds) == 0 || r.HasRemoved(m.cfg.ID):
		return false
	case r.Has(m.cfg.ID):
		return len(r.Members()) == 1
	}
	for _, p := range m.peers {
		if p.gossiping && p.info.Counted && p.info.Cluster == r.Cluster {
			return false
		}
	}
	return true
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

// state returns the state of a peer, and whether it is shown at all: whoever is enrolled always,
// others while they gossip and look for a cluster.
func (p *peer) state(id string, stands standing) (State, bool) {
	switch {
	case !stands.force.Has(id) && stands.enrolled(id):
		return Syncing, true
	case !stands.force.Has(id):
		ours := p.info.Cluster == stands.force.Cluster && !stands.force.IsZero() // it will be enrolled
		return Joining, p.info.Seeks && !p.gone() && !ours && !stands.force.HasRemoved(id)
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

// gone reports whether a peer is not heard, or said that it stops. One that gossips but does
// not answer is not gone.
func (p *peer) gone() bool { return !p.gossiping || p.info.Stopped }

// gone reports whether node id is gone as far as this node can tell.
func (m *Membership) gone(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, known := m.peers[id]
	return id != m.cfg.ID && (!known || p.gone())
}

// member builds the public form and notes when the state was entered. The caller holds mu.
func (m *Membership) member(id string, stands standing, now time.Time) (Member, bool) {
	member := Member{ID: id, Counted: stands.force.Has(id), Enrolled: stands.enrolled(id)}
	i, shown := m.self, true
	if id == m.cfg.ID {
		member.State, member.Live = m.selfState(stands.force), true
	} else {
		p, known := m.peers[id]
		if !known {
			p = &peer{info: info{Name: id[:8]}}
		}
		i = p.info
		member.State, shown = p.state(id, stands)
		member.Live = member.Enrolled && !p.gone() && !p.silent && (member.Counted || i.Cluster == stands.force.Cluster)
	}
	if !shown {
		return Member{}, false
	}
	before, known := m.states[id]
	if !known || before.state != member.State {
		m.states[id] = entered{member.State, now}
	}
	member.Name, member.Address, member.Version = i.Name, i.Address, i.Version
	member.Synced = i.Synced && (i.Counted || !member.Counted) // said as what it is now
	member.Since = m.states[id].since
	if before.state != member.State && (known || id != m.cfg.ID) {
		m.moves = append(m.moves, move{member, before.state})
	}
	return member, true
}

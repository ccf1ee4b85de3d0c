package membership

import (
	"cmp"
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

// refresh derives what this node tells of itself and the snapshot from all that is known. The
// caller holds mu.
func (m *Membership) refresh() {
	now := m.cfg.Now()
	rosters := m.ledger.Rosters()
	var force roster.Roster
	if len(rosters) > 0 {
		force = rosters[0]
	}
	if force.HasRemoved(m.cfg.ID) {
		m.die(ErrRemoved)
	}
	m.refreshSelf(force, now)
	s := &Snapshot{Cluster: m.cfg.Cluster, ClusterID: force.Cluster, Self: m.cfg.ID}
	for _, r := range rosters {
		s.Rosters = append(s.Rosters, r.Members())
	}
	s.Members = append(s.Members, m.member(m.cfg.ID, m.self, force, m.selfState(force), now))
	for id, p := range m.peers {
		if !p.gossiping && !force.Has(id) {
			delete(m.peers, id) // it comes and goes, and nobody misses it
		} else if state, shown := p.state(force, id); shown {
			s.Members = append(s.Members, m.member(id, p.info, force, state, now))
		}
	}
	for _, id := range force.Members() {
		if _, known := s.Member(id); !known {
			s.Members = append(s.Members, m.member(id, info{Name: id[:8]}, force, Failed, now))
		}
	}
	slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
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
	if force.Has(m.cfg.ID) && !mine.Counted {
		mine.Synced = false // what it had as a learner is not enough for a member
	}
	mine.Cluster, mine.Counted, mine.Seeks = force.Cluster, force.Has(m.cfg.ID), m.seeks(force)
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
	case len(m.cfg.Seeds) == 0:
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
	}
	p := m.peers[id]
	member := Member{
		ID: id, Name: i.Name, Address: i.Address, Version: i.Version,
		State: state, Since: m.states[id].since, Counted: force.Has(id),
		Live:   id == m.cfg.ID || (state == Alive || state == Draining || state == Syncing) && p != nil && !p.silent,
		Synced: i.Synced && (i.Counted || !force.Has(id)), // said as what it is now
	}
	if before.state != state && (known || id != m.cfg.ID) {
		m.moves = append(m.moves, move{member, before.state})
	}
	return member
}

package membership

import (
	"context"
	"errors"
	"slices"

	"github.com/protocol7/snakes/membership/roster"
)

// enrollLearners makes durable who gossips as a node of this cluster without being a member; the
// snapshot shows it then. memberlist's callbacks leave it to tend, since it waits for the disk.
func (m *Membership) enrollLearners() {
	m.mu.Lock()
	stands := m.standing()
	var newcomers []string
	for id, p := range m.peers {
		ours := p.info.Cluster == stands.force.Cluster && !stands.force.IsZero()
		if ours && !p.gone() && !stands.enrolled(id) && !stands.force.HasRemoved(id) {
			newcomers = append(newcomers, id)
		}
	}
	m.mu.Unlock()
	for _, id := range newcomers {
		if err := m.Enroll(id); err != nil && !errors.Is(err, ErrRemoved) {
			m.logger.Debug("learner not enrolled", "id", id, "error", err)
		}
	}
}

// nextChange returns what is to be done for the roster next.
func (m *Membership) nextChange(ctx context.Context, r roster.Roster) (roster.Change, bool) {
	if change, found := m.nextPromotion(ctx, r); found {
		return change, true
	}
	return m.nextGhost(ctx, r)
}

// nextPromotion returns the change that lets the next learner count: it replaces a member of
// the same name or address that is gone, so that a wiped or new machine leaves no ghost.
func (m *Membership) nextPromotion(ctx context.Context, r roster.Roster) (roster.Change, bool) {
	s := m.Snapshot()
	if !hasTeachers(s, r) {
		return roster.Change{}, false
	}
	for _, learner := range s.Members {
		if learner.State != Syncing || !learner.Synced || !learner.Live || r.Has(learner.ID) || r.HasRemoved(learner.ID) {
			continue
		}
		gone, hold := m.predecessor(ctx, s, learner)
		if hold || !m.answers(ctx, learner) { // gossip may not have noticed that it is dead
			continue
		}
		change := roster.Change{Add: learner.ID, Remove: gone}
		if _, err := r.With(change); err == nil {
			return change, true
		}
	}
	return roster.Change{}, false
}

// hasTeachers reports whether a majority of the members is live and synced. A new member needs
// so many to catch up from before it is synced itself: if two were let in at once, each could
// wait for the other for ever.
func hasTeachers(s *Snapshot, r roster.Roster) bool {
	synced := 0
	for _, member := range s.Members {
		if r.Has(member.ID) && member.Counted && member.Live && member.Synced {
			synced++
		}
	}
	return synced > len(r.Members())/2
}

// predecessor returns the id of the member that a learner replaces, if any, or tells to hold
// the learner until it is clear whether a member of its name or address is alive or gone.
func (m *Membership) predecessor(ctx context.Context, s *Snapshot, learner Member) (gone string, hold bool) {
	for _, member := range s.Members {
		sameAddress := member.Address == learner.Address
		if !member.Counted || member.Name != learner.Name && !sameAddress {
			continue
		}
		if member.ID == m.cfg.ID {
			continue
		}
		if m.gone(member.ID) {
			return member.ID, false
		}
		if !m.answers(ctx, member) {
			return "", true // dead, but gossip has not noticed yet
		}
	}
	return "", false
}

// nextGhost returns the change that removes a node which somebody else has taken the place of.
// A machine that was wiped before its node counted, or when it was about to, leaves one each time,
// and deletes would wait for it for ever.
func (m *Membership) nextGhost(ctx context.Context, r roster.Roster) (roster.Change, bool) {
	s := m.Snapshot()
	for _, ghost := range s.Members {
		if !ghost.Enrolled || r.HasRemoved(ghost.ID) || !m.gone(ghost.ID) {
			continue
		}
		succeeded := m.anonymous(ghost) || slices.ContainsFunc(s.Members, func(heir Member) bool {
			return heir.ID != ghost.ID && heir.Counted && heir.Live && succeeds(heir, ghost, r.Has(ghost.ID))
		})
		// Another node may use its name by chance; it answers, though gossip has not found it yet.
		if succeeded && !m.answers(ctx, ghost) {
			return roster.Change{Remove: ghost.ID}, true
		}
	}
	return roster.Change{}, false
}

// anonymousFor is how long a learner of which nobody knows more than the id is waited for, in
// paces: far longer than gossip takes to tell its name.
const anonymousFor = 60

// anonymous reports whether nothing but the id is known of a learner, and for long. Its disk
// was wiped, or it asked for something once and was never heard again, and whoever had heard its name
// ended before that was saved.
func (m *Membership) anonymous(learner Member) bool {
	return !learner.Counted && learner.Address == "" && m.cfg.Now().Sub(learner.Since) >= anonymousFor*m.cfg.Pace
}

// succeeds reports whether a member that counts stands where a node that is gone stood. Nothing is
// lost with a learner. A member may be expected back, so one of them must have been meant to be the
// other: two may have the same name by chance, and addresses are given out anew.
func succeeds(heir, gone Member, counted bool) bool {
	sameName, sameAddress := heir.Name == gone.Name, heir.Address == gone.Address
	if counted {
		return sameName && sameAddress
	}
	return sameName || sameAddress
}

// answers reports whether a node can be reached now, whatever gossip says of it.
func (m *Membership) answers(ctx context.Context, member Member) bool {
	_, err := m.ask(ctx, member.ID, member.Address, message{Ping: true})
	return err == nil
}

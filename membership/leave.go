package membership

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// Leave removes this node from the cluster for good, by agreement of a majority of the members,
// itself included, so that N is one less. It returns once another node knows that durably; then
// Fatal gives ErrRemoved, and this process must end. Whatever only this node has is lost to the
// others, so they must have it all before. Calls at once wait for each other.
//
// Errors: ErrLastMember if no other member is left, ErrNotMember for a learner or a node that is
// still joining, ErrNoMajority, with ErrMinority if it was not even tried; the change may come
// into force later all the same. An error that wraps that of ctx: the change is in force, but no
// other member answered before ctx ended. Leave should then be called again: without this node
// the others may be too few to find out.
func (m *Membership) Leave(ctx context.Context) error {
	m.departing.Lock()
	defer m.departing.Unlock()
	m.leaving.Store(true) // so that nobody stops this process before it has told others
	if err := m.agreeToLeave(ctx); err != nil {
		m.leaving.Store(false)
		m.update(func() {})
		return err
	}
	// Who refuses this node knows, too. It may be all that is heard: those that refuse what others
	// here ask of them seem not to answer, and are told nothing more.
	for !m.refused.Load() && m.tell(ctx) == 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("left, but no other member knows yet: %w", ctx.Err())
		case <-time.After(m.cfg.Pace / 4):
		}
	}
	m.leaving.Store(false)
	m.die(ErrRemoved)
	return nil
}

// agreeToLeave returns nil once this node is removed.
func (m *Membership) agreeToLeave(ctx context.Context) error {
	switch r := m.ledger.Roster(); {
	case r.HasRemoved(m.cfg.ID):
		return nil
	case !r.Has(m.cfg.ID):
		return ErrNotMember
	case len(r.Members()) == 1:
		return ErrLastMember
	}
	change := roster.Change{Remove: m.cfg.ID}
	err := m.change(ctx, func(r roster.Roster) (roster.Change, bool) { return change, r.Has(m.cfg.ID) })
	switch r := m.ledger.Roster(); {
	case r.HasRemoved(m.cfg.ID):
		return nil
	case errors.Is(err, roster.ErrBadChange) && len(r.Members()) == 1:
		return ErrLastMember // the others left meanwhile
	}
	return err
}

package membership

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/membership/roster"
)

// changeTimeout bounds the search for a majority for one change of the roster.
const changeTimeout = 5 * time.Second

// Forget removes a member or learner that is not alive for good. Without a member N is one less.
// nameOrID is its name or node id. It waits until a majority has accepted, changeTimeout at
// most. With force it goes on without a majority, which is for operators who know that the
// others are gone for ever: if they are not, they still count quorums in the old roster.
//
// Errors: ErrUnknownMember, ErrMemberAlive, *AmbiguousError, ErrNoMajority, with ErrMinority if it
// was not even tried.
func (m *Membership) Forget(ctx context.Context, nameOrID string, force bool) error {
	target, err := m.find(nameOrID)
	if err != nil {
		return err
	}
	if !m.gone(target.ID) {
		return fmt.Errorf("%w: %s is %s", ErrMemberAlive, target.Name, target.State)
	}
	change := roster.Change{Remove: target.ID}
	err = m.change(ctx, func(r roster.Roster) (roster.Change, bool) { return change, !r.HasRemoved(target.ID) })
	if errors.Is(err, ErrNoMajority) && force {
		m.logger.Warn("member forgotten without a majority", "node", target.Name, "id", target.ID)
		err = m.ledger.Force(change)
		m.tell(ctx)
	}
	if errors.Is(err, roster.ErrBadChange) && m.ledger.Roster().HasRemoved(target.ID) {
		return nil // somebody else did it
	}
	return err
}

// find returns the one member or learner with a name or id.
func (m *Membership) find(nameOrID string) (Member, error) {
	var found []Member
	for _, member := range m.Snapshot().Members {
		if member.ID == nameOrID {
			return member, nil
		}
		if member.Name == nameOrID && member.Enrolled {
			found = append(found, member)
		}
	}
	switch len(found) {
	case 0:
		return Member{}, fmt.Errorf("%w: %s", ErrUnknownMember, nameOrID)
	case 1:
		return found[0], nil
	}
	ambiguous := &AmbiguousError{Name: nameOrID}
	for _, member := range found {
		ambiguous.IDs = append(ambiguous.IDs, member.ID)
	}
	return Member{}, ambiguous
}

// change brings about what want asks for and tells the others.
func (m *Membership) change(ctx context.Context, want func(roster.Roster) (roster.Change, bool)) error {
	s := m.Snapshot()
	if !s.Joined() {
		return fmt.Errorf("%w: %w: this node is still joining", ErrNoMajority, ErrMinority)
	}
	reachable := 0
	for _, member := range s.Members {
		if member.Counted && member.Live {
			reachable++
		}
	}
	if reachable <= s.Known()/2 {
		return fmt.Errorf("%w: %w: %d of %d", ErrNoMajority, ErrMinority, reachable, s.Known())
	}
	if !m.synced() {
		return fmt.Errorf("%w: %w: this node", ErrNoMajority, ErrNotSynced)
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	before := m.ledger.Roster()
	err := m.ledger.Change(ctx, m.sendAgree, want)
	if now := m.ledger.Roster(); !now.Equal(before) {
		m.logger.Info("roster changed", "members", len(now.Members()), "removed", len(now.Removed))
		m.tell(ctx)
	}
	if errors.Is(err, roster.ErrNoMajority) {
		return fmt.Errorf("%w: %w", ErrNoMajority, err)
	}
	return err
}

func (m *Membership) sendAgree(ctx context.Context, id string, ask roster.Message) (roster.Reply, error) {
	address, known := m.Address(id)
	if !known {
		return roster.Reply{}, errors.New("address not known")
	}
	a, err := m.ask(ctx, id, address, message{Agree: &ask})
	if err != nil {
		return roster.Reply{}, err
	}
	if a.Agree == nil {
		return roster.Reply{}, errors.New("answer without a reply")
	}
	return *a.Agree, nil
}

// tell gives what this node knows to all that answer, learners included, and waits for them.
// Gossip would do it too, later. It returns how many other members know the roster now.
func (m *Membership) tell(ctx context.Context) (informed int32) {
	n := m.news()
	var count atomic.Int32
	var all sync.WaitGroup
	for _, member := range m.Snapshot().Members {
		// Who knows already that this node has left refuses all that it asks, so that it is not
		// taken for live any more.
		if member.ID == m.cfg.ID || !member.Live && !m.leaving.Load() {
			continue
		}
		all.Go(func() {
			a, err := m.ask(ctx, member.ID, member.Address, message{News: &n})
			if err != nil || a.News == nil {
				return
			}
			m.hearOf(*a.News)
			if member.Counted && a.News.Knowledge.Roster.Contains(n.Knowledge.Roster) {
				count.Add(1)
			}
		})
	}
	all.Wait()
	return count.Load()
}

// backlog is since when there has been something to do for the roster; zero if there is not.
type backlog struct{ since time.Time }

// tendRoster lets learners count, removes ghosts and completes changes left half done. One
// member does it for all: the live one with the lowest id. If that one makes nothing of it, the
// next one does. Two that do it at once agree all the same, only slower.
func (m *Membership) tendRoster(ctx context.Context, work *backlog) {
	want := func(r roster.Roster) (roster.Change, bool) { return m.nextChange(ctx, r) }
	turn, mine := m.turn()
	if !mine {
		return
	}
	if _, found := want(m.ledger.Roster()); !found && !m.ledger.Pending() {
		*work = backlog{}
		return
	}
	if work.since.IsZero() {
		work.since = time.Now()
	}
	if time.Since(work.since) < time.Duration(turn)*5*m.cfg.Pace {
		return
	}
	if err := m.change(ctx, want); err != nil && ctx.Err() == nil {
		m.logger.Debug("roster not changed", "error", err)
	}
}

// turn returns how many members come before this one in tending the roster, and whether this
// one tends it at all.
func (m *Membership) turn() (before int, mine bool) {
	m.mu.Lock()
	young := !m.birth.IsZero() && len(m.cfg.Seeds) > 0 && time.Since(m.birth) < m.cfg.SettleFor
	m.mu.Unlock()
	if young {
		return 0, false // it may yet give way to another cluster of one
	}
	for _, member := range m.Snapshot().Members {
		if member.ID == m.cfg.ID {
			return before, member.Counted
		}
		if member.Counted && member.Live {
			before++
		}
	}
	return before, false
}

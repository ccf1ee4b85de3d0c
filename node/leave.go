package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/protocol7/snakes/membership"
	"github.com/protocol7/snakes/replication"
)

const (
	// leaveStep is how long a node that leaves waits for the others before it says so and tries
	// again.
	leaveStep = 10 * time.Second
	// leavePause is the time between two tries that fail at once.
	leavePause = time.Second
)

// errTooFewStay is returned for a leave after which the other members could not serve.
var errTooFewStay = errors.New("too few members would be alive")

// Leave implements operations: Run leaves the cluster and ends.
func (n *Node) Leave() error {
	if n.leaving.Load() {
		return nil
	}
	s := n.membership.Snapshot()
	self, _ := s.Member(n.id)
	live := 0
	for _, m := range s.Members {
		if m.Counted && m.Live {
			live++
		}
	}
	switch majority := replication.Majority(s.Known()); {
	case !s.Joined():
		return refuse(replication.ErrNotReady, "This node is in no cluster yet, so there is nothing to leave.")
	case !self.Counted:
		return membership.ErrNotMember
	case s.Known() == 1:
		return membership.ErrLastMember
	case live < majority:
		missed := &replication.QuorumError{Op: "leave", Need: majority, Alive: live, Known: s.Known(), Written: replication.WrittenNo}
		return refuse(missed, "%d of %s must agree that this node leaves, and %s alive. Try again when more are.",
			majority, count(s.Known(), "member", "members"), count(live, "is", "are"))
	case !n.syncer.Synced():
		return refuse(replication.ErrNotReady, "This node is catching up, and only a node that has can leave. Try again when it is ready, or end it and forget it.")
	case live-1 < replication.Majority(s.Known()-1):
		return refuse(errTooFewStay, "Of the %s that would stay %s alive, too few for any write. Start the others, or forget those that are gone for good, and try again.",
			count(s.Known()-1, "member", "members"), count(live-1, "is", "are"))
	}
	if n.leaving.CompareAndSwap(false, true) {
		n.leaves <- struct{}{} // there is room: the word before was taken before leaving was false again
	}
	return nil
}

// AcceptLoss implements operations.
func (n *Node) AcceptLoss() error {
	switch {
	case !n.membership.Snapshot().Joined():
		return replication.ErrNotReady
	case n.syncer.Synced():
		return errSynced
	}
	n.logger.Warn("loss accepted: what only members have that are not live is given up")
	n.syncer.AcceptLoss()
	return nil
}

// depart waits until this node is to leave, and leaves. It returns once membership has told that
// it has, or when ctx ends.
func (n *Node) depart(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.leaves:
		}
		err := n.leaveOrStay(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		n.coordinator.Replica().Thaw()
		n.logger.Error("this node does not leave; it takes writes again", "error", err)
		n.stay()
	}
}

// leaveOrStay returns nil once this node has left, ErrLastMember if all others did before, or any
// error if ctx ends.
func (n *Node) leaveOrStay(ctx context.Context) error {
	n.logger.Info("leaving the cluster for good; waiting until the other members have everything")
	// What is written here from now on might be nowhere else when this node is gone.
	n.coordinator.Replica().Freeze(fmt.Errorf("%w: it leaves the cluster", replication.ErrClosed))
	n.goAway()
	for {
		err := n.tryToDepart(ctx)
		if err == nil || errors.Is(err, membership.ErrLastMember) || ctx.Err() != nil {
			return err
		}
		n.logger.Warn("this node has not left yet; trying again", "error", err, "again_in", leavePause)
		if !sleep(ctx, leavePause) {
			return ctx.Err()
		}
	}
}

func (n *Node) tryToDepart(ctx context.Context) error {
	step, cancel := context.WithTimeoutCause(ctx, leaveStep, fmt.Errorf("not done after %v", leaveStep))
	defer cancel()
	s := n.membership.Snapshot()
	// Who does not count any more has only to tell the others. Who is the only member waits for
	// nobody, and is told so by Leave.
	if self, _ := s.Member(n.id); self.Counted && s.Known() > 1 {
		if err := n.monitor.AllHave(step); err != nil {
			return fmt.Errorf("wait until the live members have everything: %w", context.Cause(step))
		}
	}
	return n.membership.Leave(step)
}

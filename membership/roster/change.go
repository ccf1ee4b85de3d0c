package roster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Send carries a message to the ledger of node id and returns its reply.
type Send func(ctx context.Context, id string, m Message) (Reply, error)

// ErrNoMajority is returned by Change when ctx ended before a majority of the roster in force
// had accepted the change. It may still come into force: somebody else may complete it.
var ErrNoMajority = errors.New("no majority accepted the change")

// Change brings about the change that want asks for, and completes on the way any other that
// it finds under way. want is called with each roster in force in turn and returns false once
// nothing is left to do. Change returns when it does, or with an error that wraps
// ErrNoMajority when ctx ends, or with want's or the ledger's own error.
//
// send is called concurrently, for other nodes only, and must return when its context ends.
func (l *Ledger) Change(ctx context.Context, send Send, want func(Roster) (Change, bool)) error {
	for {
		base := l.Roster()
		change, wanted := want(base)
		if !wanted {
			if _, pending := l.pending(); !pending {
				return nil
			}
			change = Change{}
		}
		if !base.Has(l.cfg.Self) {
			return fmt.Errorf("%w: only members propose changes", ErrBadChange)
		}
		err := l.decide(ctx, send, base, change)
		if err == nil {
			continue
		}
		if !errors.Is(err, errRefused) {
			return err
		}
		pause := time.Duration(10+rand.IntN(100)) * time.Millisecond // two proposers at once part ways
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNoMajority, err)
		case <-time.After(pause):
		}
	}
}

// errRefused means that this attempt got no majority; the next may.
var errRefused = errors.New("refused")

// decide runs one ballot for what follows base, in the two phases of Paxos.
func (l *Ledger) decide(ctx context.Context, send Send, base Roster, change Change) error {
	m := Message{From: l.Knowledge(), Base: base.Hash(), Ballot: l.nextBallot(), Want: change}
	promises, err := l.ask(ctx, send, base, m)
	if err != nil {
		return err
	}
	next, found := accepted(promises)
	if !found && change != (Change{}) {
		if next, err = base.With(change); err != nil {
			return err
		}
		found = true
	}
	if !found {
		if next, found = l.pending(); !found {
			return nil // it came into force meanwhile
		}
	}
	m.Next, m.Want = &next, Change{}
	if _, err = l.ask(ctx, send, base, m); err != nil {
		return err
	}
	return l.Merge(Knowledge{Roster: next})
}

// accepted returns the roster accepted under the highest ballot.
func accepted(promises []Reply) (next Roster, found bool) {
	var highest Ballot
	for _, p := range promises {
		if p.From.Accepted != nil && (!found || p.Ballot.compare(highest) > 0) {
			next, highest, found = *p.From.Accepted, p.Ballot, true
		}
	}
	return next, found
}

// ask sends m to all members of base and returns the replies of those that said yes, once
// they are a majority. Its own ledger comes first: what it has promised there is durable, so
// this node never uses a ballot twice.
func (l *Ledger) ask(ctx context.Context, send Send, base Roster, m Message) (yes []Reply, err error) {
	own, err := l.Answer(m)
	if err != nil {
		return nil, err
	}
	if !own.OK {
		return nil, fmt.Errorf("%w by this node", errRefused)
	}
	members := base.Members()
	yes = append(yes, own)
	answers := make(chan answer, len(members)) // room for all, those included that nobody waits for
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	var senders sync.WaitGroup
	defer senders.Wait()
	defer cancel()
	for _, id := range members {
		if id != l.cfg.Self {
			senders.Go(func() {
				r, err := send(ctx, id, m)
				answers <- answer{id, r, err}
			})
		}
	}
	var missing []error
	for n := 1; len(yes) <= len(members)/2; n++ {
		if n == len(members) {
			return nil, errors.Join(append(missing, errRefused)...)
		}
		a := <-answers
		if err := l.hear(a.reply, a.err); err != nil {
			missing = append(missing, fmt.Errorf("%s: %w", a.id, err))
		} else if a.reply.OK {
			yes = append(yes, a.reply)
		} else {
			missing = append(missing, fmt.Errorf("%s: refused, having promised round %d", a.id, a.reply.Promised.Round))
		}
	}
	return yes, nil
}

type answer struct {
	id    string
	reply Reply
	err   error
}

// hear takes in what a reply tells, whatever it answers.
func (l *Ledger) hear(r Reply, err error) error {
	if err != nil {
		return err
	}
	if err := l.Merge(r.From); err != nil {
		return err
	}
	for {
		round := l.round.Load()
		if r.Promised.Round <= round || l.round.CompareAndSwap(round, r.Promised.Round) {
			return nil
		}
	}
}

// nextBallot returns one above all that this node has promised or heard of.
func (l *Ledger) nextBallot() Ballot {
	return Ballot{Round: max(l.round.Load(), l.known.Load().Promised.Round) + 1, Node: l.cfg.Self}
}

package model

import (
	"context"
	"errors"
	"time"

	"github.com/protocol7/snakes/membership/roster"
	"github.com/protocol7/snakes/replication"
	"github.com/protocol7/snakes/replication/seen"
)

var (
	errRefused = errors.New("connection refused")
	errRemoved = errors.New("node was removed")
)

// longest bounds the time that a message is on its way.
const longest = 2 * time.Second

// passage is what becomes of one request.
type passage struct {
	there, back         time.Duration
	lost, unanswered    bool
	silently, duplicate bool // lost: the asker hears nothing; or else an error, at once
	again               time.Duration
}

func (w *world) passage(from, to string) passage {
	w.mu.Lock()
	defer w.mu.Unlock()
	delay := func() time.Duration {
		most := 80 * time.Millisecond
		switch {
		case !w.faulty:
			most /= 20
		case w.dice.IntN(20) == 0:
			most = longest
		}
		return time.Millisecond + time.Duration(w.dice.Int64N(int64(most)))
	}
	p := passage{there: delay(), back: delay()}
	if w.faulty {
		p.lost = w.cut[pair(from, to)] || w.dice.IntN(25) == 0
		p.unanswered = w.dice.IntN(25) == 0
		p.silently = w.dice.IntN(3) == 0
		p.duplicate = w.dice.IntN(15) == 0
		p.again = time.Millisecond + time.Duration(w.dice.Int64N(int64(longest)))
	}
	return p
}

// fails is the end of a request that gets no answer.
func (p passage) fails(ctx context.Context) error {
	if p.silently {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	return errRefused
}

// call has node to answer a request of from. What the answering node knows of the roster, from
// knows when call returns, whether or not it is an error that was answered.
func call[T any](ctx context.Context, from *process, to string, op func(to *process) (T, error)) (T, error) {
	var none T
	w := from.w
	if from.hasEnded() {
		return none, errRefused
	}
	way := w.passage(from.machine.name, w.named(to))
	if err := sleep(ctx, way.there); err != nil {
		return none, err
	}
	p := w.running(to)
	if way.lost || p == nil {
		return none, way.fails(ctx)
	}
	answer, err := respond(p, from, op)
	if way.duplicate {
		w.background.Go(func() {
			time.Sleep(way.again)
			if p := w.running(to); p != nil {
				_, _ = respond(p, from, op) // nobody waits for it
			}
		})
	}
	if p.hasEnded() || way.unanswered {
		return none, way.fails(ctx)
	}
	stamp, news := p.ledger.Stamp(), p.ledger.Knowledge()
	if err := sleep(ctx, way.back); err != nil {
		return none, err
	}
	switch {
	case from.hasEnded():
		return none, errRefused
	case errors.Is(err, errRemoved):
		from.refused()
		return none, err
	case stamp != from.ledger.Stamp():
		if err := from.hear(news); err != nil {
			return none, err
		}
	}
	return answer, err
}

// respond has p carry out a request of another node.
func respond[T any](p, from *process, op func(to *process) (T, error)) (T, error) {
	if p.ledger.Roster().HasRemoved(from.id) {
		var none T
		return none, errRemoved
	}
	return op(p)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(max(d, time.Millisecond)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// peers carries one process's requests.
type peers struct{ from *process }

var _ replication.Peers = peers{}

// Write implements replication.Peers.
func (n peers) Write(ctx context.Context, id string, records []replication.Record) ([]replication.Outcome, error) {
	outcomes, err := call(ctx, n.from, id, func(to *process) ([]replication.Outcome, error) {
		return to.coordinator.Replica().Write(records), nil
	})
	for _, o := range outcomes {
		n.from.clock.Observe(o.Current.Version.Timestamp)
	}
	return outcomes, err
}

// Lookup implements replication.Peers.
func (n peers) Lookup(ctx context.Context, id, key string) (replication.Meta, error) {
	held, err := call(ctx, n.from, id, func(to *process) (replication.Meta, error) {
		return to.coordinator.Replica().Lookup(key)
	})
	n.from.clock.Observe(held.Version.Timestamp)
	return held, err
}

// Fetch implements replication.Peers.
func (n peers) Fetch(ctx context.Context, id, key string) (replication.Record, error) {
	r, err := call(ctx, n.from, id, func(to *process) (replication.Record, error) {
		return to.coordinator.Replica().Fetch(key)
	})
	n.from.clock.Observe(r.Version.Timestamp)
	return r, err
}

// Silent implements replication.Peers. No call waits for others here.
func (n peers) Silent(string, time.Time) bool { return true }

// OpenPull implements replication.Peers.
func (n peers) OpenPull(ctx context.Context, id string, mine *seen.Set) (replication.Pull, error) {
	news := n.from.ledger.Knowledge()
	return call(ctx, n.from, id, func(to *process) (replication.Pull, error) {
		if err := to.hear(news); err != nil {
			return replication.Pull{}, err
		}
		return to.offers.OpenPull(n.from.id, mine)
	})
}

// NextPage implements replication.Peers.
func (n peers) NextPage(ctx context.Context, id string, pull, from uint64) (replication.Page, error) {
	return call(ctx, n.from, id, func(to *process) (replication.Page, error) {
		return to.offers.NextPage(pull, from)
	})
}

// Exchange implements replication.Peers.
func (n peers) Exchange(ctx context.Context, id string, mine replication.Status) (replication.Status, error) {
	theirs, err := call(ctx, n.from, id, func(to *process) (replication.Status, error) {
		to.clock.Observe(mine.Clock)
		return to.coordinator.Replica().Status(n.from.id, mine), nil
	})
	n.from.clock.Observe(theirs.Clock)
	return theirs, err
}

// Buckets implements replication.Peers.
func (n peers) Buckets(ctx context.Context, id string) ([]uint64, error) {
	return call(ctx, n.from, id, func(to *process) ([]uint64, error) {
		return to.coordinator.Replica().Buckets(), nil
	})
}

// Range implements replication.Peers.
func (n peers) Range(ctx context.Context, id string, span replication.Span) (replication.Stretch, error) {
	return call(ctx, n.from, id, func(to *process) (replication.Stretch, error) {
		return to.coordinator.Replica().Range(span)
	})
}

// Contents implements replication.Peers.
func (n peers) Contents(ctx context.Context, id string, buckets []int) ([]replication.Held, error) {
	return call(ctx, n.from, id, func(to *process) ([]replication.Held, error) {
		return to.coordinator.Replica().Contents(buckets), nil
	})
}

// agree is the roster.Send of a process.
func (n peers) agree(ctx context.Context, id string, m roster.Message) (roster.Reply, error) {
	return call(ctx, n.from, id, func(to *process) (roster.Reply, error) {
		if m.Want.Remove != n.from.id && to.wouldMiss(m.Want.Remove) || !to.self().synced && !to.w.mutant.impatient {
			return roster.Reply{}, errRefused
		}
		return to.ledger.Answer(m)
	})
}

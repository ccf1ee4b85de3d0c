package replication

import (
	"context"
	"errors"
	"time"
)

const (
	// hedgeAfter is how long a read waits for a replica before it asks another one as well, if there is
	// one that it did not need: more than look-ups take under load, less than a person notices
	// (Dean and Barroso, "The Tail at Scale", 2013, hedged requests).
	hedgeAfter = 50 * time.Millisecond
	// lateFor is for how long a replica that was late is asked after all others.
	lateFor = time.Second
)

// question is what a read asks of replicas.
type question interface {
	// here asks this node. It may run in a goroutine of its own, and uses of the question what
	// never changes.
	here(id string) reply
	// there returns the call that asks another one, which holds nothing of the question: it may
	// outlive it.
	there(ctx context.Context) func(id string) reply
	// settle enters a reply, whatever it is the reply to.
	settle(got reply)
	// converge is called when enough replicas took part. It reports whether nothing is left to do;
	// if not it has started that, and those concerned do not count until it is done.
	converge(ctx context.Context) bool
}

// gather asks replicas until enough of them took part and nothing is left to do.
func (r *request) gather(ctx context.Context, q question) error {
	if r.askHere(q) && r.weigh() == met { // what it alone has cannot differ from anything
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nobody waits for calls still under way
	r.start()
	defer r.stop()
	for {
		now := r.weigh()
		for now < hopeful && r.askAnother(ctx, q) {
			now = r.weigh()
		}
		if r.hedge && now == hopeful {
			r.askAnother(ctx, q) // whoever answers first is taken; there may be nobody left
		}
		r.hedge = false
		switch now {
		case met:
			if q.converge(ctx) {
				return nil
			}
		case hopeless:
			return r.missed("", nil)
		}
		got, ok, err := r.wait(ctx)
		switch {
		case errors.Is(err, errDeadline):
			return r.missed("", nil)
		case err != nil:
			return r.missed("", err)
		case ok:
			q.settle(got)
		}
	}
}

// askHere asks this node, if its answer alone is enough, and reports whether it did. That takes no
// goroutine, no timer and no context.
func (r *request) askHere(q question) bool {
	own := r.part(r.self)
	if !r.canAsk(r.quorum(), own) {
		return false
	}
	own.verdict = open
	if r.weigh() < hopeful {
		own.verdict = unasked
		return false
	}
	q.settle(q.here(own.id))
	return true
}

// askAnother asks one more replica and reports whether there was one. This node comes first, as
// that costs nothing, then the others, each time from another one on; last come those that are
// about to stop or were late a moment ago.
func (r *request) askAnother(ctx context.Context, q question) bool {
	now := r.quorum()
	if own := r.part(r.self); r.canAsk(now, own) {
		r.ask(own, q.here)
		return true
	}
	first := int(r.c.turn.Add(1))
	var last *part
	for i := range r.parts {
		p := &r.parts[(first+i)%len(r.parts)]
		if !r.canAsk(now, p) {
			continue
		}
		if m, _ := now.view.Member(p.id); m.Draining || r.c.wasLate(p.id) {
			last = p
			continue
		}
		r.ask(p, q.there(ctx))
		return true
	}
	if last == nil {
		return false
	}
	r.ask(last, q.there(ctx))
	return true
}

// wasLate reports whether a replica was late not long ago.
func (c *Coordinator) wasLate(id string) bool {
	at, known := c.latecomers.Load(id)
	return known && time.Since(at.(time.Time)) < lateFor
}

func (r *request) canAsk(q quorum, p *part) bool {
	m, known := q.view.Member(p.id)
	return p.verdict == unasked && known && q.usable(m) && q.counts(p.id)
}

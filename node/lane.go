package node

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication"
)

const (
	// patience is how long a batch may go without an answer before it holds back others no
	// more: as long as coordinators wait for a silent node. Lower, and a slow node gets more
	// batches at a time; higher, and the first requests to one that is back wait longer for
	// those that were lost.
	patience = replication.DefaultSilence
	// flightTime ends a batch. No call is waited for longer by whoever writes or reads.
	// With patience it bounds how many batches are on their way to a node that is silent: 10,
	// or laneWidth times that if it is silent about full ones.
	flightTime = replication.DefaultStragglerTimeout
	// batchCalls and batchBytes are what a Store takes at once, one append to its journal. A
	// batch has one call at least, whatever its size.
	batchCalls = 1024
	batchBytes = 1 << 20
	// laneWidth is how many batches are on their way to a node that answers. Only full ones go
	// beside others, so that sending one and syncing another overlap.
	laneWidth = 4
	// queueCalls and queueBytes are what may wait for a node, besides the batches on their way.
	// The bytes are those of 256 clients that put 256 KiB each, which a node that keeps up must
	// not be refused; as many calls take about as much memory. A lone call may have any size.
	queueCalls = 16384
	queueBytes = 64 << 20
)

// limits bound what a lane holds.
type limits struct {
	calls, bytes           int // of a batch that has more than one call
	width                  int // batches on their way that are not late
	queueCalls, queueBytes int
}

// batching are the limits of lanes that gather.
func batching() limits { return limits{batchCalls, batchBytes, laneWidth, queueCalls, queueBytes} }

// errCrowded is returned for calls to a node for which too many wait already. It wraps
// replication.ErrNotSent.
var errCrowded = fmt.Errorf("%w: too many requests wait for that node", replication.ErrNotSent)

// lane carries calls of one kind to one node, in batches: while one is on its way, the calls
// that come gather for the next. A call waits for nobody if none is, and there is no timer to
// gather more. What a node does not answer in time holds back no other batch, see patience; what
// is too much to wait is refused. A call ends with its own context and disturbs no other:
//
//	do ──▶ queued ──▶ on its way ──▶ answered
//	          │            │
//	          └────────────┴──▶ left
//
// All fields but those guarded are set before the first call. Safe for concurrent use.
type lane[Q, A any] struct {
	// carry sends the calls of a batch together and returns an answer for each, or an error
	// for all. It ends when ctx does. The slice is its own.
	carry func(ctx context.Context, batch []Q) ([]A, error)
	// size returns how many bytes a call takes.
	size func(call Q) int
	limits
	// begin returns the context of a batch that leaves now.
	begin func() (context.Context, context.CancelFunc)
	// running counts the batches on their way. Callers of do hold it above zero.
	running *sync.WaitGroup

	free sync.Pool // of *ticket[Q, A] that nobody else has

	mu      sync.Mutex      // guards the fields below, and those of flights
	queue   []*ticket[Q, A] // oldest first
	waiting int             // bytes of all in queue
	flying  int             // batches on their way
	late    int             // of those, the ones that are late
	heard   time.Time       // when a batch was answered last
}

// ticket is a call in a lane.
type ticket[Q, A any] struct {
	call   Q
	size   int
	flight *flight        // that carries it; nil while it is queued. Guarded by lane.mu.
	result chan result[A] // has room for the one that comes, unless the caller has left
}

type result[A any] struct {
	answer A
	err    error
}

// flight is a batch on its way. Its fields are guarded by lane.mu.
type flight struct {
	cancel  context.CancelFunc
	callers int // that have not left
	late    bool
	landed  bool
}

// do carries call and returns its answer. It returns when ctx ends, at the latest; a call that is
// on its way then may arrive nevertheless. The error is carry's, errCrowded or ctx's; it wraps
// replication.ErrNotSent if the call did not leave this node.
func (l *lane[Q, A]) do(ctx context.Context, call Q) (A, error) {
	var none A
	if err := ctx.Err(); err != nil {
		return none, notSent(err)
	}
	t, err := l.join(call)
	if err != nil {
		return none, err
	}
	select {
	case r := <-t.result:
		t.call, t.flight = *new(Q), nil
		l.free.Put(t)
		return r.answer, r.err
	case <-ctx.Done():
		return none, l.leave(t, ctx.Err())
	}
}

func notSent(err error) error { return fmt.Errorf("%w: %w", replication.ErrNotSent, err) }

// join queues a call, which leaves at once if it may.
func (l *lane[Q, A]) join(call Q) (*ticket[Q, A], error) {
	t, _ := l.free.Get().(*ticket[Q, A])
	if t == nil {
		t = &ticket[Q, A]{result: make(chan result[A], 1)}
	}
	t.call, t.size = call, l.size(call)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) >= l.queueCalls || len(l.queue) > 0 && l.waiting+t.size > l.queueBytes {
		return nil, errCrowded
	}
	l.queue = append(l.queue, t)
	l.waiting += t.size
	l.depart()
	return t, nil
}

// leave gives up a call whose context has ended with the given error. Whatever is queued lets go
// of its memory; a batch that nobody waits for any more ends, once it is late: before that its
// connection is worth more than what it costs to read the answer.
func (l *lane[Q, A]) leave(t *ticket[Q, A], err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := t.flight; f != nil {
		if f.callers--; f.callers == 0 && f.late {
			f.cancel()
		}
		return err
	}
	l.waiting -= t.size
	i := slices.Index(l.queue, t) // those that leave have mostly waited longest
	l.queue = slices.Delete(l.queue, i, i+1)
	return notSent(err)
}

// depart sends the batches that may leave now. The caller holds l.mu.
func (l *lane[Q, A]) depart() {
	for len(l.queue) > 0 {
		timely := l.flying - l.late
		full := len(l.queue) >= l.calls || l.waiting >= l.bytes
		if timely >= l.width || timely > 0 && !full {
			return
		}
		ctx, cancel := l.begin()
		batch := l.gather()
		f := &flight{cancel: cancel, callers: len(batch)}
		for _, t := range batch {
			t.flight = f
		}
		l.flying++
		l.running.Go(func() { l.fly(ctx, f, batch) })
	}
}

// gather takes the next batch out of the queue, which is not empty. The caller holds l.mu.
func (l *lane[Q, A]) gather() []*ticket[Q, A] {
	n, bytes := 1, l.queue[0].size
	for n < min(len(l.queue), l.calls) && bytes+l.queue[n].size <= l.bytes {
		bytes += l.queue[n].size
		n++
	}
	batch := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	l.waiting -= bytes
	return batch
}

// fly carries one batch and hands out its answers.
func (l *lane[Q, A]) fly(ctx context.Context, f *flight, batch []*ticket[Q, A]) {
	defer f.cancel()
	calls := make([]Q, len(batch))
	for i, t := range batch {
		calls[i] = t.call
	}
	overdue := time.AfterFunc(patience, func() { l.overdue(f) })
	answers, err := l.carry(ctx, calls)
	overdue.Stop()
	l.land(f, err == nil || isA[*remoteError](err))
	for i, t := range batch {
		if err != nil {
			t.result <- result[A]{err: err}
		} else {
			t.result <- result[A]{answer: answers[i]}
		}
	}
}

// land ends a flight and lets the next one leave.
func (l *lane[Q, A]) land(f *flight, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.landed = true
	l.flying--
	if f.late {
		l.late--
	}
	if answered {
		l.heard = time.Now()
	}
	l.depart()
}

// overdue lets others leave though f has no answer yet.
func (l *lane[Q, A]) overdue(f *flight) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.landed {
		return
	}
	f.late = true
	l.late++
	if f.callers == 0 {
		f.cancel()
	}
	l.depart()
}

// standing returns how many batches are on their way, and when one was answered last.
func (l *lane[Q, A]) standing() (flying int, heard time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying, l.heard
}

package node

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/protocol7/snakes/replication"
)

const (
	// maxReads and maxWrites are how many requests for keys are under way at a time. Throughput grows no further from some
	// hundred on; what is above only waits in more places, for a disk that hangs for instance. Each has its own, so
	// that writes to a slow disk hold up no reads.
	maxReads  = 512
	maxWrites = 512
	// maxHeld is how many bytes bodies may take in memory at a time: those that clients send, those that they are sent, and those
	// between nodes, each for themselves.
	maxHeld = 128 << 20
	// gateTime is how long a request waits to be let in: in a burst it is served late, and under lasting overload refused
	// long before its client gives up.
	gateTime = time.Second
)

// gate lets in what fits beside what is in already, in the order of coming. Safe for concurrent use.
type gate struct {
	room *semaphore.Weighted
	size int64
}

func newGate(size int64) *gate { return &gate{semaphore.NewWeighted(size), size} }

// enter waits until n fits, for gateTime at most; errOverloaded: it did not. Whoever was let in leaves with the same n. What is
// larger than the gate takes all of it.
func (g *gate) enter(ctx context.Context, n int64) error {
	n = min(n, g.size)
	if g.room.TryAcquire(n) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, gateTime)
	defer cancel()
	switch {
	case g.room.Acquire(waiting, n) == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errOverloaded
}

func (g *gate) leave(n int64) { g.room.Release(min(n, g.size)) }

// gated is a coordinator that is asked for so many things at a time only. The others wait in front of it, and those that wait for
// too long get errOverloaded: a coordinator that has taken on more than it can do in time would end late what nobody
// waits for any more, and do nothing else. For Get whoever calls it takes the place, see read.
type gated struct {
	coordinator
	reads, writes *gate
}

// Put implements coordinator.
func (g gated) Put(ctx context.Context, key string, value []byte, contentType string, level replication.Level) (replication.Receipt, error) {
	if err := g.writes.enter(ctx, 1); err != nil {
		return replication.Receipt{}, err
	}
	defer g.writes.leave(1)
	return g.coordinator.Put(ctx, key, value, contentType, level)
}

// Delete implements coordinator.
func (g gated) Delete(ctx context.Context, key string, level replication.Level) (replication.Receipt, error) {
	if err := g.writes.enter(ctx, 1); err != nil {
		return replication.Receipt{}, err
	}
	defer g.writes.leave(1)
	return g.coordinator.Delete(ctx, key, level)
}

// Inspect implements coordinator.
func (g gated) Inspect(ctx context.Context, key string) (replication.Inspection, error) {
	if err := g.reads.enter(ctx, 1); err != nil {
		return replication.Inspection{}, err
	}
	defer g.reads.leave(1)
	return g.coordinator.Inspect(ctx, key)
}

// List implements coordinator.
func (g gated) List(ctx context.Context, span replication.Span, level replication.Level) (replication.Listing, replication.Receipt, error) {
	if err := g.reads.enter(ctx, 1); err != nil {
		return replication.Listing{}, replication.Receipt{}, err
	}
	defer g.reads.leave(1)
	return g.coordinator.List(ctx, span, level)
}

package replication

import (
	"context"
	"errors"
	"sync/atomic"
)

// Outcomes counts how requests of one kind ended.
type Outcomes struct {
	// OK is how many met their level, also if there was no value.
	OK uint64
	// TooFew is how many did not, and left nothing behind: too few nodes could be asked or took
	// part in time, or this node has not joined its cluster.
	TooFew uint64
	// Unknown is how many writes did not meet their level and may be seen later all the same.
	Unknown uint64
	// Abandoned is how many ended because the client did not wait.
	Abandoned uint64
}

// CoordinatorStats counts the requests that a Coordinator was given since it was made. Those
// that make no sense, and those after Close, are not counted.
type CoordinatorStats struct {
	Puts, Deletes, Gets, Lists Outcomes
}

// Stats returns how requests ended so far. It does not block.
func (c *Coordinator) Stats() CoordinatorStats {
	return CoordinatorStats{
		Puts: c.ended.puts.outcomes(), Deletes: c.ended.deletes.outcomes(),
		Gets: c.ended.gets.outcomes(), Lists: c.ended.lists.outcomes(),
	}
}

// endings counts how requests ended.
type endings struct{ puts, deletes, gets, lists ending }

// ending counts how requests of one kind ended.
type ending struct{ ok, tooFew, unknown, abandoned atomic.Uint64 }

func (e *ending) outcomes() Outcomes {
	return Outcomes{OK: e.ok.Load(), TooFew: e.tooFew.Load(), Unknown: e.unknown.Load(), Abandoned: e.abandoned.Load()}
}

// note counts a request that ended with err.
func (e *ending) note(err error) {
	switch {
	case err == nil, errors.Is(err, ErrNotFound):
		e.ok.Add(1)
	case errors.Is(err, ErrNotReady):
		e.tooFew.Add(1)
	default:
		missed, ok := errors.AsType[*QuorumError](err)
		switch {
		case !ok: // it was refused before it began
		case errors.Is(missed.Err, context.Canceled):
			e.abandoned.Add(1)
		case missed.Written == WrittenUnknown:
			e.unknown.Add(1)
		default:
			e.tooFew.Add(1)
		}
	}
}

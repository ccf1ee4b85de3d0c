package replication

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/protocol7/snakes/replication/seen"
	"github.com/protocol7/snakes/replication/version"
)

// Backup is what this node has, once it has all that the others had. It is not safe for concurrent use and needs no Close.
type Backup struct {
	c    *Coordinator
	seen *seen.Set
}

// Backup returns a backup of all keys once this node has everything that the members had seen when it was called: all of
// those that are live and synced, or as many as are a majority and answer in time. So each write that was acknowledged
// before, by a majority, is in it; one that fewer nodes have, if one of those that took part has it.
//
// Errors: one that wraps ErrNotReady if this node has not joined or is not synced, or ErrClosed; ErrBehind if it did not
// get in time what it lacked; ErrDamaged if it does not know all its keys; or a *QuorumError, with a valid Receipt. It
// ends when ctx does and after Config.Timeout. Safe for concurrent use.
func (c *Coordinator) Backup(ctx context.Context) (*Backup, Receipt, error) {
	b, receipt, err := c.backup(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", opBackup, err)
	}
	return b, receipt, err
}

func (c *Coordinator) backup(ctx context.Context) (*Backup, Receipt, error) {
	if err := c.enter(); err != nil {
		return nil, Receipt{}, err
	}
	defer c.leave()
	if c.replica.lagging.Load() {
		return nil, Receipt{}, fmt.Errorf("%w: it has not caught up", ErrNotReady)
	}
	r := c.newRequest(opBackup, LevelQuorum)
	if err := r.admitRead(); err != nil {
		return nil, r.receipt(version.Version{}), err
	}
	r.start()
	defer r.stop()
	theirs, err := r.muster(ctx)
	receipt := r.receipt(version.Version{})
	if err != nil {
		return nil, receipt, err
	}
	if err := c.arrive(ctx, theirs, r.deadline); err != nil {
		return nil, receipt, err
	}
	if _, err := c.cfg.Store.Range(Span{Limit: 1}); err != nil {
		return nil, receipt, err
	}
	// Before anything is looked at, as in a pull.
	return &Backup{c: c, seen: c.replica.seen()}, receipt, nil
}

// muster asks all replicas that can be asked what they have seen, and returns all of it. The error is a *QuorumError.
func (r *request) muster(ctx context.Context) (*seen.Set, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // nobody waits for calls still under way
	q := r.quorum()
	for i := range r.parts {
		switch p := &r.parts[i]; {
		case p.id == r.self:
			p.verdict = acked
		case r.canAsk(q, p):
			r.ask(p, r.c.seenThere(ctx))
		}
	}
	all := new(seen.Set)
	for {
		switch now := r.weigh(); {
		case now == hopeless:
			return nil, r.missed("", nil)
		case now == met && !r.awaits():
			return all, nil
		}
		got, ok, err := r.wait(ctx)
		switch {
		case errors.Is(err, errDeadline):
			return nil, r.missed("", nil)
		case err != nil:
			return nil, r.missed("", err)
		case ok && got.err != nil:
			r.part(got.id).fail(got.err)
		case ok:
			p := r.part(got.id)
			p.verdict, p.err = acked, nil
			if got.seen != nil {
				all.Union(got.seen)
			}
		}
	}
}

// seenThere returns the call that asks a node what it has seen.
func (c *Coordinator) seenThere(ctx context.Context) func(id string) reply {
	return func(id string) reply {
		sent := time.Now()
		status, err := c.cfg.Peers.Exchange(ctx, id, c.replica.status())
		if ctx.Err() == nil { // that the caller gave up is no evidence of anything
			c.report(id, sent, err)
		}
		return reply{id: id, seen: status.Seen, err: err}
	}
}

// arrive waits until this node has seen all of theirs: what it lacks is on its way, or will be pulled.
func (c *Coordinator) arrive(ctx context.Context, theirs *seen.Set, deadline time.Time) error {
	for {
		changed := c.replica.changed.wait() // first, so that nothing comes between
		missing := theirs.Missing(c.replica.seen())
		left := time.Until(deadline)
		switch {
		case missing == 0:
			return nil
		case left <= 0:
			return fmt.Errorf("%w: %d writes did not come in time", ErrBehind, missing)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-time.After(min(left, watchLook)): // a pull that is complete rings no bell
		}
	}
}

// Seen returns what this node had seen before it looked at the records. Of each of these writes Records yields the record
// or a newer one of its key, or it was a tombstone that was collected. The set must not be changed.
func (b *Backup) Seen() *seen.Set { return b.seen }

// Records yields the current records by ascending key, tombstones included, and takes the memory of some. One that
// is damaged here is fetched from another member. An error comes last: there can be no backup then. It is ctx's, or the
// disk's, or wraps ErrDamaged if no other member has the record either.
func (b *Backup) Records(ctx context.Context) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		span := Span{Limit: MaxSpan}
		for more := true; more; {
			found, err := b.c.cfg.Store.Range(span)
			if err != nil {
				yield(Record{}, fmt.Errorf("%s: %w", opBackup, err))
				return
			}
			for _, e := range found.Entries {
				record, err := b.record(ctx, e)
				switch {
				case errors.Is(err, ErrNotFound): // a tombstone that was collected meanwhile
				case err != nil:
					yield(Record{}, fmt.Errorf("%s: key %s: %w", opBackup, e.Key, err))
					return
				case !yield(record, nil):
					return
				}
				span.After = e.Key
			}
			more = found.More
		}
	}
}

// record returns the record of a key of which this node knows e.
func (b *Backup) record(ctx context.Context, e Entry) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	record, err := b.c.replica.Fetch(e.Key)
	if !errors.Is(err, ErrDamaged) {
		return record, err
	}
	view := b.c.cfg.Members.View()
	var others []string
	for _, m := range view.Members {
		if m.ID != view.Self && m.Live && m.Synced {
			others = append(others, m.ID)
		}
	}
	record = b.c.newestOf(ctx, view.Self, e.Key, others)
	if record.Version.Compare(e.Version) < 0 || record.Version.IsZero() {
		return Record{}, err
	}
	return record, nil
}

// Collected returns, after the last record, of which writes this node may have forgotten tombstones. The set must not be
// changed.
func (b *Backup) Collected() *seen.Set { return b.c.replica.memory.Collected() }

package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/protocol7/snakes/replication/version"
)

// Get returns the newest record of key that as many replicas as level says know of. Those of
// them that had an older one, or none, have it too by the time Get returns.
//
// key must be valid, see ValidKey. The record's value must not be changed. ErrNotFound, with a
// valid Receipt: the key was never written as far as these replicas know, or it is deleted.
// Other errors: one that wraps ErrBadKey, ErrNotReady or ErrClosed, or a *QuorumError with a
// valid Receipt. Get ends when ctx does and after Config.Timeout. Safe for concurrent use.
func (c *Coordinator) Get(ctx context.Context, key string, level Level) (Record, Receipt, error) {
	record, receipt, err := c.get(ctx, key, level)
	c.ended.gets.note(err)
	return record, receipt, err
}

func (c *Coordinator) get(ctx context.Context, key string, level Level) (Record, Receipt, error) {
	if err := ValidKey(key); err != nil {
		return Record{}, Receipt{}, fmt.Errorf("%s: %w", opGet, err)
	}
	if err := c.enter(); err != nil {
		return Record{}, Receipt{}, fmt.Errorf("%s: %w", opGet, err)
	}
	defer c.leave()

	r := &read{request: c.newRequest(opGet, level), key: key}
	if err := r.admitRead(); err != nil {
		return Record{}, r.receipt(version.Version{}), err
	}
	err := r.gather(ctx, r)
	r.mend(ctx)
	if err != nil {
		return Record{}, r.receipt(version.Version{}), err
	}
	receipt := r.receipt(r.newest.Version)
	if r.newest.Version.IsZero() || r.newest.Deleted {
		return Record{}, receipt, ErrNotFound
	}
	return r.newest, receipt, nil
}

// admitRead returns nil if a read that asked nobody yet may start.
func (r *request) admitRead() error {
	if err := r.quorum().ready(); err != nil {
		return fmt.Errorf("%s: %w", r.op, err)
	}
	if r.chance() == hopeless {
		return r.missed("", nil)
	}
	return nil
}

// read is a Get on its way. A replica counts, verdict acked, while it is known to hold newest
// or not yet known to hold less:
//
//	         look up            older than newest         has it now
//	unasked ─────────▶ open ──▶ acked ───────────▶ open ──────────▶ acked
//	                    │                           │
//	                    └───────▶ failed ◀──────────┘   another is asked
type read struct {
	*request
	key string
	// newest is the newest record in hand, the zero Record if there is none.
	newest Record
}

func (r *read) here(id string) reply {
	// Body included: more often than not it is the answer.
	record, err := r.c.replica.Fetch(r.key)
	if err != nil {
		return absence(id, err)
	}
	return reply{id: id, held: record.Meta(), record: &record}
}

func (r *read) there(ctx context.Context) func(id string) reply {
	c, key := r.c, r.key
	return func(id string) reply { return c.lookThere(ctx, id, key) }
}

func (c *Coordinator) lookThere(ctx context.Context, id, key string) reply {
	sent := time.Now()
	held, err := c.cfg.Peers.Lookup(ctx, id, key)
	if ctx.Err() == nil { // that the caller gave up is no evidence of anything
		c.report(id, sent, err)
	}
	if err != nil {
		return absence(id, err)
	}
	return reply{id: id, held: held}
}

// absence is the reply of a replica that has no record to tell of: having none is an answer,
// having a damaged one is not.
func absence(id string, err error) reply {
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	return reply{id: id, err: err}
}

// fetch brings the record that a replica was found to hold, or a newer one.
func (c *Coordinator) fetch(ctx context.Context, id, key string, held Meta) reply {
	sent := time.Now()
	record, err := c.cfg.Peers.Fetch(ctx, id, key)
	switch {
	case errors.Is(err, ErrNotFound):
		err = fmt.Errorf("%w: no record where there was %v", errNonsense, held.Version)
	case err == nil && record.Key != key:
		err = fmt.Errorf("%w: record of another key", errNonsense)
	case err == nil && record.Version.Compare(held.Version) < 0:
		err = fmt.Errorf("%w: record at %v where there was %v", errNonsense, record.Version, held.Version)
	}
	if ctx.Err() == nil {
		c.report(id, sent, err)
	}
	if err != nil {
		return reply{id: id, err: err}
	}
	return reply{id: id, held: record.Meta(), record: &record}
}

// settle enters a reply, whatever it is the reply to.
func (r *read) settle(got reply) {
	p := r.part(got.id)
	if got.err != nil {
		p.fail(got.err)
		p.damaged = errors.Is(got.err, ErrDamaged)
		return
	}
	p.verdict, p.err, p.held = acked, nil, got.held
	if got.record != nil && got.record.Version.Compare(r.newest.Version) > 0 {
		r.newest = *got.record
	}
}

// converge is called when enough replicas took part. It reports whether all of them hold
// newest; if not it has started what is missing: fetching the newest record, then giving it to
// those that are behind. They do not count until that is done.
func (r *read) converge(ctx context.Context) bool {
	if holder := r.holder(); holder != nil && holder.held.Deleted {
		r.newest = Record{Key: r.key, Version: holder.held.Version, Deleted: true}
	} else if holder != nil {
		c, key, held := r.c, r.key, holder.held
		r.ask(holder, func(id string) reply { return c.fetch(ctx, id, key, held) })
		return false
	}
	done := true
	var give func(id string) reply
	for i := range r.parts {
		if p := &r.parts[i]; p.verdict == acked && p.held.Version.Compare(r.newest.Version) < 0 {
			if give == nil {
				give = r.give(ctx)
			}
			r.ask(p, give)
			done = false
		}
	}
	return done
}

// holder returns the replica with the highest version above newest, nil if there is none.
func (r *read) holder() *part {
	var holder *part
	highest := r.newest.Version
	for i := range r.parts {
		if p := &r.parts[i]; p.verdict == acked && p.held.Version.Compare(highest) > 0 {
			holder, highest = p, p.held.Version
		}
	}
	return holder
}

// give returns the call that gives newest to a replica. One that has got something still newer
// meanwhile is up to date too: that write is concurrent with this read, and following it could
// go on for ever.
func (r *read) give(ctx context.Context) func(id string) reply {
	c, self, records := r.c, r.self, []Record{r.newest}
	return func(id string) reply {
		_, err := c.give(ctx, self, id, records)
		return reply{id: id, held: records[0].Meta(), err: err}
	}
}

// mend brings the replicas that answered with a damaged record the newest one that any other
// synced one has, without waiting: they did not count, since what they had may have been newer than all
// that was seen. It does so after a read that failed, too, or the level that failed for want of
// them never could be met again.
func (r *read) mend(ctx context.Context) {
	if !slices.ContainsFunc(r.parts, func(p part) bool { return p.damaged }) {
		return
	}
	var damaged, others []string
	view := r.quorum().view
	for i := range r.parts {
		p := &r.parts[i]
		if m, known := view.Member(p.id); p.damaged {
			damaged = append(damaged, p.id)
		} else if known && m.Live && m.Synced {
			others = append(others, p.id)
		}
	}
	c, key, self := r.c, r.key, r.self
	ctx = context.WithoutCancel(ctx)
	c.running.Go(func() { c.mend(ctx, self, key, damaged, others) })
}

// mend gives the newest record of key that one of the others has to the nodes where it is
// damaged. It takes as long as their answers do, at most StragglerTimeout each.
func (c *Coordinator) mend(ctx context.Context, self, key string, damaged, others []string) {
	if _, busy := c.mending.LoadOrStore(key, true); busy {
		return
	}
	defer c.mending.Delete(key)
	newest := c.newestOf(ctx, self, key, others)
	if newest.Version.IsZero() {
		return
	}
	for _, id := range damaged {
		if _, err := c.give(ctx, self, id, []Record{newest}); err != nil {
			c.cfg.Logger.Warn("damaged record not mended", "node", id, "key", key, "error", err)
		}
	}
}

// newestOf returns the newest record of key that one of the nodes has, the zero Record if none tells of any.
func (c *Coordinator) newestOf(ctx context.Context, self, key string, ids []string) (newest Record) {
	for _, id := range ids {
		record, err := c.fetchFrom(ctx, self, id, key)
		if err == nil && record.Version.Compare(newest.Version) > 0 {
			newest = record
		}
	}
	return newest
}

// fetchFrom returns a node's record of key, be it this node or another.
func (c *Coordinator) fetchFrom(ctx context.Context, self, id, key string) (Record, error) {
	if id == self {
		return c.replica.Fetch(key)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StragglerTimeout)
	defer cancel()
	return c.cfg.Peers.Fetch(ctx, id, key)
}

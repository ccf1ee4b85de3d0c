package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	// spreadTime is for how long a batch that reached no majority is given to the members again, with spreadPause in
	// between: that some paused for a while should not end what has gone on for long.
	spreadTime  = 15 * time.Second
	spreadPause = time.Second
)

// writesAtOnce is how many keys a Restore writes at a time that gives them new versions: enough that they share requests
// and syncs.
const writesAtOnce = 64

// RestoreOptions say how to restore.
type RestoreOptions struct {
	// DryRun counts what would be done and does nothing.
	DryRun bool
	// AsNew gives every value of the backup to its key as a new write, so that it wins over what the key has now. Keys that
	// have that value already are left alone, and so are those that had none at the time of the backup.
	AsNew bool
}

// Restored counts what a restore made of the records of a backup.
type Restored struct {
	// Written were written, or would be.
	Written uint64
	// Present were there already: the same version or, as new, the same value.
	Present uint64
	// Newer gave way to something newer.
	Newer uint64
	// Forgotten were seen and have been deleted since so long ago that nothing is left of it, and stay deleted. None as new.
	Forgotten uint64
	// Skipped are deletions that were left out, as new.
	Skipped uint64
}

// Restore brings the records of a backup into the cluster: it merges them. It is as if another node were pulled from that
// has what the backup has, and no more than a pull does it go back: what is newer stays, and so does what was deleted.
// An interrupted one leaves nothing to be undone, and is begun anew. Not safe for concurrent use.
type Restore struct {
	c       *Coordinator
	options RestoreOptions
	counts  Restored
}

// Restore begins to restore a backup. The error wraps ErrNotReady if this node has not joined or is not synced, since it
// would not know what was deleted; ErrClosed; or it is a *QuorumError if nothing could be written now. It asks nobody.
func (c *Coordinator) Restore(options RestoreOptions) (*Restore, error) {
	r := &Restore{c: c, options: options}
	err := c.enter()
	if err == nil {
		defer c.leave()
		if c.replica.lagging.Load() {
			err = fmt.Errorf("%w: it has not caught up", ErrNotReady)
		}
	}
	if err == nil && !options.DryRun {
		err = c.newRequest(opRestore, LevelQuorum).admitWrite()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", opRestore, err)
	}
	return r, nil
}

// Counts returns what became of the records so far.
func (r *Restore) Counts() Restored { return r.counts }

// Apply restores some records, some thousands or MiB at most, whose values must not be changed any more. What it writes
// is durable here and on a majority when it returns nil, and was given to all live members, each of which is waited for
// while it answers; as new, it was written at the default level.
//
// Errors: a *QuorumError, whose Written is WrittenUnknown if any record was written before; one that wraps ErrClosed; or
// the disk's. It ends when ctx does; some records may be written then.
func (r *Restore) Apply(ctx context.Context, records []Record) error {
	if err := r.c.enter(); err != nil {
		return fmt.Errorf("%s: %w", opRestore, err)
	}
	defer r.c.leave()
	err := ctx.Err()
	switch {
	case err != nil:
	case r.options.AsNew:
		err = r.writeAsNew(ctx, records)
	default:
		err = r.merge(ctx, records)
	}
	if e, ok := errors.AsType[*QuorumError](err); ok && r.counts.Written > 0 {
		e.Written = WrittenUnknown
	}
	if err != nil {
		return fmt.Errorf("%s: %w", opRestore, err)
	}
	return nil
}

// Finish ends a restore of which all records were applied: everything that the node of the backup had seen counts as seen
// here, as after a pull, so that what it knew to be deleted does not come back from an older backup. As new, and as a dry
// run, there is nothing to do. The error is the disk's. The sets are not changed or kept.
func (r *Restore) Finish(seen, collected *seen.Set) error {
	if r.options.AsNew || r.options.DryRun {
		return nil
	}
	err := r.c.replica.memory.Collect(collected)
	if err == nil {
		err = r.c.cfg.Store.Unite(seen)
	}
	if err != nil {
		return fmt.Errorf("%s: unite seen sets: %w", opRestore, err)
	}
	r.c.replica.changed.ring()
	return nil
}

// merge writes those records that the cluster lacks.
//
// A node that is synced can tell by itself. A tombstone is collected only by who has pulled from everybody else that has
// it, and so has seen whatever older write of the key anybody of them had: if such a write is offered here again, either
// the tombstone is there to win over it, or the write is known to have been seen.
func (r *Restore) merge(ctx context.Context, records []Record) error {
	seen, collected, store := r.c.replica.seen(), r.c.replica.memory.Collected(), r.c.cfg.Store
	var lacking []Record
	for _, record := range records {
		switch held, err := store.Lookup(record.Key); {
		case err == nil && held.Version == record.Version:
			r.counts.Present++
		case err == nil && held.Version.Compare(record.Version) > 0:
			r.counts.Newer++
		case errors.Is(err, ErrNotFound) && seen.Has(record.Version.Dot):
			r.counts.Forgotten++
		// It was deleted and forgotten, and the key was written again with a clock behind that of this record.
		case err == nil && seen.Has(record.Version.Dot) && collected.Has(record.Version.Dot):
			r.counts.Forgotten++
		// Something older is there though this one was seen: it was lost, and is put right.
		case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrDamaged):
			lacking = append(lacking, record)
		default:
			return err
		}
	}
	if len(lacking) == 0 || r.options.DryRun {
		r.counts.Written += uint64(len(lacking))
		return nil
	}
	gone, err := r.c.spreadPatiently(ctx, lacking)
	if err != nil {
		return err
	}
	r.counts.Written += uint64(len(lacking) - len(gone))
	r.counts.Newer += uint64(len(gone))
	if len(gone) == 0 {
		return nil
	}
	// Deletes that this node has forgotten and another one has not, of writes that neither had seen: the one that
	// remembers may forget them any time now, and the writes would stay where they were taken.
	_, err = r.c.spreadPatiently(ctx, slices.Collect(maps.Values(gone)))
	return err
}

// spreadPatiently is spread, tried again if that may help.
func (c *Coordinator) spreadPatiently(ctx context.Context, records []Record) (gone map[string]Record, err error) {
	written := WrittenNo
	for began := time.Now(); ; {
		gone, err = c.spread(ctx, records)
		e, missed := errors.AsType[*QuorumError](err)
		if missed {
			written = max(written, e.Written) // "unknown" is the larger one
			e.Written = written
		}
		own := errors.Is(err, ErrDiskFull) || errors.Is(err, ErrReadOnly) || errors.Is(err, ErrClosed)
		if !missed || own || ctx.Err() != nil || time.Since(began) > spreadTime {
			return gone, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(spreadPause):
		}
	}
}

// spread gives records to this node and to all live members, and waits for each of them while it answers. It returns nil
// once they are durable here and on a majority, and by key the newest tombstones that some node had instead of them. The
// error is a *QuorumError.
func (c *Coordinator) spread(ctx context.Context, records []Record) (gone map[string]Record, err error) {
	r := c.newRequest(opRestore, LevelQuorum)
	if err := r.admitWrite(); err != nil {
		return nil, err
	}
	r.start()
	defer r.stop()
	gone = make(map[string]Record)
	view := c.cfg.Members.View()
	for i := range r.parts {
		p := &r.parts[i]
		if m, known := view.Member(p.id); known && m.Live {
			r.ask(p, func(id string) reply { return c.giveAll(ctx, r.self, id, records) })
		}
	}
	for own := r.part(r.self); ; {
		switch now := r.weigh(); {
		case own.verdict == failed || now == hopeless:
			return nil, r.missed(WrittenUnknown, nil)
		case own.verdict == acked && now == met && !r.awaits():
			return gone, nil
		}
		got, ok, err := r.wait(ctx)
		switch {
		case errors.Is(err, errDeadline):
			return nil, r.missed(WrittenUnknown, nil)
		case err != nil:
			return nil, r.missed(WrittenUnknown, err)
		case ok && got.err != nil:
			r.part(got.id).fail(got.err)
		case ok:
			p := r.part(got.id)
			p.verdict, p.err = acked, nil
			for i, outcome := range got.outcomes {
				key, held := records[i].Key, outcome.Current
				if held.Deleted && held.Version.Compare(records[i].Version) > 0 && held.Version.Compare(gone[key].Version) > 0 {
					gone[key] = Record{Key: key, Version: held.Version, Deleted: true}
				}
			}
		}
	}
}

// giveAll writes records to one replica. It goes on when ctx ends, as give does.
func (c *Coordinator) giveAll(ctx context.Context, self, id string, records []Record) reply {
	var outcomes []Outcome
	var err error
	sent := time.Now()
	if id == self {
		outcomes = c.replica.Write(records)
	} else {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.StragglerTimeout)
		defer cancel()
		outcomes, err = c.cfg.Peers.Write(ctx, id, records)
	}
	if err == nil && len(outcomes) != len(records) {
		err = fmt.Errorf("%w: %d outcomes for %d records", errNonsense, len(outcomes), len(records))
	}
	refused := error(nil)
	for i := 0; err == nil && refused == nil && i < len(records); i++ {
		if _, refused = accepted(outcomes[i:i+1], records[i]); errors.Is(refused, errNonsense) {
			err = refused
		}
	}
	if id != self {
		c.report(id, sent, err)
	}
	if err == nil && refused != nil {
		err = refused
		c.cfg.Logger.Warn("replica refused what is restored", "node", id, "error", err)
	}
	return reply{id: id, outcomes: outcomes, err: err}
}

// writeAsNew writes the values that their keys do not have, some at a time. It returns the first error.
func (r *Restore) writeAsNew(ctx context.Context, records []Record) error {
	records = slices.DeleteFunc(slices.Clone(records), func(record Record) bool {
		if record.Deleted {
			r.counts.Skipped++
			return true
		}
		own, err := r.c.replica.Fetch(record.Key)
		same := err == nil && !own.Deleted && own.ContentType == record.ContentType && bytes.Equal(own.Value, record.Value)
		if same {
			r.counts.Present++
		}
		return same
	})
	if r.options.DryRun {
		r.counts.Written += uint64(len(records))
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards written
	written := uint64(0)
	var running sync.WaitGroup
	for first := range min(writesAtOnce, len(records)) {
		running.Go(func() {
			for i := first; i < len(records) && ctx.Err() == nil; i += writesAtOnce {
				if _, err := r.c.Put(ctx, records[i].Key, records[i].Value, records[i].ContentType, LevelDefault); err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				written++
				mu.Unlock()
			}
		})
	}
	running.Wait()
	r.counts.Written += written
	return context.Cause(ctx)
}

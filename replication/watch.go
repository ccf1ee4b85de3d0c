package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/protocol7/snakes/replication/seen"
)

const (
	// watchBatch is how many keys a Watch looks at for one batch.
	watchBatch = 500
	// maxLacking is how many keys a Watch holds at most: if more have changed it goes through all
	// keys instead, which takes longer and no room.
	maxLacking = 10_000
	// watchPace is the least time between two looks of a Watch, so that under load it tells many
	// changes at once, and a key that changes all the time a hundred times a second at most.
	watchPace = 10 * time.Millisecond
	// watchPatience is how long a Watch waits until its node has seen what was told elsewhere. A
	// write that was lost on its way is here after a second or two, if anybody else has it.
	watchPatience = 5 * time.Second
	// watchLook is how often it looks for that.
	watchLook = 50 * time.Millisecond
)

// Batch is what a Watch tells at once.
type Batch struct {
	// Reset, unless empty, says why what was told before does not count any more: what follows is
	// the current state, from nothing. There are no Changes then.
	Reset string
	// Changes are the current records of keys, tombstones included. The caller owns the slice.
	Changes []Held
}

// Watch tells what changes on this node: it is a pull into a place that keeps no records. What
// was told is a seen set, with the rule of all pulls: whoever has it was told, for each of its
// dots, the record or a newer one of its key. So it holds on any node, and nothing is buffered
// for anybody. Of a key that changes more quickly than it is told, only later states are told.
//
//	            behind the marker                          something changed
//	from a marker ──▶ waiting ──▶ in step ◀──────────────┬─────▶ telling
//	                     │           ▲    all is told, and so is the set of before
//	                     ▼           │                     │ a tombstone was collected untold
//	                   reset ──▶ telling all ◀── reset ◀───┘
//
// Not safe for concurrent use. It needs no Close.
type Watch struct {
	replica *Replica
	prefix  string
	// told is what was told, or is of keys without the prefix.
	told *seen.Set
	// until is when to give up waiting for what told has and this node has not, zero if it has.
	until time.Time
	// all: the current state is to be told, or being told, from nothing.
	all bool
	// pass is the look under way, nil if there is none. began is when the last one began, looked
	// the hash of what this node had seen then; a Watch that is in step has told all of that.
	pass   *pass
	began  time.Time
	looked uint64
	inStep bool
}

// pass is one look at what is to be told.
type pass struct {
	// before is what this node had seen before the look.
	before *seen.Set
	// keys are those left to be told, unless the look is at all keys: at those after.
	keys  []string
	every bool
	after string
}

// Watch returns a watch of the keys that begin with prefix, all if it is empty. from is what was
// told elsewhere, the Marker of another Watch; nil means all that was seen here: it tells what
// changes from now on. An empty set begins with a reset. from is not changed or kept.
//
// Errors: one that wraps ErrNotReady if this node is not synced, or ErrBadSpan if prefix cannot
// begin a key.
func (r *Replica) Watch(prefix string, from *seen.Set) (*Watch, error) {
	if err := (Span{Prefix: prefix, Limit: 1}).Valid(); err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	if r.lagging.Load() {
		return nil, fmt.Errorf("watch: %w: it has not caught up", ErrNotReady)
	}
	w := &Watch{replica: r, prefix: prefix}
	if from == nil {
		w.told, w.inStep = r.seen().Clone(), true
		w.looked = w.told.Hash()
		return w, nil
	}
	w.told, w.until = from.Clone(), time.Now().Add(watchPatience)
	return w, nil
}

// Marker returns what was told by the batches that Next has returned. It is valid on any node. The
// set must not be changed; the next call of Next may change it.
func (w *Watch) Marker() *seen.Set { return w.told }

// Next waits until there is something to tell and returns it. After an error of ctx it can be
// called again and has lost nothing. Other errors wrap ErrNotReady if this node is not synced any
// more, or ErrDamaged if it does not know all its keys; another node can go on.
func (w *Watch) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, err
		}
		if w.replica.lagging.Load() {
			return Batch{}, fmt.Errorf("watch: %w: it has not caught up", ErrNotReady)
		}
		if !w.until.IsZero() {
			reset, err := w.arrive(ctx)
			if err != nil || reset != "" {
				return Batch{Reset: reset}, err
			}
		}
		if w.pass == nil {
			if err := w.wait(ctx); err != nil {
				return Batch{}, err
			}
			w.begin()
		}
		changes, err := w.look()
		if err != nil {
			return Batch{}, fmt.Errorf("watch: %w", err)
		}
		if w.pass.done() {
			if reset := w.finish(); reset != "" {
				return Batch{Reset: reset}, nil
			}
		}
		if len(changes) > 0 {
			return Batch{Changes: changes}, nil
		}
	}
}

// arrive waits until this node has seen all that was told elsewhere. Before that it may have an
// older record of a key than was told, whose dot the marker does not have. It returns why all must
// be told from nothing, if so it is.
func (w *Watch) arrive(ctx context.Context) (reset string, err error) {
	if len(w.told.Origins()) == 0 {
		return w.reset("from the beginning"), nil
	}
	for w.told.Missing(w.replica.seen()) > 0 {
		left := time.Until(w.until)
		if left <= 0 {
			return w.reset("the marker tells of writes that this node does not know"), nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(min(left, watchLook)):
		}
	}
	w.until = time.Time{}
	return "", nil
}

// reset makes the watch begin from nothing, for the given reason, which it returns.
func (w *Watch) reset(why string) string {
	w.told, w.until, w.all, w.pass, w.inStep = new(seen.Set), time.Time{}, true, nil, false
	return why
}

// wait returns when there may be something to tell, and not too soon after the last look.
func (w *Watch) wait(ctx context.Context) error {
	for {
		changed := w.replica.changed.wait() // first, so that nothing comes between
		if !w.inStep || w.replica.store.SeenHash() != w.looked {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
	if early := watchPace - time.Since(w.began); early > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(early):
		}
	}
	return nil
}

// begin begins a look. As in a pull, first comes the set and then what to tell.
func (w *Watch) begin() {
	w.began, w.inStep = time.Now(), false
	w.pass = &pass{before: w.replica.seen(), every: w.all}
	w.looked = w.pass.before.Hash()
	if w.all || w.missed() {
		return
	}
	keys, complete := w.replica.store.Lacking(w.told)
	if !complete || len(keys) > maxLacking {
		w.pass.every = true // of damaged records the versions are known, too
		return
	}
	w.pass.keys = keys
}

// done reports whether all was looked at.
func (p *pass) done() bool { return !p.every && len(p.keys) == 0 }

// look returns what is to be told of the next keys.
func (w *Watch) look() ([]Held, error) {
	var changes []Held
	p := w.pass
	if p.every {
		found, err := w.replica.store.Range(Span{Prefix: w.prefix, After: p.after, Limit: watchBatch})
		if err != nil {
			return nil, err
		}
		for _, e := range found.Entries {
			if !w.told.Has(e.Version.Dot) && !(w.all && e.Deleted) {
				changes = append(changes, Held{Key: e.Key, Version: e.Version, Deleted: e.Deleted})
			}
		}
		if p.every = found.More; p.every {
			p.after = found.Entries[len(found.Entries)-1].Key
		}
		return changes, nil
	}
	for len(p.keys) > 0 && len(changes) < watchBatch {
		key := p.keys[0]
		p.keys = p.keys[1:]
		if !strings.HasPrefix(key, w.prefix) {
			continue
		}
		held, err := w.replica.store.Lookup(key)
		switch {
		case err == nil:
			changes = append(changes, Held{Key: key, Version: held.Version, Deleted: held.Deleted})
		case errors.Is(err, ErrDamaged):
			p.every, p.after, p.keys = true, "", nil
		case !errors.Is(err, ErrNotFound): // that is a tombstone which was collected, see finish
			return nil, err
		}
	}
	return changes, nil
}

// finish ends a look. What this node had seen before it has now been told, unless a tombstone is
// gone that never was: then it returns why all must be told from nothing.
func (w *Watch) finish() (reset string) {
	// Last, so that what was dropped during the look counts.
	if !w.all && w.missed() {
		return w.reset("the marker is too old: deletes since then were forgotten")
	}
	w.told.Union(w.pass.before)
	w.pass, w.all, w.inStep = nil, false, true
	return ""
}

// missed reports whether a tombstone may have been collected that was not told, among what this
// node had seen before the look. What it has yet to see is not its to tell.
func (w *Watch) missed() bool {
	collected := w.replica.memory.Collected()
	untold := collected.Missing(w.told)
	if untold == 0 {
		return false
	}
	next := w.told.Clone()
	next.Union(w.pass.before)
	return collected.Missing(next) < untold
}

// bell wakes all who wait for something. The zero bell is ready to use. Safe for concurrent use.
type bell struct {
	next atomic.Pointer[chan struct{}] // nil if nobody waits
}

// ring wakes all who called wait before. It costs next to nothing if nobody did.
func (b *bell) ring() {
	if c := b.next.Load(); c != nil && b.next.CompareAndSwap(c, nil) {
		close(*c)
	}
}

// wait returns a channel that is closed when the bell rings next.
func (b *bell) wait() <-chan struct{} {
	fresh := make(chan struct{})
	for !b.next.CompareAndSwap(nil, &fresh) {
		if c := b.next.Load(); c != nil {
			return *c
		}
	}
	return fresh
}
